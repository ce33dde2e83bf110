"""What crossed between a cell and its capabilities, as values and as a transcript.

    ==> kv_set(key='colour', value=b'red')
    <== 0
    ==> kv_get('size')
    <== 6

One argument is written bare, several with their names; an answer that was delivered stands after the 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from pulp_runtime.errors import Errno, HostError
from pulp_runtime.ext import Capability, CellRef, Guest, Linker
from pulp_runtime.testing.shape import Shape, shape_of

_WORD: Final = 0xFFFF_FFFF


@dataclasses.dataclass(slots=True)
class Call:
    """One call of an import.

    Attributes:
        name: the import.
        words: what crossed, unsigned.
        arguments: what the words meant, by parameter name: MessagePack is decoded; a range outside memory has an
            `address` and a `length`. By position ("0", "1", …) for a function without a Python signature.
        code: what the guest was answered, unsigned; None while it waits.
        answer: what was delivered with code 0, decoded; None if nothing was.
        error: the exception behind a 99, "" if there was none.
    """

    name: str
    words: tuple[int, ...]
    arguments: dict[str, Any]
    code: int | None = None
    answer: Any = None
    error: str = ""

    @property
    def request(self) -> str:
        """The call as a line of the transcript."""
        if len(self.arguments) == 1 or "0" in self.arguments:
            written = ", ".join(repr(value) for value in self.arguments.values())
        else:
            written = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"==> {self.name}({written})"

    @property
    def reply(self) -> str:
        """The answer as a line of the transcript."""
        extra = self.error or ("" if self.answer is None else repr(self.answer))
        return f"<== {self.code} {extra}".rstrip()


class Tape:
    """Records the calls of every capability that passes through `record`.

    Attributes:
        calls: oldest first.
    """

    def __init__(self) -> None:
        self.calls: Final[list[Call]] = []
        self._lines: Final[list[tuple[Call, bool]]] = []

    @property
    def transcript(self) -> list[str]:
        """Calls and answers in the order in which they happened."""
        return [call.reply if answered else call.request for call, answered in self._lines]

    def clear(self) -> None:
        """Forget what was recorded."""
        self.calls.clear()
        self._lines.clear()

    def record(self, capability: Capability) -> Capability:
        """Return the capability with every function it binds, stubs included, on this tape."""

        def register(linker: Linker, cell: CellRef) -> None:
            capability.register(_Recording(linker, self, capability), cell)

        def stub(linker: Linker, cell: CellRef) -> None:
            capability.bind_stub(_Recording(linker, self, capability), cell)

        return dataclasses.replace(capability, register=register, stub=stub)

    def wrap(self, name: str, shape: Shape | None, function: Callable[..., int]) -> Callable[..., int]:
        """Return `function`, recorded."""

        def recorded(guest: Guest, *words: int) -> int:
            arguments = {str(at): word for at, word in enumerate(words)}
            call = Call(name, words, shape.arguments(guest, words) if shape else arguments)
            self.calls.append(call)
            self._lines.append((call, False))
            try:
                call.code = int(function(guest, *words)) & _WORD
                if shape and not call.code:
                    call.answer = shape.answer(guest, words)
            except HostError as refused:
                call.code = refused.code & _WORD
                raise
            except BaseException as error:
                call.code, call.error = int(Errno.UNDECLARED), repr(error)
                raise
            finally:
                self._lines.append((call, True))
            return call.code

        return recorded


class _Recording:
    """A linker that puts what it defines on tape."""

    def __init__(self, linker: Linker, tape: Tape, capability: Capability) -> None:
        self._linker: Final = linker
        self._tape: Final = tape
        self._capability: Final = capability

    @property
    def wanted(self) -> Mapping[str, int]:
        """See `ext.Linker.wanted`."""
        return self._linker.wanted

    def define(self, name: str, words: int, function: Callable[..., int], *, blocking: bool = False) -> None:
        """See `ext.Linker.define`."""
        functions = self._capability.functions.values()
        known = next((function for function in functions if (function.name, function.words) == (name, words)), None)
        shape = None if known is None else shape_of(known)
        self._linker.define(name, words, self._tape.wrap(name, shape, function), blocking=blocking)
