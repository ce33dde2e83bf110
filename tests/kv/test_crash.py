"""`kill -9` at any moment: what was acknowledged is there, what was not is whole or not there at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pulp_runtime.kv.store import Store

KEYS = 20

# Writes for ever; says after each change, and before none, what has been acknowledged.
WRITER = f"""
import random, sys
from pathlib import Path
from pulp_runtime.kv.entry import Put
from pulp_runtime.kv.store import Store

seed, path = int(sys.argv[1]), Path(sys.argv[2])
randomly = random.Random(seed)
store = Store(path)
say = sys.stdout.write
number = store.increment(b"life")[0] * 1_000_000
while True:
    number += 1
    key = b"key%d" % randomly.randrange({KEYS})
    what = randomly.randrange(10)
    if what < 6:
        store.put(key, b"%d " % number * randomly.choice([1, 100, 5000]))
    elif what < 8:
        # Two keys that must always be the same.
        store.apply([Put(b"left", b"%d" % number), Put(b"right", b"%d" % number), Put(key, b"%d " % number)])
    elif what == 8:
        store.rename(key, b"key%d" % randomly.randrange({KEYS})) if store.get(key) else None
    else:
        store.increment(b"count")
    say(f"{{number}} {{store.revision}}\\n")
    sys.stdout.flush()
"""


def wholes(value: bytes) -> bool:
    """Tell whether a value is one that was put: one number, again and again."""
    words = value.split()
    return len(set(words)) == 1 and len(words) in (1, 100, 5000)


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_missing_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "kv.db"
    randomly = random.Random(7)
    acknowledged = 0
    for life in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(life), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        last = 0
        for _ in range(randomly.randrange(50, 600)):
            last = int(process.stdout.readline().split()[1])
        os.kill(process.pid, signal.SIGKILL)
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):  # what was said before the end counts, half a line does not
                last = int(line.split()[1])
        process.wait()
        process.stdout.close()

        store = Store(path)
        assert store.revision >= last > acknowledged
        acknowledged = store.revision
        assert store.get(b"life").value == b"%d" % (life + 1)  # type: ignore[union-attr]
        left, right = store.get(b"left"), store.get(b"right")
        assert (left and left.value) == (right and right.value)
        for listed in store.page(b"key"):
            assert wholes(store.get(listed.key).value)  # type: ignore[union-attr]
            assert listed.revision <= store.revision
        store.close()


@pytest.mark.slow
def test_the_last_acknowledged_value_of_every_key_is_there(tmp_path: Path) -> None:
    writer = """
import sys
from pathlib import Path
from pulp_runtime.kv.store import Store
store = Store(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    store.put(b"key%d" % (number % 7), b"%d" % number)
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path / "kv.db")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(500)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    last = int([line for line in lines if line.endswith(b"\n")][-1])

    store = Store(tmp_path / "kv.db")
    for key in range(7):
        value = int(store.get(b"key%d" % key).value)  # type: ignore[union-attr]
        newest = last - (last - key) % 7
        assert value in (newest, newest + 7)  # one more may have been written and not said
    store.close()
