"""A daemon, not a real one and where there is one a real one too, and a cell that calls `spawn.docker`."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest
from pulp_runtime.ext import Capability, SetupEnv
from pulp_runtime.testing import CellUnderTest, guest

from fake_daemon import IMAGE, FakeDaemon
from pulp_ext_docker.guard import CELL_LABEL
from pulp_ext_docker.runtime import Runtime
from pulp_ext_docker.settings import NAME

REQUEST, ADDRESS, LENGTH = 64, 8, 12
"""Where a test's cell keeps its message, and where it is told of the answer."""
APPLETS = ("cat", "echo", "ls", "mkdir", "rm", "sh", "sleep", "yes")
SCRIPT = "trap 'exit 0' TERM; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; while :; do sleep 0.1; done"
COMMAND = f'CMD ["sh", "-c", "{SCRIPT}"]'


def real_socket() -> str:
    """Return the path of a real daemon's socket, "" if there is none to be used."""
    path = os.environ.get("PULP_TEST_DOCKER_SOCKET", "/var/run/docker.sock")
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(path)
        except OSError:
            return ""
    return path


@pytest.fixture(scope="session")
def real() -> Iterator[str]:
    """Return a real daemon's socket; it has the tests' image, made of a busybox of this machine."""
    path, busybox = real_socket(), shutil.which("busybox")
    if not path:
        pytest.skip(
            "no Docker daemon at /var/run/docker.sock or $PULP_TEST_DOCKER_SOCKET: tried with the fake one only"
        )
    if busybox is None:
        pytest.skip(
            "a Docker daemon is here, but no static busybox to make an image of: apt-get install busybox-static"
        )
    client = docker.APIClient(f"unix://{path}")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(busybox, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for folder in ("tmp", "etc"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(made)
    name, tag = IMAGE.split(":")
    changes = ["ENV PATH=/bin", COMMAND]
    client.import_image_from_data(packed.getvalue(), repository=name, tag=tag, changes=changes)
    yield path
    for one in client.images(filters={"reference": "pulp-*"}):
        client.remove_image(one["Id"], force=True)
    client.close()


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    folder = Path(tempfile.mkdtemp(prefix="pulp-docker-"))  # a socket's path must be short
    daemon = FakeDaemon(folder / "docker.sock")
    daemon.start()
    yield daemon
    daemon.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def host(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the socket of a daemon; after the test its containers are gone."""
    if request.param == "fake":
        yield str(request.getfixturevalue("fake").path)
        return
    path = request.getfixturevalue("real")
    yield path
    client = docker.APIClient(f"unix://{path}")
    for one in client.containers(all=True, filters={"label": CELL_LABEL}):
        client.remove_container(one["Id"], force=True, v=True)
    client.close()


class Caller:
    """A cell that passes messages on to `spawn.docker`."""

    def __init__(self, cell: CellUnderTest, capability: Capability) -> None:
        self.cell = cell
        self._capability = capability

    def code(self, name: str, /, **message: Any) -> int:
        """Return what an import answers."""
        data = msgspec.msgpack.encode(message)
        self.cell.write(REQUEST, data)
        out = (ADDRESS, LENGTH) if self._capability.functions[name].words == 4 else ()
        return self.cell.run(name, REQUEST, len(data), *out)

    def answer(self, name: str, /, **message: Any) -> Any:
        """Return what an import delivers; it must answer 0."""
        assert self.code(name, **message) == 0, [self.cell.transcript[-1], *self.cell.logged]
        found = self.cell.calls[-1].answer
        return msgspec.msgpack.decode(found) if name == "docker_list" and found else found

    def create(self, name: str, **more: Any) -> Any:
        """Return a container of the tests' image."""
        return self.answer("docker_create", **{"image": IMAGE, "name": name, "network": "none", **more})

    @property
    def reasons(self) -> list[object]:
        """Why calls failed, as the operator is told."""
        return [record.fields["reason"] for record in self.cell.logged if record.message == "docker call failed"]


class Placed(Runtime):
    """A runtime whose cells are placed like this."""

    def __init__(self, environment: dict[str, str], names: dict[str, str]) -> None:
        super().__init__(environment)
        self._names = names

    def setup(self, env: SetupEnv) -> None:
        super().setup(dataclasses.replace(env, storage_namespaces=self._names))


@pytest.fixture
def make(pulp_cell: Callable[..., CellUnderTest]) -> Callable[..., Caller]:
    """Return `make(socket, environment={}, config={}, **fields)`: a cell under a runtime with these settings."""

    def make(
        path: str | Path,
        environment: dict[str, str] | None = None,
        config: dict[str, Any] | None = None,
        names: dict[str, str] | None = None,
        **fields: Any,
    ) -> Caller:
        capability = Capability.of(NAME, Placed(environment or {}, names or {}))
        text = guest(capability, alloc=fields.pop("alloc", "bump"))
        settings = {NAME: {"host": f"unix://{path}", **(config or {})}}
        return Caller(pulp_cell(text, capabilities=[capability], settings=settings, **fields), capability)

    return make


@pytest.fixture
def shop(make: Callable[..., Caller], host: str) -> Caller:
    """Return a cell called `shop`."""
    return make(host, name="shop")
