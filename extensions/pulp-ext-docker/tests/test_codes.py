"""Every code; a daemon that is slow, gone, or sends nonsense."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

from conftest import ADDRESS, LENGTH, REQUEST, Caller
from fake_daemon import IMAGE, FakeDaemon
from pulp_ext_docker import effect
from pulp_ext_docker.runtime import capability

Make = Callable[..., Caller]
FUNCTIONS = {function.name: function.words for function in capability().functions.values()}
WITHOUT_MESSAGE = ("docker_stats_all", "docker_build_status")
NOT_ASKING = ("docker_build_status", "docker_build", "docker_events_poll")
MESSAGES: dict[str, dict[str, Any]] = {
    **{name: {"id": "web", "container": "web", "name": "web"} for name in FUNCTIONS},
    "docker_create": {"image": IMAGE},
    "docker_exec": {"id": "web", "cmd": ["echo"]},
    **{name: {"id": "web", "container": "web", "path": "/x"} for name in FUNCTIONS if "files" in name},
}


@pytest.fixture
def shop(make: Make, fake: FakeDaemon) -> Caller:
    return make(fake.path, name="shop")


def words(name: str, *message: int) -> list[int]:
    return [*message, *((ADDRESS, LENGTH) if FUNCTIONS[name] == 4 else ())]


def test_the_imports_are_the_published_ones() -> None:
    sending = {"docker_destroy", "docker_restart", "docker_files_write", "docker_files_delete", "docker_build"}

    assert {name for name, words in FUNCTIONS.items() if words == 2} == sending
    assert {name for name, words in FUNCTIONS.items() if words == 4} == {
        "docker_list",
        "docker_get",
        "docker_create",
        "docker_exec",
        "docker_logs",
        "docker_stats",
        "docker_stats_all",
        "docker_files_read",
        "docker_events_poll",
        "docker_build_status",
    }


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in (*WITHOUT_MESSAGE, "docker_list")])
def test_an_empty_message_is_1(shop: Caller, name: str) -> None:
    assert shop.cell.run(name, *words(name, REQUEST, 0)) == 1


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_MESSAGE])
@pytest.mark.parametrize("hostile", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_message_outside_memory_is_2(shop: Caller, name: str, hostile: tuple[int, int]) -> None:
    assert shop.cell.run(name, *words(name, *hostile)) == 2


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_MESSAGE])
@pytest.mark.parametrize("data", [b"\xc1", b"\x01", b"\xdf\xff\xff\xff\xff", b"\x81\xa1x"])
def test_a_message_of_another_kind_is_3(shop: Caller, name: str, data: bytes) -> None:
    shop.cell.write(REQUEST, data)

    assert shop.cell.run(name, *words(name, REQUEST, len(data))) == 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_cell_that_does_not_declare_it_is_answered_99(pulp_cell: Callable[..., CellUnderTest], name: str) -> None:
    one = capability()
    cell = pulp_cell(guest(one), capabilities=[one], declares=[])

    assert cell.run(name, *[0] * FUNCTIONS[name]) == 99


@pytest.mark.parametrize(
    ("alloc", "code"), [pytest.param("refuse", 7, id="has no room"), pytest.param("outside", 8, id="lies about it")]
)
def test_an_answer_is_lost_on_a_guest_that(make: Make, fake: FakeDaemon, alloc: str, code: int) -> None:
    shop = make(fake.path, alloc=alloc, name="shop")

    assert shop.code("docker_create", image=IMAGE, name="web") == code
    assert [one["Name"] for one in fake.containers.values()] == ["/pulp-shop-web"], "it is there all the same"


def test_an_answer_without_a_place_is_8(shop: Caller) -> None:
    assert shop.cell.run("docker_build_status", 0, 0, 65_533, LENGTH) == 8


# A daemon that is not there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in NOT_ASKING])
def test_without_a_daemon_a_good_call_is_10(make: Make, name: str) -> None:
    shop = make("/nowhere/docker.sock", name="shop")

    assert shop.code(name, **MESSAGES[name]) == 10
    assert shop.reasons == ["the daemon cannot be reached: No such file or directory"]


def test_events_of_a_daemon_that_is_not_there_are_10(make: Make) -> None:
    assert make("/nowhere/docker.sock").code("docker_events_poll", since_nanos=0) == 10


def test_a_daemon_that_is_not_there_is_left_alone_for_a_while(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = FakeDaemon(tmp_path / "s")
    now = time.monotonic()
    monkeypatch.setattr("pulp_ext_docker.daemon.time.monotonic", lambda: now)
    shop = make(daemon.path, name="shop")
    assert shop.code("docker_list") == 10
    daemon.start()
    try:
        now += 9.9
        assert shop.code("docker_list") == 10
        assert daemon.asked == []
        now += 0.2
        assert shop.code("docker_list") == 0
    finally:
        daemon.stop()
    assert len(shop.reasons) == 1


def test_a_daemon_that_goes_is_10(shop: Caller, fake: FakeDaemon) -> None:
    assert shop.code("docker_list") == 0
    fake.stop()

    assert shop.code("docker_list") == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/version", "docker_list", id="to say its version"),
        pytest.param("/containers/json", "docker_list", id="to list"),
        pytest.param("/containers/create", "docker_create", id="to create"),
        pytest.param("/containers/{id}/logs", "docker_logs", id="to write logs"),
    ],
)
def test_a_daemon_that_is_too_slow_is_4_before_the_deadline(make: Make, fake: FakeDaemon, path: str, name: str) -> None:
    identity = make(fake.path, name="shop").create("web")["id"]
    fake.slow.add(path.replace("{id}", identity))
    shop = make(fake.path, name="shop", call_timeout_ms=800)
    began = time.monotonic()

    assert shop.code(name, **{**MESSAGES[name], "id": identity}) == 4
    assert 0.5 < time.monotonic() - began < 0.8
    assert shop.reasons == ["the daemon did not answer in time"]


# A daemon that sends nonsense ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b"\x01\0\0\0\0\0\0\x05ab"], "the output broke off"),
        ([b"\x01\0\0"], "the output broke off"),
        ([b"\x01\0\0\0\xff\xff\xff\xff"], "the output broke off"),
    ],
)
def test_logs_that_break_off_are_4(shop: Caller, fake: FakeDaemon, frames: list[bytes], reason: str) -> None:
    shop.create("web")
    fake.raw_logs = frames

    assert shop.code("docker_logs", id="pulp-shop-web") == 4
    assert shop.reasons == [reason]


def test_of_logs_without_end_the_last_are_kept(make: Make, fake: FakeDaemon) -> None:
    shop = make(fake.path, alloc="refuse", name="shop")
    fake.create("pulp-shop-web", {"Image": IMAGE, "Labels": {"pulp.cell": "shop"}})
    piece = struct.pack(">BxxxL", 1, 65_536) + b"x" * 65_536
    fake.raw_logs = itertools.repeat(piece, 64)

    assert shop.code("docker_logs", id="pulp-shop-web") == 7, "read and cut; this guest has no room for it"


def test_a_stream_that_is_no_output_is_left_out(shop: Caller, fake: FakeDaemon) -> None:
    shop.create("web")
    fake.raw_logs = [struct.pack(">BxxxL", 3, 4) + b"sys!" + struct.pack(">BxxxL", 2, 3) + b"\xff\xfeb"]

    assert shop.answer("docker_logs", id="pulp-shop-web") == {"logs": "\ufffd\ufffdb"}


# What is not built --------------------------------------------------------------------------------------------------


def test_the_effect_is_refused_with_a_sentence(pulp_cell: Callable[..., CellUnderTest]) -> None:
    one = effect.capability()

    with pytest.raises(Exception, match="is not built: what its messages hold is not published"):
        pulp_cell(guest(one), capabilities=[one])
    assert pulp_cell(guest(one), capabilities=[one], declares=[]).run("fleet_effect_execute", 0, 0, 0, 0) == 99


def test_numbers_cross_as_integers_of_nine_bytes(shop: Caller) -> None:
    made = shop.create("web", memory_limit=7 << 20)
    data = msgspec.msgpack.encode({"name": "web"})
    shop.cell.write(REQUEST, data)
    shop.cell.run("docker_get", *words("docker_get", REQUEST, len(data)))

    address, length = (int.from_bytes(shop.cell.read(at, 4), "little") for at in (ADDRESS, LENGTH))
    assert shop.cell.read(address, length).endswith(b"memory_limit\xd3" + (7 << 20).to_bytes(8, "big"))
    assert made["memory_limit"] == 7 << 20
