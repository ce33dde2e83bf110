"""Events and builds: what goes on between calls."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Caller
from fake_daemon import FakeDaemon
from pulp_ext_docker.ring import MOST_EVENTS, Ring

Make = Callable[..., Caller]


def poll(caller: Caller, since: int = 0, **more: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.answer("docker_events_poll", since_nanos=since, **more)
    return found


def wait(caller: Caller, until: Callable[[], bool]) -> None:
    """Let time pass until something has happened."""
    end = time.monotonic() + 10
    while not until():
        assert time.monotonic() < end
        caller.cell.advance(0.01)


@pytest.fixture
def shop(make: Make, host: str) -> Caller:
    caller = make(host, name="shop")
    wait(caller, lambda: caller.code("docker_events_poll", since_nanos=0) == 0)
    return caller


def test_what_happens_to_containers_is_told_in_order(shop: Caller) -> None:
    made = shop.create("web")
    shop.answer("docker_get", name="web")
    assert shop.code("docker_destroy", id=made["id"]) == 0

    wait(shop, lambda: "destroy" in [event["action"] for event in poll(shop)])
    told = [event for event in poll(shop) if event["action"] in ("create", "start", "destroy")]

    assert [event["action"] for event in told] == ["create", "start", "destroy"]
    assert {(event["container_id"], event["name"]) for event in told} == {(made["id"], "pulp-shop-web")}
    assert abs(told[0]["timestamp"] / 1e9 - time.time()) < 60
    later = poll(shop, told[0]["timestamp"])
    assert told[0] not in later
    assert told[1] in later
    assert poll(shop, limit=1) == [poll(shop)[0]]


@pytest.mark.parametrize("limit", [-1, MOST_EVENTS + 1])
def test_a_limit_that_is_none_is_refused(shop: Caller, limit: int) -> None:
    assert shop.code("docker_events_poll", since_nanos=0, limit=limit) == 1


def test_the_ring_forgets_what_is_old_and_what_is_too_much() -> None:
    now = [1_000.0]
    ring = Ring(lambda: now[0])
    for number in range(MOST_EVENTS + 5):
        ring.add({"Type": "container", "Action": str(number), "timeNano": 1_000 * 10**9 + number})

    assert len(ring.since(0, 10_000)) == MOST_EVENTS
    assert ring.since(0, 1)[0].action == "5"
    now[0] += 300.1
    assert ring.since(0, 10_000) == []


def test_what_is_not_about_a_container_is_not_told() -> None:
    ring = Ring()
    ring.add({"Type": "network", "Action": "connect"})
    ring.add({})

    assert ring.since(0, 10) == []


def test_events_go_on_after_the_daemon_was_away(make: Make, fake: FakeDaemon) -> None:
    shop = make(fake.path, name="shop")
    wait(shop, lambda: shop.code("docker_events_poll", since_nanos=0) == 0)
    fake.stop()
    wait(shop, lambda: shop.code("docker_events_poll", since_nanos=0) == 10)
    shop.cell.advance(25.0)
    fake.start()

    assert shop.code("docker_events_poll", since_nanos=0) == 10
    shop.cell.advance(11.0)
    wait(shop, lambda: shop.code("docker_events_poll", since_nanos=0) == 0)
    told = [record.message for record in shop.cell.logged]
    assert told.count("docker events are not heard") == 1


# Builds -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    (folder / "game" / "secret").mkdir(parents=True)
    (folder / "game" / "Dockerfile").write_text("FROM pulp-test:shell\nARG COLOUR\nLABEL colour=$COLOUR\n")
    (folder / "game" / "secret" / "key").write_text("canary")
    (folder / "game" / ".dockerignore").write_text("# not these\nsecret\n")
    (folder / "broken").mkdir()
    (folder / "broken" / "Dockerfile").write_text("FROM pulp-test:shell\nNONSENSE\n")
    (folder / "out").symlink_to(tmp_path)
    return folder


@pytest.fixture
def builder(make: Make, host: str, templates: Path) -> Caller:
    return make(host, {"TEMPLATES_DIR": str(templates)}, name="shop")


def status(caller: Caller) -> dict[str, Any]:
    found: dict[str, Any] = caller.answer("docker_build_status")
    return found


def test_an_image_is_built_in_the_background(builder: Caller) -> None:
    assert status(builder) == {"building": False, "last_build_time": 0}

    assert builder.code("docker_build", build_dir="game", image_tag="pulp-built:1", build_args={"COLOUR": "blue"}) == 0
    assert status(builder)["building"]
    wait(builder, lambda: not status(builder)["building"])

    ended = status(builder)
    assert "last_error" not in ended
    assert abs(ended["last_build_time"] - time.time()) < 60
    assert [record.fields["image"] for record in builder.cell.logged if record.message == "image built"] == [
        "pulp-built:1"
    ]


def test_a_build_that_fails_tells_why(builder: Caller, fake: FakeDaemon) -> None:
    fake.build_lines = [{"errorDetail": {}, "error": "unknown instruction: NONSENSE"}]

    assert builder.code("docker_build", build_dir="broken", image_tag="pulp-built:2") == 0
    wait(builder, lambda: not status(builder)["building"])

    assert "unknown instruction: NONSENSE" in status(builder)["last_error"]
    assert "image not built" in [record.message for record in builder.cell.logged]


def test_what_is_sent_is_the_folder_without_what_it_ignores(make: Make, fake: FakeDaemon, templates: Path) -> None:
    shop = make(fake.path, {"TEMPLATES_DIR": str(templates)}, name="shop")
    assert shop.code("docker_build", build_dir="game", image_tag="pulp-built:3", build_args={"A": "b"}) == 0
    wait(shop, lambda: not status(shop)["building"])

    query, archive = fake.builds[0]
    assert (query["t"], query["buildargs"]) == ("pulp-built:3", '{"A": "b"}')
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        assert sorted(files.getnames()) == [".dockerignore", "Dockerfile"]


def test_there_is_one_build_at_a_time(make: Make, fake: FakeDaemon, templates: Path) -> None:
    shop = make(fake.path, {"TEMPLATES_DIR": str(templates)}, name="shop")
    fake.build_gate.clear()
    build = {"build_dir": "game", "image_tag": "pulp-built:4"}

    assert shop.code("docker_build", **build) == 0
    wait(shop, lambda: bool(fake.builds))
    assert shop.code("docker_build", **build) == 11
    fake.build_gate.set()
    wait(shop, lambda: not status(shop)["building"])
    assert shop.code("docker_build", **build) == 0
    wait(shop, lambda: not status(shop)["building"])


def test_a_build_ends_with_the_host(make: Make, fake: FakeDaemon, templates: Path) -> None:
    shop = make(fake.path, {"TEMPLATES_DIR": str(templates)}, name="shop")
    fake.build_gate.clear()
    assert shop.code("docker_build", build_dir="game", image_tag="pulp-built:5") == 0
    wait(shop, lambda: bool(fake.builds))

    shop.cell.close()

    reasons = [record.fields["reason"] for record in shop.cell.logged if record.message == "image not built"]
    assert reasons == ["stopped, because the host stops"]


@pytest.mark.parametrize(
    ("build", "code"),
    [
        pytest.param({"build_dir": "", "image_tag": "a"}, 1, id="no folder"),
        pytest.param({"build_dir": "..", "image_tag": "a"}, 1, id="the folder above"),
        pytest.param({"build_dir": "/etc", "image_tag": "a"}, 1, id="a folder elsewhere"),
        pytest.param({"build_dir": "out", "image_tag": "a"}, 1, id="a link out"),
        pytest.param({"build_dir": "game/../../x", "image_tag": "a"}, 1, id="a way out"),
        pytest.param({"build_dir": "a\0", "image_tag": "a"}, 1, id="a NUL"),
        pytest.param({"build_dir": "missing", "image_tag": "a"}, 6, id="a folder that is not there"),
        pytest.param({"build_dir": "game/Dockerfile", "image_tag": "a"}, 6, id="a file"),
        pytest.param({"build_dir": "game", "image_tag": ""}, 1, id="no name"),
        pytest.param({"build_dir": "game", "image_tag": "A B"}, 1, id="a name that is none"),
        pytest.param({"build_dir": "game", "image_tag": "a&remote=http://x"}, 1, id="a name with a parameter"),
        pytest.param({"build_dir": "game", "image_tag": "a", "build_args": {"a b": ""}}, 1, id="an argument's name"),
    ],
)
def test_a_build_is_refused_with(
    make: Make, fake: FakeDaemon, templates: Path, build: dict[str, Any], code: int
) -> None:
    shop = make(fake.path, {"TEMPLATES_DIR": str(templates)}, name="shop")

    assert shop.code("docker_build", **build) == code
    assert not status(shop)["building"]
    assert fake.builds == []


def test_without_templates_there_is_nothing_to_build(make: Make, fake: FakeDaemon) -> None:
    shop = make(fake.path, name="shop")

    assert shop.code("docker_build", build_dir="game", image_tag="a") == 10
    assert shop.reasons == ["TEMPLATES_DIR is not set"]


def test_a_build_without_a_daemon_fails_in_the_background(make: Make, templates: Path) -> None:
    shop = make("/nowhere/docker.sock", {"TEMPLATES_DIR": str(templates)}, name="shop")

    assert shop.code("docker_build", build_dir="game", image_tag="a") == 0
    wait(shop, lambda: not status(shop)["building"])
    assert status(shop)["last_error"] == "No such file or directory"
