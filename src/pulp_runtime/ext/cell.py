"""What an extension sees of a cell, and of the guest inside a host function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import msgspec

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext.program import Grants, Program
from pulp_runtime.ext.scope import Scope, legacy_scope
from pulp_runtime.log import Log

S = TypeVar("S", bound=msgspec.Struct)


def _drop(_level: int, _text: bytes) -> None:
    """Stand in for the lines of a cell that has none."""


class CellRef(msgspec.Struct, frozen=True, gc=False):
    """A loaded cell, as far as an extension may know it.

    Attributes:
        name: its manifest name, `[a-z][a-z0-9_-]{0,62}`: safe as a file name.
        id: its event target. Events carry it in `StepEvent.cell_id`; ownership tables use it as a key.
        log: the cell's own log: what it writes carries `cell=<name>`.
        write_lines: `write_lines(level, text)`: log what the guest itself said, a record for each line, at a level
            of `logging`: escaped, cut at 4,096 bytes, counted against the cell's rate. Lines over it are dropped,
            and the log will say how many were.
        manifest: the file that describes it; paths in its settings are relative to that file's folder.
        tables: what the manifest says under `[settings."<capability>"]`, by capability; read it with `settings`.
        disk_bytes: how much the cell may keep on disk, all its capabilities together.
        placed: its scope in an application; None outside one. See `scope`.
        program: how it is run, if it is a function or a daemon; None for a cell that is stepped.
        grants: what of the cloud it may touch.
        label: see `address`.
    """

    name: str
    id: str
    log: Log
    write_lines: Callable[[int, bytes], None] = _drop
    manifest: Path = Path("pulp.cell.toml")
    tables: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    disk_bytes: int = 1 << 30
    placed: Scope | None = None
    program: Program | None = None
    grants: Grants = Grants()
    label: str = ""

    @property
    def namespace(self) -> str:
        """Who shares what it keeps in the cloud: its own name, unless its manifest says otherwise."""
        return self.grants.namespace or self.name

    @property
    def scope(self) -> Scope:
        """Whose it is: outside an application the legacy scope of its name."""
        return self.placed or legacy_scope(self.name)

    @property
    def address(self) -> str:
        """What operators call it: its name, or `name@instance` for one of several placements.

        In a host of several applications the application's id stands before it, and its instance if it has several:
        `shop/web`, `shop/blue/web@2`.
        """
        if self.label:
            return self.label
        if self.placed is None or self.id == self.name:
            return self.name
        return f"{self.name}@{self.placed.cell_instance}"

    def settings(self, capability: str, kind: type[S]) -> S:
        """Return what the cell's manifest sets for `capability`; defaults for what it does not say.

        Args:
            capability: its name.
            kind: a frozen struct with `forbid_unknown_fields` and a default for every field; bounds are its
                `msgspec.Meta` annotations.

        Raises:
            ExtensionError: naming the manifest, the field and what is wrong with it.
        """
        try:
            return msgspec.convert(self.tables.get(capability, {}), kind)
        except msgspec.ValidationError as error:
            raise ExtensionError(f'{self.manifest}: [settings."{capability}"]: {error}') from None


class Guest(Protocol):
    """The calling cell's memory, valid only until the host function returns.

    Every address and length is unsigned 32-bit and checked against the memory as it is now.
    """

    @property
    def cell(self) -> CellRef:
        """The cell that called."""

    def read(self, address: int, length: int) -> bytes:
        """Copy bytes out; raise `HostError(Errno.FAULT)` if the range is not inside memory."""

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes in; raise `HostError(Errno.WRITE)` if the range is not inside memory."""

    def deliver(self, data: bytes, address_out: int, length_out: int) -> None:
        """Hand `data` over in a buffer from the guest's own `pulp_alloc`, which the guest then owns.

        The address and the length are stored as u32 little-endian at the two out-addresses
        (spec/capabilities §1.2). No bytes means address 0, length 0 and no allocation.

        Raises:
            HostError: `ALLOC` when the guest's allocator refuses, `WRITE` when an address is outside memory.
        """

    def seconds_left(self) -> float:
        """Seconds until the current call's deadline; a blocking host function waits no longer."""

    def blocking(self) -> AbstractContextManager[None]:
        """Let another cell have the worker inside: for a function that seldom waits and is not declared `blocking`."""
