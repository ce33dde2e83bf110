"""A PostgreSQL cluster of this run's own, on a UNIX socket, and a cell that sends it SQL."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from psycopg import sql
from pulp_runtime.ext import Capability
from pulp_runtime.testing import CellUnderTest, guest

from pulp_ext_postgres.database import Database, make

PASSWORD = "canary-password-7Kx2"
NAME = "storage.sqlite"
ADDRESS, LENGTH, QUERY, PARAMS = 8, 12, 64, 16_384
"""Where a test's cell is told of the answer, and where it keeps what it sends."""


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's own programs; a package may keep them out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    in_path = shutil.which("initdb")
    initdb = found[-1] if found else Path(in_path) if in_path else None
    return None if initdb is None else initdb.parent


def owner() -> dict[str, Any]:
    """Return as whom the server runs: it refuses to be root."""
    if os.geteuid():
        return {}
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Cluster:
    """A running server.

    Attributes:
        folder: where its socket is.
        url: of an ordinary login that may make other logins, as an operator would give it.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://app:{PASSWORD}@/cells?host={folder}"
        self.mighty = f"postgresql://operator:{PASSWORD}@/cells?host={folder}"

    def create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        as_owner = owner()
        if as_owner:
            os.chown(self.folder, as_owner["user"], as_owner["group"])
            os.chown(secret, as_owner["user"], as_owner["group"])
        command = [self._programs / "initdb", "--pgdata", self.folder / "data", "--username", "operator"]
        command += ["--auth", "scram-sha-256", "--pwfile", secret, "--no-sync", "--encoding", "UTF8", "--locale", "C"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **as_owner)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._programs / "postgres", "-D", self.folder / "data", *options]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stderr=log, stdout=log, cwd=self.folder, **owner())
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                self.sql("SELECT 1", database="postgres")
                return
            except psycopg.OperationalError:
                time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)  # a fast shutdown
        assert self._server.wait(20) == 0

    def end_sessions(self) -> None:
        """Cut every connection but this."""
        self.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = 'cells' AND pid <> pg_backend_pid()"
        )

    def sql(self, *statements: str | sql.Composed, database: str = "cells") -> list[Any]:
        """Run statements as a superuser; return the rows of the last."""
        with psycopg.connect(
            f"host={self.folder} user=operator password={PASSWORD} dbname={database}", autocommit=True
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running() -> Iterator[Cluster]:
    """Run a server; skip the test where there is none to run."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine, so NOTHING here is tested: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pulp-pg-", dir="/tmp"))
    try:
        cluster = Cluster(folder, programs)
        cluster.create()
        cluster.start()
        cluster.sql("CREATE DATABASE cells", database="postgres")
        cluster.sql(f"CREATE ROLE app LOGIN CREATEROLE PASSWORD '{PASSWORD}'", "GRANT CREATE ON DATABASE cells TO app")
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


class Answer(NamedTuple):
    """What an import answered.

    Attributes:
        code: the number.
        value: what was delivered, decoded; None for nothing.
        raw: the same, as bytes.
    """

    code: int
    value: Any
    raw: bytes


class Caller:
    """A cell that passes SQL on."""

    def __init__(self, cell: CellUnderTest, database: Database) -> None:
        self.cell = cell
        self.database = database

    def call(self, name: str, query: str | bytes, params: bytes = b"", words: int = 6) -> Answer:
        """Call an import with SQL and parameters that are MessagePack already."""
        data = query.encode() if isinstance(query, str) else query
        self.cell.write(ADDRESS, bytes(8))
        self.cell.write(QUERY, data)
        self.cell.write(PARAMS, params)
        given = (QUERY, len(data), PARAMS, len(params), ADDRESS, LENGTH)
        code = self.cell.run(name, *given[:words])
        address, length = (int.from_bytes(self.cell.read(at, 4), "little") for at in (ADDRESS, LENGTH))
        raw = self.cell.read(address, length)
        return Answer(code, msgspec.msgpack.decode(raw) if raw else None, raw)

    def exec(self, query: str, *params: Any) -> Answer:
        return self.call("sqlite_exec", query, msgspec.msgpack.encode(params) if params else b"")

    def query(self, query: str, *params: Any) -> Answer:
        return self.call("sqlite_query", query, msgspec.msgpack.encode(params) if params else b"")

    def done(self, *statements: str) -> None:
        """Run statements that must work."""
        for statement in statements:
            answer = self.exec(statement)
            assert answer.code == 0, (statement, answer.value)

    def rows(self, query: str, *params: Any) -> list[Any]:
        answer = self.query(query, *params)
        assert answer.code == 0, answer.value
        return answer.value["rows"] or []


@pytest.fixture
def make_cell(pulp_cell: Callable[..., CellUnderTest], cluster: Cluster) -> Callable[..., Caller]:
    """Return `make_cell(config={}, source=…, **fields)`: a cell with a database; by default in a schema of its own."""
    numbers = itertools.count()

    def make_cell(config: dict[str, Any] | None = None, source: Any = None, **fields: Any) -> Caller:
        database = Database({})
        capability = make(database)
        given = {"url": cluster.url, "shared_schema": f"test_{next(numbers)}", **(config or {})}
        text = source or guest(new_only(capability), alloc=fields.pop("alloc", "bump"))
        cell = pulp_cell(text, capabilities=[capability], declares=[NAME], settings={NAME: given}, **fields)
        return Caller(cell, database)

    yield make_cell
    cluster.end_sessions()  # one that waits, or holds a lock, is in the way
    owned = cluster.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '^(test|cell)_'")
    cluster.sql(*[sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)) for (name,) in owned] or ["SELECT 1"])


def new_only(capability: Capability) -> dict[str, int]:
    """Return the functions of the newer version, with their words."""
    return {name: function.words for name, function in capability.functions.items() if "/" not in name}


@pytest.fixture
def db(make_cell: Callable[..., Caller]) -> Caller:
    return make_cell()
