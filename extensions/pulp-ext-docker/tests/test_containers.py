"""Containers of a cell: with the fake daemon, and with a real one where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Caller
from fake_daemon import IMAGE
from pulp_ext_docker.streams import FILE_BYTES

Make = Callable[..., Caller]


def test_a_container_is_made_started_and_described(shop: Caller) -> None:
    made = shop.create("web", environment={"COLOUR": "blue"}, memory_limit=64 << 20, cpu_limit=0.5, pids_limit=50)

    assert (made["name"], made["status"], made["ip"], made["ports"]) == ("pulp-shop-web", "running", "", {})
    assert (made["cpu_limit"], made["memory_limit"]) == (0.5, 64 << 20)
    assert len(made["id"]) == 64
    assert shop.answer("docker_get", name="pulp-shop-web") == made
    assert shop.answer("docker_get", name="web") == made


def test_what_is_no_limit_is_left_out(shop: Caller) -> None:
    assert list(shop.create("web")) == ["id", "name", "status", "ip", "ports"]


def test_a_name_that_has_the_prefix_keeps_it_and_none_gets_one(shop: Caller) -> None:
    assert shop.create("pulp-shop-db")["name"] == "pulp-shop-db"
    assert shop.create("")["name"].startswith("pulp-shop-")


def test_a_name_that_is_taken_is_4(shop: Caller) -> None:
    shop.create("web")

    assert shop.code("docker_create", image=IMAGE, name="web", network="none") == 4
    assert "in use" in str(shop.reasons)


def test_an_image_that_is_not_there_is_6(shop: Caller) -> None:
    assert shop.code("docker_create", image="nobody/has:this", name="web") == 6


def test_a_container_that_does_not_start_is_not_left_behind(make: Make, fake: Any) -> None:
    shop = make(fake.path, name="shop")
    fake.starts = False

    assert shop.code("docker_create", image=IMAGE, name="web") == 4
    assert fake.containers == {}


def test_the_list_is_empty_bytes_when_there_is_nothing(shop: Caller) -> None:
    data = b"\x81\xa6filter\x81\xa5label\xb3pulp.cell=somewhere"
    shop.cell.write(64, data)
    assert shop.cell.run("docker_list", 64, len(data), 8, 12) == 0

    assert shop.cell.read(8, 8) == bytes(8)
    assert shop.cell.run("docker_list", 0, 0, 8, 12) == 0, "the message may be left out"


def test_the_list_has_what_stopped_and_what_is_others(shop: Caller, make: Make, host: str) -> None:
    other = make(host, name="other")
    shop.create("web")
    other.create("web")

    named = {one["name"]: one for one in shop.answer("docker_list")}
    assert {"pulp-shop-web", "pulp-other-web"} <= set(named)
    assert set(named["pulp-shop-web"]) == {"id", "name", "status", "ip", "ports"}
    mine = shop.answer("docker_list", filter={"label": "pulp.cell=shop", "status": "running"})
    assert [one["name"] for one in mine] == ["pulp-shop-web"]


def test_a_filter_that_is_none_is_refused(shop: Caller) -> None:
    assert shop.code("docker_list", filter={"colour": "blue"}) == 1


def test_ports_and_addresses_are_told(make: Make, fake: Any) -> None:
    shop = make(fake.path, name="shop")
    ports = [{"host": 8080, "container": 80}, {"host": 0, "container": 53, "protocol": "UDP", "name": "dns"}]

    made = shop.create("web", ports=ports, network="games", ip="10.1.2.3")

    assert made["ports"] == {"80/tcp": 8080, "53/udp": 49153}
    assert made["ip"] == "172.17.0.2"
    assert shop.answer("docker_list")[0]["ports"] == {"80/tcp": 8080, "53/udp": 49153}
    described = fake.containers[made["id"]]
    assert described["HostConfig"]["PortBindings"]["53/udp"] == [{"HostIp": "", "HostPort": ""}]
    assert described["NetworkingConfig"]["EndpointsConfig"]["games"]["IPAMConfig"] == {"IPv4Address": "10.1.2.3"}


def test_limits_reach_the_daemon(make: Make, fake: Any) -> None:
    shop = make(fake.path, config={"io_device": "/dev/sda"}, name="shop")
    made = shop.create(
        "web",
        memory_limit=1 << 30,
        memory_swap=-1,
        cpu_limit=1.5,
        pids_limit=10,
        disk_io_read_bps=1_000,
        disk_io_write_bps=2_000,
        disk_size_limit=5_000,
    )

    host = fake.containers[made["id"]]["HostConfig"]
    assert {name: host[name] for name in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")} == {
        "Memory": 1 << 30,
        "MemorySwap": -1,
        "NanoCpus": 1_500_000_000,
        "PidsLimit": 10,
    }
    assert host["BlkioDeviceReadBps"] == [{"Path": "/dev/sda", "Rate": 1_000}]
    assert host["BlkioDeviceWriteBps"] == [{"Path": "/dev/sda", "Rate": 2_000}]
    assert host["StorageOpt"] == {"size": "5000"}
    assert not host.get("Privileged")


def test_a_destroyed_container_is_gone(shop: Caller) -> None:
    made = shop.create("web")

    assert shop.code("docker_destroy", id=made["id"]) == 0
    assert shop.code("docker_get", name="web") == 6
    assert shop.code("docker_destroy", id=made["id"]) == 6


def test_a_restarted_container_runs(shop: Caller) -> None:
    made = shop.create("web")

    assert shop.code("docker_restart", id="pulp-shop-web") == 0
    assert shop.answer("docker_get", name="web")["id"] == made["id"]


# Commands, logs, counters -------------------------------------------------------------------------------------------


def test_a_command_is_run_and_both_streams_come_back(shop: Caller) -> None:
    made = shop.create("web")

    assert shop.answer("docker_exec", id=made["id"], cmd=["echo", "a b", "Zoë"]) == {"output": "a b Zoë\n"}
    both = shop.answer("docker_exec", id=made["id"], cmd=["sh", "-c", "echo out; echo err >&2"])["output"]
    assert sorted(both.split()) == ["err", "out"]


def test_a_command_that_is_not_there_answers_what_the_daemon_says(shop: Caller) -> None:
    shop.create("web")

    assert "nonesuch" in shop.answer("docker_exec", id="pulp-shop-web", cmd=["nonesuch"])["output"]


@pytest.mark.parametrize(
    "cmd",
    [
        pytest.param([], id="no words"),
        pytest.param([""], id="an empty name"),
        pytest.param(["a"] * 257, id="257 words"),
        pytest.param(["echo", "a\0b"], id="a NUL"),
    ],
)
def test_a_command_is_refused_with(make: Make, fake: Any, cmd: list[str]) -> None:
    shop = make(fake.path, name="shop")
    shop.create("web")

    assert shop.code("docker_exec", id="pulp-shop-web", cmd=cmd) == 1
    assert ("POST", "exec") not in {(method, path.split("/")[-1]) for method, path in fake.asked}


def test_a_command_that_writes_without_end_is_4(shop: Caller) -> None:
    shop.create("web")

    assert shop.code("docker_exec", id="pulp-shop-web", cmd=["yes"]) == 4
    assert shop.reasons == ["the output has more than 1,048,576 bytes"]


@pytest.mark.slow
def test_a_command_that_does_not_end_is_4_before_the_deadline_of_the_call(make: Make, host: str) -> None:
    make(host, name="shop").create("web")
    shop = make(host, name="shop", call_timeout_ms=1500)
    began = time.monotonic()

    assert shop.code("docker_exec", id="pulp-shop-web", cmd=["sleep", "60"]) == 4
    assert 1.0 < time.monotonic() - began < 1.5
    assert shop.reasons == ["the daemon did not answer in time"]


def test_logs_are_the_last_lines(shop: Caller) -> None:
    shop.create("web")
    until = time.monotonic() + 10
    while "line 499" not in (logs := shop.answer("docker_logs", id="pulp-shop-web", tail=3)["logs"]):
        assert time.monotonic() < until

    assert logs == "line 497\nline 498\nline 499\n"
    assert shop.answer("docker_logs", id="pulp-shop-web")["logs"].startswith("line 300\n")
    assert [shop.code("docker_logs", id="pulp-shop-web", tail=tail) for tail in (-1, 10_001)] == [1, 1]


def test_counters_are_told_for_one(shop: Caller, request: pytest.FixtureRequest) -> None:
    made = shop.create("web")

    stats = shop.answer("docker_stats", id=made["id"])

    assert (stats["container_id"], stats["name"]) == (made["id"], "pulp-shop-web")
    assert abs(stats["timestamp"] - time.time()) < 60
    assert stats["memory_limit"] > 0
    if "fake" in request.node.callspec.id:
        assert stats["cpu_percent"] == pytest.approx(80.0)
        assert {name: value for name, value in stats.items() if name.endswith(("bytes", "used"))} == {
            "memory_used": 4_000,
            "net_rx_bytes": 11,
            "net_tx_bytes": 22,
            "disk_read_bytes": 101,
            "disk_write_bytes": 7,
        }


def test_counters_are_told_for_all_that_run(shop: Caller, make: Make, host: str) -> None:
    shop.create("web")
    make(host, name="other").create("web")

    names = {stats["name"]: stats["cpu_percent"] for stats in shop.answer("docker_stats_all")}
    assert {"pulp-shop-web", "pulp-other-web"} <= set(names)
    assert names["pulp-shop-web"] == 0.0, "nothing to compare with yet"
    assert shop.cell.run("docker_stats_all", 65_535, 0xFFFF_FFFF, 8, 12) == 0, "what it is sent is not looked at"


# Files --------------------------------------------------------------------------------------------------------------


def test_a_file_is_written_read_and_deleted(shop: Caller) -> None:
    shop.create("web")
    place = {"id": "pulp-shop-web", "path": "/tmp/note"}

    assert shop.code("docker_files_write", **place, data=b"\x00\xffbytes") == 0
    assert shop.answer("docker_files_read", **place) == b"\x00\xffbytes", "as it is, without a wrapping"
    assert shop.code("docker_files_delete", container="pulp-shop-web", path="/tmp/note") == 0
    assert shop.code("docker_files_read", **place) == 6
    assert shop.code("docker_files_delete", container="pulp-shop-web", path="/tmp/note") == 0


def test_an_empty_file_is_no_bytes(shop: Caller) -> None:
    shop.create("web")
    place = {"id": "pulp-shop-web", "path": "/tmp/empty"}
    assert shop.code("docker_files_write", **place) == 0
    assert shop.code("docker_files_read", **place) == 0

    assert shop.cell.read(8, 8) == bytes(8)


def test_a_folder_is_not_a_file(shop: Caller) -> None:
    shop.create("web")

    assert shop.code("docker_files_read", id="pulp-shop-web", path="/tmp") == 4
    assert shop.reasons == ["the path is not a file"]


@pytest.mark.parametrize("path", ["", "tmp/x", "/", "//", "/a\0b", "/" + "a" * 4_096])
@pytest.mark.parametrize("function", ["docker_files_read", "docker_files_write", "docker_files_delete"])
def test_a_path_that_is_none_is_refused(make: Make, fake: Any, function: str, path: str) -> None:
    shop = make(fake.path, name="shop")
    shop.create("web")

    assert shop.code(function, id="pulp-shop-web", container="pulp-shop-web", path=path) == 1


def test_a_file_over_the_bound_is_not_read(make: Make, fake: Any) -> None:
    shop = make(fake.path, name="shop")
    made = shop.create("web")
    fake.files[made["id"], "/tmp/big"] = bytes(FILE_BYTES + 1)

    assert shop.code("docker_files_read", id=made["id"], path="/tmp/big") == 4
    assert shop.reasons == ["the file has 16,777,217 bytes, more than 16,777,216"]
