"""Host functions: the Python signature is the wasm signature.

    parameter            words on the wasm side          an error before the function runs
    ─────────            ──────────────────────          ─────────────────────────────────
    cell: CellRef        none                            -
    str                  pointer, length                 2 outside memory, 3 not UTF-8
    bytes                pointer, length                 2
    a msgspec.Struct     pointer, length (MessagePack)   1 length 0, 2, 3 not that record
    a Struct | None      pointer, length                 as above, but length 0 is None
    U32                  one word                        -
    U64                  two words: low, high            -

    result
    ──────
    None                 the answer is 0
    U32                  the answer is that word itself
    bytes, str           two words more, address_out and length_out: delivered through the guest's `pulp_alloc`
    a msgspec.Struct, list or dict     the same, as MessagePack

The order of the words is the order of the parameters, out-addresses last.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, overload

import msgspec

from pulp_runtime.abi.codec import DecodeError, struct_decoder
from pulp_runtime.errors import Errno, ExtensionError, HostError
from pulp_runtime.ext.cell import CellRef, Guest

F = TypeVar("F", bound=Callable[..., Any])

U32 = Annotated[int, "u32"]
"""One i32 word, read as unsigned."""

U64 = Annotated[int, "u64"]
"""Two i32 words, low then high (spec/capabilities §1.1)."""

_MARK = "__pulp_host_function__"
_WORD = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One import, ready to bind.

    Attributes:
        name: its name in the import module `pulp`.
        words: how many i32 parameters it has.
        invoke: `invoke(guest, word, …) -> code`; raises `HostError` for a code other than 0.
        blocking: whether it may wait.
        signature: the Python signature, for the reference pages.
        doc: its docstring.
    """

    name: str
    words: int
    invoke: Callable[..., int]
    blocking: bool
    signature: str
    doc: str


@overload
def host_function(function: F, /) -> F: ...


@overload
def host_function(*, blocking: bool = False, name: str = "") -> Callable[[F], F]: ...


def host_function(function: Callable[..., Any] | None = None, /, *, blocking: bool = False, name: str = "") -> Any:
    """Mark a method as an import that cells can call.

    Args:
        function: the method; its annotations are the contract (see the module's table).
        blocking: it may wait for something; the host then lets another cell have the worker. It should give up
            when `Guest.seconds_left` is over, and be prepared to run on several threads at once, one a cell.
        name: the import's name, the method's own by default.
    """

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, _MARK, (name or function.__name__, blocking))
        return function

    return mark if function is None else mark(function)


def host_functions(owner: object) -> Mapping[str, HostFunction]:
    """Return the marked methods of `owner` as imports by name, in the order of the methods' names.

    Two methods may share an import's name when they take different numbers of words: versions of one function, of
    which a module's own import type chooses (design §5). The second is found under `name/words`.
    """
    found: dict[str, HostFunction] = {}
    for attribute in sorted(dir(type(owner))):
        marked = getattr(getattr(type(owner), attribute, None), _MARK, None)
        if marked:
            function = _compile(getattr(owner, attribute), *marked)
            other = found.get(function.name)
            key = function.name if other is None else f"{function.name}/{function.words}"
            if key in found or (other is not None and other.words == function.words):
                raise ExtensionError(f"{function.name} with {function.words} words is defined twice")
            found[key] = function
    return found


Reader = Callable[[Guest, tuple[int, ...]], Any]


def _compile(method: Callable[..., Any], name: str, blocking: bool) -> HostFunction:
    hints = typing.get_type_hints(method, include_extras=True)
    signature = inspect.signature(method)
    readers: list[Reader] = []
    words = 0
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name)
        width, reader = _reader(hint, words, f"{name}: parameter {parameter.name}")
        readers.append(reader)
        words += width
    result = hints.get("return", inspect.Signature.empty)
    if result is inspect.Signature.empty:
        raise ExtensionError(f"{name}: annotate what it returns (None if nothing)")
    simple = _single_record(method, signature, hints, result)
    if simple is not None:
        return HostFunction(name, words, simple, blocking, str(signature), inspect.getdoc(method) or "")
    encode = _encoder(result, name)
    if encode is not None:
        invoke = _delivering(method, readers, encode, words)
        words += 2
    else:
        invoke = _answering(method, readers, direct=result is U32)
    return HostFunction(name, words, invoke, blocking, str(signature), inspect.getdoc(method) or "")


def _reader(hint: Any, at: int, where: str) -> tuple[int, Reader]:
    """Return how many words a parameter takes and how it is read from them."""
    if hint is CellRef:
        return 0, lambda guest, _words: guest.cell
    if hint is Guest:
        return 0, lambda guest, _words: guest
    if hint is U32:
        return 1, lambda _guest, words: words[at]
    if hint is U64:
        return 2, lambda _guest, words: words[at] | words[at + 1] << 32
    if hint is bytes:
        return 2, lambda guest, words: guest.read(words[at], words[at + 1])
    if hint is str:
        return 2, lambda guest, words: _text(guest.read(words[at], words[at + 1]))
    if optional := _optional_struct(hint):
        read = _record(optional, at)
        return 2, lambda guest, words: read(guest, words) if words[at + 1] else None
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return 2, _record(hint, at)
    raise ExtensionError(
        f"{where}: {hint!r} has no wasm shape; use CellRef, str, bytes, a msgspec.Struct, U32 or U64, "
        "or define it with linker.define"
    )


def _record(kind: type[msgspec.Struct], at: int) -> Reader:
    decode = struct_decoder(kind)

    def read(guest: Guest, words: tuple[int, ...]) -> msgspec.Struct:
        if not words[at + 1]:
            raise HostError(Errno.EMPTY)
        try:
            return decode(guest.read(words[at], words[at + 1]))
        except DecodeError as error:
            raise HostError(Errno.DECODE, str(error)) from None

    return read


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise HostError(Errno.DECODE, str(error)) from None


def _optional_struct(hint: Any) -> type[msgspec.Struct] | None:
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return None
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], msgspec.Struct):
        return kinds[0]
    return None


def _encoder(result: Any, name: str) -> Callable[[Any], bytes] | None:
    """Return how a result becomes bytes, or None when the answer is a word."""
    if result is None or result is types.NoneType or result is U32:
        return None
    if result is bytes:
        return bytes
    if result is str:
        return str.encode
    origin = typing.get_origin(result) or result
    if isinstance(origin, type) and issubclass(origin, (msgspec.Struct, list, dict)):
        return msgspec.msgpack.Encoder().encode
    raise ExtensionError(f"{name}: a result of {result!r} has no wasm shape; see the table in the docs")


def _single_record(
    method: Callable[..., Any],
    signature: inspect.Signature,
    hints: Mapping[str, Any],
    result: Any,
) -> Callable[..., int] | None:
    """Return a shorter path for the commonest shape, (cell or guest, record) -> None: it is called for each request."""
    shape = [hints.get(parameter) for parameter in signature.parameters]
    if len(shape) != 2 or shape[0] not in (CellRef, Guest) or result not in (None, types.NoneType):
        return None
    if not (isinstance(shape[1], type) and issubclass(shape[1], msgspec.Struct)):
        return None
    decode = struct_decoder(shape[1])
    wants_guest = shape[0] is Guest

    def invoke(guest: Guest, address: int, length: int) -> int:
        if not length:
            return Errno.EMPTY
        data = guest.read(address, length)
        try:
            record = decode(data)
        except DecodeError as error:
            raise HostError(Errno.DECODE, str(error)) from None
        method(guest if wants_guest else guest.cell, record)
        return 0

    return invoke


def _answering(method: Callable[..., Any], readers: list[Reader], *, direct: bool) -> Callable[..., int]:
    def invoke(guest: Guest, *words: int) -> int:
        answer = method(*[read(guest, words) for read in readers])
        return answer & _WORD if direct else 0

    return invoke


def _delivering(
    method: Callable[..., Any], readers: list[Reader], encode: Callable[[Any], bytes], out: int
) -> Callable[..., int]:
    def invoke(guest: Guest, *words: int) -> int:
        answer = encode(method(*[read(guest, words) for read in readers]))
        guest.deliver(answer, words[out], words[out + 1])
        return 0

    return invoke
