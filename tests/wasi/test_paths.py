"""What a program does by name: a real guest, on a real folder and on one in memory, and on a tree of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.wasi.puppet import Answered, Puppet, Start, dirents

from pulp_runtime.ext.nodes import Text
from pulp_runtime.ext.tree import Kind
from pulp_runtime.wasi import MemoryFolder, RealFolder
from pulp_runtime.wasi.errno import WasiErrno as E

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
WRITE, BOTH = 64, 66


def opened(puppet: Puppet, path: str | bytes, *flags: int, **options: int) -> E:
    """Open, and return only the answer."""
    try:
        puppet.open(path, *flags, **options)
    except Answered as answered:
        return answered.number
    return E.SUCCESS


def make(puppet: Puppet, *paths: str) -> None:
    """Make folders and files; a folder ends in a slash."""
    for path in paths:
        if path.endswith("/"):
            assert puppet.on("path_create_directory", path) is E.SUCCESS
        else:
            puppet.put(path, path.encode())


def test_folders_are_made_listed_and_removed(puppet: Puppet) -> None:
    make(puppet, "d/", "d/e/", "d/f")

    assert sorted(puppet.names("d")) == [".", "..", "e", "f"]
    assert puppet.on("path_create_directory", "d") is E.EXIST
    assert puppet.on("path_create_directory", "x/y") is E.NOENT
    assert puppet.on("path_remove_directory", "d") is E.NOTEMPTY
    assert puppet.on("path_remove_directory", "d/f") is E.NOTDIR
    assert puppet.on("path_unlink_file", "d/e") is E.ISDIR
    assert puppet.on("path_unlink_file", "d/f/") is E.NOTDIR
    assert puppet.on("path_unlink_file", "d/f") is E.SUCCESS
    assert puppet.on("path_unlink_file", "d/f") is E.NOENT
    assert puppet.on("path_remove_directory", "d/e/") is E.SUCCESS
    assert puppet.on("path_remove_directory", "d") is E.SUCCESS
    assert puppet.on("path_remove_directory", ".") is E.BUSY


@pytest.mark.parametrize(
    ("oflags", "rights", "path", "answer"),
    [
        pytest.param(0, 2, "none", E.NOENT, id="what is not there"),
        pytest.param(CREAT | EXCL, 66, "file", E.EXIST, id="exclusively what is there"),
        pytest.param(DIRECTORY, 2, "file", E.NOTDIR, id="a file as a folder"),
        pytest.param(DIRECTORY, 66, "dir", E.ISDIR, id="a folder to be written"),
        pytest.param(0, 64, "dir", E.ISDIR, id="a folder to be written, unsaid"),
        pytest.param(TRUNC, 2, "dir", E.ISDIR, id="a folder to be cut"),
        pytest.param(0, 2, "file/", E.NOTDIR, id="a file with a slash behind it"),
        pytest.param(CREAT, 66, "new/", E.ISDIR, id="a new file with a slash behind it"),
        pytest.param(0, 2, "file/x", E.NOTDIR, id="below a file"),
        pytest.param(CREAT | DIRECTORY, 2, "dir", E.INVAL, id="a folder to be created"),
        pytest.param(16, 2, "file", E.INVAL, id="with a flag there is not"),
        pytest.param(0, 2, "dir/./", E.SUCCESS, id="a folder with a dot behind it"),
        pytest.param(0, 0, "file", E.SUCCESS, id="a file without a right"),
        pytest.param(CREAT, 66, "dir/../new", E.SUCCESS, id="a new file by a detour"),
    ],
)
def test_opening(puppet: Puppet, oflags: int, rights: int, path: str, answer: E) -> None:
    make(puppet, "dir/", "file")

    assert opened(puppet, path, oflags, rights=rights) is answer
    assert puppet.get("file") == b"file"


def test_truncating_at_opening(puppet: Puppet) -> None:
    make(puppet, "file")

    assert opened(puppet, "file", TRUNC, rights=0) is E.SUCCESS
    assert puppet.stat("file")["size"] == 0


def test_renaming_is_what_posix_says(puppet: Puppet) -> None:
    make(puppet, "a", "b", "d/", "e/", "e/x")

    assert puppet.rename("a", "c") is E.SUCCESS
    assert puppet.rename("c", "b") is E.SUCCESS
    assert puppet.get("b") == b"a"
    assert puppet.rename("a", "z") is E.NOENT
    assert puppet.rename("b", "d") is E.ISDIR
    assert puppet.rename("d", "b") is E.NOTDIR
    assert puppet.rename("d", "e") is E.NOTEMPTY
    assert puppet.rename("e", "d") is E.SUCCESS
    assert puppet.rename("d", "d/x/y") in (E.NOTDIR, E.INVAL)
    assert puppet.rename("d", "d/y") is E.INVAL
    assert puppet.rename("b", "f/") is E.NOTDIR
    assert puppet.rename("d/", "f/") is E.SUCCESS
    assert puppet.rename(".", "g") is E.BUSY
    assert puppet.rename("f", ".") is E.BUSY
    assert sorted(puppet.names(".")) == [".", "..", "b", "f"]
    assert puppet.get("f/x") == b"e/x"


def test_a_file_has_as_many_names_as_links(puppet: Puppet) -> None:
    make(puppet, "a", "d/")

    assert puppet.link("a", "d/b") is E.SUCCESS
    assert puppet.stat("a")["ino"] == puppet.stat("d/b")["ino"]
    assert puppet.stat("a")["links"] == 2
    puppet.put("a", b"A")
    assert puppet.get("d/b") == b"A"
    assert puppet.rename("a", "d/b") is E.SUCCESS  # the same file: nothing happens
    assert puppet.stat("a")["links"] == 2
    assert puppet.link("a", "d/b") is E.EXIST
    assert puppet.link("d", "x") is E.PERM
    assert puppet.link("none", "x") is E.NOENT
    assert puppet.on("path_unlink_file", "a") is E.SUCCESS
    assert puppet.stat("d/b")["links"] == 1


def test_a_symbolic_link_is_followed_where_it_should_be(puppet: Puppet) -> None:
    make(puppet, "d/", "d/file")

    assert puppet.symlink("d", "to-d") is E.SUCCESS
    assert puppet.symlink("../d/file", "d/to-file") is E.SUCCESS
    assert puppet.get("to-d/file") == b"d/file"
    assert puppet.get("to-d/to-file") == b"d/file"
    assert puppet.get("to-d/../d/file") == b"d/file"
    assert puppet.stat("to-d", follow=0)["kind"] == Kind.LINK
    assert puppet.stat("to-d")["kind"] == Kind.FOLDER
    assert puppet.stat("to-d/", follow=0)["kind"] == Kind.FOLDER
    assert opened(puppet, "to-d", DIRECTORY, follow=0) in (E.NOTDIR, E.LOOP)
    assert opened(puppet, "d/to-file", follow=0) is E.LOOP
    assert puppet.link("d/to-file", "hard", follow=1) is E.SUCCESS
    assert puppet.stat("hard", follow=0)["kind"] == Kind.FILE


def test_a_new_file_is_made_where_a_dangling_link_leads(puppet: Puppet) -> None:
    make(puppet, "d/")
    puppet.symlink("d/new", "link")

    assert opened(puppet, "link", CREAT | EXCL, rights=BOTH) is E.EXIST
    puppet.put("link", b"there")
    assert puppet.get("d/new") == b"there"


def test_a_chain_of_links_has_an_end(puppet: Puppet) -> None:
    make(puppet, "file")
    puppet.symlink("self", "self")
    puppet.symlink("file", "l0")
    for at in range(41):
        puppet.symlink(f"l{at}", f"l{at + 1}")

    assert opened(puppet, "self") is E.LOOP
    assert opened(puppet, "self/x") is E.LOOP
    assert puppet.get("l39") == b"file"
    assert opened(puppet, "l41") is E.LOOP


def test_where_a_link_leads_is_read_as_far_as_there_is_room(puppet: Puppet) -> None:
    puppet.symlink("a/target", "link")
    buffer, used = puppet.room(32), puppet.room(4)

    assert puppet.on("path_readlink", "link", buffer, 32, used) is E.SUCCESS
    assert puppet.peek(buffer, puppet.word(used)) == b"a/target"
    assert puppet.on("path_readlink", "link", buffer, 3, used) is E.SUCCESS
    assert puppet.word(used) == 3
    make(puppet, "file")
    assert puppet.on("path_readlink", "file", buffer, 32, used) is E.INVAL
    assert puppet.on("path_readlink", "none", buffer, 32, used) is E.NOENT


def test_times_by_path_are_the_links_or_its_targets(puppet: Puppet) -> None:
    make(puppet, "file")
    puppet.symlink("file", "link")

    assert puppet.path_filestat_set_times(3, 0, *puppet.text("link"), 1_000, 2_000, 5) is E.SUCCESS
    assert puppet.stat("link", follow=0)["mtime"] == 2_000
    assert puppet.stat("file")["mtime"] != 2_000
    assert puppet.path_filestat_set_times(3, 1, *puppet.text("link"), 0, 3_000, 4) is E.SUCCESS
    assert puppet.stat("file")["mtime"] == 3_000
    assert puppet.path_filestat_set_times(3, 2, *puppet.text("link"), 0, 0, 4) is E.INVAL
    assert puppet.path_filestat_set_times(3, 1, *puppet.text("none"), 0, 0, 4) is E.NOENT


def test_threat_06_names_that_are_none_answer_an_error(puppet: Puppet) -> None:
    long = "n" * 256

    assert opened(puppet, "") is E.NOENT
    assert opened(puppet, b"a\0b", CREAT, rights=BOTH) is E.INVAL
    assert opened(puppet, long, CREAT, rights=BOTH) is E.NAMETOOLONG
    assert puppet.on("path_create_directory", long) is E.NAMETOOLONG
    assert puppet.rename("x", long) in (E.NOENT, E.NAMETOOLONG)
    assert opened(puppet, "a/" * 2048 + "a") is E.NAMETOOLONG
    assert opened(puppet, "a" * 255, CREAT, rights=BOTH) is E.SUCCESS
    for name in ("a\nb", "\\", "C:", "CON", "dot.", "space ", "...", "*?|<>"):
        make(puppet, name)
        assert puppet.get(name) == name.encode()
    assert puppet.symlink("", "link") is E.NOENT
    assert puppet.symlink(b"a\0b", "link") is E.INVAL


def test_threat_07_twins_of_unicode_are_different_names(puppet: Puppet) -> None:
    names = ["caf\u00e9", "cafe\u0301", "CAFE", "cafe", "a\u202eb", "\U0001f34a"]
    make(puppet, *names)

    assert sorted(puppet.names(".")) == sorted([".", "..", *names])
    assert [puppet.get(name) for name in names] == [name.encode() for name in names]
    for raw in (b"\xff", b"\xed\xa0\x80", b"ok/\xc0\xaf"):
        assert opened(puppet, raw, CREAT, rights=BOTH) is E.ILSEQ
    assert puppet.symlink(b"\xff", "link") is E.ILSEQ


def test_threat_01_no_path_leads_out_of_a_folder(puppet: Puppet) -> None:
    make(puppet, "d/", "d/e/", "file")
    below = puppet.open("d", DIRECTORY)

    for path in ("/etc/passwd", "//etc", "../x", "d/../../x", "..", "d/e/../../../file", "./../x"):
        assert opened(puppet, path) is E.NOTCAPABLE, path
        assert puppet.on("path_unlink_file", path) is E.NOTCAPABLE, path
        assert puppet.on("path_create_directory", path) is E.NOTCAPABLE, path
        assert puppet.rename("d/e", path) is E.NOTCAPABLE, path
        assert puppet.symlink("x", path) is E.NOTCAPABLE, path
    assert opened(puppet, "../file", at=below) is E.NOTCAPABLE
    assert opened(puppet, "e/../../file", at=below) is E.NOTCAPABLE
    assert puppet.symlink("/etc/passwd", "link") is E.NOTCAPABLE


def test_names_are_read_from_any_place(puppet: Puppet) -> None:
    make(puppet, *[f"name-{at:03}" for at in range(200)])
    fd = puppet.open(".", DIRECTORY)
    buffer, used = puppet.room(65536), puppet.room(4)

    def read(cookie: int, size: int) -> list[tuple[str, int, int]]:
        assert puppet.fd_readdir(fd, buffer, size, cookie, used) is E.SUCCESS
        return dirents(puppet.peek(buffer, puppet.word(used)))

    whole = read(0, 65536)
    assert len(whole) == 202
    for at in (0, 1, 50, 200):
        assert [name for name, _, _ in read(whole[at][2], 65536)] == [name for name, _, _ in whole[at + 1 :]]
    assert read(whole[-1][2], 65536) == []
    assert read(1 << 60, 65536) == []
    assert read(0, 10) == []
    assert puppet.word(used) == 10
    assert puppet.fd_readdir(fd, 0xFFFF_FFF0, 4096, 0, used) is E.FAULT
    assert sorted(puppet.names(".", size=300)) == sorted(name for name, _, _ in whole)


def test_names_that_come_and_go_do_not_disturb_the_others(puppet: Puppet) -> None:
    names = [f"name-{at:03}" for at in range(100)]
    make(puppet, *names)
    fd, found, cookie, turn = puppet.open(".", DIRECTORY), [], 0, 0
    buffer, used = puppet.room(400), puppet.room(4)

    while True:
        puppet.must(puppet.fd_readdir(fd, buffer, 400, cookie, used))
        entries = dirents(puppet.peek(buffer, puppet.word(used)))
        if not entries:
            break
        found += [name for name, _, _ in entries]
        cookie = entries[-1][2]
        for name in found[:]:
            if name in names and turn % 2:
                puppet.on("path_unlink_file", name)
        turn += 1

    assert sorted(set(found) & set(names)) == names
    assert len(found) == len(set(found))


def test_mounts_are_found_by_name_and_dots_are_worked_out(start: Start) -> None:
    puppet = start({"/tmp": MemoryFolder(1 << 20), "/request/path": Text(b"/p"), "/request/headers/host": Text(b"h")})
    make(puppet, "tmp/d/", "tmp/d/file")

    assert puppet.names(".") == [".", "..", "tmp", "request"]
    assert puppet.names("request/headers") == [".", "..", "host"]
    for path in ("request/path", "./request//path", "request/headers/../path", "tmp/../request/path"):
        assert puppet.get(path) == b"/p", path
    assert puppet.get("tmp/d/../../request/path") == b"/p"
    assert puppet.get("tmp/d/../d/file") == b"tmp/d/file"
    assert opened(puppet, "tmp/none/../../request/path") is E.NOENT
    assert opened(puppet, "request/path/../path") is E.NOTDIR
    assert opened(puppet, "none/../request/path") is E.NOENT
    assert opened(puppet, "tmp/../../x") is E.NOTCAPABLE
    inside = puppet.open("tmp/d", DIRECTORY)
    assert opened(puppet, "../d/file", at=inside) is E.NOTCAPABLE


def test_the_trunk_of_the_tree_does_not_change(start: Start) -> None:
    puppet = start({"/tmp": MemoryFolder(1 << 20), "/request/path": Text(b"/p")})
    make(puppet, "tmp/file")

    assert opened(puppet, "new", CREAT, rights=BOTH) is E.ROFS
    assert puppet.on("path_create_directory", "new") is E.ROFS
    assert puppet.on("path_create_directory", "request") is E.EXIST
    assert puppet.on("path_remove_directory", "request") is E.ROFS
    assert puppet.on("path_remove_directory", "tmp") is E.BUSY
    assert puppet.on("path_unlink_file", "request/path") is E.ROFS
    assert puppet.rename("tmp/file", "file") in (E.ROFS, E.NOENT)
    assert puppet.rename("request", "other") is E.ROFS
    assert puppet.rename("tmp/file", "request/path") is E.XDEV
    assert puppet.symlink("x", "link") is E.ROFS
    assert puppet.get("tmp/file") == b"tmp/file"


def test_threat_04_nothing_passes_from_one_mount_to_another(start: Start, tmp_path: Path) -> None:
    first, second = tmp_path / "ro", tmp_path / "rw"
    first.mkdir()
    second.mkdir()
    (first / "canary").write_bytes(b"alive")
    puppet = start({"/ro": RealFolder(first, read_only=True), "/rw": RealFolder(second), "/tmp": MemoryFolder(1 << 20)})
    make(puppet, "rw/mine")

    assert puppet.link("ro/canary", "rw/stolen") is E.ROFS
    assert puppet.rename("ro/canary", "rw/stolen") is E.ROFS
    assert puppet.link("rw/mine", "tmp/mine") is E.XDEV
    assert puppet.rename("rw/mine", "tmp/mine") is E.XDEV
    assert puppet.rename("rw/mine", "ro/canary") is E.ROFS
    assert puppet.link("rw/mine", "ro/mine") is E.ROFS
    assert (first / "canary").read_bytes() == b"alive"
    assert [one.name for one in second.iterdir()] == ["mine"]
