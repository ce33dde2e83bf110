"""A snapshot on disk is whole, the host's own, of this module and engine, or it is not used."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

import msgspec
import pytest

from pulp_runtime._kernel.snapshots import saved as saved_module
from pulp_runtime._kernel.snapshots.saved import MAGIC, Header, Saved, SnapshotRefused, TableState, pack, unpack
from pulp_runtime._kernel.snapshots.shelf import FOLDER, Shelf, read, write
from pulp_runtime.manifest.limits import PAGE

PAGES = [bytes([number]) * PAGE for number in (1, 2, 3)]
HEADER = Header(
    module="ab" * 32,
    cell="visits",
    version="1.0.0",
    taken_at=1_700_000_000_000_000_000,
    call_number=2**63,
    monotonic_ns=5,
    idle=0xFFFF_FFF0,
    memory_pages=8,
    pages=[(0, 1), (4, 2)],
    globals=[b"\0\1\0\0\0", None, (1, 2), (-1, 0)],
    tables=[TableState(4, [(3, (0, 1)), (2, None)])],
    capabilities={"transport.http.inbound": b"\x80"},
)


def sealed(body: bytes) -> bytes:
    """Return what someone who knows the format would write around a body."""
    import hashlib

    return body + hashlib.blake2b(body, digest_size=32).digest()


def file_of(header: bytes, stream: bytes) -> bytes:
    return sealed(MAGIC + len(header).to_bytes(4, "little") + header + stream)


def packed(**fields: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(HEADER, **fields))


STREAM = zlib.compress(b"".join(PAGES))


def refusal(data: bytes, memory_pages: int = 8) -> str:
    with pytest.raises(SnapshotRefused) as raised:
        list(unpack(data, memory_pages).pages)
    return str(raised.value)


def test_a_file_holds_what_was_put_into_it() -> None:
    found = unpack(pack(Saved(HEADER, list(PAGES))), 8)

    assert found.header == HEADER
    assert list(found.pages) == PAGES


@pytest.mark.parametrize("length", [0, 5, 8, 12, 40, -1])
def test_a_torn_file_is_refused(length: int) -> None:
    data = pack(Saved(HEADER, list(PAGES)))[:length]

    assert refusal(data) in ("it is no snapshot", "its checksum is wrong: it is torn or damaged")


def test_a_file_with_one_bit_changed_anywhere_is_refused() -> None:
    data = pack(Saved(HEADER, list(PAGES)))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        assert refusal(bytes(changed))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"GIF89a" + bytes(100), "it is no snapshot", id="another kind of file"),
        pytest.param(MAGIC[:-1] + b"\x02" + bytes(100), "its format is 2; this host reads 1", id="a later format"),
        pytest.param(file_of(packed(engine="wasmtime 1"), STREAM), "it was taken by wasmtime 1", id="another engine"),
        pytest.param(file_of(packed(memory_pages=9), STREAM), "the cell may have 8", id="more memory than may be"),
        pytest.param(file_of(packed(pages=[(7, 2)]), STREAM), "not in its memory", id="pages past the end"),
        pytest.param(file_of(packed(pages=[(4, 1), (3, 1)]), STREAM), "not in its memory", id="pages out of order"),
        pytest.param(file_of(packed(pages=[(0, 4)]), STREAM), "end too soon", id="fewer pages than it says"),
        pytest.param(file_of(packed(), b""), "end too soon", id="no pages"),
        pytest.param(file_of(packed(), b"nonsense"), "cannot be read", id="pages that are not compressed"),
        pytest.param(file_of(packed()[:-1], STREAM), "header cannot be read", id="half a header"),
        pytest.param(file_of(b"\x81\xa6module\x01", STREAM), "header cannot be read", id="a header of other types"),
        pytest.param(sealed(MAGIC + b"\xff\xff\xff\x7f"), "longer than the file", id="a header longer than the file"),
        pytest.param(file_of(packed(globals=[(1, 2, 3)]), STREAM), "header cannot be read", id="an odd reference"),
    ],
)
def test_a_crafted_file_is_refused_with_a_sentence(data: bytes, why: str) -> None:
    assert why in refusal(data)


@pytest.mark.slow
def test_threat_18_a_file_that_unpacks_to_more_than_it_says_is_never_unpacked_further() -> None:
    bomb = file_of(packed(pages=[(0, 1)]), zlib.compress(bytes(64 * 1024 * 1024), 1))
    began = time.monotonic()
    pages = list(unpack(bomb, 8).pages)

    assert pages == [bytes(PAGE)]
    assert time.monotonic() - began < 1.0


# The shelf ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "visits", 1 << 20)


def test_the_newest_come_first_and_no_more_are_kept_than_was_asked_for(shelf: Shelf) -> None:
    paths = [shelf.put(bytes([number]), 2, 0) for number in range(4)]

    assert shelf.newest_first() == paths[:1:-1]
    assert [path.read_bytes() for path in shelf.newest_first()] == [b"\3", b"\2"]


def test_a_clock_that_goes_back_does_not_make_an_old_snapshot_the_newest(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1000)
    first = shelf.put(b"first", 2, 0)
    monkeypatch.setattr(time, "time_ns", lambda: 10)
    second = shelf.put(b"second", 2, 0)

    assert shelf.newest_first() == [second, first]


def test_nobody_else_can_read_or_write_what_was_saved(shelf: Shelf, tmp_path: Path) -> None:
    path = shelf.put(b"state", 2, 0)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent == tmp_path / "visits" / FOLDER


def test_what_was_set_aside_is_used_no_more_and_is_not_lost(shelf: Shelf) -> None:
    old = shelf.put(b"old", 2, 0)
    shelf.set_aside([old])
    assert shelf.newest_first() == []
    new = shelf.put(b"new", 2, 0)

    assert shelf.newest_first() == [new]
    assert old.with_suffix(".aside").read_bytes() == b"old"


def test_what_was_taken_before_the_cell_began_anew_is_not_written_afterwards(shelf: Shelf) -> None:
    era = shelf.era
    shelf.outdate()

    with pytest.raises(SnapshotRefused, match="begun anew"):
        shelf.put(b"late", 2, era)
    assert shelf.newest_first() == []


def test_a_snapshot_that_does_not_fit_into_the_cells_quota_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "visits", 10_000)
    kept = shelf.put(bytes(100), 2, 0)

    with pytest.raises(SnapshotRefused, match=r"disk quota: 20000 bytes asked for.*raise limits.disk_quota_mb"):
        shelf.put(bytes(20_000), 2, 0)
    assert shelf.newest_first() == [kept]


def test_what_a_host_that_was_killed_had_begun_to_write_is_removed_by_the_next_snapshot(shelf: Shelf) -> None:
    begun = shelf.put(b"one", 2, 0).with_name(".pulp-0123456789abcdef")
    begun.write_bytes(b"half of a snap")
    shelf.put(b"two", 2, 0)

    assert not begun.exists()


def test_an_old_snapshot_survives_when_the_new_one_cannot_be_written(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shelf.put(b"old", 1, 0)

    def full(_source: object, _target: object, **_folders: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(SnapshotRefused, match="No space left on device"):
        shelf.put(b"new", 1, 0)
    assert kept.read_bytes() == b"old"
    assert shelf.newest_first() == [kept]


def test_a_folder_of_somebody_elses_making_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "visits").mkdir()
    (tmp_path / "canary").mkdir()
    (tmp_path / "visits" / FOLDER).symlink_to(tmp_path / "canary")

    with pytest.raises(SnapshotRefused, match="not a folder of the host's user"):
        Shelf(tmp_path / "visits", 1 << 20).put(b"state", 2, 0)
    assert list((tmp_path / "canary").iterdir()) == []


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_threat_47_a_file_that_others_may_have_written_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "one.pulpsnap"
    write(path, b"state")
    path.chmod(mode)

    with pytest.raises(SnapshotRefused, match="others than the host's user may write it"):
        read(path, 8)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_threat_47_a_file_of_another_user_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "one.pulpsnap"
    write(path, b"state")
    os.chown(path, 12_345, 12_345)

    with pytest.raises(SnapshotRefused, match="others than the host's user may write it"):
        read(path, 8)


def test_what_is_no_file_is_never_waited_for_or_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "real", b"state")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    for name in ("pipe", "link", "missing"):
        with pytest.raises(SnapshotRefused):
            read(tmp_path / name, 8)


def test_a_file_longer_than_a_snapshot_can_be_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.pulpsnap"
    write(path, bytes(10_000))
    monkeypatch.setattr("pulp_runtime._kernel.snapshots.shelf.HEADER_BYTES", 100)

    with pytest.raises(SnapshotRefused, match="it has 10000 bytes; the most is 4196"):
        read(path, 0)


def test_a_header_longer_than_may_be_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_module, "HEADER_BYTES", 10)

    with pytest.raises(SnapshotRefused, match="its header has"):
        pack(Saved(HEADER, list(PAGES)))
