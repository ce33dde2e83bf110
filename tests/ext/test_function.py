from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import msgpack
import msgspec
import pytest

from pulp_runtime.errors import Errno, ExtensionError, HostError
from pulp_runtime.ext import U32, U64, Capability, CellRef, Guest, HostFunction, host_function
from pulp_runtime.ext.function import host_functions
from pulp_runtime.log import Log

CELL = CellRef("guest", "guest", Log("pulp"))


class Route(msgspec.Struct):
    method: str
    path: str


class FakeGuest:
    """Guest memory of a hundred bytes; what is delivered is remembered."""

    def __init__(self, memory: bytes = b"") -> None:
        self.cell = CELL
        self.memory = memory.ljust(100, b"\0")
        self.delivered: list[tuple[bytes, int, int]] = []

    def read(self, address: int, length: int) -> bytes:
        if address + length > len(self.memory):
            raise HostError(Errno.FAULT)
        return self.memory[address : address + length]

    def deliver(self, data: bytes, address_out: int, length_out: int) -> None:
        self.delivered.append((data, address_out, length_out))

    def seconds_left(self) -> float:
        return 1.0


def compiled(function: Callable[..., Any], **options: Any) -> HostFunction:
    """Return a function as a host function."""
    owner = type("Owner", (), {"call": host_function(function, **options)})()
    return next(iter(host_functions(owner).values()))


def code_of(function: HostFunction, guest: FakeGuest, *words: int) -> int:
    try:
        return function.invoke(guest, *words)
    except HostError as refused:
        return refused.code


# Parameters -------------------------------------------------------------------------------------------------------


def takes_nothing(self) -> None: ...
def takes_cell(self, cell: CellRef) -> None: ...
def takes_guest(self, guest: Guest) -> None: ...
def takes_str(self, value: str) -> None: ...
def takes_bytes(self, value: bytes) -> None: ...
def takes_struct(self, value: Route) -> None: ...
def takes_optional(self, value: Route | None) -> None: ...
def takes_optional_old(self, value: Optional[Route]) -> None: ...  # noqa: UP045
def takes_u32(self, value: U32) -> None: ...
def takes_u64(self, value: U64) -> None: ...
def returns_word(self) -> U32: ...
def returns_bytes(self) -> bytes: ...
def returns_str(self) -> str: ...
def returns_struct(self) -> Route: ...
def returns_list(self) -> list[Route]: ...
def returns_dict(self) -> dict[str, int]: ...
def takes_all(self, cell: CellRef, key: str, value: bytes, flags: U32, size: U64, more: Route | None) -> list[str]: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(takes_nothing, 0, id="nothing is no word"),
        pytest.param(takes_cell, 0, id="the cell is no word"),
        pytest.param(takes_guest, 0, id="the guest is no word"),
        pytest.param(takes_str, 2, id="text is two words"),
        pytest.param(takes_bytes, 2, id="bytes are two words"),
        pytest.param(takes_struct, 2, id="a record is two words"),
        pytest.param(takes_optional, 2, id="a record or none is two words"),
        pytest.param(takes_optional_old, 2, id="a record or none in the old way is two words"),
        pytest.param(takes_u32, 1, id="U32 is one word"),
        pytest.param(takes_u64, 2, id="U64 is two words"),
        pytest.param(returns_word, 0, id="an answered word is no parameter"),
        pytest.param(returns_bytes, 2, id="a result of bytes is two places"),
        pytest.param(returns_str, 2, id="a result of text is two places"),
        pytest.param(returns_struct, 2, id="a resulting record is two places"),
        pytest.param(returns_list, 2, id="a resulting list is two places"),
        pytest.param(returns_dict, 2, id="a resulting dict is two places"),
        pytest.param(takes_all, 2 + 2 + 1 + 2 + 2 + 2, id="all together are the sum"),
    ],
)
def test_a_signature_has_as_many_words_as_the_table_says(function: Callable[..., Any], words: int) -> None:
    assert compiled(function).words == words


def record(seen: list[Any], hint: Any) -> HostFunction:
    def take(self, value):
        seen.append(value)

    take.__annotations__ = {"value": hint, "return": None}
    return compiled(take)


def test_text_is_decoded() -> None:
    seen: list[Any] = []

    assert code_of(record(seen, str), FakeGuest("blåbær".encode()), 0, 8) == 0
    assert seen == ["blåbær"]


@pytest.mark.parametrize("hint", [str, bytes], ids=["text", "bytes"])
def test_nothing_is_empty(hint: type) -> None:
    seen: list[Any] = []

    assert code_of(record(seen, hint), FakeGuest(), 0, 0) == 0
    assert seen == [hint()]


def test_bytes_arrive_as_they_are() -> None:
    seen: list[Any] = []

    assert code_of(record(seen, bytes), FakeGuest(b"\x00\xff\x01"), 0, 3) == 0
    assert seen == [b"\x00\xff\x01"]


@pytest.mark.parametrize("hint", [Route, Route | None], ids=["a record", "a record or none"])
def test_a_record_is_decoded(hint: Any) -> None:
    seen: list[Any] = []
    packed = msgpack.packb({"method": "GET", "path": "/x"})

    assert code_of(record(seen, hint), FakeGuest(packed), 0, len(packed)) == 0
    assert seen == [Route("GET", "/x")]


def test_a_field_that_is_missing_is_empty() -> None:
    seen: list[Any] = []

    assert code_of(record(seen, Route), FakeGuest(b"\x80"), 0, 1) == 0
    assert seen == [Route("", "")]


def test_an_empty_record_that_may_be_missing_is_none() -> None:
    seen: list[Any] = []

    assert code_of(record(seen, Route | None), FakeGuest(), 0, 0) == 0
    assert seen == [None]


def test_a_word_is_unsigned() -> None:
    seen: list[Any] = []

    assert code_of(record(seen, U32), FakeGuest(), 0xFFFF_FFFF) == 0
    assert seen == [0xFFFF_FFFF]


def test_two_words_are_low_and_high() -> None:
    seen: list[Any] = []

    assert code_of(record(seen, U64), FakeGuest(), 1, 0x8000_0000) == 0
    assert seen == [0x8000_0000_0000_0001]


def test_the_cell_and_the_guest_are_those_that_called() -> None:
    seen: list[Any] = []
    guest = FakeGuest()

    code_of(record(seen, CellRef), guest)
    code_of(record(seen, Guest), guest)

    assert seen == [CELL, guest]


GOOD = msgpack.packb({"method": "GET", "path": "/x"})


@pytest.mark.parametrize(
    ("hint", "memory", "words", "code"),
    [
        pytest.param(str, b"", (99, 2), Errno.FAULT, id="text outside memory"),
        pytest.param(str, b"\xff\xfe", (0, 2), Errno.DECODE, id="text that is not UTF-8"),
        pytest.param(str, b"\xed\xa0\x80", (0, 3), Errno.DECODE, id="text with half a character pair"),
        pytest.param(bytes, b"", (99, 2), Errno.FAULT, id="bytes outside memory"),
        pytest.param(bytes, b"", (101, 0), Errno.FAULT, id="no bytes outside memory"),
        pytest.param(Route, GOOD, (0, 0), Errno.EMPTY, id="a record of length 0"),
        pytest.param(Route, GOOD, (99, 2), Errno.FAULT, id="a record outside memory"),
        pytest.param(Route, b"\xc1", (0, 1), Errno.DECODE, id="a record that is not MessagePack"),
        pytest.param(Route, GOOD, (0, 5), Errno.DECODE, id="a record that is cut"),
        pytest.param(Route, GOOD + b"\0", (0, len(GOOD) + 1), Errno.DECODE, id="a record with something behind it"),
        pytest.param(Route, b"\x93\x01\x02\x03", (0, 4), Errno.DECODE, id="a list for a record"),
        pytest.param(
            Route,
            msgpack.packb({"method": 1, "path": "/x"}),
            (0, len(msgpack.packb({"method": 1, "path": "/x"}))),
            Errno.DECODE,
            id="a record with a field of another type",
        ),
        pytest.param(Route | None, b"\xc1", (0, 1), Errno.DECODE, id="a record or none that is neither"),
        pytest.param(Route | None, b"", (99, 2), Errno.FAULT, id="a record or none outside memory"),
    ],
)
def test_threat_19_a_wrong_argument_is_a_code_and_the_function_does_not_run(
    hint: Any, memory: bytes, words: tuple[int, ...], code: int
) -> None:
    seen: list[Any] = []

    assert code_of(record(seen, hint), FakeGuest(memory), *words) == code
    assert seen == []


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"\x91" * 64, id="nested for ever"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map of four thousand million"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="a list of four thousand million"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="four gigabytes of bytes"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="four gigabytes of text"),
        pytest.param(b"\xc7\xff\x01", id="an extension that is cut"),
    ],
)
@pytest.mark.parametrize("alone", [True, False], ids=["on the short way", "on the general way"])
def test_threat_18_a_record_that_promises_too_much_is_a_code(packed: bytes, alone: bool) -> None:
    def short(self, cell: CellRef, value: Route) -> None: ...

    def general(self, cell: CellRef, value: Route, _more: U32) -> None: ...

    function = compiled(short if alone else general)
    words = (0, len(packed)) if alone else (0, len(packed), 0)

    assert code_of(function, FakeGuest(packed), *words) == Errno.DECODE


@pytest.mark.parametrize(
    ("words", "code"),
    [((0, 0), Errno.EMPTY), ((99, 2), Errno.FAULT), ((0, 3), Errno.DECODE)],
    ids=["nothing is 1", "outside memory is 2", "cut is 3"],
)
def test_the_short_way_of_the_commonest_shape_answers_the_same_codes(words: tuple[int, int], code: int) -> None:
    def respond(self, cell: CellRef, value: Route) -> None: ...

    assert code_of(compiled(respond), FakeGuest(GOOD), *words) == code


# Results ----------------------------------------------------------------------------------------------------------


def returning(hint: Any, value: Any) -> HostFunction:
    def give(self):
        return value

    give.__annotations__ = {"return": hint}
    return compiled(give)


def test_none_is_answered_as_0() -> None:
    assert code_of(returning(None, None), FakeGuest()) == 0
    assert code_of(returning(None, "ignored"), FakeGuest()) == 0


@pytest.mark.parametrize(
    ("value", "word"),
    [(42, 42), (0xFFFF_FFFF, 0xFFFF_FFFF), (2**40 + 3, 3), (-1, 0xFFFF_FFFF)],
    ids=["a number", "the largest", "cut to 32 bits", "minus one"],
)
def test_a_word_is_answered_itself(value: int, word: int) -> None:
    assert code_of(returning(U32, value), FakeGuest()) == word


@pytest.mark.parametrize(
    ("hint", "value", "data"),
    [
        pytest.param(bytes, b"\x00\xff", b"\x00\xff", id="bytes as they are"),
        pytest.param(bytes, b"", b"", id="no bytes"),
        pytest.param(str, "blå", "blå".encode(), id="text as UTF-8"),
        pytest.param(Route, Route("GET", "/"), msgpack.packb({"method": "GET", "path": "/"}), id="a record"),
        pytest.param(list[int], [1, 2], b"\x92\x01\x02", id="a list"),
        pytest.param(dict[str, int], {"a": 1}, b"\x81\xa1a\x01", id="a dict"),
    ],
)
def test_a_result_is_delivered_at_the_last_two_words(hint: Any, value: Any, data: bytes) -> None:
    guest = FakeGuest()

    assert code_of(returning(hint, value), guest, 16, 20) == 0
    assert guest.delivered == [(data, 16, 20)]


def test_places_come_after_all_parameters() -> None:
    seen: list[Any] = []

    def everything(self, cell: CellRef, key: str, value: bytes, flags: U32, size: U64, more: Route | None) -> list[str]:
        seen.append((cell, key, value, flags, size, more))
        return [key]

    guest = FakeGuest(b"keyvalue")

    assert code_of(compiled(everything), guest, 0, 3, 3, 5, 7, 1, 2, 0, 0, 90, 94) == 0
    assert seen == [(CELL, "key", b"value", 7, 1 | 2 << 32, None)]
    assert guest.delivered == [(b"\x91\xa3key", 90, 94)]


def test_an_answer_that_is_raised_passes_and_nothing_is_delivered() -> None:
    def fail(self, cell: CellRef) -> bytes:
        raise HostError(Errno.NOT_FOUND, "key")

    guest = FakeGuest()

    assert code_of(compiled(fail), guest, 16, 20) == Errno.NOT_FOUND
    assert guest.delivered == []


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hint", [int, float, bool, list[str], dict[str, str], object, str | None, bytes | str, "missing"], ids=str
)
def test_a_parameter_without_a_shape_is_refused_and_named(hint: Any) -> None:
    def take(self, value): ...

    take.__annotations__ = {"return": None} if hint == "missing" else {"value": hint, "return": None}

    with pytest.raises(ExtensionError, match=r"take: parameter value: .* has no wasm shape; use CellRef, str, bytes"):
        compiled(take)


@pytest.mark.parametrize("hint", [int, float, bool, U64, str | None, Route | None, object], ids=str)
def test_a_result_without_a_shape_is_refused_and_named(hint: Any) -> None:
    with pytest.raises(ExtensionError, match=r"give: a result of .* has no wasm shape"):
        returning(hint, None)


def test_what_a_function_returns_must_be_said() -> None:
    def silent(self, cell: CellRef): ...

    with pytest.raises(ExtensionError, match=r"silent: annotate what it returns \(None if nothing\)"):
        compiled(silent)


# Names ------------------------------------------------------------------------------------------------------------


def test_a_function_has_its_own_name_words_doc_and_signature() -> None:
    def demo_greet(self, cell: CellRef, name: str) -> None:
        """Print a greeting."""

    found = compiled(demo_greet)

    assert (found.name, found.words, found.blocking, found.doc) == ("demo_greet", 2, False, "Print a greeting.")
    assert "name: 'str'" in found.signature or "name: str" in found.signature


def test_a_function_may_have_another_name_and_may_block() -> None:
    def fetch(self, cell: CellRef) -> None: ...

    found = compiled(fetch, name="http_fetch", blocking=True)

    assert (found.name, found.blocking) == ("http_fetch", True)


def test_only_marked_methods_are_host_functions_and_inherited_ones_are_too() -> None:
    class Base:
        @host_function
        def inherited(self, cell: CellRef) -> None: ...

    class Owner(Base):
        @host_function
        def own(self, cell: CellRef) -> None: ...

        def unmarked(self) -> None: ...

    assert list(host_functions(Owner())) == ["inherited", "own"]


def test_every_published_signature_can_be_written() -> None:
    """`pulp_app_call_v1` is the longest: five (pointer, length) pairs and a result."""

    class Calls:
        @host_function
        def pulp_app_call_v1(self, cell: CellRef, a: str, b: str, c: str, d: str, e: bytes) -> bytes: ...

        @host_function
        def pulp_call(self, cell: CellRef, target: str, function: str, args: bytes) -> bytes: ...

        @host_function
        def http_fetch_read(self, cell: CellRef, handle: U64, most: U32) -> bytes: ...

    words = {name: function.words for name, function in Capability.of("test.calls", Calls()).functions.items()}
    assert words == {"pulp_app_call_v1": 12, "pulp_call": 8, "http_fetch_read": 5}
