from __future__ import annotations

from pathlib import Path

import pytest

from pulp_runtime._kernel.hooks import contained, set_up, tear_down
from pulp_runtime.errors import HookFailed
from pulp_runtime.ext import Capability, Posted, SetupEnv
from pulp_runtime.log import Log


def env() -> SetupEnv:
    return SetupEnv(
        storage_root=Path("data"),
        logger=Log("pulp"),
        post=lambda _event: Posted.CLOSED,
        spawn=lambda coroutine: coroutine.close(),
        defer=lambda callback: callback(),
        reachable=lambda _endpoint: None,
    )


def capability(name: str, done: list[str], *, fails: str = "") -> Capability:
    def hook(hook: str):
        def run(*_args: object) -> None:
            done.append(f"{hook} {name}")
            if fails == hook:
                raise ValueError("a bug")

        return run

    return Capability(name=name, register=lambda _linker, _cell: None, setup=hook("setup"), teardown=hook("teardown"))


def test_capabilities_are_set_up_in_order_and_torn_down_in_reverse(records) -> None:
    done: list[str] = []
    capabilities = [capability(name, done) for name in ("a", "b", "c")]

    set_up([(one, env()) for one in capabilities])
    tear_down(capabilities)

    assert done == ["setup a", "setup b", "setup c", "teardown c", "teardown b", "teardown a"]
    assert records.fields("capability ready") == [{"name": "a"}, {"name": "b"}, {"name": "c"}]


def test_when_one_cannot_be_set_up_those_before_it_are_torn_down() -> None:
    done: list[str] = []
    capabilities = [capability("a", done), capability("b", done), capability("c", done, fails="setup")]

    with pytest.raises(HookFailed, match="c: setup failed: ValueError: a bug"):
        set_up([(one, env()) for one in [*capabilities, capability("d", done)]])

    assert done == ["setup a", "setup b", "setup c", "teardown b", "teardown a"]


def test_a_teardown_that_fails_skips_nobody(records) -> None:
    done: list[str] = []

    tear_down([capability("a", done), capability("b", done, fails="teardown"), capability("c", done)])

    assert done == ["teardown c", "teardown b", "teardown a"]
    assert records.fields("extension hook failed") == [{"err": "b: teardown failed: ValueError: a bug"}]


def test_a_hook_that_fails_for_a_cell_names_the_cell(records) -> None:
    def teardown_cell(cell_id: str) -> None:
        raise ValueError(cell_id)

    one = Capability(name="a", register=lambda _linker, _cell: None, teardown_cell=teardown_cell)

    assert contained(one, "teardown_cell", "echo", cell="echo") is None
    assert records.fields("extension hook failed") == [
        {"err": "a: teardown_cell for cell echo failed: ValueError: echo"}
    ]


def test_a_hook_it_has_not_got_does_nothing() -> None:
    assert contained(Capability(name="a", register=lambda _linker, _cell: None), "poll") is None


def test_what_a_hook_returns_is_passed_on() -> None:
    one = Capability(name="a", register=lambda _linker, _cell: None, poll=lambda: None, finalize=lambda event: event)

    assert contained(one, "finalize", 7) == 7
