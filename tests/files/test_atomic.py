from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime.files import atomic
from pulp_runtime.files.atomic import PREFIX, UNFINISHED_SECONDS, replace, sync_folder, unfinished


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    file = os.open(tmp_path, os.O_RDONLY)
    yield file
    os.close(file)


def test_a_file_is_made_or_replaced(folder: int, tmp_path: Path) -> None:
    replace(folder, b"file", b"one", mode=0o644)
    replace(folder, b"file", b"two" * 100_000, mode=0o600, like=os.stat(tmp_path / "file"))

    assert (tmp_path / "file").read_bytes() == b"two" * 100_000
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_has_the_mode_that_the_umask_leaves(folder: int, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace(folder, b"file", b"", mode=0o666)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_file_that_was_there_keeps_its_mode(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o4751)
    replace(folder, b"file", b"new", mode=0o600, like=(tmp_path / "file").stat())

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o4751


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_written_through(folder: int, tmp_path: Path) -> None:
    (tmp_path / "canary").write_bytes(b"canary")
    (tmp_path / "file").symlink_to("canary")
    os.link(tmp_path / "canary", tmp_path / "twin")
    for name in (b"file", b"twin"):
        replace(folder, name, b"new", mode=0o600)

    assert (tmp_path / "canary").read_bytes() == b"canary"
    assert not (tmp_path / "file").is_symlink()


def test_readers_see_one_whole_file_or_the_other(folder: int, tmp_path: Path) -> None:
    versions = [bytes([letter]) * 20_000 for letter in b"ab"]
    replace(folder, b"file", versions[0], mode=0o600)
    stop = threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        while not stop.is_set():
            seen.add((tmp_path / "file").read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    for at in range(300):
        replace(folder, b"file", versions[at % 2], mode=0o600, durable=False)
    stop.set()
    reader.join()

    assert seen <= set(versions)


class Broken:
    """Stands in for `os`; one of its functions fails."""

    def __init__(self, function: str) -> None:
        self._function = function

    def __getattr__(self, name: str) -> Any:
        if name == self._function:
            return self._fail
        return getattr(os, name)

    def _fail(self, *_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("function", ["write", "fsync", "rename", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    folder: int, tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(folder, b"file", b"old", mode=0o600)
    monkeypatch.setattr(atomic, "os", Broken(function))
    with pytest.raises(OSError, match="no space left"):
        replace(folder, b"file", b"new", mode=0o600, like=os.stat(tmp_path / "file"))

    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_write_comes_back_in_pieces_and_is_still_whole(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(Broken):
        def write(self, file: int, data: bytes) -> int:
            return os.write(file, data[:3])

    monkeypatch.setattr(atomic, "os", Short(""))
    replace(folder, b"file", b"0123456789", mode=0o600)

    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize(("durable", "syncs"), [(True, ["file", "folder"]), (False, [])])
def test_what_is_durable_waits_for_the_disk_before_and_after_the_new_name(
    folder: int, durable: bool, syncs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    class Noting(Broken):
        def fsync(self, file: int) -> None:
            done.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")

        def rename(self, *args: Any, **options: Any) -> None:
            assert done == syncs[:1]
            os.rename(*args, **options)

    monkeypatch.setattr(atomic, "os", Noting(""))
    replace(folder, b"file", b"x", mode=0o600, durable=durable)

    assert done == syncs


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="no such descriptors here")
def test_a_folder_is_synced_by_a_descriptor_that_is_good_for_names_only(tmp_path: Path) -> None:
    file = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    sync_folder(file)
    os.close(file)


@pytest.mark.parametrize(
    ("name", "age", "answer"),
    [
        pytest.param(PREFIX + b"0123", UNFINISHED_SECONDS + 1, True, id="old enough"),
        pytest.param(PREFIX + b"0123", UNFINISHED_SECONDS - 1, False, id="perhaps still being written"),
        pytest.param(b"pulp-0123", UNFINISHED_SECONDS + 1, False, id="a cell's own"),
    ],
)
def test_what_a_dead_write_left_is_told_from_the_rest(tmp_path: Path, name: bytes, age: float, answer: bool) -> None:
    file = tmp_path / "file"
    file.touch()

    assert unfinished(name, file.stat(), file.stat().st_mtime + age) is answer
