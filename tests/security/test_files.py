"""What a cell can reach on the host's disk: its own folder, and not a byte beside it.

Every way to files that a cell has is a `Store`, and every store must withstand the same attacks: add the next one to
`STORES`.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.capabilities.storage.disk import FIRST, NEWER, Disk, disk, large, tree

from pulp_runtime.capabilities.storage import fs
from pulp_runtime.errors import ManifestError, PulpError
from pulp_runtime.files.quota import BLOCK, DiskQuota
from pulp_runtime.host import Host
from pulp_runtime.manifest.cell import load_cell
from pulp_runtime.manifest.graph import start_order
from pulp_runtime.testing import CellUnderTest, guest

Make = Callable[..., CellUnderTest]
CANARY = b"not for cells"
MIB = 1 << 20


class Store(Protocol):
    """A way to files. A method answers whether the store did it; `read` and `names` None if it did not."""

    folder: Path

    def read(self, path: str | bytes) -> bytes | None: ...

    def write(self, path: str | bytes, data: bytes) -> bool: ...

    def delete(self, path: str | bytes) -> bool: ...

    def remove_all(self, path: str | bytes) -> bool: ...

    def names(self, path: str) -> list[str] | None: ...

    def rename(self, old: str, new: str) -> bool: ...

    def chmod(self, path: str, mode: int) -> bool: ...

    def make(self, path: str) -> bool: ...


class FsStore:
    """`storage.fs`."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.folder = disk.folder
        self.codes: Counter[int] = Counter()

    def _done(self, code: int) -> bool:
        assert code in range(10), f"code {code}"
        self.codes[code] += 1
        return not code

    def read(self, path: str | bytes) -> bytes | None:
        code, data = self.disk.read(path)
        return data if self._done(code) else None

    def write(self, path: str | bytes, data: bytes) -> bool:
        return self._done(self.disk.write(path, data))

    def delete(self, path: str | bytes) -> bool:
        return self._done(self.disk.raw("fs_delete", path))

    def remove_all(self, path: str | bytes) -> bool:
        return self._done(self.disk.raw("fs_remove_all", path))

    def names(self, path: str) -> list[str] | None:
        done = self._done(self.disk.raw("fs_list", path))
        return [entry["name"] for entry in self.disk.answer()] if done else None

    def rename(self, old: str, new: str) -> bool:
        return self._done(self.disk.record("fs_rename", old=old, new=new))

    def chmod(self, path: str, mode: int) -> bool:
        return self._done(self.disk.record("fs_chmod", path=path, mode=mode))

    def make(self, path: str) -> bool:
        return self._done(self.disk.record("fs_mkdir_all", path=path))

    def stat(self, path: str) -> bool:
        return self._done(self.disk.record("fs_stat", path=path))

    def temporary(self, folder: str) -> bool:
        file = self._done(self.disk.record("fs_create_temp", dir=folder, pattern="x*"))
        return self._done(self.disk.record("fs_mkdir_temp", dir=folder, pattern="x*")) or file


def fs_store(pulp_cell: Make, root: Path, **fields: Any) -> FsStore:
    return FsStore(disk(pulp_cell, source=large(NEWER), storage_root=root, **fields))


def fs_store_first(pulp_cell: Make, root: Path, **fields: Any) -> FsStore:
    return FsStore(disk(pulp_cell, first=True, source=large(FIRST), storage_root=root, **fields))


STORES = {"storage.fs": fs_store, "storage.fs, first version": fs_store_first}


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def make_store(request: pytest.FixtureRequest, pulp_cell: Make, tmp_path: Path) -> Callable[..., FsStore]:
    return lambda **fields: request.param(pulp_cell, tmp_path / "data", **fields)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the cells', which is the same when the test is over."""
    folder = tmp_path / "outside"
    (folder / "in").mkdir(parents=True)
    (folder / "file").write_bytes(CANARY)
    (folder / "in" / "file").write_bytes(CANARY)
    before = _seen(folder)
    yield folder
    assert _seen(folder) == before


def _seen(folder: Path) -> list[tuple[object, ...]]:
    """Return what would show that somebody was there; times of the last look aside."""
    found: list[tuple[object, ...]] = []
    for path in [folder, *(folder / name for name in tree(folder))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found.append((str(path), status.st_mode, status.st_mtime_ns, status.st_ctime_ns, status.st_size, content))
    return found


@pytest.fixture
def store(make_store: Callable[..., FsStore], outside: Path) -> FsStore:
    return make_store()


def tries(store: FsStore, path: str) -> list[bool]:
    """Do everything there is to do with a path; answer what was done."""
    return [
        store.read(path) is not None,
        store.write(path, b"by a cell"),
        store.write(f"{path}/new", b"by a cell"),
        store.names(path) is not None,
        store.stat(path),
        store.chmod(path, 0o777),
        store.make(f"{path}/new"),
        store.temporary(path),
        store.rename(path, "got"),
        store.rename("mine", path),
        store.rename("mine", f"{path}/new"),
        store.delete(path),
        store.remove_all(path),
    ]


# 1: paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../outside/file",
        "../outside",
        "..",
        "../",
        "a/../../outside/file",
        "a/b/../../../outside/file",
        "./../outside/file",
        "{outside}/file",
        "//{outside}/file",
        "/",
        "/etc/passwd",
        "//etc/passwd",
        "\\..\\outside",
        "../guest/mine",
    ],
)
def test_threat_01_a_path_that_leads_out_is_refused_by_everything(store: FsStore, outside: Path, path: str) -> None:
    store.write("mine", b"mine")
    store.codes.clear()

    assert not any(tries(store, path.format(outside=outside)))
    assert len(store.codes) == 1, "one code for all of them: the path is invalid"
    assert tree(store.folder) == ["mine"]


@pytest.mark.parametrize("path", ["", ".", "./", "a/.."])
def test_threat_01_no_path_and_the_folder_itself_are_not_changed(store: FsStore, path: str) -> None:
    store.write("mine", b"mine")

    assert store.read(path) is None
    assert not store.write(path, b"x")
    assert not store.delete(path)
    assert not store.remove_all(path)
    assert not store.rename(path, "x")
    assert not store.rename("mine", path)
    assert store.read("mine") == b"mine"


# 2: links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["{outside}", "../outside", "in/../../outside", "{outside}/none", "../none", "/"])
@pytest.mark.parametrize("link", ["link", "chain", "deep/link"])
def test_threat_02_a_link_out_is_not_passed_by_anything(store: FsStore, outside: Path, target: str, link: str) -> None:
    store.make("in")
    store.make("deep")
    store.write("mine", b"mine")
    target = target.format(outside=outside)
    (store.folder / "link").symlink_to(target)
    (store.folder / "chain").symlink_to("link")
    (store.folder / "deep" / "link").symlink_to(target if target.startswith("/") else f"../{target}")
    before = tree(store.folder)
    store.codes.clear()

    for path in (link, f"{link}/file", f"{link}/in/file", f"{link}/in"):
        assert not any(tries(store, path))
    assert len(store.codes) == 1
    assert tree(store.folder) == before


@pytest.mark.parametrize("target", ["{outside}/file", "../outside/file", "../outside/new", "/etc/passwd"])
def test_threat_02_a_link_to_a_file_outside_is_neither_read_nor_written_nor_created_through(
    store: FsStore, outside: Path, target: str
) -> None:
    store.write("mine", b"mine")
    (store.folder / "link").symlink_to(target.format(outside=outside))

    assert not any(tries(store, "link"))
    assert (store.folder / "link").is_symlink()


def test_threat_02_a_folder_with_links_out_is_removed_and_what_they_lead_to_stays(
    store: FsStore, outside: Path
) -> None:
    store.make("a/b")
    (store.folder / "a" / "b" / "link").symlink_to(outside)
    (store.folder / "a" / "file").symlink_to(outside / "file")

    assert store.remove_all("a")
    assert tree(store.folder) == []


def test_threat_02_links_that_stay_inside_are_followed(store: FsStore, outside: Path) -> None:
    store.write("a/file", b"one")
    (store.folder / "link").symlink_to("a/file")
    (store.folder / "folder").symlink_to("a")
    (store.folder / "new").symlink_to("a/new")

    assert store.read("link") == b"one"
    assert store.write("link", b"two")
    assert store.write("folder/other", b"three")
    assert store.write("new", b"four")
    assert {name: store.read(f"a/{name}") for name in ("file", "other", "new")} == {
        "file": b"two",
        "other": b"three",
        "new": b"four",
    }
    assert store.delete("link")
    assert store.read("a/file") == b"two"


# 3: swapping meanwhile --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_threat_03_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    store: FsStore, outside: Path, tmp_path: Path
) -> None:
    """A thread has `x` mean a folder and a link to the outside in turn, while the cell does what it can with it."""
    name, real, link = store.folder / "x", tmp_path / "real", tmp_path / "link"
    real.mkdir()
    (real / "file").write_bytes(b"mine")
    link.symlink_to(outside)
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            for thing in (real, link):
                while True:
                    try:
                        os.rename(thing, name)
                        break
                    except OSError:  # the cell has made a folder of that name
                        shutil.rmtree(name, ignore_errors=True)
                os.rename(name, thing)
            swaps += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    read: Counter[bytes | None] = Counter()
    end = time.monotonic() + 2.0
    try:
        while time.monotonic() < end:
            store.write("x/file", b"mine")
            read[store.read("x/file")] += 1
            store.names("x")
            store.chmod("x/file", 0o600)
            store.rename("x/file", "x/other")
            store.rename("x/other", "x/file")
            store.delete("x/file")
            store.remove_all("x/file")
    finally:
        stop.set()
        swapper.join()

    assert set(read) == {b"mine", None}
    assert len(store.codes) >= 3, "it has been done, not found and refused"
    assert swaps > 100


# 4, 5: names of one file, files that must not change ----------------------------------------------------------------


def test_threat_04_a_second_name_of_a_file_outside_is_replaced_and_not_written_through(
    store: FsStore, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    original.write_bytes(CANARY)
    os.link(original, store.folder / "twin")

    assert store.write("twin", b"mine")
    assert store.read("twin") == b"mine"
    assert original.read_bytes() == CANARY
    assert original.stat().st_nlink == 1


def test_threat_04_nothing_is_moved_from_one_cell_to_another(make_store: Callable[..., FsStore]) -> None:
    one, other = make_store(name="one"), make_store(name="other")
    other.write("file", CANARY)
    one.write("mine", b"mine")

    assert not one.rename("../other/file", "got")
    assert not one.rename("mine", "../other/mine")
    assert not one.write("../other/file", b"mine")
    assert other.read("file") == CANARY
    assert other.names(".") == ["file"]


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o111, 0])
def test_threat_05_a_file_that_its_mode_protects_is_not_written(store: FsStore, mode: int) -> None:
    store.write("file", CANARY)
    (store.folder / "file").chmod(mode)
    before = (store.folder / "file").stat()

    assert not store.write("file", b"new")
    assert not store.write("file", b"")
    after = (store.folder / "file").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


def test_threat_05_no_bit_is_set_that_gives_more_than_permissions(store: FsStore) -> None:
    store.write("file", b"")

    assert store.chmod("file", 0o7777)
    assert stat.S_IMODE((store.folder / "file").stat().st_mode) == 0o777


# 6, 7: names ------------------------------------------------------------------------------------------------------

ODD_NAMES = [
    *("a\nb", "a\rb", "\x1b[2J", "a\\b", "C:", "C:\\x", "CON", "nul.txt", "a ", "a.", " ", "...", "~", "-rf", "$HOME"),
    *("%2e%2e", "..%2f", "\u202etxt", "e\u0301", "\u00e9", "\U0001f600", "\ufeff", "\u2028", "a" * 255),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_threat_06_and_07_an_odd_name_is_one_file_inside(store: FsStore, outside: Path, name: str) -> None:
    assert store.write(name, name.encode())
    assert store.names(".") == [name]
    assert store.read(name) == name.encode()
    assert store.rename(name, "plain")
    assert store.names(".") == ["plain"]


@pytest.mark.parametrize(
    "path",
    [
        *(b"a\0", b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\xae\xc0\xae/outside", b"a" * 256, b"a/" * 2048 + b"a"),
        b"a/" * 4000,
        b"../" * 1000 + b"etc/passwd",
    ],
    ids=lambda path: repr(path[:12]),
)
def test_threat_06_and_07_an_impossible_name_is_a_code(store: FsStore, outside: Path, path: bytes) -> None:
    assert store.read(path) is None
    assert not store.write(path, b"x")
    assert not store.delete(path)
    assert not store.remove_all(path) or store.codes[0]
    assert all(os.listdir(top) for top, dirs, files in os.walk(store.folder) if dirs or files)


@pytest.mark.slow
def test_threat_06_folders_deeper_than_any_path_are_made_by_moving_and_can_be_removed(store: FsStore) -> None:
    """Ten thousand levels: each move puts a tree below a tree of the same depth."""
    deep = "/".join(["d"] * 500)
    for at in range(20):
        assert store.make(f"part{at}/{deep}")
    for at in range(19, 0, -1):
        assert store.rename(f"part{at}", f"part{at - 1}/{deep}/below")

    assert store.names("part0") == ["d"]
    assert DiskQuota(store.folder, 1 << 40).room() == (1 << 40) - 20 * 501 * BLOCK
    assert store.remove_all("part0")
    assert tree(store.folder) == []


def test_threat_07_no_two_names_are_one_file(store: FsStore, outside: Path) -> None:
    names = ["e\u0301", "\u00e9", "a", "\u0430", "A", "ﬁ", "fi", "ss", "ß", "\u212a", "K", "k", "I", "i", "ı", "İ"]
    for name in names:
        store.write(name, name.encode())
    there = store.names(".")
    if there is not None and len(there) < len(names):
        pytest.skip("the file system takes some of these names for one")

    assert [store.read(name) for name in names] == [name.encode() for name in names]


# 8: things that are no files --------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # endless zeros
    except PermissionError:
        pytest.skip("devices are for the superuser")


@pytest.mark.parametrize("thing", [pipe, listening, device])
def test_threat_08_what_is_no_file_is_neither_opened_nor_waited_for_nor_replaced(
    store: FsStore, outside: Path, thing: Callable[[Path], None]
) -> None:
    thing(store.folder / "thing")
    before = (store.folder / "thing").lstat()
    began = time.monotonic()

    assert store.read("thing") is None
    assert not store.write("thing", b"x")
    assert not store.write("thing/x", b"x")
    assert store.names("thing") is None
    assert store.names(".") == ["thing"]
    assert store.stat("thing")
    after = (store.folder / "thing").lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert store.delete("thing")
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("target", ["/proc/self/fd", "/proc/self/root", "/proc/self/cwd", "/dev/zero", "/dev/stdin"])
def test_threat_08_links_into_the_system_lead_nowhere(store: FsStore, outside: Path, target: str) -> None:
    store.write("mine", b"mine")
    (store.folder / "link").symlink_to(target)
    descriptor = os.open(outside / "file", os.O_RDONLY)
    try:
        for path in ("link", f"link/{descriptor}", "link/etc/passwd"):
            assert not any(tries(store, path))
    finally:
        os.close(descriptor)


def test_threat_08_a_file_of_a_terabyte_that_is_not_there_is_refused_and_fills_the_quota(store: FsStore) -> None:
    with open(store.folder / "sparse", "wb") as file:
        file.truncate(1 << 40)

    assert store.read("sparse") is None
    assert not store.write("more", b"x")
    assert store.delete("sparse")
    assert store.write("more", b"x")


# 9: exhaustion ----------------------------------------------------------------------------------------------------


def test_threat_09_no_call_leaves_a_descriptor_open(store: FsStore, outside: Path) -> None:
    store.write("mine", b"mine")
    (store.folder / "link").symlink_to(outside)
    (store.folder / "loop").symlink_to("loop")
    os.mkfifo(store.folder / "pipe")
    gc.collect()  # what others left behind must not be closed in between and counted for us
    before = len(os.listdir("/dev/fd"))
    for path in itertools.islice(itertools.cycle(["mine", "none", "link", "loop", "pipe", "a/b", "..", "mine/x"]), 400):
        store.read(path)
        store.write(path, b"x") if path != "pipe" else None
        store.names(path)
        store.stat(path)
        store.rename(path, "x/y/z")
        store.remove_all("x")

    assert len(os.listdir("/dev/fd")) <= before


def test_threat_09_a_host_without_descriptors_answers_a_code_and_goes_on(store: FsStore) -> None:
    import resource

    store.write("mine", b"mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0], 64), hard))
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        for free in range(4):
            assert store.read("mine") in (None, b"mine")
            assert store.write("new", b"x") in (True, False)
            store.remove_all("new")
            os.close(taken.pop()) if free < 3 else None
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert store.read("mine") == b"mine"
    assert all(not name.startswith(".pulp-") for name in tree(store.folder))


def test_threat_09_files_database_and_temporary_files_share_one_quota_and_other_cells_notice_nothing(
    make_store: Callable[..., FsStore],
) -> None:
    one = make_store(name="one", disk_quota_mb=1)
    other = make_store(name="other", disk_quota_mb=1)
    (one.folder / "data.db").write_bytes(b"x" * (MIB // 4))
    (one.folder / "data.db-wal").write_bytes(b"x" * (MIB // 4))
    (one.folder / "tmp").mkdir()
    (one.folder / "tmp" / "sort").write_bytes(b"x" * (MIB // 4))
    fits = MIB // 4 - BLOCK  # the folder counts too

    assert not one.write("file", b"x" * (fits + 1))
    assert other.write("file", b"x" * 20_000)
    assert one.write("file", b"x" * fits)
    assert not one.write("more", b"")
    assert not one.temporary("tmp")
    assert not one.make("folder")
    assert other.write("more", b"x" * 20_000)
    assert one.read("file") == b"x" * fits
    assert one.delete("file")
    assert one.write("more", b"x")


@pytest.mark.slow
def test_threat_09_files_without_a_byte_end_at_the_quota(make_store: Callable[..., FsStore]) -> None:
    store = make_store(disk_quota_mb=2)
    made = next(at for at in itertools.count() if not store.write(f"{at % 7}/{at}", b""))

    assert made == 2 * MIB // BLOCK - 7
    assert len(tree(store.folder)) == 2 * MIB // BLOCK


def test_threat_09_a_quota_is_not_escaped_by_moving_hiding_or_growing(make_store: Callable[..., FsStore]) -> None:
    store = make_store(disk_quota_mb=1)
    for at in range(3):
        assert store.write(f"hidden/{at}", b"x" * (MIB // 4))
    store.chmod("hidden", 0)
    store.chmod(".", 0)
    store.rename("hidden", "a/b/c")
    wait_for_a_scan(store.folder)

    assert not store.write("more", b"x" * (MIB // 4))
    assert sum((store.folder / name).stat().st_size for name in tree(store.folder) if name[-1].isdigit()) < MIB


def wait_for_a_scan(folder: Path) -> None:
    """Have the quota look anew, as it does by itself a second later."""
    DiskQuota(folder, MIB)._ledger._at = None


# 10: two cells, one folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/", "A", "a%2f", "..", ".", "a/../b", "/", "a b", "", "host", "ａ", "a\\0"])
def test_threat_10_a_name_that_is_no_folder_of_its_own_does_not_load(tmp_path: Path, name: str) -> None:
    (tmp_path / "pulp.cell.toml").write_text(f'name = "{name}"\nversion = "1"\ncapabilities = ["storage.fs"]\n')

    with pytest.raises(ManifestError):
        load_cell(tmp_path)


def test_threat_10_two_cells_of_one_name_do_not_load(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pulp.cell.toml").write_text('name = "same"\nversion = "1"\n')
        (tmp_path / folder / "cell.wasm").write_bytes(b"")

    with pytest.raises(PulpError, match="same"):
        start_order([load_cell(tmp_path / folder) for folder in ("one", "two")])


def test_threat_10_a_host_does_not_load_a_cell_into_the_folder_of_another(
    tmp_path: Path, wasm: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch, records: Any
) -> None:
    for name in ("a-b", "a_b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cell.wasm").write_bytes(wasm(guest(NEWER)))
        (folder / "pulp.cell.toml").write_text(f'name = "{name}"\nversion = "1"\ncapabilities = ["storage.fs"]\n')
    monkeypatch.setenv("PULP_FS_ROOT_A_B", str(tmp_path / "shared"))
    with Host([tmp_path / "a-b", tmp_path / "a_b"], storage_root=tmp_path / "data", cache=tmp_path / "cache") as host:
        states = sorted(status.state for status in host.status().values())

    assert states == ["failed", "ready"]
    (told,) = [fields["err"] for fields in records.fields("load failed")]
    assert "overlap" in told


# 14, 43, 47 -------------------------------------------------------------------------------------------------------


def test_threat_14_a_cell_can_spoil_no_database_but_its_own(make_store: Callable[..., FsStore]) -> None:
    one, other = make_store(name="one"), make_store(name="other")
    for store in (one, other):
        (store.folder / "data.db").write_bytes(CANARY)

    assert one.write("data.db", b"SQLite format 3\0 and then anything")
    assert not one.write("../other/data.db", b"SQLite format 3\0 and then anything")
    assert other.read("data.db") == CANARY


def test_threat_43_a_cell_that_does_not_declare_files_has_none_and_no_folder(pulp_cell: Make, tmp_path: Path) -> None:
    for imports in (NEWER, FIRST):
        cell = pulp_cell(guest(imports), declares=(), capabilities=[fs.capability()], storage_root=tmp_path / "data")
        assert {cell.run(name, *([1] * words)) for name, words in imports.items()} == {99}
    assert not (tmp_path / "data").exists()


def test_threat_47_a_cell_sees_nothing_of_another_s_files(make_store: Callable[..., FsStore]) -> None:
    one, other = make_store(name="one"), make_store(name="one-more")
    one.write("secret", CANARY)
    one.temporary("")

    assert other.names(".") == []
    for path in ("../one/secret", "secret", "tmp", "./secret"):
        assert other.read(path) is None
        assert not other.stat(path)
    assert one.names(".") == ["secret", "tmp"]
