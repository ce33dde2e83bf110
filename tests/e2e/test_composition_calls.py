"""Calls from one application to another: `pulp_app_call_v1`, code by code (spec/core §5.6)."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime import Composition, Host
from pulp_runtime._kernel.neighbours import Neighbours
from pulp_runtime.errors import CellTimeout, Errno, OperationFailed, PulpError

from .compose import FUNCTIONS, Estate, answer, applications, away, do

CONSUMES = 'host_consumes = ["echo", "next", "stop", "trap", "big", "relay", "keep"]'
OUTSIDE = 1 << 24


@pytest.fixture
def estate(tmp_path: Path, wasm: Callable[[str], bytes]) -> Estate:
    return Estate(tmp_path, wasm)


@pytest.fixture
def pair(estate: Estate) -> Callable[..., Composition]:
    """Return `pair(lines…)`: a host of `store`, and of `web`, which depends on it; the lines are for web's cell."""

    def pair(*lines: str, store: str = "", **more: object) -> Composition:
        web = estate.one("web", FUNCTIONS, CONSUMES, *lines) + 'depends_on = ["store"]\n'
        return estate.host(web, estate.one("store", FUNCTIONS) + store, **more)

    return pair


@pytest.fixture
def host(pair: Callable[..., Composition]) -> Iterator[Composition]:
    with pair(store="instances = 2\n") as host:
        yield host


def ask(host: Composition, *target: str, args: bytes = b"", by: str = "web/cell") -> tuple[int, bytes]:
    return answer(host.call(by, "away", away(*target, args)))


STORE = ("store", "store-1", "cell")


# Code by code ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
def test_a_function_of_a_direct_dependency_answers(host: Composition, size: int) -> None:
    args = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert ask(host, *STORE, "echo", args=args) == (Errno.OK, args)


def count(number: int) -> bytes:
    return number.to_bytes(4, "little")


def test_the_guest_says_which_instance_it_means(host: Composition) -> None:
    for number in (1, 2):
        assert ask(host, "store", "store-2", "cell", "next") == (Errno.OK, count(number))
    assert ask(host, *STORE, "next") == (Errno.OK, count(1))


@pytest.mark.parametrize("missing", range(4))
def test_a_target_with_an_empty_part_is_1(host: Composition, missing: int) -> None:
    target = [*STORE, "echo"]
    target[missing] = ""
    assert ask(host, *target) == (Errno.EMPTY, b"")


@pytest.mark.parametrize("part", [0, 2, 4, 6, 8])
@pytest.mark.parametrize(
    ("address", "length"),
    [
        pytest.param(OUTSIDE, 4, id="past the end"),
        pytest.param(0, OUTSIDE, id="runs past the end"),
        pytest.param(0xFFFFFFFF, 4, id="at the last address of all"),
        pytest.param(16, 0xFFFFFFFF, id="is four gigabytes"),
    ],
)
def test_words_outside_memory_are_2(host: Composition, part: int, address: int, length: int) -> None:
    words = [16, 4] * 5 + [8, 12]
    words[part : part + 2] = [address, length]
    assert answer(host.call("web/cell", "raw", struct.pack("<12I", *words)))[0] == Errno.FAULT


@pytest.mark.parametrize(
    ("target", "why"),
    [
        pytest.param((*STORE, "away"), "it is not in host_consumes", id="a function that the cell does not consume"),
        pytest.param((*STORE, "Echo"), "it is not in host_consumes", id="a function with a capital"),
        pytest.param(("web", "web-1", "cell", "echo"), "it is its own", id="its own application"),
        pytest.param(("other", "other-1", "cell", "echo"), "no dependency", id="an application it does not depend on"),
        pytest.param(("nobody", "nobody-1", "cell", "echo"), "no dependency", id="an application that is not there"),
        pytest.param(("\udcff", "x", "cell", "echo"), "no dependency", id="an application of no name"),
    ],
)
def test_what_the_manifests_do_not_permit_is_11_and_told(estate: Estate, records, target, why: str) -> None:
    web = estate.one("web", FUNCTIONS, CONSUMES) + 'depends_on = ["store"]\n'
    with estate.host(web, estate.one("store"), estate.one("other")) as host:
        parts = [part.encode(errors="surrogateescape") for part in target]
        response = host.call("web/cell", "away", b"".join(bytes([len(part)]) + part for part in parts))
        assert answer(response) == (Errno.DENIED, b""), why
        assert host.call("other/cell", "next") == count(1)
    told = records.fields("pulp_app_call_v1 denied by manifest")[0]
    assert (told["cell"], told["provider"]) == ("web/cell", target[3])


def test_threat_30_instances_of_one_application_cannot_call_each_other(estate: Estate) -> None:
    web = estate.one("web", FUNCTIONS, CONSUMES) + 'depends_on = ["store"]\ninstances = 2\n'
    with estate.host(web, estate.one("store")) as host:
        assert ask(host, "web", "web-2", "cell", "echo", by="web/web-1/cell") == (Errno.DENIED, b"")


def test_threat_30_nobody_calls_back_into_who_depends_on_it(estate: Estate) -> None:
    web = estate.one("web", FUNCTIONS, CONSUMES) + 'depends_on = ["store"]\n'
    middle = estate.one("middle", FUNCTIONS, CONSUMES) + 'depends_on = ["store"]\n'
    with estate.host(web, middle, estate.one("store")) as host:
        assert ask(host, *STORE, "echo", by="middle/cell", args=b"1") == (Errno.OK, b"1")
        for by in ("store/cell", "middle/cell"):
            assert ask(host, "web", "web-1", "cell", "echo", by=by) == (Errno.DENIED, b"")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param(("store", "store-3", "cell", "echo"), "store/store-3 is not running", id="no such instance"),
        pytest.param(("store", "store-1", "other", "echo"), 'has no cell "other"', id="no such cell"),
        pytest.param((*STORE, "trap"), "unreachable", id="a trap"),
    ],
)
def test_a_call_that_fails_behind_the_permission_is_4_and_told(host, records, target, words: str) -> None:
    assert ask(host, *target) == (Errno.FAILED, b"")
    told = records.fields("pulp_app_call_v1 failed")[0]
    assert words in told["err"]
    assert (told["caller_app"], told["caller_cell"], told["target_app"]) == ("web", "cell", "store")
    assert (told["target_instance"], told["target_cell"], told["provider"]) == target[1:]


def test_a_function_that_only_another_dependency_provides_is_4(estate: Estate, records) -> None:
    web = estate.one("web", FUNCTIONS, CONSUMES) + 'depends_on = ["store", "empty"]\n'
    estate.cell("empty", "cell", 'provides = ["zero"]')
    with estate.host(web, estate.one("store"), estate.app("empty", "cell")) as host:
        assert ask(host, "empty", "empty-1", "cell", "echo") == (Errno.FAILED, b"")
    assert 'cell empty/cell does not provide "echo"' in records.fields("pulp_app_call_v1 failed")[0]["err"]


def test_a_cell_that_was_stopped_is_4_until_it_starts_again(host: Composition) -> None:
    assert ask(host, *STORE, "echo") == (Errno.OK, b"")
    do(host, "stop", "store/store-1/cell")
    assert ask(host, *STORE, "echo") == (Errno.FAILED, b"")
    do(host, "start", "store/store-1/cell")
    assert ask(host, *STORE, "echo") == (Errno.OK, b"")


def test_a_response_over_the_limit_is_4(pair) -> None:
    with pair() as host:
        assert ask(host, *STORE, "big", args=(9 << 20).to_bytes(4, "little")) == (Errno.FAILED, b"")


def test_a_caller_whose_allocator_refuses_is_7(host: Composition) -> None:
    assert answer(host.call("web/cell", "yield", away(*STORE, "echo", b"x"))) == (Errno.ALLOC, b"")


@pytest.mark.parametrize("outs", [(OUTSIDE, 12), (8, OUTSIDE), (0xFFFFFFFF, 12)])
def test_out_addresses_outside_memory_are_8(host: Composition, outs: tuple[int, int]) -> None:
    target = away(*STORE, "echo", b"x")
    host.call("web/cell", "keep", target)
    memory = applications(host)["web/web-1"].fleet.runners["cell"].cell._instance.memory
    at = bytes(memory.read(0, 65_536)).index(target)
    words = []
    for _ in range(4):
        length = memory.read(at, 1)[0]
        words += [at + 1, length]
        at += 1 + length
    response = host.call("web/cell", "raw", struct.pack("<12I", *words, at, 1, *outs))
    assert answer(response)[0] == Errno.WRITE


# Chains ---------------------------------------------------------------------------------------------------------------


def test_a_chain_leads_through_several_applications_and_back_to_none(estate: Estate) -> None:
    entries, before = [], ""
    for name in ("a", "b", "c", "d"):
        provides = FUNCTIONS.replace('"away"', f'"away.{name}"')
        consumes = f'host_consumes = ["away.{before}", "next"]' if before else ""
        entries.append(estate.one(name, provides, consumes) + (f'depends_on = ["{before}"]\n' if before else ""))
        before = name
    with estate.host(*entries) as host:
        args = away("a", "a-1", "cell", "next")
        for name in ("b", "c"):
            args = away(name, f"{name}-1", "cell", f"away.{name}", args)
        response = host.call("d/cell", "away.d", args)
    codes = struct.unpack(f"<{len(response) // 4}I", response)
    assert codes == (0, 0, 0, 1)  # three that went through, and how often the last has been asked


def test_two_chains_that_meet_in_another_application_do_not_wait_for_each_other_for_ever(estate: Estate) -> None:
    """web calls x of the store, which calls y, while y calls x: whoever comes last is refused at once."""
    consumes = 'consumes = ["relay.x", "relay.y", "echo.x", "echo.y"]'
    for name in ("x", "y"):
        estate.cell("store", name, f'provides = ["relay.{name}", "echo.{name}", "next"]', consumes)
    for name in ("p", "q"):
        estate.cell(
            "web", name, 'provides = ["away"]', 'host_consumes = ["relay.x", "relay.y"]', "call_timeout_ms = 20000"
        )
    web = estate.app("web", "p", "q") + 'depends_on = ["store"]\n'
    with estate.host(web, estate.app("store", "x", "y")) as host:
        codes: list[int] = []

        def press(by: str, first: str, then: str) -> None:
            relay = b"".join(bytes([len(part)]) + part for part in (then.encode(), b"relay." + then.encode()))
            back = b"".join(bytes([len(part)]) + part for part in (first.encode(), b"echo." + first.encode()))
            for _ in range(200):
                code, response = ask(
                    host, "store", "store-1", first, f"relay.{first}", args=relay + back, by=f"web/{by}"
                )
                codes.append(code)
                if not code and len(response) >= 8:
                    codes.append(struct.unpack_from("<I", response, 4)[0])

        began = time.monotonic()
        threads = [threading.Thread(target=press, args=one) for one in (("p", "x", "y"), ("q", "y", "x"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 10
        assert Errno.LOOP in codes
        assert set(codes) <= {Errno.OK, Errno.LOOP}


@pytest.mark.slow
def test_a_caller_waits_no_longer_than_its_own_time(pair, records) -> None:
    with pair("call_timeout_ms = 300") as host:
        began = time.monotonic()
        with pytest.raises(CellTimeout):
            ask(host, *STORE, "stop")
        assert time.monotonic() - began < 3
        end = time.monotonic() + 10
        while host.status()["store/cell"].state != "ready" or host.status()["store/cell"].restarts != 1:
            assert time.monotonic() < end
            time.sleep(0.002)


def test_a_cell_may_call_while_it_says_goodbye_for_those_it_depends_on_still_run(pair, records) -> None:
    with pair() as host:
        host.call("web/cell", "keep", away(*STORE, "echo", b"bye"))
    assert host.unclean == ()
    with pair() as host:
        host.call("web/cell", "keep", away("store", "store-2", "cell", "echo"))
    assert host.unclean == ("shutdown application web/web-1: cell web/cell: pulp_shutdown returned 4",)


# Who can be called ----------------------------------------------------------------------------------------------------


def test_after_a_reload_the_new_manifests_decide(host: Composition, estate: Estate) -> None:
    manifest = estate.path / "web" / "cell" / "pulp.cell.toml"
    assert ask(host, *STORE, "echo") == (Errno.OK, b"")
    manifest.write_text(manifest.read_text().replace('host_consumes = ["echo", ', "host_consumes = ["))
    do(host, "reload", "web/cell")
    assert ask(host, *STORE, "echo") == (Errno.DENIED, b"")
    do(host, "rollback", "web/cell")
    assert ask(host, *STORE, "echo") == (Errno.OK, b"")
    manifest.write_text(manifest.read_text().replace("host_consumes = [", 'host_consumes = ["nowhere", '))
    with pytest.raises(OperationFailed, match=r'reload "web/cell": .*"nowhere", but no direct dependency application'):
        do(host, "reload", "web/cell")


def test_a_reload_may_not_take_away_what_another_application_consumes(host: Composition, estate: Estate) -> None:
    manifest = estate.path / "store" / "cell" / "pulp.cell.toml"
    manifest.write_text(manifest.read_text().replace('"echo", ', ""))
    with pytest.raises(OperationFailed, match='cell "cell" host_consumes "echo", but no direct dependency'):
        do(host, "reload", "store/store-1/cell")
    assert ask(host, *STORE, "echo") == (Errno.OK, b"")


def withdrawn(host: Composition) -> Neighbours:
    return applications(host)["store/store-1"]._premises.neighbours


def test_an_instance_that_is_withdrawn_is_4_and_a_replacement_gets_only_new_calls(host: Composition) -> None:
    neighbours = withdrawn(host)
    fleet = applications(host)["store/store-2"].fleet
    assert ask(host, *STORE, "next") == (Errno.OK, count(1))
    assert neighbours.withdraw("store", "store-1").inside == 0
    assert ask(host, *STORE, "next") == (Errno.FAILED, b"")
    neighbours.admit("store", "store-1", fleet.runners)
    assert ask(host, *STORE, "next") == (Errno.OK, count(1))
    assert host.call("store/store-1/cell", "next") == count(2)
    with pytest.raises(PulpError, match="application store/store-1 can be called already"):
        neighbours.admit("store", "store-1", fleet.runners)
    assert neighbours.withdraw("store", "gone") is None


@pytest.mark.slow
def test_a_withdrawal_waits_for_the_call_in_flight(pair) -> None:
    with pair("call_timeout_ms = 400") as host:
        thread = threading.Thread(target=lambda: ask_quietly(host, "stop"))
        thread.start()
        turnstile, _runners = withdrawn(host)._doors["store", "store-1"]
        end = time.monotonic() + 10
        while not turnstile.inside:
            assert time.monotonic() < end
        assert withdrawn(host).withdraw("store", "store-1") is turnstile
        assert turnstile.inside == 1
        assert not turnstile.enter()
        thread.join()
        assert turnstile.inside == 0


def ask_quietly(host: Composition, function: str) -> None:
    try:
        ask(host, *STORE, function)
    except PulpError:
        pass


def test_64_callers_and_a_withdrawal_get_an_answer_each(pair) -> None:
    with pair() as host:
        codes: list[int] = []
        start = threading.Barrier(65)

        def call() -> None:
            start.wait()
            codes.append(ask(host, *STORE, "echo", args=b"x")[0])

        threads = [threading.Thread(target=call) for _ in range(64)]
        for thread in threads:
            thread.start()
        start.wait()
        turnstile = withdrawn(host).withdraw("store", "store-1")
        for thread in threads:
            thread.join()
        assert len(codes) == 64
        assert set(codes) <= {Errno.OK, Errno.FAILED}
        assert turnstile.inside == 0


# Outside a host of several --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cells", "app"])
def test_without_other_applications_every_call_is_4_and_the_start_says_so(estate: Estate, records, mode: str) -> None:
    estate.one("web", FUNCTIONS, CONSUMES)
    where = {"app": estate.path / "web"} if mode == "app" else {"cells": [estate.path / "web" / "cell"]}
    with Host(**where, storage_root=estate.path / "data") as host:
        for target in ((*STORE, "echo"), ("", "", "", ""), (*STORE, "away")):
            assert answer(host.call("cell", "away", away(*target))) == (Errno.FAILED, b"")
    told = records.fields("no other application runs here; calls to one are answered with 4")
    assert told[0]["cell"] == "cell"
