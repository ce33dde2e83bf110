from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulp_runtime.files import quota
from pulp_runtime.files.atomic import PREFIX, UNFINISHED_SECONDS
from pulp_runtime.files.quota import BLOCK, FRESH_SECONDS, REST, DiskQuota, QuotaExceeded, counted, disk_bytes

LIMIT = 100 * BLOCK


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(quota, "monotonic", clock)
    return clock


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The folders that were scanned."""
    done: list[str] = []
    scan = quota._Ledger._scan

    def noted(self: quota._Ledger) -> tuple[int, bool]:
        done.append(self._folder)
        return scan(self)

    monkeypatch.setattr(quota._Ledger, "_scan", noted)
    return done


def fill(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes(b"x" * size)


# What counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "blocks", "bytes_"),
    [
        pytest.param(0, 0, BLOCK, id="an empty file counts for a block"),
        pytest.param(1, 8, BLOCK, id="a small one too"),
        pytest.param(BLOCK, 8, BLOCK, id="a whole block"),
        pytest.param(BLOCK + 1, 16, 2 * BLOCK, id="a byte more is a block more"),
        pytest.param(1 << 40, 0, 1 << 40, id="holes count"),
        pytest.param(10, 1000, 512_000, id="so do blocks beyond the end"),
    ],
)
def test_what_an_entry_counts_for(size: int, blocks: int, bytes_: int) -> None:
    assert disk_bytes(size, blocks) in (bytes_, -(-bytes_ // BLOCK) * BLOCK)


def test_all_kinds_of_entries_count_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, "file", 3 * BLOCK)
    (tmp_path / "a" / "b").mkdir(parents=True)
    fill(tmp_path / "a" / "b", "file", 1)
    (tmp_path / "a" / "link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe")

    assert DiskQuota(tmp_path, LIMIT).room() == LIMIT - (3 + 1 + 1 + 1 + 1 + 1) * BLOCK


def test_threat_08_a_file_that_is_all_holes_counts_in_full(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)

    assert counted(os.stat(tmp_path / "sparse")) == 1 << 40
    assert DiskQuota(tmp_path, LIMIT).room() == 0


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert DiskQuota(tmp_path / "none", LIMIT).room() == LIMIT


# Checking and charging --------------------------------------------------------------------------------------------


def test_what_fits_may_be_written_and_what_does_not_is_refused(tmp_path: Path, clock: Clock) -> None:
    quota = DiskQuota(tmp_path, LIMIT)

    quota.check(LIMIT)
    with pytest.raises(QuotaExceeded, match=f"{LIMIT + 1} bytes asked for, {LIMIT} of {LIMIT} are left") as caught:
        quota.check(LIMIT + 1)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EDQUOT


def test_what_is_charged_counts_before_it_can_be_seen(tmp_path: Path, clock: Clock) -> None:
    quota = DiskQuota(tmp_path, LIMIT)
    quota.check(BLOCK)
    quota.charge(LIMIT - BLOCK)

    assert quota.room() == BLOCK
    quota.charge(-2 * BLOCK)
    assert quota.room() == 3 * BLOCK


def test_a_scan_knows_better_than_what_was_charged(tmp_path: Path, clock: Clock) -> None:
    quota = DiskQuota(tmp_path, LIMIT)
    quota.check(1)
    quota.charge(10 * BLOCK)
    fill(tmp_path, "file", BLOCK)
    clock.now += FRESH_SECONDS

    assert quota.room() == LIMIT - BLOCK


def test_room_is_never_less_than_nothing_nor_more_than_the_limit(tmp_path: Path, clock: Clock) -> None:
    quota = DiskQuota(tmp_path, LIMIT)
    quota.room()
    quota.charge(3 * LIMIT)
    assert quota.room() == 0
    quota.charge(-9 * LIMIT)
    assert quota.room() == LIMIT


def test_those_who_look_at_one_folder_know_of_each_other(tmp_path: Path, clock: Clock) -> None:
    """Files, database and keys of a cell each have a quota of their own for the one folder."""
    (tmp_path / "cell").mkdir()
    (tmp_path / "way").symlink_to("cell")
    files, database = DiskQuota(tmp_path / "cell", LIMIT), DiskQuota(tmp_path / "cell", LIMIT)
    keys = DiskQuota(tmp_path / "way", LIMIT)
    assert files.room() == LIMIT
    files.charge(60 * BLOCK)
    fill(tmp_path / "cell", "file", 60 * BLOCK)
    database.charge(30 * BLOCK)
    fill(tmp_path / "cell", "data.db", 30 * BLOCK)

    assert keys.room() == 10 * BLOCK
    with pytest.raises(QuotaExceeded):
        files.check(11 * BLOCK)


def test_another_folder_is_another_matter_and_so_is_one_that_is_looked_at_anew(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "a").mkdir()
    one, other = DiskQuota(tmp_path / "a", LIMIT), DiskQuota(tmp_path / "b", LIMIT)
    one.room()
    one.charge(LIMIT)
    assert other.room() == LIMIT
    del one
    gc.collect()

    assert DiskQuota(tmp_path / "a", LIMIT).room() == LIMIT


# How often it looks -----------------------------------------------------------------------------------------------


def test_a_scan_is_good_for_a_while(tmp_path: Path, clock: Clock, scans: list[str]) -> None:
    quota = DiskQuota(tmp_path, LIMIT)
    for _ in range(100):
        quota.check(1)
    assert len(scans) == 1
    clock.now += FRESH_SECONDS
    quota.check(1)
    assert len(scans) == 2


def test_a_slow_scan_is_good_for_longer(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0.5
    count = 0

    def slow(_self: object) -> tuple[int, bool]:
        nonlocal count
        count += 1
        clock.now += taken
        return 0, True

    monkeypatch.setattr("pulp_runtime.files.quota._Ledger._scan", slow)
    quota = DiskQuota(tmp_path, LIMIT)
    began = clock.now
    while clock.now < began + 100:
        quota.check(1)
        clock.now += 0.01

    assert count * taken <= 100 / REST + taken


def test_before_it_refuses_it_looks_again_but_not_without_rest(tmp_path: Path, clock: Clock, scans: list[str]) -> None:
    fill(tmp_path, "big", LIMIT)
    quota = DiskQuota(tmp_path, LIMIT)
    with pytest.raises(QuotaExceeded):
        quota.check(1)
    (tmp_path / "big").unlink()  # by somebody who says nothing

    quota.check(1)
    assert len(scans) >= 2


def test_no_more_is_looked_at_than_it_takes_to_know_that_it_is_full(tmp_path: Path) -> None:
    for at in range(200):
        (tmp_path / str(at)).touch()
    quota = DiskQuota(tmp_path, 10 * BLOCK)

    assert quota.room() == 0
    assert quota._ledger.used == 11 * BLOCK


def test_threads_scan_once_and_nobody_waits_for_a_second_scan(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go = threading.Event(), threading.Event()
    count = 0

    def held(_self: object) -> tuple[int, bool]:
        nonlocal count
        count += 1
        if count > 1:
            inside.set()
            assert go.wait(10)
        return 0, True

    monkeypatch.setattr("pulp_runtime.files.quota._Ledger._scan", held)
    quota = DiskQuota(tmp_path, LIMIT)
    quota.room()
    clock.now += FRESH_SECONDS
    other = threading.Thread(target=quota.room)
    other.start()
    assert inside.wait(10)

    assert quota.room() == LIMIT  # at once, from what was known
    quota.charge(BLOCK)  # while the scan runs: it may or may not have seen it
    go.set()
    other.join()
    assert quota.room() == LIMIT - BLOCK
    assert count == 2


def test_a_scan_that_breaks_off_knows_no_less_than_before(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "file", 10 * BLOCK)
    quota = DiskQuota(tmp_path, LIMIT)
    quota.room()
    monkeypatch.setattr("pulp_runtime.files.quota.walk", _breaks)
    clock.now += FRESH_SECONDS

    assert quota.room() == LIMIT - 10 * BLOCK


def _breaks(_top: int) -> Iterator[object]:
    raise OSError(errno.ESTALE, "moved")
    yield


def test_what_dead_writes_left_is_removed_by_the_way(tmp_path: Path) -> None:
    old, new = tmp_path / (PREFIX.decode() + "old"), tmp_path / (PREFIX.decode() + "new")
    for file in (old, new):
        file.touch()
    then = time.time() - UNFINISHED_SECONDS - 60
    os.utime(old, (then, then))
    room = DiskQuota(tmp_path, LIMIT).room()

    assert [file.name for file in tmp_path.iterdir()] == [new.name]
    assert room == LIMIT - BLOCK


@pytest.mark.slow
def test_ten_thousand_files_make_a_check_no_slower_than_one(tmp_path: Path) -> None:
    for at in range(10_000):
        os.close(os.open(tmp_path / str(at), os.O_CREAT | os.O_WRONLY))
    quota = DiskQuota(tmp_path, 1 << 30)
    quota.check(BLOCK)
    began = time.perf_counter()
    for _ in range(10_000):
        quota.check(BLOCK)
        quota.charge(0)

    assert time.perf_counter() - began < 1.0
