"""SIGINT and SIGTERM at any moment: the host ends, in time, without a traceback, and leaves nobody behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

GRACE_SECONDS = 5.0
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


def orphans(host) -> list[int]:
    """Return the processes of the host's session that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != host.process.pid:
            try:
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            except (OSError, IndexError):
                continue
            if session == host.process.pid:
                found.append(int(entry.name))
    return found


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@BOTH
@pytest.mark.parametrize("milliseconds", [0, 5, 20, 50, 80, 110, 140, 170, 200, 300])
def test_a_signal_during_the_start_ends_it_quietly(pulp, echo: Path, number: int, milliseconds: int) -> None:
    host = pulp("run", echo, "--http-port", "127.0.0.1:0")
    host.wait_until_signals_are_caught()
    time.sleep(milliseconds / 1000)  # the moments to try are the point here

    assert host.stop(number) == 0
    assert host.errors == ""
    assert host.failures == []
    assert orphans(host) == []


@BOTH
def test_a_signal_while_a_module_is_compiled_ends_the_compiler_too(
    pulp, echo: Path, number: int, tmp_path: Path
) -> None:
    host = pulp("run", echo.parent / "go", "--http-port", "127.0.0.1:0", env={"PULP_CACHE_DIR": str(tmp_path / "cold")})
    host.wait_for("http server started")
    while not (compilers := children(host.process.pid)):
        time.sleep(0.001)

    began = time.monotonic()
    assert host.stop(number) == 0
    assert time.monotonic() - began < 2
    assert host.errors == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in compilers)


def test_a_compiler_does_not_outlive_a_host_that_is_killed(pulp, echo: Path, tmp_path: Path) -> None:
    host = pulp("run", echo.parent / "go", "--http-port", "127.0.0.1:0", env={"PULP_CACHE_DIR": str(tmp_path / "cold")})
    host.wait_for("http server started")
    while not (compilers := children(host.process.pid)):
        time.sleep(0.001)
    while b"libwasmtime" not in Path(f"/proc/{compilers[0]}/maps").read_bytes():  # it has limited itself by then
        time.sleep(0.001)
    time.sleep(0.1)

    host.process.kill()
    end = time.monotonic() + 5
    while any(running(pid) for pid in compilers):
        assert time.monotonic() < end
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@BOTH
def test_a_signal_during_an_init_that_never_ends(pulp, cell: Callable[..., Path], number: int) -> None:
    host = pulp("run", cell("spin_init"))
    host.wait_for("pulp boot")
    host.wait_until_it_has_spun(0.3)

    began = time.monotonic()
    assert host.stop(number) == 0
    assert time.monotonic() - began < 1
    assert host.errors == ""


@BOTH
def test_an_idle_host_ends_at_once(serve, echo: Path, number: int) -> None:
    host = serve(echo)

    began = time.monotonic()
    assert host.stop(number) == 0
    assert time.monotonic() - began < 1
    assert host.lines[-1].endswith('msg="pulp exit clean"')
    assert host.errors == ""


def test_an_idle_connection_does_not_hold_up_the_end(serve, echo: Path) -> None:
    host = serve(echo)
    with host.connection() as client:
        client.request("GET", "/echo/a")
        client.getresponse().read()

        began = time.monotonic()
        assert host.stop() == 0
        assert time.monotonic() - began < 1


def test_a_request_in_flight_is_answered(serve, lab: Callable[..., Path]) -> None:
    """By a guest that its deadline stops, after the signal: the client hears of it."""
    host = serve(lab("call_timeout_ms = 1000"))
    with host.connection() as client:
        client.request("GET", "/l/spin")
        host.wait_until_it_has_spun().send(signal.SIGTERM)
        answer = client.getresponse()

        assert (answer.status, answer.read()) == (500, b"cell did not respond")
    assert host.end() == 0
    assert host.log.index("signal received") < host.log.index("step failed")


@pytest.mark.slow
@pytest.mark.parametrize("export", ["step", "shutdown", "step_idle"])
def test_a_guest_that_never_ends_costs_no_more_than_the_grace_time(
    serve, cell: Callable[..., Path], lab: Callable[..., Path], export: str
) -> None:
    host = serve(lab() if export == "step" else cell(f"spin_{export}"))
    if export == "step":
        with host.raw() as client:
            client.sendall(b"GET /l/spin HTTP/1.1\r\nHost: a\r\n\r\n")
            began = stop_after_it_has_spun(host)
    elif export == "step_idle":
        began = stop_after_it_has_spun(host)
    else:
        began = time.monotonic()
        host.send(signal.SIGTERM)

    assert host.end() == 0
    assert time.monotonic() - began < GRACE_SECONDS + 1
    assert host.errors == ""


def stop_after_it_has_spun(host) -> float:
    host.wait_until_it_has_spun(0.2).send(signal.SIGTERM)
    return time.monotonic()


def test_a_second_signal_forces_the_end(serve, cell: Callable[..., Path]) -> None:
    host = serve(cell("spin_step_idle"))
    stop_after_it_has_spun(host)
    host.wait_for("signal received")
    time.sleep(0.3)  # sooner it would count as the same signal

    began = time.monotonic()
    assert host.stop(signal.SIGINT) == 1
    assert time.monotonic() - began < 1
    assert 'msg="second signal: ending at once" signal=SIGINT' in host.log
    assert host.errors == ""


def test_a_signal_sent_twice_at_once_counts_once(serve, heartbeat: Path) -> None:
    """`timeout` signals the process and then its group."""
    host = serve(heartbeat)
    host.send(signal.SIGTERM).send(signal.SIGTERM)

    assert host.end() == 0
    assert host.lines[-1].endswith('msg="pulp exit clean"')
