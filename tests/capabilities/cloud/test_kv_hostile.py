"""What `SECURITY.md` promises of paths, for keys: every attack of its first ten rows that can be made here."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.capabilities.cloud.kv_runs import APPEND, CREATE, EXCLUSIVE, READ, UPDATE, WRITE, Cloud, Program, fails

from pulp_runtime.capabilities.cloud import kv
from pulp_runtime.ext import How
from pulp_runtime.testing import FakeHost

MEMBERS = {"kv": {"local": "rw", "region": "ro"}}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with FakeHost(tmp_path / "data") as host:
        cloud = Cloud(host, kv.capability())
        yield cloud
        cloud.close()


@pytest.fixture
def program(cloud: Cloud) -> Iterator[Program]:
    program = cloud.program(cloud.cell(granted=MEMBERS), "/beta/kv/local")
    yield program
    program.end()


def node_open(program: Program, parts: tuple[str, ...], how: How = WRITE) -> object:
    """Open by components that no path has, as a layer below that made a mistake would."""
    node, _ = program.at("")
    return node.open(parts, how)


@pytest.mark.parametrize(
    "parts",
    [
        ("..",),
        ("a", "..", "..", "x"),
        (".",),
        ("a", "."),
        ("",),
        ("a", ""),
        ("..", "region", "a"),
        (".pulp",),
        ("a", ".b"),
    ],
)
def test_threat_01_no_component_leads_up_or_is_empty_or_hidden(
    program: Program, parts: tuple[str, ...], tmp_path: Path
) -> None:
    canary = tmp_path / "x"
    canary.write_text("canary")
    before = canary.stat()

    with fails(errno.EINVAL):
        node_open(program, parts)
    assert canary.stat() == before
    assert program.ls() == []


def test_threat_01_a_key_that_looks_like_a_path_of_the_host_is_a_key(program: Program) -> None:
    program.write("etc/passwd", b"mine")
    program.write("C:\\windows", b"too")

    assert program.read("etc/passwd") == b"mine"
    assert program.ls() == ["C:\\windows", "etc"]


def test_threat_04_nothing_gets_a_second_name(program: Program) -> None:
    program.write("a", b"")
    node, _ = program.at("")
    readonly, _ = program.at("/beta/kv/region")

    with fails(errno.ENOTSUP):
        node.link(("a",), node, ("b",))
    with fails(errno.ENOTSUP):
        node.symlink("a", ("b",))
    with fails(errno.EROFS):
        readonly.link(("a",), node, ("b",))
    with fails(errno.EINVAL):
        node.read_link(("a",))


@pytest.mark.parametrize("where", ["a", "new", ".lock/a", ".ttl/a", ".rev/a", ".tx/t/a", ".watch/a", ".x"])
@pytest.mark.parametrize(
    "how",
    [
        UPDATE, WRITE, CREATE, EXCLUSIVE, APPEND,
        How(truncate=True), How(create=True), How(create=True, exclusive=True),
    ],
)  # fmt: skip
def test_threat_05_a_read_only_scope_stays_as_it_is(program: Program, cloud: Cloud, where: str, how: How) -> None:
    with fails(errno.EROFS):
        program.open(f"/beta/kv/region/{where}", how)
    assert program.ls("/beta/kv/region") == []


def test_threat_05_neither_do_its_names_change(program: Program, cloud: Cloud) -> None:
    writer = cloud.program(
        cloud.cell("writer", granted={"namespace": "shop", "kv": {"region": "rw"}}), "/beta/kv/region"
    )
    writer.write("a", b"1")
    program.write("a", b"2")
    region = "/beta/kv/region"
    for act in (
        lambda: program.unlink(f"{region}/a"),
        lambda: program.rename(f"{region}/a", f"{region}/b"),
        lambda: program.rename(f"{region}/a", "b"),
        lambda: program.rename("a", f"{region}/a"),
        lambda: program.mkdir(f"{region}/d"),
        lambda: program.rmdir(f"{region}/a"),
        lambda: program.touch(f"{region}/a", time.time_ns()),
        lambda: program.mkdir(f"{region}/.tx/t"),
        lambda: program.open(f"{region}/a", UPDATE),
    ):
        with fails(errno.EROFS):
            act()
    assert program.read(f"{region}/a") == b"1"
    assert program.stat(f"{region}/a").changed_ns == 1
    assert program.read(f"{region}/.rev/a") == b"1"


@pytest.mark.parametrize("name", ["\\", "C:", "CON", "trailing ", "trailing.", "x" * 256, "a\nb", "a\x7f", "\u202etxt"])
def test_threat_06_odd_names_are_names(program: Program, name: str) -> None:
    program.write(name, name.encode())

    assert program.ls() == [name]
    assert program.read(name) == name.encode()


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param(("a\0b",), errno.EINVAL, id="with NUL in it"),
        pytest.param(("\ud800",), errno.EINVAL, id="that is half a character"),
        pytest.param(("x" * 1025,), errno.ENAMETOOLONG, id="of 1,025 bytes"),
        pytest.param(("é" * 513,), errno.ENAMETOOLONG, id="of 513 characters and 1,026 bytes"),
        pytest.param(("d",) * 10_000, errno.ENAMETOOLONG, id="ten thousand folders deep"),
    ],
)
@pytest.mark.parametrize("area", [(), (".lock",), (".rev",), (".ttl",), (".watch",)])
def test_threat_06_a_key_is_refused(program: Program, area: tuple[str, ...], parts: tuple[str, ...], code: int) -> None:
    for how in (READ, EXCLUSIVE):
        with fails(code):
            node_open(program, area + parts, how)
    with fails(code):
        program.at("")[0].stat(area + parts)


def test_threat_06_the_longest_key_is_1024_bytes(program: Program) -> None:
    deepest = "/".join(["d"] * 512) + "x"
    for key in ("x" * 1024, deepest):
        program.write(key, b"1")
        assert program.read(key) == b"1"
        program.unlink(key)


def test_threat_07_twins_are_different_keys(program: Program) -> None:
    names = ["A", "a", "caf\u00e9", "cafe\u0301", "\ufb01", "fi", "\u212a", "K", "a\u200d", "\ufeffa", "ß", "SS"]
    for name in names:
        program.write(name, name.encode())

    assert program.ls() == sorted(names, key=str.encode)
    assert [program.read(name).decode() for name in names] == names


COMPONENTS = st.text(min_size=1, max_size=8).filter(lambda name: not set(name) & {"/", "\0"})


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(st.lists(COMPONENTS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=6, unique=True))
def test_threat_07_no_two_names_are_one_key_and_none_crashes(program: Program, paths: list[tuple[str, ...]]) -> None:
    node, _ = program.at("")
    kept = {}
    refused: set[int | None] = set()
    for number, parts in enumerate(paths):
        try:
            file = node.open(parts, WRITE)
            file.write_at(0, memoryview(b"%d" % number))  # type: ignore[union-attr]
            file.close()
        except OSError as error:
            refused.add(error.errno)
        else:
            kept[parts] = b"%d" % number
    assert refused <= {errno.EINVAL, errno.ENOTDIR, errno.EISDIR}
    for parts, value in kept.items():
        assert program.read("/".join(parts)) == value
        node.unlink(parts)
    assert list(node.entries()) == []  # type: ignore[attr-defined]


def test_threat_09_a_run_takes_so_much_and_no_more(program: Program) -> None:
    file = program.open("sparse", WRITE)
    for huge in (1 << 40, (1 << 63) - 1):
        with fails(errno.EFBIG):
            file.write_at(huge, memoryview(b"x"))
        with fails(errno.EFBIG):
            file.truncate(huge)
    sparse = [program.open(f"s{number}", WRITE) for number in range(8)]
    with fails(errno.EDQUOT):
        for one in sparse:
            one.truncate(16 << 20)
    for number in range(1_000):
        program.mkdir(f"d{number}")
    with fails(errno.EDQUOT):
        program.mkdir("one-more")
    program.end(clean=False)


@pytest.mark.slow
def test_threat_09_a_full_namespace_is_full_for_nobody_else(cloud: Cloud) -> None:
    small = cloud.program(cloud.cell("small", granted=MEMBERS, disk_bytes=1 << 20), "/beta/kv/local")
    other = cloud.program(cloud.cell("other", granted=MEMBERS), "/beta/kv/local")

    with fails(errno.EDQUOT):
        for number in range(100_000):
            small.write(f"k{number}", bytes(1_000))
    other.write("a", bytes(1 << 20))
    small.unlink("k0")
    assert other.ls() == ["a"]


def test_threat_09_transactions_and_watches_are_bounded_too(program: Program) -> None:
    for number in range(8):
        program.mkdir(f".tx/{number}")
    with fails(errno.EDQUOT):
        for number in range(8):
            program.write(f".tx/{number}/a", bytes(12 << 20))
    for number in range(8):
        program.rmdir(f".tx/{number}")
    program.mkdir(".tx/again")
    program.write(".tx/again/a", bytes(12 << 20))

    watch = program.open(".watch/.all")
    for number in range(1_100):
        program.write(f"{number:01000}", b"")
    told = watch.read(1 << 22)
    assert told.startswith(b"lost ")
    assert len(told) < 1 << 20
    assert told.endswith(b" 1100\n")


def test_threat_10_stores_are_where_no_cell_can_be(cloud: Cloud, program: Program, tmp_path: Path) -> None:
    program.write("a", b"1")
    data = tmp_path / "data"

    assert os.listdir(data) == [".pulp-cloud"]  # no cell, application or placement has a name with a dot in front
    assert sorted(os.listdir(data / ".pulp-cloud" / "kv")) == ["shop"]
    assert (data / ".pulp-cloud/kv/shop").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_threat_47_a_program_never_sees_the_half_of_a_change(cloud: Cloud, program: Program) -> None:
    other = cloud.program(program.run.cell, "/beta/kv/local")
    program.write("a", b"0" * 5_000)
    stop = threading.Event()
    torn: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            value = other.read("a")
            if len(set(value)) != 1 or len(value) != 5_000:
                torn.append(value)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        program.write("a", b"%d" % (number % 10) * 5_000)
    stop.set()
    reader.join()
    assert torn == []
