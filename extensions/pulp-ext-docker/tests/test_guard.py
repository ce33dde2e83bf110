"""What a cell may not: containers of others, the machine's folders, the machine's network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pulp_runtime.ext import ExtensionError

from conftest import Caller
from fake_daemon import IMAGE, FakeDaemon
from pulp_ext_docker.settings import read_settings

Make = Callable[..., Caller]
ON_ONE: dict[str, dict[str, Any]] = {
    "docker_destroy": {},
    "docker_restart": {},
    "docker_exec": {"cmd": ["echo"]},
    "docker_logs": {},
    "docker_stats": {},
    "docker_files_read": {"path": "/tmp/x"},
    "docker_files_write": {"path": "/tmp/x"},
    "docker_files_delete": {"path": "/tmp/x"},
}


# Whose containers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ON_ONE)
def test_threat_47_a_container_of_another_cell_is_not_found(make: Make, host: str, function: str) -> None:
    made = make(host, name="a-b").create("c")
    thief = make(host, name="a")  # whose own names begin in the same way

    for key in (made["id"], made["name"], made["id"][:12]):
        assert thief.code(function, id=key, container=key, **ON_ONE[function]) == 6
    assert thief.answer("docker_get", name=made["name"])["status"] == "running", "it may be seen, and nothing more"


def test_two_placements_of_one_cell_are_two_owners(make: Make, fake: FakeDaemon) -> None:
    one, two = (make(fake.path, names={"shop": f"shop@{place}"}, name="shop") for place in ("a", "b"))
    made = one.create("web")

    assert made["name"] == "pulp-shop.a-web"
    assert two.code("docker_logs", id=made["id"]) == 6
    assert one.code("docker_logs", id=made["id"]) == 0


@pytest.mark.parametrize("function", ON_ONE)
def test_a_container_that_nobody_here_made_is_not_found(make: Make, fake: FakeDaemon, function: str) -> None:
    theirs = fake.create("pulp-shop-web", {"Image": IMAGE, "Labels": {}})["Id"]
    other = fake.create("elsewhere", {"Image": IMAGE, "Labels": {"pulp.cell": "shop"}})["Id"]
    shop = make(fake.path, name="shop")

    for key in (theirs, other):
        assert shop.code(function, id=key, container=key, **ON_ONE[function]) == 6
    assert not {path for method, path in fake.asked if method != "GET"}


@pytest.mark.parametrize("function", [*ON_ONE, "docker_get"])
@pytest.mark.parametrize("key", ["", ".", "../images/json", "a/b", "x?force=1", "a#b", "é", "x" * 256, "-x"])
def test_an_id_that_would_change_the_address_is_refused(make: Make, fake: FakeDaemon, function: str, key: str) -> None:
    shop = make(fake.path, name="shop")

    assert shop.code(function, id=key, container=key, name=key, **ON_ONE.get(function, {})) == 1
    assert [path for _method, path in fake.asked if "containers" in path or "images" in path] == []


def test_without_the_scope_every_container_is_everybodys(make: Make, fake: FakeDaemon) -> None:
    one = make(fake.path, {"DOCKER_SCOPE_DISABLE": "1"}, name="one")
    theirs = fake.create("elsewhere", {"Image": IMAGE})["Id"]
    fake.begin(fake.containers[theirs])

    assert one.create("plain")["name"] == "plain"
    assert one.create("")["name"]
    assert one.answer("docker_exec", id=theirs, cmd=["echo", "x"]) == {"output": "x\n"}
    assert one.code("docker_destroy", id=theirs) == 0
    assert one.code("docker_create", image=IMAGE, network="host") == 1, "what a container may be stays"
    assert one.code("docker_create", image=IMAGE, volumes={"/etc": "/x"}) == 1


@pytest.mark.parametrize("name", ["a b", "a/b", "../x", "x" * 250, "é", "a\nb"])
def test_a_name_that_is_none_is_refused(make: Make, fake: FakeDaemon, name: str) -> None:
    shop = make(fake.path, name="shop")

    assert shop.code("docker_create", image=IMAGE, name=name) == 1
    assert fake.containers == {}


def test_a_cell_has_a_bounded_number_of_containers(make: Make, host: str) -> None:
    shop = make(host, {"DOCKER_MAX_CONTAINERS": "2"}, name="shop")
    shop.create("one")
    shop.create("two")

    assert shop.code("docker_create", image=IMAGE, name="three") == 4
    assert shop.reasons == ["the cell has 2 containers; DOCKER_MAX_CONTAINERS is the limit"]
    make(host, name="other").create("one")


# Folders ------------------------------------------------------------------------------------------------------------


def test_without_roots_no_folder_is_bound(make: Make, fake: FakeDaemon, tmp_path: Path) -> None:
    shop = make(fake.path, name="shop")

    assert shop.code("docker_create", image=IMAGE, volumes={str(tmp_path): "/data"}) == 1
    assert fake.containers == {}


def test_a_folder_below_a_root_is_bound_and_read(make: Make, host: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note").write_text("from outside")
    tmp_path.chmod(0o755)
    shop = make(host, {"DOCKER_BIND_ROOTS": f"{tmp_path}:/srv/none"}, name="shop")
    made = shop.create("web", volumes={str(tmp_path / "in"): "/data:ro"})
    if "docker.sock" in host and "pulp-docker-" in host:  # the fake one has no files
        assert made["status"] == "running"
        return

    assert shop.answer("docker_exec", id=made["id"], cmd=["cat", "/data/note"]) == {"output": "from outside"}
    assert "Read-only" in shop.answer("docker_exec", id=made["id"], cmd=["sh", "-c", "echo x 2>&1 > /data/y"])["output"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with traps in it."""
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root2").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "in" / "up").symlink_to("../..")
    (root / "chain").symlink_to("link")
    (root / "self").symlink_to("self")
    (root / "to-etc").symlink_to("/etc")
    (root / "to-socket").symlink_to("/var/run/docker.sock")
    return root


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{root}/..", id="the folder above"),
        pytest.param("{root}/in/../../outside", id="a way out"),
        pytest.param("{root}2", id="a folder whose name begins alike"),
        pytest.param("{root}/link", id="a link out"),
        pytest.param("{root}/chain", id="a link to a link out"),
        pytest.param("{root}/in/up/outside", id="a link in the middle"),
        pytest.param("{root}/self", id="a link to itself"),
        pytest.param("{root}/missing", id="a folder that the daemon would make"),
        pytest.param("{root}/to-etc", id="a link to /etc"),
        pytest.param("{root}/to-socket", id="a link to the daemon's socket"),
        pytest.param("/", id="everything"),
        pytest.param("in", id="a volume by its name"),
        pytest.param("./in", id="a relative path"),
        pytest.param("~", id="somebody's home"),
        pytest.param("", id="nothing"),
        pytest.param("{root}/in:/etc", id="a second bind in the first"),
        pytest.param("{root}/in\0", id="a NUL"),
    ],
)
def test_threat_1_and_2_a_folder_that_leads_elsewhere_is_refused(
    make: Make, fake: FakeDaemon, root: Path, source: str
) -> None:
    shop = make(fake.path, {"DOCKER_BIND_ROOTS": str(root)}, name="shop")

    assert shop.code("docker_create", image=IMAGE, volumes={source.replace("{root}", str(root)): "/data"}) == 1
    assert fake.containers == {}


@pytest.mark.parametrize("target", ["", "data", "/data:rw,z", "/data:shared", "/data:ro:/etc", "/a\0"])
def test_a_place_in_the_container_that_is_none_is_refused(
    make: Make, fake: FakeDaemon, root: Path, target: str
) -> None:
    shop = make(fake.path, {"DOCKER_BIND_ROOTS": str(root)}, name="shop")

    assert shop.code("docker_create", image=IMAGE, volumes={f"{root}/in": target}) == 1


@pytest.mark.parametrize(
    "source", ["/run", "/var/run/docker.sock", "/etc", "/etc/ssl", "/proc/1", "/sys", "/dev", "/boot", "/root", "/var"]
)
def test_some_folders_are_never_bound_whatever_the_roots_are(make: Make, fake: FakeDaemon, source: str) -> None:
    roots = ["/run", "/var", "/etc", "/proc", "/sys", "/dev", "/boot", "/root"]
    shop = make(fake.path, config={"bind_roots": roots}, name="shop")

    assert shop.code("docker_create", image=IMAGE, volumes={source: "/data"}) == 1
    assert "never bound" in str(shop.reasons) or "does not exist" in str(shop.reasons)


def test_the_daemons_own_socket_is_never_bound_wherever_it_is(make: Make, fake: FakeDaemon) -> None:
    shop = make(fake.path, {"DOCKER_BIND_ROOTS": str(fake.path.parent)}, name="shop")

    for source in (fake.path, fake.path.parent):
        assert shop.code("docker_create", image=IMAGE, volumes={str(source): "/data"}) == 1


# The rest of a container --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"network": "host"}, id="the machine's network"),
        pytest.param({"network": "HOST"}, id="the machine's network in capitals"),
        pytest.param({"network": "container:abc"}, id="another container's network"),
        pytest.param({"network": "ns:/proc/1/ns/net"}, id="another process's network"),
        pytest.param({"network": "games", "ip": "1.2.3"}, id="an address that is none"),
        pytest.param({"ip": "1.2.3.4"}, id="an address of no network"),
        pytest.param({"image": ""}, id="no image"),
        pytest.param({"image": "a b"}, id="an image with a space"),
        pytest.param({"image": "-x"}, id="an image that is an option"),
        pytest.param({"environment": {"A=B": "c"}}, id="a variable with an equals sign"),
        pytest.param({"environment": {"": "c"}}, id="a variable without a name"),
        pytest.param({"environment": {"A": "\0"}}, id="a variable with a NUL"),
        pytest.param({"environment": {f"A{number}": "" for number in range(257)}}, id="257 variables"),
        pytest.param({"ports": [{"container": 0}]}, id="port 0"),
        pytest.param({"ports": [{"container": 65_536}]}, id="port 65536"),
        pytest.param({"ports": [{"host": -1, "container": 1}]}, id="a negative port"),
        pytest.param({"ports": [{"container": 1, "protocol": "icmp"}]}, id="a protocol without ports"),
        pytest.param({"ports": [{"container": 1, "range": 5}]}, id="a range"),
        pytest.param({"ports": [{"container": 1}] * 257}, id="257 ports"),
        pytest.param({"memory_limit": -1}, id="negative memory"),
        pytest.param({"memory_limit": 1 << 63}, id="more memory than a number holds"),
        pytest.param({"memory_swap": -2}, id="negative swap"),
        pytest.param({"cpu_limit": -0.5}, id="a negative processor"),
        pytest.param({"cpu_limit": float("nan")}, id="no number of processors"),
        pytest.param({"cpu_limit": float("inf")}, id="all processors"),
        pytest.param({"pids_limit": -1}, id="negative processes"),
        pytest.param({"disk_size_limit": -1}, id="a negative disk"),
        pytest.param({"disk_io_read_bps": 1}, id="a speed of an unknown device"),
    ],
)
def test_a_container_is_refused_with(make: Make, fake: FakeDaemon, wrong: dict[str, Any]) -> None:
    shop = make(fake.path, name="shop")

    assert shop.code("docker_create", **{"image": IMAGE, "name": "web", **wrong}) == 1
    assert fake.containers == {}
    assert len(shop.reasons) == 1, "and the operator is told why"


# Settings -----------------------------------------------------------------------------------------------------------


def test_the_environment_is_enough(tmp_path: Path) -> None:
    settings = read_settings(
        {},
        {
            "DOCKER_HOST": "unix:///run/user/1/docker.sock",
            "DOCKER_BIND_ROOTS": f"{tmp_path}::{tmp_path}/x",
            "TEMPLATES_DIR": str(tmp_path),
            "DOCKER_SCOPE_DISABLE": "true",
        },
    )

    real = Path(os.path.realpath(tmp_path))
    assert (settings.socket, settings.scoped) == ("/run/user/1/docker.sock", False)
    assert (settings.bind_roots, settings.templates) == ((real, real / "x"), real)


def test_by_default_nothing_is_allowed() -> None:
    settings = read_settings({}, {})

    assert (settings.bind_roots, settings.templates, settings.scoped, settings.io_device) == ((), None, True, "")
    assert (settings.socket, settings.max_containers) == ("/var/run/docker.sock", 64)


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        ({"host": "tcp://10.0.0.1:2375"}, {}),
        ({"host": "ssh://there"}, {}),
        ({"host": "unix://docker.sock"}, {}),
        ({"hosts": "x"}, {}),
        ({"bind_roots": ["/"]}, {}),
        ({"bind_roots": ["data"]}, {}),
        ({"bind_roots": ["/srv/.."]}, {}),
        ({"templates_dir": "templates"}, {}),
        ({"max_containers": -1}, {}),
        ({}, {"DOCKER_MAX_CONTAINERS": "many"}),
        ({}, {"DOCKER_BIND_ROOTS": "/"}),
    ],
)
def test_a_setting_that_is_none_is_refused(config: dict[str, Any], environment: dict[str, str]) -> None:
    with pytest.raises(ExtensionError):
        read_settings(config, environment)


def test_a_daemon_elsewhere_stops_the_host(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Exception, match="only a daemon on this"):
        make("", config={"host": f"tcp://127.0.0.1:{server.getsockname()[1]}"})
