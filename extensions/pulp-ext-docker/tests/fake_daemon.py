"""A daemon that speaks Docker's HTTP API on a UNIX socket, and keeps containers in a dictionary.

What it answers has the shapes of the real one, against which the same tests run where there is one.
"""

from __future__ import annotations

import io
import json
import queue
import re
import secrets
import socketserver
import struct
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = "1.41"
IMAGE = "pulp-test:shell"


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeDaemon:
    """What is there.

    Attributes:
        containers: by id, as `GET /containers/{id}/json` describes them.
        files: by container id and path.
        asked: method and path of every request, oldest first.
        builds: query and archive of every build.
        slow: paths that are answered only when the daemon closes.
        build_lines: what a build tells.
        build_gate: not set, builds wait.
        raw_logs: what logs are, in place of lines in frames.
        starts: whether containers do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, dict[str, Any]] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.execs: dict[str, tuple[str, list[str], int | None]] = {}
        self.asked: list[tuple[str, str]] = []
        self.builds: list[tuple[dict[str, str], bytes]] = []
        self.slow: set[str] = set()
        self.build_lines: list[dict[str, Any]] = [{"stream": "Step 1/1"}, {"aux": {"ID": "sha256:0"}}]
        self.build_gate = threading.Event()
        self.build_gate.set()
        self.listeners: list[queue.SimpleQueue[dict[str, Any] | None]] = []
        self.closing = threading.Event()
        self.raw_logs: Iterable[bytes] | None = None
        self.starts = True
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> None:
        self.closing.clear()
        daemon = self

        class Handler(_Handler):
            about = daemon

        self._server = socketserver.ThreadingUnixStreamServer(str(self.path), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.closing.set()
        for listener in self.listeners:
            listener.put(None)
        self.listeners.clear()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.path.unlink(missing_ok=True)

    def tell(self, action: str, identity: str) -> None:
        nanos = time.time_ns()
        name = self.containers.get(identity, {}).get("Name", "/gone").removeprefix("/")
        event = {
            "status": action,
            "id": identity,
            "Type": "container",
            "Action": action,
            "Actor": {"ID": identity, "Attributes": {"name": name, "image": IMAGE}},
            "scope": "local",
            "time": nanos // 10**9,
            "timeNano": nanos,
        }
        for listener in self.listeners:
            listener.put(event)

    # Containers -------------------------------------------------------------------------------------------------

    def find(self, key: str) -> dict[str, Any]:
        for identity, one in self.containers.items():
            if one["Name"] == f"/{key}" or identity.startswith(key):
                return one
        raise Refusal(404, f"No such container: {key}")

    def create(self, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["Image"] != IMAGE:
            raise Refusal(404, f"No such image: {wanted['Image']}")
        identity = secrets.token_hex(32)
        name = name or secrets.token_hex(4)
        if any(one["Name"] == f"/{name}" for one in self.containers.values()):
            raise Refusal(409, f'Conflict. The container name "/{name}" is already in use')
        self.containers[identity] = {
            "Id": identity,
            "Name": f"/{name}",
            "State": {"Status": "created"},
            "Config": {"Labels": wanted.get("Labels") or {}, "Env": wanted.get("Env"), "Tty": False},
            "HostConfig": wanted.get("HostConfig") or {},
            "NetworkingConfig": wanted.get("NetworkingConfig"),
            "NetworkSettings": {"Networks": {}, "Ports": {}},
        }
        self.tell("create", identity)
        return {"Id": identity, "Warnings": []}

    def begin(self, one: dict[str, Any]) -> None:
        host = one["HostConfig"]
        if not self.starts:
            raise Refusal(500, "OCI runtime create failed")
        one["State"]["Status"] = "running"
        bindings = host.get("PortBindings") or {}
        mode = host.get("NetworkMode") or "bridge"
        one["NetworkSettings"] = {
            "Networks": {mode: {"IPAddress": "" if mode == "none" else "172.17.0.2"}},
            "Ports": {
                port: [{"HostIp": "0.0.0.0", "HostPort": made[0].get("HostPort") or "49153"}]
                for port, made in bindings.items()
            },
        }
        self.tell("start", one["Id"])

    def summary(self, one: dict[str, Any]) -> dict[str, Any]:
        ports = [
            {"PrivatePort": int(port.split("/")[0]), "PublicPort": int(made[0]["HostPort"]), "Type": port.split("/")[1]}
            for port, made in one["NetworkSettings"]["Ports"].items()
        ]
        return {
            "Id": one["Id"],
            "Names": [one["Name"]],
            "State": one["State"]["Status"],
            "Labels": one["Config"]["Labels"],
            "Ports": ports,
            "NetworkSettings": {"Networks": one["NetworkSettings"]["Networks"]},
        }

    def listed(self, query: dict[str, str]) -> list[dict[str, Any]]:
        filters = json.loads(query.get("filters", "{}"))
        found = []
        for one in self.containers.values():
            running = one["State"]["Status"] == "running"
            if not running and query.get("all") not in ("1", "True"):
                continue
            labels = [f"{name}={value}" for name, value in one["Config"]["Labels"].items()]
            if not set(filters.get("label", ())) <= set(labels):
                continue
            if filters.get("status", [one["State"]["Status"]]) != [one["State"]["Status"]]:
                continue
            found.append(self.summary(one))
        return found

    # Commands ---------------------------------------------------------------------------------------------------

    def output(self, identity: str) -> Iterator[tuple[int, bytes]]:
        """Run a command of a very small shell; give out what it writes, by stream."""
        container, command, _ = self.execs[identity]
        status = 0
        if command[0] == "echo":
            yield 1, " ".join(command[1:]).encode() + b"\n"
        elif command[0] == "sh":
            yield 1, b"out\n"
            yield 2, b"err\n"
        elif command[0] == "rm":
            self.files.pop((container, command[-1]), None)
            status = int(command[-1] == "/")
        elif command[0] == "cat":
            yield 1, self.files[container, command[1]]
        elif command[0] == "sleep":
            self.closing.wait()
        elif command[0] == "yes":
            while not self.closing.is_set():
                yield 1, b"y\n" * 16_384
        else:
            yield 1, f"exec: {command[0]!r}: executable file not found".encode()
            status = 126
        self.execs[identity] = (container, command, status)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    about: FakeDaemon

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_about: object) -> None: ...

    def _serve(self) -> None:
        address = urlsplit(self.path)
        path = re.sub(r"^/v[\d.]+", "", address.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.about.asked.append((self.command, path))
        if path in self.about.slow:
            self.about.closing.wait()
            return
        try:
            self._route(self.command, [unquote(part) for part in path.strip("/").split("/")], query, body)
        except Refusal as refusal:
            self._json({"message": str(refusal)}, refusal.status)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

    def _json(self, value: Any, status: int = 200) -> None:
        self._bytes(json.dumps(value).encode(), status)

    def _bytes(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunked(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _route(self, method: str, parts: list[str], query: dict[str, str], body: bytes) -> None:
        about = self.about
        match (method, *parts):
            case ("GET", "version"):
                self._json({"ApiVersion": API, "MinAPIVersion": "1.12", "Version": "fake"})
            case ("GET", "events"):
                self._chunked(self._events())
            case ("POST", "build"):
                about.builds.append((query, body))
                self._chunked(self._build())
            case ("GET", "containers", "json"):
                self._json(about.listed(query))
            case ("POST", "containers", "create"):
                self._json(about.create(query.get("name", ""), json.loads(body)), 201)
            case ("GET", "containers", key, "json"):
                self._json(about.find(key))
            case ("POST", "containers", key, "start" | "restart" as verb):
                one = about.find(key)
                about.begin(one)
                if verb == "restart":
                    about.tell("restart", one["Id"])
                self._bytes(b"", 204)
            case ("DELETE", "containers", key):
                one = about.find(key)
                about.tell("destroy", one["Id"])
                del about.containers[one["Id"]]
                self._bytes(b"", 204)
            case ("POST", "containers", key, "exec"):
                one = about.find(key)
                if one["State"]["Status"] != "running":
                    raise Refusal(409, f"Container {key} is not running")
                identity = secrets.token_hex(32)
                about.execs[identity] = (one["Id"], json.loads(body)["Cmd"], None)
                self._json({"Id": identity}, 201)
            case ("POST", "exec", identity, "start"):
                self._raw(_framed(about.output(identity)))
            case ("GET", "exec", identity, "json"):
                self._json({"ID": identity, "ExitCode": about.execs[identity][2]})
            case ("GET", "containers", key, "logs"):
                about.find(key)
                lines = [(1, b"line %d\n" % number) for number in range(500)][-int(query["tail"]) :]
                self._raw(about.raw_logs if about.raw_logs is not None else _framed(lines))
            case ("GET", "containers", key, "stats"):
                about.find(key)
                self._json(STATS if query.get("one-shot") not in ("1", "True") else {**STATS, "precpu_stats": {}})
            case (_, "containers", key, "archive"):
                self._archive(method, about.find(key)["Id"], query["path"], body)
            case _:
                raise Refusal(404, "page not found")

    def _raw(self, pieces: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
        self.close_connection = True

    def _events(self) -> Iterator[bytes]:
        mine: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.about.listeners.append(mine)
        while (event := mine.get()) is not None:
            yield json.dumps(event).encode() + b"\n"

    def _build(self) -> Iterator[bytes]:
        yield b'{"stream":"begun"}\r\n'
        while not self.about.build_gate.wait(0.05):
            if self.about.closing.is_set():
                return
        for line in self.about.build_lines:
            yield json.dumps(line).encode() + b"\r\n"

    def _archive(self, method: str, identity: str, path: str, body: bytes) -> None:
        files = self.about.files
        if method == "PUT":
            with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    files[identity, f"{path.rstrip('/')}/{member.name}"] = content.read() if content else b""
            self._bytes(b"")
            return
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            if (identity, path) in files:
                member = tarfile.TarInfo(path.rpartition("/")[2])
                member.size = len(files[identity, path])
                archive.addfile(member, io.BytesIO(files[identity, path]))
            elif path in ("/", "/bin", "/tmp"):
                folder = tarfile.TarInfo(path.rpartition("/")[2] or "/")
                folder.type = tarfile.DIRTYPE
                archive.addfile(folder)
            else:
                raise Refusal(404, f"Could not find the file {path} in container {identity}")
        self._bytes(packed.getvalue())


def _framed(lines: Any) -> Iterator[bytes]:
    for number, data in lines:
        yield struct.pack(">BxxxL", number, len(data)) + data


STATS = {
    "cpu_stats": {"cpu_usage": {"total_usage": 3_000}, "system_cpu_usage": 20_000, "online_cpus": 4},
    "precpu_stats": {"cpu_usage": {"total_usage": 1_000}, "system_cpu_usage": 10_000, "online_cpus": 4},
    "memory_stats": {"usage": 5_000, "limit": 9_000, "stats": {"inactive_file": 1_000}},
    "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"op": "Read", "value": 100},
            {"op": "write", "value": 7},
            {"op": "Read", "value": 1},
        ]
    },
}
"""What the daemon counts: 20 % of four processors, and so on."""
