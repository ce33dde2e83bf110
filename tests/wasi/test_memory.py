"""A file system in memory does what the system's own does, and holds no more than it may."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.wasi.puppet import Answered, Start

from pulp_runtime.ext.tree import File, How, Kind, Node
from pulp_runtime.wasi import MemoryFolder, RealFolder
from pulp_runtime.wasi.errno import WasiErrno as E
from pulp_runtime.wasi.errno import wasi_errno
from pulp_runtime.wasi.memory_file import INODE_BYTES

READ = How()
NEW = How(write=True, create=True)

names = st.sampled_from(["a", "b", "c", "..", "d"])
paths = st.lists(names, min_size=1, max_size=4).map(tuple)
data = st.binary(max_size=20)


class Twins(RuleBasedStateMachine):
    """Do everything to a folder in memory and to a real one; both must answer and be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.both: tuple[Node, Node] = (MemoryFolder(1 << 20), RealFolder(self.place))

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    def same(self, act: object, *, paths: int = 1) -> None:
        first, second = (outcome(act, node) for node in self.both)
        if paths == 2 and isinstance(first, E) and isinstance(second, E):
            return  # each path is wrong; which of them is said first is not promised
        assert first == second

    @rule(path=paths, offset=st.integers(0, 30), content=data, truncate=st.booleans(), exclusive=st.booleans())
    def write(self, path: tuple[str, ...], offset: int, content: bytes, truncate: bool, exclusive: bool) -> None:
        def act(node: Node) -> int:
            file = node.open(path, NEW._replace(truncate=truncate, exclusive=exclusive))
            assert isinstance(file, File)
            try:
                return file.write_at(offset, memoryview(content)) if content else 0
            finally:
                file.close()

        self.same(act)

    @rule(path=paths, content=data)
    def append(self, path: tuple[str, ...], content: bytes) -> None:
        def act(node: Node) -> int:
            file = node.open(path, How(write=True, append=True))
            assert isinstance(file, File)
            try:
                file.append(memoryview(content + b"."))
                return file.stat().size
            finally:
                file.close()

        self.same(act)

    @rule(path=paths, size=st.integers(0, 40))
    def cut(self, path: tuple[str, ...], size: int) -> None:
        def act(node: Node) -> None:
            file = node.open(path, How(write=True))
            assert isinstance(file, File)
            file.truncate(size)
            file.close()

        self.same(act)

    @rule(path=paths)
    def make_folder(self, path: tuple[str, ...]) -> None:
        self.same(lambda node: node.make_folder(path))

    @rule(path=paths)
    def remove_folder(self, path: tuple[str, ...]) -> None:
        self.same(lambda node: node.remove_folder(path))

    @rule(path=paths)
    def unlink(self, path: tuple[str, ...]) -> None:
        self.same(lambda node: node.unlink(path))

    @rule(old=paths, new=paths)
    def rename(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        self.same(lambda node: node.rename(old, node, new), paths=2)

    @rule(old=paths, new=paths, follow=st.booleans())
    def link(self, old: tuple[str, ...], new: tuple[str, ...], follow: bool) -> None:
        self.same(lambda node: node.link(old, node, new, follow=follow), paths=2)

    @rule(to=paths, path=paths)
    def symlink(self, to: tuple[str, ...], path: tuple[str, ...]) -> None:
        self.same(lambda node: node.symlink("/".join(to), path))

    @rule(path=paths, follow=st.booleans())
    def set_times(self, path: tuple[str, ...], follow: bool) -> None:
        def act(node: Node) -> tuple[int, int]:
            node.set_times(path, 1_000, 2_000, follow=follow)
            found = node.stat(path, follow=follow)
            return found.accessed_ns, found.modified_ns

        self.same(act)

    @rule(path=paths)
    def read_link(self, path: tuple[str, ...]) -> None:
        self.same(lambda node: node.read_link(path))

    @invariant()
    def the_trees_are_the_same(self) -> None:
        first, second = (dict(tree(node)) for node in self.both)
        assert first == second

    @invariant()
    def what_is_used_is_what_is_there(self) -> None:
        if not any(True for _ in self.both[0].entries()):
            assert self.both[0].used_bytes == 0  # type: ignore[attr-defined]


def outcome(act: object, node: Node) -> object:
    try:
        return act(node)  # type: ignore[operator]
    except OSError as error:
        return wasi_errno(error)


def tree(node: Node, at: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    """Return everything below a folder: kinds, contents, links and how many names each has."""
    found: list[tuple[tuple[str, ...], object]] = []
    for entry in node.entries():
        path = (*at, entry.name)
        known = node.stat((entry.name,), follow=False)
        assert known.inode == entry.inode
        assert known.kind is entry.kind
        if entry.kind is Kind.FOLDER:
            found.append((path, "folder"))
            below = node.open((entry.name,), How(folder=True))
            assert isinstance(below, Node)
            found.extend(tree(below, path))
            below.close()
        elif entry.kind is Kind.LINK:
            found.append((path, node.read_link((entry.name,))))
        else:
            file = node.open((entry.name,), READ)
            assert isinstance(file, File)
            into = memoryview(bytearray(100))
            size = file.read_at(0, into)
            file.close()
            found.append((path, (bytes(into[:size]), known.size, known.links)))
    return found


Twins.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestTwins = pytest.mark.slow(pytest.mark.timeout(300)(Twins.TestCase))


def test_a_folder_in_memory_is_full_when_it_is_full(start: Start) -> None:
    room = MemoryFolder(10_000)
    puppet = start({"/tmp": room})
    fd = puppet.open("tmp/a", 1, rights=66)

    assert puppet.write(fd, bytes(9_000)) == 9_000
    with pytest.raises(Answered) as answered:
        puppet.write(fd, bytes(1_000))
    assert answered.value.number is E.NOSPC
    assert puppet.fd_filestat_set_size(fd, 1 << 40) is E.NOSPC
    assert puppet.fd_allocate(fd, 0, 1 << 40) is E.NOSPC
    assert puppet.fstat(fd)["size"] == 9_000
    assert puppet.fd_filestat_set_size(fd, 10) is E.SUCCESS
    assert puppet.write(fd, bytes(1_000), at=0) == 1_000
    assert puppet.on("path_unlink_file", "tmp/a") is E.SUCCESS
    assert room.used_bytes > 0  # it is open
    assert puppet.fd_close(fd) is E.SUCCESS
    assert room.used_bytes == 0


def test_threat_09_a_million_empty_files_do_not_fit(start: Start) -> None:
    room = MemoryFolder(100 * INODE_BYTES)
    puppet = start({"/tmp": room})
    made = puppet.fill("tmp/")

    assert 50 < made <= 100
    assert puppet.on("path_create_directory", "tmp/d") is E.NOSPC
    assert puppet.symlink("x" * 600, "tmp/l") is E.NOSPC


def test_threat_06_folders_ten_thousand_deep_are_walked_and_let_go() -> None:
    room = MemoryFolder(64 << 20)
    at: Node = room
    for _ in range(10_000):
        at.make_folder(("d",))
        below = at.open(("d",), How(folder=True))
        assert isinstance(below, Node)
        at = below
    with pytest.raises(OSError, match="into itself"):
        room.rename(("d",), at, ("x",))

    del room, at, below


def test_a_removed_folder_that_is_open_takes_nothing_new() -> None:
    room = MemoryFolder(1 << 20)
    room.make_folder(("d",))
    inside = room.open(("d",), How(folder=True))
    assert isinstance(inside, Node)
    room.remove_folder(("d",))

    with pytest.raises(FileNotFoundError):
        inside.open(("a",), NEW)
    with pytest.raises(FileNotFoundError):
        inside.make_folder(("a",))
    assert list(inside.entries()) == []
