"""`pulp backup` and `pulp restore`: a cell's whole state, taken while it works."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.capabilities.puppet import Puppet, puppet_cell

from pulp_runtime import Host
from pulp_runtime.cli import command
from pulp_runtime.cli.backup import CONTENTS, BackupFailed, Place, take
from pulp_runtime.cli.restore import put_back
from pulp_runtime.kv.store import Store

IMPORTS = {"sqlite_exec": 6, "sqlite_query": 6, "kv_cas": 4, "kv_get": 4, "kv_increment": 4, "fs_create_temp": 4}
CAPABILITIES = ("storage.sqlite", "storage.kv", "storage.fs")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Puppet]]:
    """Return `run(name, storage root)`: a cell in a host of its own; `run.stop()` stops them."""
    stack = ExitStack()

    def run(name: str = "shop", root: str = "data", *lines: str) -> Puppet:
        folder = tmp_path / f"cells-{root}-{name}"
        folder.mkdir()
        cell = puppet_cell(folder, name, IMPORTS, CAPABILITIES, *lines)
        host = stack.enter_context(Host([cell], storage_root=tmp_path / root, cache=tmp_path / "cache"))
        return Puppet(host, name, IMPORTS)

    run.stop = stack.close  # type: ignore[attr-defined]
    yield run
    stack.close()


def pulp(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command; return its status and what it said."""
    with pytest.raises(SystemExit) as ended:
        command.run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def fill(cell: Puppet, tmp_path: Path) -> None:
    cell.ask("sqlite_exec", b"CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)", 0, 0)
    cell.ask("kv_cas", {"key": "colour", "value": b"red"})
    files = tmp_path / "data" / "shop"
    (files / "notes" / "empty").mkdir(parents=True)
    (files / "notes" / "a.txt").write_bytes(b"hello")
    (files / "notes" / "data.db").write_bytes(b"a file like any other")
    (files / "notes" / "a.txt").chmod(0o640)


def check(cell: Puppet, files: Path) -> None:
    assert cell.ask("sqlite_query", b"SELECT x FROM t", 0, 0)["rows"] == [[1], [2]]
    assert cell("kv_get", b"colour") == (0, b"red")
    assert (files / "notes" / "a.txt").read_bytes() == b"hello"
    assert (files / "notes" / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (files / "notes" / "empty").is_dir()
    assert (files / "notes" / "data.db").read_bytes() == b"a file like any other"


def test_a_running_cell_is_taken_and_put_back_elsewhere(
    run: Callable[..., Puppet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = run()
    fill(cell, tmp_path)
    file = tmp_path / "shop.tar"

    code, said = pulp(capsys, "backup", "shop", "-storage-root", tmp_path / "data", "--output", file)
    assert (code, said) == (0, f"{file}: sqlite and kv, 4 files and folders\n")
    assert file.stat().st_mode & 0o777 == 0o600
    cell.ask("sqlite_exec", b"DELETE FROM t", 0, 0)  # the cell goes on, and the backup does not
    cell.ask("kv_cas", {"key": "colour", "value": b"blue"})

    code, said = pulp(capsys, "restore", file, "--storage-root", tmp_path / "other")
    assert (code, said) == (0, f"{tmp_path / 'other' / 'shop'}: sqlite and kv, 4 files and folders\n")
    check(run(root="other"), tmp_path / "other" / "shop")
    assert cell("kv_get", b"colour") == (0, b"blue")


def test_what_is_there_is_kept_when_it_is_replaced(
    run: Callable[..., Puppet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = run()
    fill(cell, tmp_path)
    root = ("--storage-root", tmp_path / "data")
    pulp(capsys, "backup", "shop", *root, "--output", tmp_path / "b.tar")
    cell.ask("sqlite_exec", b"INSERT INTO t VALUES (3)", 0, 0)
    run.stop()  # type: ignore[attr-defined]

    code, said = pulp(capsys, "restore", tmp_path / "b.tar", *root)
    assert (code, "is not empty; remove it, or say --replace" in said) == (1, True)
    code, said = pulp(capsys, "restore", tmp_path / "b.tar", *root, "--replace")
    assert code == 0
    kept = Path(said.splitlines()[1].removeprefix("what was there is in "))
    rows = sqlite3.connect(kept / "data.db").execute("SELECT count(*) FROM t").fetchall()
    assert rows == [(3,)]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [kept.name, "shop"]
    cells = tmp_path / "again"
    cells.mkdir()
    with Host([puppet_cell(cells, "shop", IMPORTS, CAPABILITIES)], storage_root=tmp_path / "data") as host:
        check(Puppet(host, "shop", IMPORTS), tmp_path / "data" / "shop")


@pytest.mark.slow
def test_a_backup_is_of_one_moment_while_the_cell_writes(run: Callable[..., Puppet], tmp_path: Path) -> None:
    cell = run()
    cell.ask("sqlite_exec", b"CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", 0, 0)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            cell.ask("sqlite_exec", b"INSERT INTO t (a, b) SELECT count(*), count(*) FROM t", 0, 0)
            cell.ask("kv_increment", {"key": "n"})

    thread = threading.Thread(target=write)
    thread.start()
    counts = []
    try:
        for number in range(8):
            file = tmp_path / f"{number}.tar"
            take(Place.of("shop", tmp_path / "data"), file)
            with tarfile.open(file) as tar:
                tar.extract("sqlite/data.db", tmp_path / str(number), filter="data")
                tar.extract("kv/kv.db", tmp_path / str(number), filter="data")
            connection = sqlite3.connect(tmp_path / str(number) / "sqlite" / "data.db")
            (count, whole, sound) = connection.execute(
                "SELECT count(*), total(a = b AND a = id - 1), (SELECT * FROM pragma_integrity_check) FROM t"
            ).fetchone()
            connection.close()
            store = Store(tmp_path / str(number) / "kv" / "kv.db")
            entry = store.get(b"n")
            assert entry is None or entry.revision == int(entry.value)
            store.close()
            assert (whole, sound) == (count, "ok")
            counts.append(count)
    finally:
        stop.set()
        thread.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_a_cell_that_crashed_is_taken_with_what_it_had_committed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "shop"
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "data.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES ('in the log only')")
    for name in ("data.db", "data.db-wal"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    connection.close()
    for name in ("data.db", "data.db-wal"):
        (folder / name).write_bytes((tmp_path / name).read_bytes())

    take(Place.of("shop", tmp_path / "data"), tmp_path / "b.tar")
    put_back(tmp_path / "b.tar", Place.of("shop", tmp_path / "other"), replace=False)
    again = sqlite3.connect(tmp_path / "other" / "shop" / "data.db")
    assert again.execute("SELECT x FROM t").fetchall() == [("in the log only",)]
    again.close()


def test_a_shared_namespace_is_taken_too(
    run: Callable[..., Puppet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = run("shop", "data", '[settings."storage.kv"]', 'namespace = "prices"')
    cell.ask("kv_cas", {"key": "apple", "value": b"3"})
    file = tmp_path / "prices.tar"

    assert (
        pulp(capsys, "backup", "prices", "--namespace", "--storage-root", tmp_path / "data", "--output", file)[0] == 0
    )
    code, said = pulp(capsys, "restore", file, "--storage-root", tmp_path / "data", "--replace")
    assert (code, "a host runs prices now" in said) == (1, True)
    assert pulp(capsys, "restore", file, "--storage-root", tmp_path / "data", "--cell", "copies")[0] == 0
    other = Store(tmp_path / "data" / ".pulp-kv" / "copies" / "kv.db")
    assert other.get(b"apple").value == b"3"  # type: ignore[union-attr]
    other.close()


def test_a_cell_that_runs_is_not_restored_under_its_feet(
    run: Callable[..., Puppet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = run()
    fill(cell, tmp_path)
    root = ("--storage-root", tmp_path / "data")
    pulp(capsys, "backup", "shop", *root, "--output", tmp_path / "b.tar")

    code, said = pulp(capsys, "restore", tmp_path / "b.tar", *root, "--replace")
    assert (code, "a host runs shop now" in said) == (1, True)
    check(cell, tmp_path / "data" / "shop")


def test_an_open_database_alone_is_noticed_too(tmp_path: Path) -> None:
    place = Place.of("shop", tmp_path / "data")
    place.folder.mkdir(parents=True)
    connection = sqlite3.connect(place.sqlite, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x)")
    take(place, tmp_path / "b.tar")
    with pytest.raises(BackupFailed, match="a host runs shop now"):
        put_back(tmp_path / "b.tar", place, replace=True)
    connection.close()
    put_back(tmp_path / "b.tar", place, replace=True)


def test_a_cell_that_runs_several_times_is_named_by_its_address(tmp_path: Path) -> None:
    place = Place.of("worker@fast", tmp_path / "data")
    place.folder.mkdir(parents=True)
    (place.folder / "a").write_bytes(b"x")
    take(place, tmp_path / "b.tar")
    put_back(tmp_path / "b.tar", Place.of("worker@slow", tmp_path / "data"), replace=False)

    assert (tmp_path / "data" / "worker@slow" / "a").read_bytes() == b"x"


def test_files_elsewhere_are_taken_from_there_and_put_back_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "a").write_bytes(b"x")
    monkeypatch.setenv("PULP_FS_ROOT_SHOP", str(place))
    take(Place.of("shop", tmp_path / "data"), tmp_path / "b.tar")
    monkeypatch.setenv("PULP_FS_ROOT_SHOP", str(tmp_path / "new"))
    put_back(tmp_path / "b.tar", Place.of("shop", tmp_path / "data"), replace=False)

    assert (tmp_path / "new" / "a").read_bytes() == b"x"
    assert list((tmp_path / "data" / "shop").iterdir()) == []


def test_links_and_devices_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data" / "shop"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"canary")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / ".pulp-1234").write_bytes(b"half a file")
    (folder / "file").write_bytes(b"x")
    file = tmp_path / "b.tar"

    _code, said = pulp(capsys, "backup", "shop", "--storage-root", tmp_path / "data", "--output", file)
    assert said == f"{file}: no database, 1 files and folders, 3 left out (no regular files)\n"
    assert b"canary" not in file.read_bytes()
    with tarfile.open(file) as tar:
        assert tar.getnames() == [CONTENTS, "files/file"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody", "no such cell keeps anything there; look at --storage-root"),
        ("../shop", "lower-case letter"),
        ("", "name a cell"),
        ("shop@", "is no address"),
        ("shop@../x", "the name of an instance"),
    ],
)
def test_what_cannot_be_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    code, text = pulp(capsys, "backup", name, "--storage-root", tmp_path, "--output", tmp_path / "b.tar")

    assert (code, said in text) == (1, True)
    assert not (tmp_path / "b.tar").exists()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "shop").mkdir(parents=True)
    (tmp_path / "b.tar").write_bytes(b"mine")
    code, said = pulp(capsys, "backup", "shop", "--storage-root", tmp_path / "data", "--output", tmp_path / "b.tar")

    assert (code, "is there already" in said) == (1, True)
    assert (tmp_path / "b.tar").read_bytes() == b"mine"


def test_a_damaged_database_is_not_called_a_backup(tmp_path: Path) -> None:
    place = Place.of("shop", tmp_path / "data")
    place.folder.mkdir(parents=True)
    connection = sqlite3.connect(place.sqlite)
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    connection.commit()
    connection.close()
    data = bytearray(place.sqlite.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    place.sqlite.write_bytes(data)

    with pytest.raises(BackupFailed, match=r"data\.db is damaged|malformed"):
        take(place, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


# Backups that somebody else made ------------------------------------------------------------------------------------


def archive(path: Path, *members: tuple[str, bytes, bytes], said: object = None) -> Path:
    """Write a tar file: name, type, content or target of each member."""
    with tarfile.open(path, "w") as tar:
        contents = {"format": 1, "name": "shop", "namespace": False} if said is None else said
        for name, kind, data in ((CONTENTS, tarfile.REGTYPE, json.dumps(contents).encode()), *members):
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(data)
            else:
                member.linkname = data.decode()
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(("files/../../escaped", tarfile.REGTYPE, b"x"), id="a path that climbs"),
        pytest.param(("files//escaped", tarfile.REGTYPE, b"x"), id="a path with nothing in it"),
        pytest.param(("/escaped", tarfile.REGTYPE, b"x"), id="an absolute path"),
        pytest.param(("files/link", tarfile.SYMTYPE, b"/etc"), id="a link"),
        pytest.param(("files/link", tarfile.LNKTYPE, b"pulp-backup.json"), id="a hard link"),
        pytest.param(("files/pipe", tarfile.FIFOTYPE, b""), id="a pipe"),
        pytest.param(("files/data.db", tarfile.REGTYPE, b"x"), id="a file in the database's place"),
        pytest.param(("files/data.db-journal", tarfile.REGTYPE, b"x"), id="a journal"),
        pytest.param(("files/.pulp-kv/kv.db", tarfile.REGTYPE, b"x"), id="a file of the host's own"),
        pytest.param(("files/a/b", tarfile.REGTYPE, b"x"), id="a file in a folder that is not there"),
        pytest.param(("sqlite/data.db", tarfile.REGTYPE, b"no database" * 500), id="no database"),
        pytest.param(("sqlite/data.db", tarfile.SYMTYPE, b"/etc/passwd"), id="a link to a database"),
        pytest.param(("anything", tarfile.REGTYPE, b"x"), id="something else"),
    ],
)
def test_a_backup_that_means_harm_is_refused_and_leaves_nothing(
    tmp_path: Path, member: tuple[str, bytes, bytes]
) -> None:
    root = tmp_path / "data"
    file = archive(tmp_path / "b.tar", ("files/ok", tarfile.REGTYPE, b"x"), member)
    with pytest.raises(BackupFailed):
        put_back(file, Place.of("shop", root), replace=False)

    assert list(root.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]


@pytest.mark.parametrize(
    "said",
    [{}, [], "x", {"format": 2, "name": "shop", "namespace": False}, {"format": 1, "name": 5, "namespace": False}],
)
def test_what_is_no_backup_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], said: object) -> None:
    file = archive(tmp_path / "b.tar", said=said)
    code, text = pulp(capsys, "restore", file, "--storage-root", tmp_path / "data")

    assert (code, "is no backup of this version" in text) == (1, True)


@pytest.mark.parametrize("data", [b"", b"not a tar file" * 100])
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(data)

    assert "is no backup" in pulp(capsys, "restore", tmp_path / "b.tar")[1]
    assert "No such file" in pulp(capsys, "restore", tmp_path / "nobody.tar")[1]


def test_a_cell_is_not_a_namespace(tmp_path: Path) -> None:
    file = archive(tmp_path / "b.tar")
    with pytest.raises(BackupFailed, match="is the backup of a cell, not of a namespace"):
        put_back(file, Place.of("shop", tmp_path, namespace=True), replace=False)
