"""Hostile modules: what is no program is refused by name, and what runs before a program may do no more than it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.programs.hostile import Alone, guest, must, opening

from pulp_runtime.errors import LoadError
from pulp_runtime.wasi.errno import WasiErrno
from pulp_runtime.wasi.preview1 import KINDS

FAULT = int(WasiErrno.FAULT)


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    alone = Alone()
    yield alone
    alone.close()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_threat_26_an_import_of_another_type_is_named(alone: Alone, name: str) -> None:
    text = f'(module (import "wasi_snapshot_preview1" "{name}" (func (param f64))) (memory (export "memory") 1)'
    program = None
    with pytest.raises(LoadError, match=name):
        program = alone.program(text + ' (func (export "_start")))')
    assert program is None


HUNDRED = " ".join(["i32"] * 100)


@pytest.mark.parametrize(
    "more",
    [
        f'(func (export "_initialize") (result {HUNDRED}) unreachable)',
        f'(func (export "_initialize") (result {HUNDRED}) {" ".join(["(i32.const 1)"] * 100)})',
        f'(func (export "_initialize") (param {HUNDRED}))',
        '(func (export "_initialize") (param externref))',
        '(global (export "_initialize") i32 (i32.const 1))',
        '(table (export "_initialize") 1 funcref)',
    ],
)
def test_threat_26_an_initializer_that_cannot_be_called_is_refused(alone: Alone, more: str) -> None:
    """What is called is not checked again: a hundred results would be written where there is room for sixteen."""
    with pytest.raises(LoadError, match="_initialize"):
        alone.program(f'(module (memory (export "memory") 1) {more} (func (export "pulp_function")))')


@pytest.mark.parametrize(
    ("section", "status", "words"),
    [
        ("unreachable", None, "unreachable"),
        ("(loop $on (br $on))", None, "stopped after"),
        ("(call $s)", None, "call stack exhausted"),
        ("(call $exit (i32.const 5))", 5, ""),
        (must(FAULT, "(call $random_get (i32.const 0) (i32.const 8))"), 7, ""),
        (must(FAULT, "(call $args_sizes_get (i32.const 0) (i32.const 8))"), 7, ""),
        (must(FAULT, opening("tmp")), 7, ""),
        (must(0, "(call $fd_close (i32.const 3))"), 7, ""),
    ],
)
def test_threat_22_a_start_section_may_do_no_more_than_the_program(
    alone: Alone, section: str, status: int | None, words: str
) -> None:
    """It runs before there is memory, as far as the host knows."""
    more = f"(func $s {section}) (start $s)"
    calls = ("random_get", "args_sizes_get", "path_open", "fd_close")

    outcome = alone.run(guest("(call $exit (i32.const 7))", *calls, more=more), seconds=0.2)

    assert outcome.status == status
    assert words in outcome.error


@pytest.mark.parametrize("code", [126, 255, 256, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_program_may_exit_with_any_number(alone: Alone, code: int) -> None:
    outcome = alone.run(guest(f"(call $exit (i32.const {code}))"))

    assert outcome.status == code


def test_threat_25_a_module_that_begins_with_more_memory_than_it_may_have_is_refused(alone: Alone) -> None:
    with pytest.raises(LoadError, match="begins with 257 pages of memory; limits let it have 256"):
        alone.program(guest("", memory='(memory (export "memory") 257)'))


@pytest.mark.parametrize(
    "more",
    [
        "(memory $second 1)",
        " ".join(["(table 1 funcref)"] * 17),
        "(table 1000000 funcref)",
        '(data (i32.const 131070) "over the end")',
        '(data (i32.const -1) "x")',
        "(table $t 1 funcref) (elem (i32.const 1) func $start)",
    ],
)
def test_threat_25_a_module_that_cannot_begin_ends_its_run_alone(alone: Alone, more: str) -> None:
    outcome = alone.run(guest("", more=more))

    assert outcome.status is None
    assert outcome.error
    assert alone.run(guest("")).status == 0
