"""Two cells that want the same requests, over real sockets: who was there first keeps them, however spelled."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime import Host

from .test_reload import guest

DEADLINE_SECONDS = 10.0


class Stage:
    def __init__(self, host: Host) -> None:
        self.host = host

    def get(self, target: str) -> tuple[int, bytes]:
        """Send a request line as it is; return status and body."""
        with socket.create_connection(("127.0.0.1", int(self.host.url.rpartition(":")[2])), DEADLINE_SECONDS) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def says(what: str, path: str) -> str:
    """Return the guest of `test_reload.py`, for a path of any characters."""
    data = path.encode()
    stand_in = "@" * len(data)
    return guest(what, stand_in).replace(stand_in, "".join(f"\\{byte:02x}" for byte in data))


@pytest.fixture
def stage(cell: Callable[..., Path], wasm: Callable[[str], bytes], tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Return `stage(owner's path, thief's path)`: the owner says o, the thief says t; the thief starts second."""
    hosts: list[Host] = []

    def stage(held: str, wanted: str) -> Stage:
        http = 'capabilities = ["transport.http.inbound"]'
        owner = cell(wasm(says("o", held)), http, name="owner")
        thief = cell(wasm(says("t", wanted)), http, 'depends_on = ["owner"]', name="thief")
        hosts.append(Host([owner, thief], storage_root=tmp_path / "data", http_port="127.0.0.1:0"))
        hosts[-1].__enter__()
        return Stage(hosts[-1])

    yield stage
    for host in hosts:
        host.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        pytest.param("/admin", "/admin", id="the same"),
        pytest.param("/admin", "/:anything", id="a parameter in its place"),
        pytest.param("/admin", "/*all", id="everything"),
        pytest.param("/admin", "/admin/*all", id="everything below, which is the path itself too"),
        pytest.param("/:page", "/admin", id="one path of those a parameter takes"),
        pytest.param("/*all", "/admin", id="one path of all there are"),
        pytest.param("/a/:id/c", "/a/:id/:rest", id="a parameter at the end"),
    ],
)
def test_threat_39_the_second_cell_does_not_start_and_both_are_named(stage, records, held: str, wanted: str) -> None:
    there = stage(held, wanted)

    states = {name: cell.state for name, cell in there.host.status().items()}
    assert states == {"owner": "ready", "thief": "failed"}
    target = held.replace(":page", "admin").replace("*all", "admin").replace(":id", "1")
    assert there.get(target) == (200, b"o")
    told = str(records.fields("route refused")[0])
    for word in ("owner", "thief", held, wanted):
        assert word in told


@pytest.mark.parametrize(
    ("held", "wanted", "targets"),
    [
        pytest.param("/admin", "/%61dmin", ["/admin", "/%61dmin", "/%61%64min", "/admi%6E"], id="encoded letters"),
        pytest.param("/a/b", "/a%2Fb", ["/a/b"], id="an encoded slash"),
        pytest.param("/admin", "/Admin", ["/admin"], id="a capital"),
        pytest.param("/admin", "/admin/", ["/admin"], id="a slash behind"),
        pytest.param("/admin", "//admin", ["/admin"], id="two slashes"),
        pytest.param("/admin", "/x/../admin", ["/admin"], id="a detour"),
        pytest.param("/admin", "/./admin", ["/admin"], id="a dot"),
        pytest.param("/admin", "/admin?x", ["/admin", "/admin?x"], id="a query"),
        pytest.param("/admin", "/admin\0", ["/admin"], id="a NUL behind"),
        pytest.param("/admin", "/admin#x", ["/admin"], id="a fragment"),
        pytest.param("/\u00e9", "/e\u0301", ["/%C3%A9"], id="the same letter in two ways"),
    ],
)
def test_threat_39_a_path_that_only_looks_like_anothers_gets_none_of_its_requests(
    stage, held: str, wanted: str, targets: list[str]
) -> None:
    there = stage(held, wanted)

    assert there.host.status()["owner"].state == "ready"
    assert [there.get(target) for target in targets] == [(200, b"o")] * len(targets)
