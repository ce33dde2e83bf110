"""`pulp backup`: a cell's whole state in one file, while the cell runs.

    data.db, kv.db ── SQLite's online backup: a snapshot, writers go on ──┐
    files ── each whole, as it is when its turn comes ────────────────────┴──▶ {cell}.tar

Each database is as it was at one moment; so is each file; they are not all of the same moment. Nobody has to stop.
"""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from pulp_runtime.capabilities.storage.place import KV_FILE, KV_FOLDER, store_path
from pulp_runtime.capabilities.storage.sqlite_file import COMPANIONS
from pulp_runtime.capabilities.storage.sqlite_file import FILE as SQLITE_FILE
from pulp_runtime.cli import EXIT_FAILED, EXIT_OK
from pulp_runtime.errors import PulpError
from pulp_runtime.files.atomic import PREFIX
from pulp_runtime.manifest.names import explain_instance, explain_name

FORMAT: Final = 1
CONTENTS: Final = "pulp-backup.json"
SQLITE: Final = f"sqlite/{SQLITE_FILE}"
KV: Final = f"kv/{KV_FILE}"
FILES: Final = "files"
OWN: Final = frozenset({SQLITE_FILE, *(f"{SQLITE_FILE}{suffix}" for suffix in COMPANIONS)})
"""Files in a cell's folder that are its database, and so no files of its."""


class BackupFailed(PulpError):
    """A backup that was not taken or not put back; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the state of one cell, or of one shared namespace, is.

    Attributes:
        name: of the cell, or the address of one that runs several times; or of the namespace.
        namespace: whether it is a namespace of `storage.kv`.
        folder: where everything is, except perhaps the files.
        files: where the files are; None for a namespace.
    """

    name: str
    namespace: bool
    folder: Path
    files: Path | None

    @classmethod
    def of(cls, name: str, storage_root: Path, *, namespace: bool = False) -> Place:
        """Return the place of a cell or a namespace below a storage root.

        Raises:
            BackupFailed: no cell can have that name.
        """
        cell, at, instance = name.partition("@")
        problem = explain_name(cell) if cell else "name a cell"
        if not problem and at:
            problem = explain_instance(instance) if instance and not namespace else f"{name!r} is no address"
        if problem:
            raise BackupFailed(problem)
        root = storage_root.absolute()
        if namespace:
            return cls(name, True, store_path(root, "", name).parent, None)
        variable = f"PULP_FS_ROOT_{re.sub('[^A-Z0-9]', '_', name.upper())}"
        return cls(name, False, root / name, Path(os.environ.get(variable) or root / name).absolute())

    @property
    def sqlite(self) -> Path:
        """The cell's database."""
        return self.folder / SQLITE_FILE

    @property
    def kv(self) -> Path:
        """The store of `storage.kv`."""
        return self.folder / KV_FILE if self.namespace else self.folder / KV_FOLDER / KV_FILE


@dataclass(frozen=True, slots=True)
class Summary:
    """What was taken or put back.

    Attributes:
        databases: which of `sqlite` and `kv`.
        files: how many files and folders.
        skipped: links, devices and the like, which are not taken.
    """

    databases: tuple[str, ...]
    files: int
    skipped: int

    def __str__(self) -> str:
        left_out = f", {self.skipped} left out (no regular files)" if self.skipped else ""
        return f"{' and '.join(self.databases) or 'no database'}, {self.files} files and folders{left_out}"


def backup(name: str, *, output: str, namespace: bool, storage_root: str) -> None:
    """Run the verb: say what was taken, or why not, and end the process with its exit code."""
    file = Path(output or f"{name}.tar")
    try:
        summary = take(Place.of(name, Path(storage_root), namespace=namespace), file)
    except BackupFailed as failed:
        click.echo(f"pulp backup: {failed}", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(f"{file}: {summary}")
    sys.exit(EXIT_OK)


def take(place: Place, output: Path) -> Summary:
    """Write a backup.

    Args:
        place: of what.
        output: a file that is not there yet; it appears when it is complete, for its owner to read.

    Raises:
        BackupFailed: there is nothing to take, or it cannot be read or written.
    """
    if not place.folder.is_dir() and not (place.files and place.files.is_dir()):
        kind = "namespace" if place.namespace else "cell"
        raise BackupFailed(f"{place.folder}: no such {kind} keeps anything there; look at --storage-root")
    if output.exists():
        raise BackupFailed(f"{output}: is there already; choose another name, or remove it")
    try:
        with tempfile.TemporaryDirectory(prefix=".pulp-backup-", dir=output.parent) as folder:
            summary = _write(place, Path(folder))
            os.link(Path(folder) / "tar", output)  # unlike a rename, it never replaces what came meanwhile
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise BackupFailed(f"backup of {place.name} failed: {error}") from None
    return summary


def _write(place: Place, folder: Path) -> Summary:
    databases = []
    skipped = counted = 0
    copies = {SQLITE: place.sqlite, KV: place.kv}
    if place.namespace:
        del copies[SQLITE]
    with open(folder / "tar", "xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        os.fchmod(file.fileno(), 0o600)
        contents = {"format": FORMAT, "name": place.name, "namespace": place.namespace, "taken_ns": time.time_ns()}
        _add(tar, CONTENTS, json.dumps(contents | {"pulp": version("pulp-runtime")}).encode())
        for number, (name, source) in enumerate(copies.items()):
            if source.is_file():
                snapshot(source, folder / str(number))
                tar.add(folder / str(number), name, filter=_plain)
                databases.append(name.partition("/")[0])
        for member, opened in _tree(place.files) if place.files and place.files.is_dir() else ():
            if member is None:
                skipped += 1
                continue
            counted += 1
            tar.addfile(member, opened)
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    return Summary(tuple(databases), counted, skipped)


def snapshot(source: Path, target: Path) -> None:
    """Copy a SQLite database as it is at one moment, whoever is writing to it.

    Raises:
        BackupFailed: what was copied is damaged.
        sqlite3.Error: it cannot be read.
    """
    with (
        closing(sqlite3.connect(f"file:{quote(os.fspath(source))}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(target, isolation_level=None)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        found = writing.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise BackupFailed(f"{source} is damaged ({found}); a backup of it would be worth nothing")


def _tree(top: Path) -> Iterator[tuple[tarfile.TarInfo | None, io.BufferedReader | None]]:
    """Yield files and folders below `top`; None for what is neither. Links are not followed, nothing is waited for."""
    for folder, folders, names, descriptor in os.fwalk(top, follow_symlinks=False):
        inside = os.path.relpath(folder, top)
        inside = "" if inside == "." else f"{inside}/"
        folders[:] = [name for name in folders if not os.fsencode(name).startswith(PREFIX)]
        folders.sort()
        for name in sorted([*folders, *names]):
            if os.fsencode(name).startswith(PREFIX) or (not inside and name in OWN):
                continue
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
            except FileNotFoundError:
                continue  # deleted meanwhile
            except OSError:
                yield None, None
                continue
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode):
                with open(file, "rb") as opened:
                    yield _member(f"{FILES}/{inside}{name}", status, tarfile.REGTYPE), opened
                continue
            os.close(file)
            if stat.S_ISDIR(status.st_mode):
                yield _member(f"{FILES}/{inside}{name}", status, tarfile.DIRTYPE), None
            else:
                yield None, None


def _member(name: str, status: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = status.st_size if kind == tarfile.REGTYPE else 0
    member.mode = stat.S_IMODE(status.st_mode) & 0o777
    member.mtime = int(status.st_mtime)
    return member


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = int(time.time())
    tar.addfile(member, io.BytesIO(data))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who owns a file here."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member
