"""`pulp restore`: put back what `pulp backup` took, in one step, for a cell that nobody runs.

    {cell}.tar ──▶ a new folder, member by member, checked ──▶ renamed into place; what was there is kept beside it

A backup may come from anywhere, so nothing of it is believed: only regular files and folders, only below the folder
that was made for them, and databases only if they are sound.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click

from pulp_runtime.cli import EXIT_FAILED, EXIT_OK
from pulp_runtime.cli.backup import CONTENTS, FILES, FORMAT, KV, OWN, SQLITE, BackupFailed, Place, Summary
from pulp_runtime.files.atomic import PREFIX
from pulp_runtime.kv.fault import KvError
from pulp_runtime.kv.hold import Hold

_CONTENTS_BYTES: Final = 65_536
_PIECE: Final = 1 << 20
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def restore(file: str, *, name: str, replace: bool, storage_root: str) -> None:
    """Run the verb: say what was put back, or why not, and end the process with its exit code."""
    archive = Path(file)
    try:
        with _opened(archive) as tar:
            said = _contents(archive, tar)
        place = Place.of(name or said["name"], Path(storage_root), namespace=said["namespace"])
        summary, kept = put_back(archive, place, replace=replace)
    except BackupFailed as failed:
        click.echo(f"pulp restore: {failed}", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(f"{place.folder}: {summary}")
    for path in kept:
        click.echo(f"what was there is in {path}")
    sys.exit(EXIT_OK)


def put_back(archive: Path, place: Place, *, replace: bool) -> tuple[Summary, list[Path]]:
    """Restore a backup; return what was in it, and where what was there before is now.

    Args:
        archive: the file.
        place: of a cell, or a namespace, that no host runs now.
        replace: put it in the place of what is there, which is kept under another name; else nothing may be there.

    Raises:
        BackupFailed: it is no backup, the place is in use or taken, or something cannot be read or written. What was
            there is there.
    """
    with ExitStack() as stack:
        tar = stack.enter_context(_opened(archive))
        said = _contents(archive, tar)
        if said["namespace"] != place.namespace:
            kinds = ("a namespace", "a cell") if said["namespace"] else ("a cell", "a namespace")
            raise BackupFailed(f"{archive} is the backup of {kinds[0]}, not of {kinds[1]}")
        separate = place.files is not None and place.files != place.folder
        targets = [place.folder] if not separate else [place.folder, place.files or place.folder]
        for target in targets:
            if not replace and target.is_dir() and any(target.iterdir()):
                raise BackupFailed(f"{target} is not empty; remove it, or say --replace to keep it under another name")
        stack.enter_context(_unused(place))
        try:
            staged = [stack.enter_context(_staged(target)) for target in targets]
            summary = _unpack(tar, place, staged[0], staged[-1])
            kept = [
                _swap(new, target, 0o700 if place.namespace else 0o755)
                for new, target in zip(staged, targets, strict=True)
            ]
        except (OSError, sqlite3.Error, tarfile.TarError) as error:
            raise BackupFailed(f"restore of {place.name} failed: {error}") from None
    return summary, [path for path in kept if path is not None]


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise BackupFailed(f"{archive} is no backup: {error}") from None
    except OSError as error:
        raise BackupFailed(f"{archive}: {error.strerror or error}") from None


def _contents(archive: Path, tar: tarfile.TarFile) -> dict[str, Any]:
    first = tar.next()
    data = b""
    if first is not None and first.name == CONTENTS and first.isreg() and first.size <= _CONTENTS_BYTES:
        file = tar.extractfile(first)
        data = file.read() if file is not None else b""
    try:
        said = json.loads(data)
        known = said["format"] == FORMAT and isinstance(said["name"], str) and isinstance(said["namespace"], bool)
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise BackupFailed(f"{archive} is no backup of this version (no {CONTENTS} of format {FORMAT} at its start)")
    return dict(said)


@contextmanager
def _unused(place: Place) -> Iterator[None]:
    """Make sure that no host has the place open, nor opens its store meanwhile.

    Raises:
        BackupFailed: one has.
    """
    with ExitStack() as stack:
        try:
            if place.kv.parent.is_dir():
                stack.callback(Hold(place.kv).release)
            if not place.namespace and place.sqlite.is_file():
                _require_closed(place.sqlite)
        except (KvError, sqlite3.OperationalError) as error:
            raise BackupFailed(f"a host runs {place.name} now ({error}); stop it, or that cell of it, first") from None
        yield


def _require_closed(database: Path) -> None:
    """Raise `sqlite3.OperationalError` if another process has a database open."""
    with closing(sqlite3.connect(database, 0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            pass  # it is no sound database, which may be why there is something to restore


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Make a folder beside `target`; what is still there at the end is removed."""
    target.parent.mkdir(0o755, parents=True, exist_ok=True)
    folder = target.parent / f"{PREFIX.decode()}restore-{secrets.token_hex(8)}"
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(tar: tarfile.TarFile, place: Place, folder: Path, files: Path) -> Summary:
    databases: list[str] = []
    counted = 0
    while (member := tar.next()) is not None:
        if member.name in (SQLITE, KV) and member.isreg():
            source = place.sqlite if member.name == SQLITE else place.kv
            target = folder / source.relative_to(place.folder)
            target.parent.mkdir(0o700, exist_ok=True)
            _copy(tar.extractfile(member), target, 0o600)
            _check(target)
            databases.append(member.name.partition("/")[0])
        elif member.name.startswith(f"{FILES}/") and (member.isreg() or member.isdir()) and not place.namespace:
            _unpack_file(tar, member, files)
            counted += 1
        else:
            raise BackupFailed(f"the backup holds {member.name!r}, which no backup of ours does")
    return Summary(tuple(databases), counted, 0)


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, files: Path) -> None:
    """Create one file or folder; the folders above it have come before."""
    parts = member.name.split("/")[1:]
    odd = [part for part in parts if part in ("", ".", "..") or "\0" in part or os.fsencode(part).startswith(PREFIX)]
    if odd or (len(parts) == 1 and parts[0] in OWN):
        raise BackupFailed(f"the backup holds {member.name!r}, which is no name of a cell's file")
    target = files.joinpath(*parts)
    if member.isdir():
        target.mkdir(member.mode & 0o777 | 0o700)
    else:
        _copy(tar.extractfile(member), target, member.mode & 0o777)
        os.utime(target, (member.mtime, member.mtime))


def _copy(source: IO[bytes] | None, target: Path, mode: int) -> None:
    if source is None:
        raise BackupFailed(f"the backup has no bytes for {target.name}")
    with open(os.open(target, _NEW, mode), "wb") as file:
        while piece := source.read(_PIECE):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _check(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            found = str(error)
    if found != "ok":
        raise BackupFailed(f"the backup's {database.name} is damaged ({found})")


def _swap(new: Path, target: Path, mode: int) -> Path | None:
    """Put a folder in its place; return where what was there is now, None if there was nothing."""
    kept = target.parent / f"{PREFIX.decode()}replaced-{target.name}-{secrets.token_hex(4)}"
    there = target.exists()
    if there:
        os.rename(target, kept)
    try:
        os.rename(new, target)
        target.chmod(mode)
    except OSError:
        if there:
            os.rename(kept, target)
        raise
    if there and not any(kept.iterdir()):
        kept.rmdir()
        return None
    return kept if there else None
