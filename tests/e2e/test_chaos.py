"""Fifty cells in one host, and everything that can go wrong at once; see chaos.py.

PULP_CHAOS_SECONDS=600 pytest tests/e2e/test_chaos.py -s        the long run; it prints its figures
PULP_CHAOS_SEED=…                                               does the same again
PULP_CHAOS_LOG=…                                                a file for everything the hosts have logged
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .chaos import Chaos, seed_of_this_run
from .chaos_estate import Estate

SECONDS = float(os.environ.get("PULP_CHAOS_SECONDS", "10"))
DEATHS = 2 if SECONDS > 60 else 1
#: SQLite keeps a descriptor of a database that was opened anew until its last connection is closed, one for each of the
#: three cells with a database; and there are the connections of the operator. In ten minutes there were 3 fewer.
MORE_DESCRIPTORS = 8
#: Workers leave one by one. In ten minutes there were as many as before.
MORE_THREADS = 4
#: The heap has holes where much came at once, and the short run measures before it has been everywhere: 17 to 42 MiB
#: more after ten seconds, 26 after ten minutes. What leaks with each reload is ten times as much in ten minutes.
MORE_KIB = 64 * 1024
#: What may be wrong with a guest, or with the disk. Any other error is one of the host's own.
ERRORS = {
    "step failed",
    "step failed (idle)",
    "request failed",
    "cell is down: no more restarts",
    "init failed",
    "load failed",
    "snapshot not taken; the cell shuts down",
}


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.timeout(180 + 2 * SECONDS)
def test_after_chaos_everything_answers_nothing_acknowledged_is_lost_and_nothing_is_left_behind(
    pulp, tmp_path: Path, wasm: Callable[[str], bytes]
) -> None:
    estate = Estate(tmp_path / "cells", wasm)
    control = str(tmp_path / "ctl")

    def start(port: int) -> object:
        return pulp("run", *estate.folders.values(), "--http-port", f"127.0.0.1:{port}", env={"PULP_CTL_SOCK": control})

    chaos = Chaos(estate, start, control, seed_of_this_run())
    sys.stdout.write(f"PULP_CHAOS_SEED={chaos.storm.seed}\n")
    try:
        chaos.run(SECONDS, DEATHS)
        wrong = chaos.wrong_states()
        chaos.check()
    finally:
        chaos.storm.over.set()
        sys.stdout.write(f"{chaos.figures()}\n")
        if there := os.environ.get("PULP_CHAOS_LOG"):
            Path(there).write_text("\n".join(chaos.log))
    assert chaos.storm.problems == []
    assert wrong == {}
    assert chaos.after.descriptors <= chaos.before.descriptors + MORE_DESCRIPTORS
    assert chaos.after.threads <= chaos.before.threads + MORE_THREADS
    assert chaos.after.resident <= chaos.before.resident + MORE_KIB
    assert chaos.hosts[-1].stop() == 0
    assert [line for line in chaos.log if "Traceback" in line] == []
    assert chaos.errors() <= ERRORS
    assert [host.errors for host in chaos.hosts] == [""] * len(chaos.hosts)
