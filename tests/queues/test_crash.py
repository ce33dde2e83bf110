"""`kill -9` at any moment: what was published is there until it is acknowledged, and then it is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pulp_runtime.queues.message import Terms
from pulp_runtime.queues.store import Store

WORKER = """
import random, sys
from pathlib import Path
from pulp_runtime.queues.message import Terms
from pulp_runtime.queues.store import Store

randomly = random.Random(int(sys.argv[1]))
store = Store(Path(sys.argv[2]))
def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()
while True:
    if randomly.randrange(3):
        body = b"%d" % randomly.getrandbits(60)
        say(f"pub {body.decode()}")
        store.publish("t", body)
        say("ok")
    else:
        message = store.take("t", Terms(deliveries=1000))
        if message is not None and randomly.randrange(2):
            say(f"ack {message.body.decode()}")
            store.acknowledge("t", message.id, message.deliveries)
            say("ok")
"""


@pytest.mark.slow
def test_a_published_message_is_there_until_it_is_acknowledged_whatever_ends_the_process(tmp_path: Path) -> None:
    must: set[str] = set()
    may: set[str] = set()
    randomly = random.Random(5)
    for life in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(life), str(tmp_path / "q.db")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(randomly.randrange(50, 800))]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        told = [line.split() for line in lines if line.endswith("\n")]
        for words, after in zip(told, [*told[1:], []], strict=True):
            if words == ["ok"]:
                continue
            must.discard(words[1])
            may.discard(words[1])
            if after != ["ok"]:
                may.add(words[1])
            elif words[0] == "pub":
                must.add(words[1])

        store = Store(tmp_path / "q.db")
        found = []
        while (message := store.take("t", Terms(deliveries=1000))) is not None:
            found.append(message.body.decode())
        assert len(found) == len(set(found))
        assert must <= set(found) <= must | may
        must, may = set(found), set()
        store.close()
    assert must
