"""A folder of the host's disk: nothing outside it is ever read, changed or made, whatever a program tries."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from tests.wasi.puppet import Answered, Puppet, Start

from pulp_runtime.ext.tree import File, How, Kind
from pulp_runtime.files.quota import DiskQuota
from pulp_runtime.wasi import RealFolder
from pulp_runtime.wasi.errno import WasiErrno as E

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
READ, WRITE, BOTH = 2, 64, 66
SWAPS = 3_000


class Ground:
    """A mounted folder, and beside it a canary that nothing may touch."""

    def __init__(self, path: Path) -> None:
        self.inside, self.outside = path / "inside", path / "outside"
        for folder in (self.inside, self.outside):
            folder.mkdir()
        self.canary = self.outside / "canary"
        self.canary.write_bytes(b"alive")
        self._before = self._seen()

    def _seen(self) -> object:
        found = self.canary.stat()
        names = sorted(one.name for one in self.outside.iterdir())
        return names, self.canary.read_bytes(), found.st_mtime_ns, found.st_nlink, found.st_mode

    def untouched(self) -> bool:
        return self._seen() == self._before


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def puppet(start: Start, ground: Ground) -> Puppet:
    return start({"/": RealFolder(ground.inside)})


def answer(puppet: Puppet, path: str, oflags: int = 0, rights: int = READ, follow: int = 1) -> E:
    try:
        puppet.open(path, oflags, rights=rights, follow=follow)
    except Answered as answered:
        return answered.number
    return E.SUCCESS


@pytest.mark.parametrize("absolute", [True, False], ids=["an absolute link", "a relative link"])
def test_threat_02_no_link_leads_out(puppet: Puppet, ground: Ground, absolute: bool) -> None:
    outside = ground.outside if absolute else Path("../outside")
    (ground.inside / "folder").symlink_to(outside)
    (ground.inside / "file").symlink_to(outside / "canary")
    (ground.inside / "dangling").symlink_to(outside / "new")
    (ground.inside / "chain").symlink_to("folder/canary")
    (ground.inside / "d").mkdir()

    for path in ("folder/canary", "file", "chain", "folder", "folder/", "dangling", "d/../file"):
        assert answer(puppet, path) is E.NOTCAPABLE, path
        assert answer(puppet, path, 0, WRITE) is E.NOTCAPABLE, path
        assert answer(puppet, path, TRUNC, BOTH) is E.NOTCAPABLE, path
        assert answer(puppet, path, CREAT, BOTH) in (E.NOTCAPABLE, E.ISDIR), path
        assert puppet.path_filestat_set_times(3, 1, *puppet.text(path), 0, 0, 5) is E.NOTCAPABLE, path
    for path in ("folder/new", "folder/canary"):
        assert puppet.on("path_create_directory", path) is E.NOTCAPABLE
        assert puppet.on("path_unlink_file", path) is E.NOTCAPABLE
        assert puppet.on("path_remove_directory", path) is E.NOTCAPABLE
        assert puppet.symlink("x", path) is E.NOTCAPABLE
        assert puppet.rename("d", path) is E.NOTCAPABLE
        assert puppet.link("folder/canary", "mine") is E.NOTCAPABLE
    assert puppet.link("file", "mine", follow=1) is E.NOTCAPABLE
    assert puppet.on("path_unlink_file", "file") is E.SUCCESS  # the link itself
    assert ground.untouched()


def test_threat_02_a_link_the_program_makes_leads_no_further(puppet: Puppet, ground: Ground) -> None:
    assert puppet.symlink("../outside/canary", "out") is E.SUCCESS
    assert answer(puppet, "out") is E.NOTCAPABLE
    assert answer(puppet, "out", CREAT | TRUNC, BOTH) is E.NOTCAPABLE
    assert puppet.symlink(str(ground.canary), "absolute") is E.NOTCAPABLE
    assert ground.untouched()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_threat_03_no_swap_of_folders_and_links_leads_out(ground: Ground) -> None:
    place = ground.inside / "place"
    place.mkdir()
    (place / "canary").write_bytes(b"inside")
    link = ground.inside / "link"
    link.symlink_to(ground.outside)
    folder, over = RealFolder(ground.inside), threading.Event()

    def swap() -> None:
        spare = ground.inside / "spare"
        while not over.is_set():
            os.rename(place, spare)
            os.rename(link, place)
            os.rename(place, link)
            os.rename(spare, place)

    thread = threading.Thread(target=swap)
    thread.start()
    seen, missed = 0, 0
    try:
        for turn in range(SWAPS):
            try:
                file = folder.open(("place", "canary"), How(read=True, write=turn % 2 == 1))
            except OSError:
                missed += 1
                continue
            assert isinstance(file, File)
            into = memoryview(bytearray(6))
            size = file.read_at(0, into)
            file.close()
            assert bytes(into[:size]) == b"inside"
            seen += 1
            for act in (lambda: folder.make_folder(("place", "new")), lambda: folder.remove_folder(("place", "new"))):
                try:
                    act()
                except OSError:
                    missed += 1
    finally:
        over.set()
        thread.join()
    assert seen
    assert missed
    assert ground.untouched()


def test_threat_05_a_folder_that_is_read_only_stays_as_it_is(start: Start, ground: Ground) -> None:
    (ground.inside / "file").write_bytes(b"text")
    (ground.inside / "d").mkdir()
    before = (ground.inside / "file").stat()
    puppet = start({"/": RealFolder(ground.inside, read_only=True)})

    for oflags, rights in ((0, WRITE), (0, BOTH), (TRUNC, READ), (CREAT, READ), (CREAT | EXCL, BOTH)):
        assert answer(puppet, "file", oflags, rights) is E.ROFS
        assert answer(puppet, "new", oflags | CREAT, rights) is E.ROFS
    assert puppet.on("path_unlink_file", "file") is E.ROFS
    assert puppet.on("path_create_directory", "new") is E.ROFS
    assert puppet.on("path_remove_directory", "d") is E.ROFS
    assert puppet.rename("file", "other") is E.ROFS
    assert puppet.link("file", "other") is E.ROFS
    assert puppet.symlink("file", "other") is E.ROFS
    assert puppet.path_filestat_set_times(3, 1, *puppet.text("file"), 0, 0, 5) is E.ROFS
    assert puppet.fd_filestat_set_times(3, 0, 0, 5) is E.ROFS
    fd = puppet.open("file")
    assert puppet.fd_filestat_set_times(fd, 0, 0, 5) is E.ROFS
    assert puppet.get("file") == b"text"
    after = (ground.inside / "file").stat()
    assert (before.st_mtime_ns, before.st_ctime_ns, before.st_nlink) == (
        after.st_mtime_ns, after.st_ctime_ns, after.st_nlink,
    )  # fmt: skip
    assert sorted(one.name for one in ground.inside.iterdir()) == ["d", "file"]


def test_threat_08_what_is_no_file_is_listed_and_removed_but_never_opened(puppet: Puppet, ground: Ground) -> None:
    os.mkfifo(ground.inside / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(ground.inside / "socket"))
        (ground.inside / "to-fifo").symlink_to("fifo")

        for name in ("fifo", "socket", "to-fifo"):
            for oflags, rights in ((0, READ), (0, BOTH), (TRUNC, WRITE), (CREAT, BOTH)):
                assert answer(puppet, name, oflags, rights) is E.ACCES
        assert puppet.stat("fifo")["kind"] == Kind.UNKNOWN
        assert puppet.stat("socket")["kind"] == Kind.SOCKET
        assert sorted(puppet.names(".")) == [".", "..", "fifo", "socket", "to-fifo"]
        assert puppet.on("path_unlink_file", "fifo") is E.SUCCESS


def test_threat_08_a_sparse_terabyte_does_not_fit(start: Start, ground: Ground) -> None:
    puppet = start({"/": RealFolder(ground.inside, quota=DiskQuota(ground.inside, 1 << 20))})
    fd = puppet.open("file", CREAT, rights=BOTH)

    assert puppet.fd_filestat_set_size(fd, 1 << 40) is E.DQUOT
    assert puppet.fd_allocate(fd, 0, 1 << 40) is E.DQUOT
    with pytest.raises(Answered) as answered:
        puppet.write(fd, b"x", at=1 << 40)
    assert answered.value.number is E.DQUOT
    assert puppet.fstat(fd)["size"] == 0


def test_threat_09_the_quota_holds_for_bytes_and_for_empty_files(start: Start, ground: Ground) -> None:
    puppet = start({"/": RealFolder(ground.inside, quota=DiskQuota(ground.inside, 64 * 4096))})
    puppet.put("big", bytes(32 * 1024))
    made = puppet.fill("f")

    assert 40 < made < 64
    assert puppet.on("path_create_directory", "d") is E.DQUOT
    assert puppet.symlink("a", "l") is E.DQUOT
    assert puppet.link("big", "hard") is E.DQUOT
    assert puppet.on("path_unlink_file", "big") is E.SUCCESS
    assert puppet.on("path_create_directory", "d") is E.SUCCESS


def test_threat_07_names_that_are_no_text_are_not_seen(puppet: Puppet, ground: Ground) -> None:
    with open(os.path.join(os.fsencode(ground.inside), b"\xff\xfe"), "wb"):
        pass
    (ground.inside / "text").touch()

    assert puppet.names(".") == [".", "..", "text"]


def test_threat_06_a_path_through_folders_without_end_is_walked(ground: Ground) -> None:
    folder = RealFolder(ground.inside)
    deep: tuple[str, ...] = ()
    for _ in range(200):
        deep = (*deep, "d")
        folder.make_folder(deep)

    assert folder.stat(deep).kind is Kind.FOLDER
    with pytest.raises(FileNotFoundError):
        folder.stat((*deep, "x"))


def test_an_open_folder_is_the_same_wherever_it_is_moved(puppet: Puppet, ground: Ground) -> None:
    puppet.must(puppet.on("path_create_directory", "a"))
    puppet.put("a/file", b"text")
    fd = puppet.open("a", DIRECTORY)
    os.rename(ground.inside / "a", ground.outside / "a")

    assert puppet.read(puppet.open("file", at=fd), 10) == b"text"
    with pytest.raises(Answered) as answered:
        puppet.open("../canary", at=fd)
    assert answered.value.number is E.NOTCAPABLE


def test_descriptors_of_the_host_are_given_back(start: Start, ground: Ground) -> None:
    (ground.inside / "file").write_bytes(b"text")
    before = len(os.listdir("/proc/self/fd"))
    puppet = start({"/": RealFolder(ground.inside)})
    for path in ("file", "none", "file/x", "../x", "."):
        for oflags in (0, DIRECTORY, CREAT | EXCL):
            answer(puppet, path, oflags, BOTH)
    puppet.end()

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RealFolder(tmp_path / "none").stat(())

    assert not (tmp_path / "none").exists()


def test_a_link_through_a_folder_that_is_missing_creates_nothing(start: Start, ground: Ground) -> None:
    (ground.inside / "link").symlink_to("missing/file")
    puppet = start({"/": RealFolder(ground.inside)})

    assert answer(puppet, "link", CREAT, BOTH) is E.NOENT
    assert [one.name for one in ground.inside.iterdir()] == ["link"]
