"""`kill -9` in the middle of writing: what was acknowledged is there, what was not is whole or not there at all.

PULP_CRASH_ROUNDS=200 pytest tests/e2e/test_crash.py        the long run
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("PULP_CRASH_ROUNDS", "6"))
KINDS = ("files", "rows", "keys")
WRITERS = 4


def value_of(number: int, size: int) -> bytes:
    """Return a value that tells whether it is whole: every 16 bytes of it say which one it is."""
    return (b"%015d\n" % number) * max(1, size // 16)


def is_whole(value: bytes) -> int | None:
    """Return the number of a whole value, None for half of one, or a mixture of two."""
    if not value or len(value) % 16:
        return None
    lines = {value[at : at + 16] for at in range(0, len(value), 16)}
    return int(lines.pop()) if len(lines) == 1 else None


class Writer(threading.Thread):
    """A client that overwrites a few keys of its own again and again until the host is gone.

    Attributes:
        acknowledged: the last number that was answered 204, by path.
        asked: the last number that was sent, by path; it may have been kept or not.
    """

    def __init__(self, port: int, number: int, seed: int, acknowledged: dict[str, int]) -> None:
        super().__init__()
        self._port = port
        self._random = random.Random(seed)
        self._paths = [f"/{kind}/w{number}-{name}" for kind in KINDS for name in "abc"]
        self.acknowledged = {path: at for path, at in acknowledged.items() if path in self._paths}
        self.asked = dict(self.acknowledged)

    def run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            while True:
                path = self._random.choice(self._paths)
                number = self.asked.get(path, 0) + 1
                self.asked[path] = number
                client.request("PUT", path, value_of(number, self._random.choice((16, 4096, 100_000))))
                answer = client.getresponse()
                answer.read()
                assert answer.status == 204, path
                self.acknowledged[path] = number
        except (OSError, http.client.HTTPException):
            pass
        finally:
            client.close()


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.timeout(60 + 5 * ROUNDS)
def test_a_host_that_is_killed_while_it_writes_loses_nothing_it_has_acknowledged(serve) -> None:
    rng = random.Random(20261121)
    acknowledged: dict[str, int] = {}
    asked: dict[str, int] = {}
    for _ in range(ROUNDS):
        host = serve(ROOT / "examples/ledger/c")
        look_after_a_crash(host, acknowledged, asked)
        writers = [Writer(host.port, number, rng.getrandbits(32), acknowledged) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(rng.uniform(0.02, 0.3))
        host.kill()
        for writer in writers:
            writer.join()
            acknowledged |= writer.acknowledged
            asked |= writer.asked
    assert sum(acknowledged.values()) > 10 * ROUNDS
    look_after_a_crash(serve(ROOT / "examples/ledger/c"), acknowledged, asked)


def look_after_a_crash(host, acknowledged: dict[str, int], asked: dict[str, int]) -> None:
    """Read everything back; what is found becomes the state of the next round."""
    for path, last in asked.items():
        status, value = host.request("GET", path)
        if status == 404:
            assert path not in acknowledged, f"{path} is gone"
            continue
        assert status == 200, path
        number = is_whole(value)
        assert number is not None, f"{path} is not whole"
        assert acknowledged.get(path, 0) <= number <= last, path
        acknowledged[path] = asked[path] = number
