from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime.files import descent
from pulp_runtime.files.descent import MAX_LINKS, Descent, LeadsOutside, PathRefused, Root, clean

CANARY = b"not for cells"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A folder with a tree, and a canary beside it."""
    folder = tmp_path / "ground"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(b"inside")
    (folder / "c").mkdir()
    (folder / "top").write_bytes(b"at the top")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(CANARY)
    return Root(folder)


def read(root: Root, path: str) -> bytes:
    with Descent(root, [name.encode() for name in path.split("/") if name]) as at:
        file = at.open(os.O_RDONLY)
    try:
        return os.read(file, 100)
    finally:
        os.close(file)


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# In the text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        pytest.param(b"a/b", [b"a", b"b"], id="two names"),
        pytest.param(b".", [], id="the folder itself"),
        pytest.param(b"./a//b/.", [b"a", b"b"], id="what means nothing is left out"),
        pytest.param(b"a/../b", [b"b"], id="a step back inside"),
        pytest.param(b"a/..", [], id="a step back to the folder"),
        pytest.param(b"a/", [b"a"], id="a slash at the end"),
        pytest.param(b"a\\b", [b"a\\b"], id="a backslash is a letter"),
        pytest.param(b"C:", [b"C:"], id="a drive is a name"),
        pytest.param(b"...", [b"..."], id="three dots are a name"),
    ],
)
def test_a_path_is_cleaned(path: bytes, parts: list[bytes]) -> None:
    assert clean(path) == parts


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"/a", id="absolute"),
        pytest.param(b"//a", id="absolute twice"),
        pytest.param(b"\\a", id="absolute on another system"),
        pytest.param(b"a\0b", id="with a NUL"),
        pytest.param(b"..", id="the folder above"),
        pytest.param(b"a/../../b", id="above by a detour"),
        pytest.param(b"../ground/a", id="out and in again"),
    ],
)
def test_a_path_is_refused(path: bytes) -> None:
    with pytest.raises(PathRefused):
        clean(path)


def test_a_path_that_is_too_long_is_an_error_of_its_own() -> None:
    assert clean(b"a" * 4096) == [b"a" * 4096]
    with pytest.raises(OSError, match="longer than 4096") as caught:
        clean(b"a" * 4097)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert not isinstance(caught.value, PathRefused)


# On the disk ------------------------------------------------------------------------------------------------------


def test_a_place_is_reached_and_nothing_stays_open(root: Root) -> None:
    before = descriptors()

    assert read(root, "a/b/file") == b"inside"
    with pytest.raises(FileNotFoundError):
        read(root, "a/nothing/file")
    with pytest.raises(NotADirectoryError):
        read(root, "top/file")
    assert descriptors() == before


@pytest.mark.parametrize(
    ("target", "path", "found"),
    [
        pytest.param("a/b", "link/file", b"inside", id="a folder"),
        pytest.param("a/b/file", "link", b"inside", id="a file"),
        pytest.param("a/../a/./b/", "link/file", b"inside", id="with detours"),
        pytest.param("{root}/a/b", "link/file", b"inside", id="absolute, into the folder"),
        pytest.param("{root}", "link/top", b"at the top", id="absolute, the folder itself"),
        pytest.param(".", "link/link/link/top", b"at the top", id="the folder itself, again and again"),
    ],
)
def test_a_link_that_stays_inside_is_followed(root: Root, target: str, path: str, found: bytes) -> None:
    (root.path / "link").symlink_to(target.format(root=root.path))

    assert read(root, path) == found


def test_dots_in_a_link_go_up_from_where_the_link_is(root: Root) -> None:
    (root.path / "a" / "b" / "up").symlink_to("../../top")
    (root.path / "a" / "b" / "far").symlink_to("../../c/../a/b/../b/file")
    (root.path / "way").symlink_to("a/b")

    assert read(root, "a/b/up") == b"at the top"
    assert read(root, "way/up") == b"at the top"
    assert read(root, "way/far") == b"inside"


def test_dots_in_the_path_go_up_from_where_it_has_led(root: Root) -> None:
    """As the system understands them: what wants them worked out in the text asks `clean`."""
    (root.path / "way").symlink_to("a/b")

    assert read(root, "way/../b/file") == b"inside"
    with pytest.raises(FileNotFoundError):
        read(root, "way/../top")
    with pytest.raises(LeadsOutside):
        read(root, "a/../../outside/file")


@pytest.mark.parametrize("target", ["../outside", "a/../../outside", "{beside}", "/", "/etc", "../root-b", "{root}x"])
@pytest.mark.parametrize("path", ["link/file", "link", "chain/file"])
def test_threat_02_a_link_that_leads_out_is_refused_wherever_it_stands(root: Root, target: str, path: str) -> None:
    beside = root.path.parent / "outside"
    (root.path / "link").symlink_to(target.format(beside=beside, root=root.path))
    (root.path / "chain").symlink_to("link")

    with pytest.raises(LeadsOutside):
        read(root, path)


def test_threat_02_links_that_go_round_end(root: Root) -> None:
    (root.path / "one").symlink_to("two")
    (root.path / "two").symlink_to("one")
    for at in range(MAX_LINKS + 1):
        (root.path / f"l{at}").symlink_to(f"l{at + 1}")
    (root.path / f"l{MAX_LINKS + 1}").write_bytes(b"too far")

    for name in ("one", "one/x", "l0"):
        with pytest.raises(PathRefused, match="too many links"):
            read(root, name)
    assert read(root, "l1") == b"too far"


def test_steps_are_bounded_however_a_link_is_written(root: Root) -> None:
    deep = "/".join(["x"] * 300)
    (root.path / deep).mkdir(parents=True)
    target = f"{deep}/" + "y/../" * 700
    (root.path / deep / "y").mkdir()
    (root.path / "link").symlink_to(target[:4000])

    with pytest.raises(PathRefused, match="too many steps"):
        read(root, "link/file")


def test_a_folder_is_made_only_where_the_path_itself_asks_for_one(root: Root) -> None:
    def make(folder: int, name: bytes) -> None:
        os.mkdir(name, dir_fd=folder)

    (root.path / "inside").symlink_to("c")
    (root.path / "dangling").symlink_to("no/where")
    with Descent(root, [b"new", b"er", b"file"], make) as at:
        assert at.name == b"file"
    with Descent(root, [b"inside", b"new", b"."], make) as at:
        assert os.listdir(root.path / "c") == ["new"]
    with pytest.raises(FileNotFoundError):
        Descent(root, [b"dangling", b"file"], make)

    assert (root.path / "new" / "er").is_dir()
    assert not (root.path / "no").exists()


def test_a_root_that_is_gone_is_made_again(root: Root, tmp_path: Path) -> None:
    fresh = Root(tmp_path / "not" / "yet")
    with pytest.raises(FileNotFoundError):
        read(fresh, "file")

    assert fresh.path.is_dir()


def test_what_is_reached_stays_reached_when_its_name_is_taken(root: Root, tmp_path: Path) -> None:
    with Descent(root, [b"a", b"b", b"file"]) as at:
        (root.path / "a" / "b").rename(root.path / "moved")
        (root.path / "a" / "b").symlink_to(tmp_path / "outside")
        file = at.open(os.O_RDONLY)
        content = os.read(file, 100)
        os.close(file)

    assert content == b"inside"


class Swapper:
    """Stands in for `os` and has a name mean the next thing of a schedule before every look at the disk."""

    def __init__(self, root: Root, schedule: tuple[int, ...], things: list[Path]) -> None:
        self._name = root.path / "x"
        self._things = things
        self._schedule = iter(schedule)
        self._now: Path | None = None

    def _swap(self) -> None:
        thing = self._things[next(self._schedule, 0)]
        if thing is not self._now:
            if self._now is not None:
                os.rename(self._name, self._now)
            os.rename(thing, self._name)
            self._now = thing

    def put_back(self) -> None:
        if self._now is not None:
            os.rename(self._name, self._now)

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in ("open", "stat", "readlink"):
            return function

        def swapped(*args: Any, **options: Any) -> Any:
            self._swap()
            return function(*args, **options)

        return swapped


@pytest.mark.parametrize("path", ["x/file", "x", "way/file", "way/../x/file"])
def test_threat_03_a_swap_before_any_look_at_the_disk_never_leads_out(
    root: Root, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every order of a folder, a link out, a link inside and a file, over as many looks as a lookup takes."""
    things = [root.path / name for name in ("folder", "out", "in", "plain")]
    things[0].mkdir()
    (things[0] / "file").write_bytes(b"inside")
    things[1].symlink_to(tmp_path / "outside" if path != "x" else tmp_path / "outside" / "file")
    things[2].symlink_to("a/b" if path != "x" else "a/b/file")
    things[3].write_bytes(b"inside")
    (root.path / "way").symlink_to("x")
    outcomes: set[str] = set()
    for schedule in itertools.product(range(4), repeat=5):
        swapper = Swapper(root, schedule, things)
        with monkeypatch.context() as patch:
            patch.setattr(descent, "os", swapper)
            try:
                with Descent(root, [name.encode() for name in path.split("/")]) as at:
                    file = at.open(os.O_RDONLY)
                try:
                    outcomes.add("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else os.read(file, 100).decode())
                finally:
                    os.close(file)
            except OSError as error:
                outcomes.add(type(error).__name__)
        swapper.put_back()

    assert outcomes <= {"inside", "folder", "LeadsOutside", "NotADirectoryError", "FileNotFoundError", "OSError"}
    assert outcomes >= {"inside", "LeadsOutside"}


@pytest.mark.slow
def test_threat_03_a_thread_that_swaps_as_fast_as_it_can_never_leads_out(root: Root, tmp_path: Path) -> None:
    stop = threading.Event()
    name, real, link = root.path / "x", root.path / "real", root.path / "link"
    real.mkdir()
    (real / "file").write_bytes(b"inside")
    link.symlink_to(tmp_path / "outside")

    def flip() -> None:
        while not stop.is_set():
            for thing in (real, link):
                thing.rename(name)
                name.rename(thing)

    flipper = threading.Thread(target=flip)
    flipper.start()
    seen: Counter[str] = Counter()
    try:
        while sum(seen.values()) < 50_000 or (len(seen) < 3 and sum(seen.values()) < 1_000_000):
            try:
                content = read(root, "x/file")
            except OSError as error:
                seen[type(error).__name__] += 1
                continue
            assert content == b"inside"
            seen["read"] += 1
    finally:
        stop.set()
        flipper.join()

    assert seen["read"]
    assert seen["LeadsOutside"]
