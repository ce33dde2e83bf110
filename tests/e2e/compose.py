"""Hosts of several applications, written file by file, and what their cells are asked."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pulp_runtime import Composition
from pulp_runtime.hosting.application import Application

HERE = Path(__file__).parent
FUNCTIONS = 'provides = ["echo", "away", "raw", "yield", "relay", "next", "keep", "stop", "trap", "big"]'
TOLD = 'provides = ["config", "last", "write", "get", "trap"]\ncapabilities = ["storage.fs"]'


class Estate:
    """A folder with the manifests of a host.

    Attributes:
        manifest: of the host; `write` puts it there.
    """

    def __init__(self, path: Path, wasm: Callable[[str], bytes]) -> None:
        self.path = path
        self.manifest = path / "pulp.host.toml"
        self._wasm = wasm

    def cell(self, app: str, name: str, *lines: str, guest: str = "neighbour") -> Path:
        """Write a cell of one of the guests here or in `tests/guests`, or of WebAssembly text; return its folder."""
        at = self.path / app / name
        at.mkdir(parents=True, exist_ok=True)
        own = HERE / f"{guest}.wat"
        (at / "cell.wasm").write_bytes(self._wasm(own.read_text() if "(" not in guest and own.exists() else guest))
        (at / "pulp.cell.toml").write_text("\n".join((f'name = "{name}"', 'version = "1"', *(lines or (FUNCTIONS,)))))
        return at

    def lab(self, app: str, name: str = "lab", *lines: str, kinds: str = '"transport.http.inbound"') -> Path:
        """Write a cell that answers requests for `/x/o` with ok; see `lab.wat`."""
        return self.cell(app, name, f"capabilities = [{kinds}]", *lines, guest="lab")

    def app(self, name: str, *cells: str, lines: str = "", own_name: str = "") -> str:
        """Write an application of these cells; return its entry, to which more lines can be added."""
        paths = json.dumps([f"{cell}/pulp.cell.toml" for cell in cells])
        (self.path / name / "pulp.app.toml").write_text(
            f'name = "{own_name or name}"\nversion = "1"\ncells = {paths}\n{lines}'
        )
        head = f'[[applications]]\nid = "{name}"\nmanifest = "{name}/pulp.app.toml"'
        return f'{head}\nstorage_namespace = "{name}"\n'

    def one(self, name: str, *lines: str, cell: str = "cell") -> str:
        """Write an application of one cell that can be called; return its entry."""
        self.cell(name, cell, *lines)
        return self.app(name, cell)

    def write(self, *entries: str) -> Path:
        """Write the host's manifest."""
        self.manifest.write_text("\n".join(('name = "estate"', *entries)))
        return self.manifest

    def host(self, *entries: str, **more: Any) -> Composition:
        """Return a host, at a port the system chooses; of what is written when no entries are given."""
        path = self.write(*entries) if entries else self.manifest
        more = {"storage_root": self.path / "data", "http_port": "127.0.0.1:0", **more}
        return Composition(path, **more)


def away(application: str, instance: str, cell: str, function: str, args: bytes = b"") -> bytes:
    """Return the arguments of `away`."""
    parts = [part.encode() for part in (application, instance, cell, function)]
    return b"".join(bytes([len(part)]) + part for part in parts) + args


def answer(response: bytes) -> tuple[int, bytes]:
    """Return the code and the response that `away` and `relay` got."""
    return struct.unpack_from("<I", response)[0], response[4:]


def route(path: str, application: str, instance: str = "") -> str:
    more = f'instance = "{instance}"\n' if instance else ""
    return f'[[routes]]\npath = "{path}"\napplication = "{application}"\n{more}'


def applications(host: Composition) -> dict[str, Application]:
    """Return what runs in a host, by identity, in the order of its start."""
    return {hosted.identity: application for hosted, application in host._applications.items()}


def do(host: Composition, operation: str, cell: str) -> object:
    assert host._thread is not None
    return host._thread.run(getattr(host.operations, operation)(cell))
