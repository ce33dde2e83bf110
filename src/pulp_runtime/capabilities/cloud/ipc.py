"""`cloud.ipc`: functions of sibling cells as files, `/beta/ipc/<cell>/<function>` (spec/wasi-cloud §7).

open read-write: write the arguments, read the answer
echo '{"amount": 5}' > /beta/ipc/billing/charge && cat /beta/ipc/billing/charge
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from pulp_runtime.ext import Capability, HostError
from pulp_runtime.ext.nodes import Bytes
from pulp_runtime.ext.run import Run
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat

NAME: Final = "cloud.ipc"
ARGUMENT_BYTES: Final = 8 * 1024 * 1024
"""Longest arguments of a call."""
ERROR: Final = ".error"
"""Ending of the file that has what the last call of a function in this run failed with."""


class Functions(Node):
    """The functions of one cell that a run may call."""

    def __init__(self, run: Run, cell: str) -> None:
        self._run: Final = run
        self._cell: Final = cell
        self._names: Final[list[str]] = []
        self._errors: Final[dict[str, str]] = {}
        self._answers: Final[dict[str, bytes]] = {}

    def grant(self, function: str) -> None:
        """Let the run call one more."""
        self._names.append(function)

    # The folder -------------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`: the functions that are granted."""
        return (Entry(name, Kind.FILE) for name in sorted(self._names))

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        if not parts:
            return Stat(Kind.FOLDER)
        if len(parts) > 1:
            raise NotADirectoryError(errno.ENOTDIR, "no folder") if parts[0] in self._names else _missing()
        if parts[0] in self._names:
            return Stat(Kind.FILE)
        return Stat(Kind.FILE, size=len(self._error(parts[0])))

    def _error(self, name: str) -> bytes:
        function = name.removesuffix(ERROR)
        if function == name or function not in self._names:
            raise _missing()
        return self._errors.get(function, "").encode(errors="replace")

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if parts not in ((), *((name,) for name in self._names)) and how.create:
            try:
                self.stat(parts)
            except FileNotFoundError:
                raise OSError(errno.EROFS, "functions are granted in the manifest") from None
        found = self.stat(parts)
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "it is there")
        if found.kind is Kind.FOLDER:
            if how.changes:
                raise IsADirectoryError(errno.EISDIR, "a folder")
            return self
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if parts[0] in self._names:
            waiting = self._answers.pop(parts[0], None) if how.read and not how.write else None
            return Call(self, parts[0], waiting, how)
        if how.changes:
            raise OSError(errno.EROFS, "is read, and not written")
        return Bytes(self._error(parts[0]))

    # Calls ------------------------------------------------------------------------------------------------------

    def call(self, function: str, arguments: bytes) -> bytes:
        """Call a function; return its answer.

        Raises:
            OSError: `ETIMEDOUT` no time was left; `EIO` it was not called or has failed, see the error's file.
        """
        self._answers.pop(function, None)
        try:
            if self._run.seconds_left() <= 0:
                raise HostError(1, "the deadline has passed")
            answer = self._run.ask(self._cell, function, arguments)
        except HostError as error:
            why = error.detail or str(error)
            self._errors[function] = why
            late = self._run.seconds_left() <= 0
            self._run.cell.log.warning("call failed", callee=self._cell, function=function, reason=why)
            raise OSError(errno.ETIMEDOUT if late else errno.EIO, why) from None
        self._errors.pop(function, None)
        return answer

    def keep(self, function: str, answer: bytes) -> None:
        """Keep an answer for whoever opens the function for reading next."""
        self._answers[function] = answer


class Call(File):
    """A function that is open: what is written are arguments, what is read is the answer.

    Args:
        functions: of the cell.
        name: of the function.
        answer: one that waits to be read; None for none.
        how: how it was opened.
    """

    def __init__(self, functions: Functions, name: str, answer: bytes | None, how: How) -> None:
        self._functions: Final = functions
        self._name: Final = name
        self._reads: Final = how.read
        self._writes: Final = how.write
        self._arguments = bytearray()
        self._pending = how.write and not how.read
        self._spoilt = False
        self._answer = answer
        self._at = 0

    def write(self, data: bytes) -> int:
        """See `File.write`; after an answer, what is written begins the next call."""
        if not self._writes:
            raise OSError(errno.EBADF, "not open for writing")
        if self._answer is not None:
            self._answer = None
            self._arguments.clear()
        if self._spoilt or len(self._arguments) + len(data) > ARGUMENT_BYTES:
            self._spoilt = True  # half of the arguments are none: the call is not made
            raise OSError(errno.EFBIG, f"arguments have at most {ARGUMENT_BYTES} bytes")
        self._arguments += data
        self._pending = True
        return len(data)

    def read(self, size: int) -> bytes:
        """See `File.read`; the first one after the arguments calls."""
        if not self._reads:
            raise OSError(errno.EBADF, "not open for reading")
        if self._answer is None:
            self._answer = self._call()
            self._at = 0
        piece = self._answer[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def _call(self) -> bytes:
        if self._spoilt:
            raise OSError(errno.EFBIG, f"arguments have at most {ARGUMENT_BYTES} bytes")
        arguments = bytes(self._arguments)
        self._arguments.clear()
        self._pending = False
        return self._functions.call(self._name, arguments)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return Stat(Kind.FILE)

    def close(self) -> None:
        """See `File.close`: arguments that no answer was read for are called with now, and the answer is kept."""
        if self._pending or self._spoilt:
            self._functions.keep(self._name, self._call())

    def abandon(self) -> None:
        """See `File.abandon`: nothing is called."""


class Ipc:
    """Owner of the capability's hooks."""

    def mount(self, run: Run) -> None:
        """Mount the functions that the program is granted."""
        cells: dict[str, Functions] = {}
        for name in run.cell.grants.ipc:
            cell, _, function = name.partition(".")
            if cell not in cells:
                cells[cell] = Functions(run, cell)
                run.tree.add(f"/beta/ipc/{cell}", cells[cell])
            cells[cell].grant(function)


def _missing() -> OSError:
    return FileNotFoundError(errno.ENOENT, "no such function is granted")


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Ipc())
