"""Everything Pulp raises, and the codes a guest is answered with.

PulpError
├── ManifestError     a manifest is wrong: file, field, what to write instead
├── HostError         a host function answers its guest with a code
├── ExtensionError    an extension cannot be registered, chosen or set up
│   └── HookFailed    one of its hooks raised: extension, hook, cell
├── ListenError       the host cannot bind an address
├── StartError        the host cannot start: which part of it, and why
├── OperatorCommandError  an operator command that is not complete, not registered or not active
├── GatewayError      the gateway of several applications cannot serve its routes
└── CellError         one cell is in trouble; no other cell is
    ├── LoadError     its module cannot be loaded: file and reason
    ├── CellRefused   an entry point answered with an error code
    ├── CellTrap      the guest trapped; the instance is spent
    │   └── CellTimeout   ... because its deadline passed
    ├── CellExit      the guest called `proc_exit`; the instance is spent
    ├── MessageTooLarge   the host would not hand over that many bytes
    ├── CallFailed    a call into the guest went wrong in the host
    └── CellClosed    the cell is closed
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


class Errno(enum.IntEnum):
    """Codes that host functions answer; guests branch on the numbers (spec/capabilities §1.3)."""

    OK = 0
    EMPTY = 1  #: empty or missing input
    FAULT = 2  #: the guest's (pointer, length) is not inside its memory
    DECODE = 3  #: the request is not the MessagePack that was expected
    FAILED = 4  #: the operation failed
    ENCODE = 5  #: the response cannot be encoded
    NOT_FOUND = 6  #: no such object; for http, the guest has no allocator
    ALLOC = 7  #: `pulp_alloc` failed or answered 0
    WRITE = 8  #: the response cannot be written to guest memory
    NO_HANDLE = 9  #: nothing is open for this cell
    UNAVAILABLE = 10  #: backend missing or not configured
    DENIED = 11  #: not permitted
    LOOP = 20  #: a call that could never be answered: its chain comes back to a cell that is in it
    UNDECLARED = 99  #: capability not declared, not set up, or a bug on the host's side


class PulpError(Exception):
    """The root of every error Pulp raises on purpose."""


class ManifestError(PulpError):
    """A manifest that cannot be used.

    Attributes:
        path: the file at fault.
        field: dotted name of the field at fault, "" when it is the whole file.
        reason: what is wrong and what to write instead, without the file's name.
    """

    def __init__(self, path: Path, reason: str, *, field: str = "") -> None:
        self.path = path
        self.field = field
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class HostError(PulpError):
    """Raise in a host function to answer the guest with `code`.

    Attributes:
        code: an `Errno` or a capability's own number, 1..2**31-1.
        detail: for the log; the guest does not see it.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = int(code)
        self.detail = detail
        super().__init__(f"code {self.code}: {detail}" if detail else f"code {self.code}")


class ExtensionError(PulpError):
    """An extension that cannot be registered, selected or bound."""


class HookFailed(ExtensionError):
    """A hook of an extension raised.

    Attributes:
        extension: name of the capability.
        hook: `setup`, `register`, `stub`, `teardown`, `teardown_cell`, `teardown_scope`, `poll` or `finalize`.
        cell: name of the cell it ran for, "" when it ran for the whole host.
    """

    def __init__(self, extension: str, hook: str, cause: BaseException, *, cell: str = "") -> None:
        self.extension = extension
        self.hook = hook
        self.cell = cell
        where = f" for cell {cell}" if cell else ""
        super().__init__(f"{extension}: {hook}{where} failed: {type(cause).__name__}: {cause}")


class ListenError(PulpError):
    """The host cannot bind an address."""


class GatewayError(PulpError):
    """The gateway of a host with several applications cannot serve what it is to serve."""


class StartError(PulpError):
    """The host cannot start; everything that had been acquired is released again.

    Attributes:
        reasons: why which cell did not, by what operators call it; empty where it was not a cell's fault.
    """

    def __init__(self, message: str, reasons: Mapping[str, str] = MappingProxyType({})) -> None:
        self.reasons = reasons
        super().__init__(message)


class OperatorCommandError(PulpError):
    """An operator command that cannot be registered or carried out; the message says which and why."""


class OperationFailed(PulpError):
    """An operation on a running cell that was not carried out; what ran before goes on."""


class CellError(PulpError):
    """Trouble that is one cell's alone.

    Attributes:
        cell: the cell's name.
    """

    def __init__(self, cell: str, message: str) -> None:
        self.cell = cell
        super().__init__(message)


class LoadError(CellError):
    """A module that cannot be loaded; the message names the file and what to change."""


class CellRefused(CellError):
    """An entry point answered with a code other than 0.

    Attributes:
        export: the entry point.
        code: as the contract reads it: signed, except for `pulp_on_call` (unsigned).
        diagnostic: the guest's own words, "" if it offers none (spec/core §3.4).
    """

    def __init__(self, cell: str, export: str, code: int, diagnostic: str = "") -> None:
        self.export = export
        self.code = code
        self.diagnostic = diagnostic
        super().__init__(cell, f"{export} returned {code}" + (f": {diagnostic}" if diagnostic else ""))


class CellTrap(CellError):
    """The guest trapped; its instance must be replaced before the next call."""


class CellTimeout(CellTrap):
    """The guest was stopped because the call's deadline passed."""


class CellExit(CellError):
    """The guest called `proc_exit`; its instance must be replaced before the next call."""

    def __init__(self, cell: str, export: str, status: int) -> None:
        self.status = status
        super().__init__(cell, f"{export}: module closed with exit_code({status})")


class MessageTooLarge(CellError):
    """A message longer than the cell's limit; nothing was handed over, the guest did not run."""

    def __init__(self, cell: str, limit: int) -> None:
        super().__init__(cell, f"cell message exceeds {limit}-byte limit")


class CallRefused(CellError):
    """A call that was not made: no such cell, or a function it does not provide."""


class CallFailed(CellError):
    """The host could not hand bytes in or take bytes out: the allocator refused or pointed outside memory."""


class CallLoop(CallFailed):
    """A call that was refused because the cell could never become free: it waits, directly or not, for the caller."""


class NoPostReturn(CellError):
    """A typed call of a module that does not export `pulp_post_return`."""

    def __init__(self, cell: str) -> None:
        super().__init__(cell, f'cell "{cell}" does not export pulp_post_return; use call')


class CellClosed(CellError):
    """The cell is closed."""
