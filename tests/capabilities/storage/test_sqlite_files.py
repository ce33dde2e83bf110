"""What a closed database leaves open, which is nothing, also when its last statement failed."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pulp_runtime.capabilities.storage.sqlite_connection import Database
from pulp_runtime.capabilities.storage.sqlite_failure import SqlFailed
from pulp_runtime.capabilities.storage.sqlite_file import SqliteSettings
from pulp_runtime.capabilities.storage.sqlite_room import Room
from pulp_runtime.files.quota import DiskQuota

GUEST = SimpleNamespace(seconds_left=lambda: 5.0, blocking=contextlib.nullcontext)


def opened(path: Path) -> Database:
    return Database(path, SqliteSettings(), Room(path, DiskQuota(path.parent, 1 << 30)))


def open_files(folder: Path) -> list[str]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [str(link.readlink()) for link in links if link.exists() and folder in link.readlink().parents]


@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: counts descriptors in /proc")
def test_a_database_whose_last_statement_failed_for_want_of_room_is_closed_at_once(tmp_path: Path) -> None:
    database = opened(tmp_path / "data.db")
    database.exec(b"CREATE TABLE t (a); INSERT INTO t VALUES (1)", [], GUEST)  # type: ignore[arg-type]
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    gc.disable()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
        with pytest.raises(SqlFailed):
            database.exec(b"UPDATE t SET a = zeroblob(50000)", [], GUEST)  # type: ignore[arg-type]
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
        database.close()
        assert open_files(tmp_path) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
        gc.enable()
    again = opened(tmp_path / "data.db")
    assert again.own("SELECT a FROM t") == [(1,)]
    again.close()
