from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pulp_runtime.files.tree import remove, walk


@contextmanager
def opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    yield file
    os.close(file)


def nested(top: Path, levels: int) -> None:
    """Make a chain of folders that is deeper than a path can be long, a file in the last."""
    file = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("x", dir_fd=file)
        inner = os.open("x", os.O_RDONLY, dir_fd=file)
        os.close(file)
        file = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=file))
    os.close(file)


def test_every_entry_is_found_and_a_folder_after_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").touch()
    (tmp_path / "a" / "link").symlink_to("/")
    (tmp_path / "pipe").touch()
    with opened(tmp_path) as top:
        names = [found.name for found in walk(top)]

    assert sorted(names) == [b"a", b"b", b"c", b"file", b"link", b"pipe"]
    assert names.index(b"b") < names.index(b"a")
    assert names.index(b"file") < names.index(b"c")


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    (tmp_path / os.fsdecode(b"\xff") / "in").touch()
    with opened(tmp_path) as top:
        assert [found.name for found in walk(top)] == [b"in", b"\xff"]


def test_depth_costs_no_descriptors_and_no_stack(tmp_path: Path) -> None:
    nested(tmp_path, 3000)
    most = 0
    before = len(os.listdir("/dev/fd"))
    with opened(tmp_path) as top:
        for _found in walk(top):
            most = max(most, len(os.listdir("/dev/fd")))
        assert most <= before + 3

        remove(top, b"x")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_moved_away_under_the_walk_ends_it(tmp_path: Path) -> None:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    with opened(tmp_path / "root") as top:
        found = walk(top)
        assert next(found).name == b"file"
        (tmp_path / "root" / "a" / "b").rename(tmp_path / "elsewhere" / "b")
        with pytest.raises(OSError, match="moved meanwhile") as caught:
            next(found)

    assert caught.value.errno == errno.ESTALE


def test_an_entry_that_goes_away_has_no_status(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with opened(tmp_path) as top:
        (found,) = walk(top)
        (tmp_path / "file").unlink()
        file = os.open(tmp_path, os.O_RDONLY)
        assert found._replace(folder=file).status() is None
        os.close(file)


def test_threat_02_removal_takes_links_and_never_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "file").touch()
    (tmp_path / "tree" / "in").mkdir(parents=True)
    (tmp_path / "tree" / "in" / "folder").symlink_to("../../canary")
    (tmp_path / "tree" / "file").symlink_to("../canary/file")
    gone: list[os.stat_result] = []
    with opened(tmp_path) as top:
        remove(top, b"tree", removed=gone.append)

    assert os.listdir(tmp_path) == ["canary"]
    assert os.listdir(tmp_path / "canary") == ["file"]
    assert sum(stat.S_ISLNK(status.st_mode) for status in gone) == 2
    assert len(gone) == 4


def test_a_folder_that_becomes_a_link_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "file").touch()
    (tmp_path / "tree").symlink_to("canary")
    with opened(tmp_path) as top, pytest.raises(NotADirectoryError):
        remove(top, b"tree")

    assert os.listdir(tmp_path / "canary") == ["file"]


def test_removal_can_be_stopped_half_way(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for at in range(10):
        (tmp_path / "tree" / str(at)).touch()
    left = iter(range(3))

    def pause() -> None:
        if next(left, None) is None:
            raise TimeoutError

    with opened(tmp_path) as top, pytest.raises(TimeoutError):
        remove(top, b"tree", pause=pause)

    assert len(os.listdir(tmp_path / "tree")) == 7
