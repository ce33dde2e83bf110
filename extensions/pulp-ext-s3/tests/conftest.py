"""A real S3 server process, and a cell that calls `storage.s3` with messages of a test's own."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from pulp_runtime.ext import Capability, CellRef, SetupEnv
from pulp_runtime.testing import CellUnderTest, guest

from pulp_ext_s3.store import NAME, Store

ACCESS_KEY = "AKIAPULPTESTS"
SECRET_KEY = "canary-secret-4fPq9"
BUCKET = "cells"
REQUEST, ADDRESS, LENGTH = 64, 8, 12
"""Where a test's cell keeps its message, and where it is told of the answer."""


@contextmanager
def moto(**environment: str) -> Iterator[str]:
    """Run a server on a free port; give out its address."""
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    started = {**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "5", **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=started) as server:
        assert server.stderr is not None
        found = None
        for line in server.stderr:
            found = re.search(r"Running on (http://\S+)", line)
            if found:
                break
        # It writes a line for every request; an unread pipe would stop it.
        reader = threading.Thread(target=server.stderr.read, daemon=True)
        reader.start()
        try:
            assert found is not None, "the server has not started"
            yield found[1]
        finally:
            server.terminate()
            reader.join()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with moto() as address:
        yield address


def request(method: str, address: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, method=method)) as answer:
        return bytes(answer.read())


@pytest.fixture
def endpoint(server: str) -> str:
    """Return the server's address; there is an empty bucket, and nothing else."""
    request("POST", f"{server}/moto-api/reset")
    request("PUT", f"{server}/{BUCKET}")
    return server


def settings(endpoint: str, **more: Any) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "bucket": BUCKET,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        **more,
    }


class Caller:
    """A cell that passes messages on to `storage.s3`."""

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
        """Return what an import delivers, or that it answered 0."""
        assert self.code(name, **message) == 0, [self.cell.transcript[-1], *self.cell.logged]
        return self.cell.calls[-1].answer


class WithManifest(Store):
    """A store whose cells' manifests say this under `[settings."storage.s3"]`, and whose cells are placed like this."""

    def __init__(self, environment: dict[str, str], table: dict[str, Any], names: dict[str, str]) -> None:
        super().__init__(environment)
        self._table = table
        self._placed = names

    def setup(self, env: SetupEnv) -> None:
        super().setup(dataclasses.replace(env, storage_namespaces=self._placed))

    def setup_cell(self, cell: CellRef) -> None:
        super().setup_cell(msgspec.structs.replace(cell, tables={NAME: self._table}))


@pytest.fixture
def make(pulp_cell: Callable[..., CellUnderTest]) -> Callable[..., Caller]:
    """Return `make(config, environment={}, manifest={}, **fields)`: a cell under a store with these settings."""

    def make(
        config: dict[str, Any],
        environment: dict[str, str] | None = None,
        manifest: dict[str, Any] | None = None,
        names: dict[str, str] | None = None,
        **fields: Any,
    ) -> Caller:
        capability = Capability.of(NAME, WithManifest(environment or {}, manifest or {}, names or {}))
        text = guest(capability, alloc=fields.pop("alloc", "bump"))
        return Caller(
            pulp_cell(text, capabilities=[capability], settings={NAME: config} if config else None, **fields),
            capability,
        )

    return make


@pytest.fixture
def s3(make: Callable[..., Caller], endpoint: str) -> Caller:
    return make(settings(endpoint))
