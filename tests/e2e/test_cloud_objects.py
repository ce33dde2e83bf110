"""Programs in C and Go that keep objects, exchange messages and call cells through `fopen` and `os.Open` alone."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime import Host

HERE = Path(__file__).parent
MIB = 1 << 20
pytestmark = pytest.mark.slow

CLERK = """execution = "function"
capabilities = ["transport.http.inbound", "cloud.blob", "cloud.queue", "cloud.ipc"]
consumes = ["reverse"]
[function]
routes = ["ANY /*rest"]
timeout_ms = 20000
[cloud]
namespace = "office"
blob = { photos = "rw", docs = "ro" }
queue = { orders = "rw", refunds = "r", mail = "w" }
ipc = ["billing.reverse"]
"""
CONSUMER = """execution = "daemon"
capabilities = ["cloud.blob", "cloud.queue"]
[cloud]
namespace = "office"
blob = { photos = "rw" }
queue = { orders = "r" }
"""
IMAGES = """execution = "function"
capabilities = ["transport.http.inbound", "cloud.blob"]
[function]
routes = ["ANY /images/*rest"]
timeout_ms = 20000
[cloud]
blob = { photos = "rw" }
"""
BILLING = """capabilities = []
provides = ["reverse"]
"""


@pytest.fixture(scope="session")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    module = tmp_path_factory.mktemp("clerk") / "clerk.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", "-o"]
    subprocess.run([*command, module, HERE / "clerk.c"], check=True, capture_output=True)
    return module.read_bytes()


@pytest.fixture(scope="session")
def image_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    beside = Path(sys.executable).with_name("go")
    go = str(beside) if beside.exists() else shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    module = tmp_path_factory.mktemp("images") / "images.wasm"
    environment = {**os.environ, "GOOS": "wasip1", "GOARCH": "wasm", "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", module, HERE / "image_store.go"], check=True, env=environment)
    return module.read_bytes()


class Served:
    """A running host and its port."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.port = int((host.url or ":0").rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = client.getresponse()
        found = answer.status, answer.read()
        client.close()
        return found


@pytest.fixture
def serve(tmp_path: Path, cell: Callable[..., Path]) -> Iterator[Callable[..., Served]]:
    """Return `serve({name: (module, manifest)}, **host options)`."""
    hosts: list[Host] = []
    folders: dict[str, Path] = {}

    def serve(cells: dict[str, tuple[bytes | str, str]], **more: Any) -> Served:
        for name, (module, manifest) in cells.items():
            if name not in folders:
                folders[name] = cell(module, manifest, name=name)
        more.setdefault("storage_root", tmp_path / "data")
        host = Host([folders[name] for name in cells], http_port="127.0.0.1:0", **more)
        host.__enter__()
        hosts.append(host)
        return Served(host)

    yield serve
    for host in hosts:
        host.__exit__(None, None, None)


def test_an_image_store_in_go_keeps_finds_moves_and_removes_images(serve, image_store: bytes) -> None:
    served = serve({"images": (image_store, IMAGES)})
    image = random.Random(1).randbytes(3 * MIB + 17)

    status, told = served.ask("PUT", "/images/2026/cat.png", image, Content_Type="image/png")
    assert (status, told) == (201, f"{len(image)} {hashlib.sha256(image).hexdigest()}".encode())
    assert served.ask("PUT", "/images/dog.png", b"woof")[0] == 201
    assert served.ask("GET", "/images/2026/cat.png") == (200, image)
    assert served.ask("GET", f"/images/2026/cat.png?from={2 * MIB + 5}") == (200, image[2 * MIB + 5 :])
    assert served.ask("GET", "/images/") == (200, b"2026/cat.png %d\ndog.png 4\n" % len(image))
    assert served.ask("POST", "/images/dog.png", Destination="2026/dog.png")[0] == 204
    assert served.ask("DELETE", "/images/2026/cat.png")[0] == 204
    assert served.ask("GET", "/images/2026/cat.png")[0] == 404
    assert served.ask("GET", "/images/") == (200, b"2026/dog.png 4\n")


def test_a_message_goes_from_a_function_to_a_daemon_that_waits_for_it(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING), "consumer": (clerk, CONSUMER)})
    for number in range(20):
        assert served.ask("POST", "/publish", b"order %d" % number) == (200, b"published")

    folder = served.host._storage_root / ".pulp-cloud/blob/office"
    wanted = {hashlib.sha256(b"order %d" % number).hexdigest() for number in range(20)}
    end = time.monotonic() + 20
    while {path.name for path in folder.glob("content/*/*")} != wanted:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_a_run_that_traps_had_taken_is_given_out_again_and_then_acknowledged(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})
    served.ask("POST", "/publish", b"fragile")

    assert served.ask("POST", "/trap")[0] == 502
    assert served.ask("POST", "/take") == (200, b"fragile")
    served.ask("POST", "/publish", b"next")
    assert served.ask("POST", "/take") == (200, b"next")


def test_what_is_not_acknowledged_comes_to_who_waits_for_it_when_its_time_is_over(serve, clerk: bytes) -> None:
    manifest = CLERK.replace("[function]", '[settings."cloud.queue"]\nvisibility_seconds = 1\n[function]')
    served = serve({"clerk": (clerk, manifest), "billing": ("provider", BILLING)})
    served.ask("POST", "/publish", b"again")
    assert served.ask("POST", "/forget") == (200, b"again")
    began = time.monotonic()

    assert served.ask("POST", "/take") == (200, b"again")
    assert 0.5 < time.monotonic() - began < 10


def test_a_host_that_stops_does_not_wait_for_a_daemon_that_waits_for_messages(serve, clerk: bytes) -> None:
    served = serve({"consumer": (clerk, CONSUMER)}, grace_seconds=20)
    began = time.monotonic()
    served.host.__exit__(None, None, None)

    assert time.monotonic() - began < 5


def test_messages_outlive_the_host(serve, clerk: bytes, tmp_path: Path) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})
    served.ask("POST", "/publish", b"kept")
    served.host.__exit__(None, None, None)
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})

    assert served.ask("POST", "/take") == (200, b"kept")


def test_a_program_calls_a_cell_through_a_file(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})

    assert served.ask("POST", "/ask", b"hello") == (200, b"olleh")
    assert served.ask("POST", "/ask", bytes(range(1, 256)) * 100) == (200, (bytes(range(1, 256)) * 100)[::-1])


def test_an_error_of_the_callee_reaches_the_program_in_words(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider_traps", BILLING)})
    status, text = served.ask("POST", "/ask", b"hello")

    assert status == 500
    assert text


def test_an_object_that_was_not_closed_when_its_program_trapped_is_not_there(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})

    assert served.ask("POST", "/half")[0] == 502
    assert not [path for path in (served.host._storage_root / ".pulp-cloud/blob/office").glob("*/*") if path.is_file()]


REFUSED = """create: Read-only file system
truncate: Read-only file system
remove: Read-only file system
rename out: Read-only file system
rename in: Read-only file system
mkdir: Read-only file system
link: Not supported
symlink: Capabilities insufficient
climb: Capabilities insufficient
hidden: Invalid argument
not granted: No such file or directory
below an object: Not a directory
publish: Read-only file system
take: No such file or directory
call: No such file or directory
descriptors: No file descriptors available
"""


def test_what_is_not_granted_is_refused_in_the_words_of_the_c_library(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})

    assert served.ask("POST", "/refused")[1].decode() == REFUSED


def test_an_object_larger_than_the_memory_of_its_program_is_streamed_both_ways(serve, clerk: bytes) -> None:
    served = serve({"clerk": (clerk, CLERK), "billing": ("provider", BILLING)})

    assert served.ask("POST", "/write?200") == (200, b"%d" % (200 * MIB))
    assert served.ask("POST", "/read?0") == (200, b"%d" % (200 * MIB))
