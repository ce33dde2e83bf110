"""Typed calls: a response that is lifted where it lies."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.errors import CellRefused, MessageTooLarge, NoPostReturn
from pulp_runtime.ext import Guest


def lift(guest: Guest, address: int, length: int) -> tuple[str, int]:
    assert length == 12
    text, size, number = struct.unpack("<III", guest.read(address, length))
    return guest.read(text, size).decode(), number


def test_a_typed_response_is_lifted_and_then_given_back(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("typed")

    assert cell.exports_post_return
    for _ in range(3):
        assert cell.call_typed("resolve", b"", lift) == ("served", 7)
        assert poke(cell, "probe_live") == 0


def test_a_response_is_given_back_also_when_lifting_fails(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("typed")

    def fails(_guest: Guest, _address: int, _length: int) -> None:
        raise LookupError("not what was expected")

    with pytest.raises(LookupError, match="not what was expected"):
        cell.call_typed("resolve", b"", fails)
    assert poke(cell, "probe_live") == 0
    assert cell.call_typed("resolve", b"", lift) == ("served", 7)


def test_a_typed_call_that_is_refused_is_not_lifted(start: Callable[..., Cell]) -> None:
    with pytest.raises(CellRefused) as refused:
        start("typed").call_typed("resolve", b"\xff", lift)

    assert (refused.value.code, refused.value.diagnostic) == (255, "")


def test_a_typed_response_over_the_limit_is_refused(start: Callable[..., Cell]) -> None:
    with pytest.raises(MessageTooLarge, match="exceeds 11-byte limit"):
        start("typed", message_bytes=11).call_typed("f", b"", lift)


def test_a_typed_call_of_a_module_that_cannot_give_back_is_refused_and_an_opaque_one_works(
    start: Callable[..., Cell],
) -> None:
    cell = start("provider")

    assert not cell.exports_post_return
    with pytest.raises(NoPostReturn, match="does not export pulp_post_return"):
        cell.call_typed("echo.reverse", b"1234", lift)
    assert cell.call("echo.reverse", b"\1\2\3\4") == b"\4\3\2\1"
