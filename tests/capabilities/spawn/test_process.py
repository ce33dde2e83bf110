"""`spawn.process` in a real host, with real programs."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, puppet_cell, until

from pulp_runtime.capabilities.spawn import process
from pulp_runtime.capabilities.spawn.process import MOST_MS, NO_DEADLINE, _seconds
from pulp_runtime.capabilities.spawn.tree import processes
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

NAME = "spawn.process"
IMPORTS = {"process_run": 2, "process_result": 3, "process_cancel": 1, "process_pending": 0}
ALLOW = {NAME: {"allow_bins": ["echo", "sh", "sleep", "cat", "env", "pwd", "no-such-tool", "setsid", "true"]}}


def begin(cell: Puppet, *argv: str, **more: Any) -> int:
    number, _ = cell("process_run", {"argv": list(argv), **more})
    assert number >= 100, f"process_run answers {number}"
    return number


def end(cell: Puppet, number: int) -> tuple[int, dict[str, Any]]:
    """Return the status and the result."""
    answer: list[tuple[int, bytes]] = []

    def is_done() -> bool:
        answer[:] = [cell("process_result", number)]
        return answer[0][0] != 0

    until(is_done)
    status, data = answer[0]
    return status, msgspec.msgpack.decode(data) if data else {}


def run(cell: Puppet, *argv: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return end(cell, begin(cell, *argv, **more))


def running(mark: str) -> list[int]:
    """Return the processes that have `mark` as an argument of theirs."""
    found = []
    for one in processes():
        try:
            arguments = Path(f"/proc/{one.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in arguments and not one.is_dead:
            found.append(one.pid)
    return found


@pytest.fixture
def mark() -> str:
    """A length of sleep that nobody else asks for."""
    return f"1000.{secrets.randbelow(10**9):09}"


# What comes of it -------------------------------------------------------------------------------------------------


def test_a_program_runs_and_its_output_is_the_result(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    number = begin(one, "echo", "hello", "wörld")

    assert number == 100
    assert end(one, number) == (1, {"exit_code": 0, "stdout": "hello wörld\n".encode(), "stderr": b""})
    assert one("process_result", number) == (4, b"")


def test_the_operator_allows_programs_in_the_environment(puppets: Puppets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESS_ALLOW_BINS", "echo, cat")
    (one,) = puppets(NAME, IMPORTS)

    assert run(one, "echo", "hi")[1]["stdout"] == b"hi\n"
    assert one("process_run", {"argv": ["sh"]})[0] == 5


@pytest.mark.parametrize(
    ("script", "code", "error"),
    [
        ("exit 3", 3, None),
        ("kill -TERM $$", -1, "signal: SIGTERM"),
        ("kill -KILL $$", -1, "signal: SIGKILL"),
    ],
)
def test_however_it_ends_is_a_result(puppets: Puppets, script: str, code: int, error: str | None) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    status, result = run(one, "sh", "-c", f"echo out; echo err >&2; {script}")

    assert status == 1
    assert result.get("error") == error
    assert (result["exit_code"], result["stdout"], result["stderr"]) == (code, b"out\n", b"err\n")


def test_no_shell_reads_the_arguments(puppets: Puppets, tmp_path: Path) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    words = [f"; touch {tmp_path}/canary", "$(id)", "`id`", "*", "", "a b", "-n"]

    _status, result = run(one, "echo", *words)

    assert result["stdout"].decode() == " ".join(words) + "\n"
    assert not (tmp_path / "canary").exists()


def test_there_is_nothing_to_read(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert run(one, "cat") == (1, {"exit_code": 0, "stdout": b"", "stderr": b""})


def test_both_streams_are_read_however_much_there_is(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    _status, result = run(one, "sh", "-c", "yes | head -c 300000; yes | head -c 300000 >&2")

    assert (len(result["stdout"]), len(result["stderr"])) == (300_000, 300_000)


def test_output_over_the_cap_is_dropped_and_the_program_goes_on(puppets: Puppets, tmp_path: Path) -> None:
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**ALLOW[NAME], "max_output_bytes": 1000}})

    status, result = run(one, "sh", "-c", f"yes | head -c 2000000; echo done > {tmp_path}/done; echo err >&2")

    assert (status, result["stdout"], result["stderr"]) == (1, b"y\n" * 500, b"err\n")
    assert (tmp_path / "done").exists()


def test_a_program_that_is_allowed_and_not_there_is_status_2(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    status, result = run(one, "no-such-tool")

    assert (status, result["exit_code"]) == (2, -1)
    assert result["error"] == "no-such-tool: there is no such program"


def test_a_file_that_is_no_program_is_status_2(puppets: Puppets, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (one,) = puppets(NAME, IMPORTS, config={NAME: {"allow_bins": [str(tmp_path / "text")]}})

    status, result = run(one, str(tmp_path / "text"))

    assert (status, result["exit_code"]) == (2, -1)
    assert "Permission denied" in result["error"]


def test_where_it_begins_lies_below_a_root(puppets: Puppets, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "out").symlink_to("/")
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**ALLOW[NAME], "run_roots": [f"{tmp_path}/jobs"]}})

    assert run(one, "pwd", dir=f"{tmp_path}/jobs")[1]["stdout"] == f"{tmp_path}/jobs\n".encode()
    assert run(one, "pwd")[1]["stdout"] == f"{os.getcwd()}\n".encode()
    for folder in (str(tmp_path), "/", f"{tmp_path}/jobs/out", f"{tmp_path}/jobs/..", "a\0b"):
        assert one("process_run", {"argv": ["pwd"], "dir": folder})[0] == 6
    assert run(one, "pwd", dir=f"{tmp_path}/jobs/not-there")[0] == 2


def test_without_roots_no_folder_may_be_named(puppets: Puppets, tmp_path: Path) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert one("process_run", {"argv": ["pwd"], "dir": str(tmp_path)})[0] == 6


def test_roots_in_the_environment_are_a_search_path(
    puppets: Puppets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROCESS_RUN_ROOTS", f"/nowhere{os.pathsep}{tmp_path}")
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert run(one, "pwd", dir=str(tmp_path))[1]["stdout"] == f"{tmp_path}\n".encode()


# What it is given -------------------------------------------------------------------------------------------------


def test_threat_44_a_program_gets_no_secret_and_no_file_of_the_host(
    puppets: Puppets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "canary")
    monkeypatch.setenv("PULP_JWT_HS256_SECRET", "canary")
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    inherited = os.open(tmp_path / "canary", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(inherited, True)

    environment = run(one, "env", env={"GREETING": "hi"})[1]["stdout"].decode()
    files = run(one, "sh", "-c", "echo /proc/self/fd/*")[1]["stdout"].decode().split()

    os.close(inherited)
    assert "GREETING=hi\n" in environment
    assert f"PATH={os.environ['PATH']}\n" in environment
    assert "canary" not in environment
    assert set(files) <= {f"/proc/self/fd/{number}" for number in (0, 1, 2, 3)}, "3 is the folder it lists"


def test_a_variable_that_steers_programs_is_11(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**ALLOW[NAME], "set_env": ["PYTHONPATH"]}})

    assert one("process_run", {"argv": ["env"], "env": {"LD_PRELOAD": "/tmp/evil.so"}})[0] == 11
    assert one("process_run", {"argv": ["env"], "env": {"a=b": ""}})[0] == 11
    assert b"PYTHONPATH=/x\n" in run(one, "env", env={"PYTHONPATH": "/x"})[1]["stdout"]


def test_a_program_leaves_no_core_file(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert run(one, "sh", "-c", "sleep 0.05; ulimit -c")[1]["stdout"] == b"0\n"


# Which programs ---------------------------------------------------------------------------------------------------


def test_nothing_is_allowed_by_default_and_the_operator_is_told(puppets: Puppets, records: Any) -> None:
    (one,) = puppets(NAME, IMPORTS)

    assert one("process_run", {"argv": ["echo"]})[0] == 5
    assert records.fields("no program may be run")
    assert records.fields("process refused")[0]["program"] == "echo"


def test_a_program_that_is_only_called_like_an_allowed_one_is_5(puppets: Puppets, tmp_path: Path) -> None:
    (tmp_path / "echo").write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n")
    (tmp_path / "echo").chmod(0o755)
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    for program in (f"{tmp_path}/echo", "./echo", os.path.relpath(tmp_path / "echo")):
        assert one("process_run", {"argv": [program]})[0] == 5
    assert not (tmp_path / "canary").exists()


def test_a_manifest_leaves_a_cell_less_than_the_operator_allows_and_never_more(puppets: Puppets) -> None:
    lines = {
        "less": ('[settings."spawn.process"]', 'allow_bins = ["echo"]'),
        "more": ('[settings."spawn.process"]', 'allow_bins = ["echo", "ls"]'),
        "none": ('[settings."spawn.process"]', "allow_bins = []"),
    }
    less, more, none = puppets(NAME, IMPORTS, *lines, lines=lines, config=ALLOW)

    assert [run(one, "echo")[0] for one in (less, more)] == [1, 1]
    assert less("process_run", {"argv": ["cat"]})[0] == 5
    assert more("process_run", {"argv": ["ls"]})[0] == 5
    assert none("process_run", {"argv": ["echo"]})[0] == 5


# How long ---------------------------------------------------------------------------------------------------------


def test_a_program_that_takes_too_long_ends_with_everything_it_started(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    script = f"trap '' TERM HUP; sleep {mark} & setsid sleep {mark} & echo begun; sleep {mark}"

    status, result = run(one, "sh", "-c", script, timeout_ms=150)

    assert (status, result["exit_code"], result["stdout"]) == (2, -1, b"begun\n")
    assert result["error"] == "it took longer than 0.15 s"
    assert running(mark) == []


def test_what_has_left_its_session_and_lost_its_parent_is_found_by_its_mark(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    number = begin(one, "sh", "-c", f"(setsid sh -c 'sleep {mark} & exit' &) ; sleep {mark}")
    until(lambda: len(running(mark)) == 2)
    until(
        lambda: any(item.parent == 1 or item.parent != os.getpid() for item in processes() if item.pid in running(mark))
    )

    assert one("process_cancel", number) == (0, b"")

    until(lambda: running(mark) == [])


@pytest.mark.slow
def test_what_a_program_leaves_behind_ends_with_it(
    puppets: Puppets, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process.DRAIN_SECONDS == 5
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.5)
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    quiet = run(one, "sh", "-c", f"sleep {mark} >/dev/null 2>&1 & echo quiet")
    assert quiet == (1, {"exit_code": 0, "stdout": b"quiet\n", "stderr": b""})
    assert running(mark) == []

    began = time.monotonic()
    holding = run(one, "sh", "-c", f"sleep {mark} & echo holding")
    assert holding == (1, {"exit_code": 0, "stdout": b"holding\n", "stderr": b""})
    assert time.monotonic() - began > 0.4
    assert running(mark) == []


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (0, 300),
        (1, 0.001),
        (5000, 5),
        (MOST_MS, 3600),
        (MOST_MS + 1, 3600),
        (NO_DEADLINE - 1, 3600),
        (NO_DEADLINE, None),
    ],
)
def test_threat_29_a_deadline_is_bounded(asked: int, seconds: float | None) -> None:
    assert _seconds(asked) == seconds


def test_a_task_is_cancelled_with_everything_it_started(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    number = begin(one, "sh", "-c", f"sleep {mark} & sleep {mark}")
    until(lambda: len(running(mark)) == 2)
    assert one("process_pending") == (1, b"")

    assert one("process_cancel", number) == (0, b"")

    assert one("process_pending") == (0, b"")
    assert one("process_result", number) == (4, b"")
    assert one("process_cancel", number) == (1, b"")
    until(lambda: running(mark) == [])


# How many ---------------------------------------------------------------------------------------------------------


def test_tasks_are_counted(puppets: Puppets) -> None:
    bounds = {"max_concurrency": 1, "max_queued": 2, "max_per_cell": 2}
    one, two = puppets(NAME, IMPORTS, "one", "two", config={NAME: {**ALLOW[NAME], **bounds}})
    ask = {"argv": ["sleep", "1000"]}

    assert [one("process_run", ask)[0] for _ in range(3)] == [100, 101, 16]
    assert [two("process_run", ask)[0] for _ in range(2)] == [102, 15]
    assert (one("process_pending")[0], two("process_pending")[0]) == (2, 1)
    assert run(one, "true", timeout_ms=NO_DEADLINE)[0] == 1  # it counts for neither
    for number in (100, 101):
        assert one("process_cancel", number)[0] == 0
    until(lambda: two("process_run", ask)[0] >= 100)


def test_tasks_without_a_deadline_are_counted_for_themselves(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**ALLOW[NAME], "max_per_cell": 1}})
    ask = {"argv": ["sleep", "1000"], "timeout_ms": NO_DEADLINE}

    codes = [one("process_run", ask)[0] for _ in range(65)]

    assert codes == [*range(100, 164), 17]


# Whose it is ------------------------------------------------------------------------------------------------------


def test_threat_47_a_task_of_another_cell_does_not_exist(puppets: Puppets) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=ALLOW)
    number = begin(one, "sh", "-c", "echo secret; sleep 0.05")

    assert two("process_result", number) == (4, b"")
    assert two("process_cancel", number) == (1, b"")
    assert two("process_pending") == (0, b"")

    assert end(one, number)[1]["stdout"] == b"secret\n"


def test_a_cell_that_crashes_loses_its_tasks_and_their_results(puppets: Puppets, mark: str) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=ALLOW)
    done = begin(one, "true")
    begin(one, "sleep", mark)
    other = begin(two, "sleep", mark)
    until(lambda: len(running(mark)) == 2 and one("process_pending")[0] == 1)

    one.trap()

    until(lambda: len(running(mark)) == 1)
    assert one("process_result", done)[0] == 4
    assert one("process_pending")[0] == 0
    assert two("process_result", other)[0] == 0


def test_when_the_host_stops_nothing_is_left(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    begin(one, "sh", "-c", f"trap '' TERM; setsid sleep {mark} & sleep {mark}")
    until(lambda: len(running(mark)) == 2)
    until(wardens)

    puppets.stop()  # type: ignore[attr-defined]

    assert running(mark) == []
    assert wardens() == []


def is_warden(pid: int) -> bool:
    try:
        return b"spawn/tree.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def wardens() -> list[int]:
    return [item.pid for item in processes() if item.parent == os.getpid() and is_warden(item.pid)]


HOST = """
import sys
from pathlib import Path
from tests.capabilities.puppet import Puppet
from pulp_runtime import Host

imports = {"process_run": 2, "process_result": 3, "process_cancel": 1, "process_pending": 0}
with Host([sys.argv[1]], cache=Path(sys.argv[2]), storage_root=sys.argv[1] + "/data",
          config={"spawn.process": {"allow_bins": ["sh"]}}) as host:
    one = Puppet(host, "one", imports)
    assert one("process_run", {"argv": ["sh", "-c", sys.argv[3]]})[0] == 100
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_host_that_is_killed_leaves_nothing_running(
    tmp_path: Path, puppet_cache: Path, mark: str, number: signal.Signals
) -> None:
    cell = puppet_cell(tmp_path, "one", IMPORTS, (NAME,))
    script = f"trap '' TERM HUP; sleep {mark} & (setsid sh -c 'sleep {mark} & exit' &); sleep {mark}"
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", HOST, str(cell), str(puppet_cache), script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"begun\n"
        until(lambda: len(running(mark)) == 3)

        host.send_signal(number)
        host.wait(20)

    until(lambda: running(mark) == [])


def test_a_warden_that_is_killed_is_replaced(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    begin(one, "sleep", mark)
    until(lambda: running(mark))
    (before,) = until(wardens)
    os.kill(before, signal.SIGKILL)
    until(lambda: not is_warden(before))

    assert run(one, "true")[0] == 1

    (after,) = until(lambda: [pid for pid in wardens() if pid != before])
    assert running(mark)
    os.kill(after, 0)


# Codes ------------------------------------------------------------------------------------------------------------

Make = Callable[..., CellUnderTest]


def ask(cell: CellUnderTest, request: object) -> int:
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(1024, data)
    return cell.run("process_run", 1024, len(data))


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(b"", 1, id="nothing is 1"),
        pytest.param(b"\xc1", 3, id="no messagepack is 3"),
        pytest.param({"argv": "sh"}, 3, id="no list is 3"),
        pytest.param({"argv": ["sh"], "timeout_ms": -1}, 3, id="a time below zero is 3"),
        pytest.param({}, 4, id="no arguments are 4"),
        pytest.param({"argv": []}, 4, id="an empty list is 4"),
        pytest.param({"argv": [""]}, 4, id="no program is 4"),
        pytest.param({"argv": ["sh", "a\0b"]}, 4, id="an argument that cannot be is 4"),
        pytest.param({"argv": ["sh", "x" * 20_000] * 60}, 3, id="arguments that end past memory are 3"),
        pytest.param({"argv": ["ls"]}, 5, id="another program is 5"),
        pytest.param({"argv": ["sh"], "dir": "/"}, 6, id="a folder is 6"),
        pytest.param({"argv": ["sh"], "env": {"PATH": "/"}}, 11, id="a search path is 11"),
    ],
)
def test_a_request(pulp_cell: Make, request_: object, code: int) -> None:
    cell = pulp_cell(guest(process.capability()), declares=[NAME], settings={NAME: {"allow_bins": ["sh"]}})
    data = msgspec.msgpack.encode(request_) if not isinstance(request_, bytes) else request_

    assert ask(cell, data[:30_000]) == code


def test_arguments_over_a_mebibyte_are_4(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert one("process_run", {"argv": ["true", "x" * (1024 * 1024)]})[0] == 4
    assert one("process_run", {"argv": ["true"], "env": {"A": "x" * (1024 * 1024)}})[0] == 4


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_request_outside_memory_is_2(pulp_cell: Make, words: tuple[int, int]) -> None:
    assert pulp_cell(guest(process.capability()), declares=[NAME]).run("process_run", *words) == 2


@pytest.mark.parametrize(("name", "words"), IMPORTS.items())
def test_without_the_capability_every_function_is_99(pulp_cell: Make, name: str, words: int) -> None:
    assert pulp_cell(guest(IMPORTS)).run(name, *[0] * words) == 99


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
def test_a_result_without_a_place_is_kept(
    pulp_cell: Make, monkeypatch: pytest.MonkeyPatch, alloc: str, code: int
) -> None:
    cell = pulp_cell(guest(process.capability(), alloc=alloc), declares=[NAME], settings=ALLOW)
    number = ask(cell, {"argv": ["echo", "x"]})
    until(lambda: (cell.advance(0.01), cell.run("process_pending") == 0)[1])

    assert cell.run("process_result", number, 64, 68) == code
    assert cell.run("process_result", number, 64, 68) == code


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"allow_bins": ["bin/sh"]}, "allow_bins: 'bin/sh' is neither a name nor an absolute path"),
        ({"run_roots": ["here"]}, "run_roots: 'here' is no absolute path"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"allow": ["sh"]}, "unknown field `allow`"),
    ],
)
def test_a_wrong_setting_stops_the_host(puppets: Puppets, config: dict[str, object], said: str) -> None:
    with pytest.raises(Exception, match="spawn.process: setup") as raised:  # noqa: RUF043
        puppets(NAME, IMPORTS, config={NAME: config})

    assert said in str(raised.value)
