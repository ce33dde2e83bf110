"""`kill -9` at any moment: what was acknowledged is there and whole, nothing half is, and nothing is left behind."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pulp_runtime.blobs.bucket import Caller
from pulp_runtime.blobs.store import Store

ME = Caller()
NAMES = 12

# Writes for ever; says before and after each change what it was.
WRITER = f"""
import random, sys
from pathlib import Path
from pulp_runtime.blobs.bucket import Caller
from pulp_runtime.blobs.store import Store

me = Caller()
randomly = random.Random(int(sys.argv[1]))
store = Store(Path(sys.argv[2]))
bucket = store.bucket("p")
def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()
while True:
    name = "n%d" % randomly.randrange({NAMES})
    what = randomly.randrange(8)
    if what < 6:
        seed = randomly.randrange(30)
        say(f"put {{name}} {{seed}}")
        data = random.Random(seed).randbytes(seed * 40_000)
        writer = bucket.write(me, name)
        for at in range(0, len(data), 65536):
            writer.write_at(me, at, memoryview(data[at : at + 65536]))
        writer.commit(me)
    else:
        say(f"del {{name}} -")
        try:
            bucket.remove(me, name)
        except FileNotFoundError:
            pass
    say("ok")
"""


@pytest.mark.slow
def test_nothing_acknowledged_is_missing_and_nothing_half_is_there_after_kill_9(tmp_path: Path) -> None:
    known: dict[str, set[str]] = {f"n{number}": {"-"} for number in range(NAMES)}
    randomly = random.Random(3)
    for life in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(life), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(randomly.randrange(20, 150))]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        told = [line.split() for line in lines if line.endswith("\n")]
        for words, after in zip(told, [*told[1:], []], strict=True):
            if words[0] != "ok":
                known[words[1]] = {words[2]} if after == ["ok"] else known[words[1]] | {words[2]}

        store = Store(tmp_path)
        bucket = store.bucket("p")
        wanted = set()
        for name, possible in known.items():
            found = whole(bucket, name)
            assert found in possible, name
            known[name] = {found}
            if found != "-":
                wanted.add(hashlib.sha256(random.Random(int(found)).randbytes(int(found) * 40_000)).hexdigest())
        assert store.swept.missing == 0
        assert {path.name for path in (tmp_path / "content").rglob("*") if path.is_file()} == wanted
        assert not list((tmp_path / "new").iterdir())
        store.close()


def whole(bucket: object, name: str) -> str:
    """Return what an object is made of, "-" for none; fail if it is nothing that was put."""
    reader = bucket.read(ME, name)  # type: ignore[attr-defined]
    if reader is None:
        return "-"
    into = memoryview(bytearray(reader.info.size))
    assert reader.read_at(ME, 0, into) == reader.info.size
    reader.close()
    seed = reader.info.size // 40_000
    assert bytes(into) == random.Random(seed).randbytes(seed * 40_000)
    return str(seed)
