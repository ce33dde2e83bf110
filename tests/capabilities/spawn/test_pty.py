"""`spawn.pty` in a real host, with real terminals."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, StubGuest, until

from pulp_runtime.abi.pty import PtyOpen
from pulp_runtime.capabilities.spawn import session as sessions
from pulp_runtime.capabilities.spawn.pty import NAME, Ptys, capability
from pulp_runtime.capabilities.spawn.tree import processes
from pulp_runtime.errors import Errno, HostError
from pulp_runtime.ext import Posted
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest
from pulp_runtime.testing.host import FakeHost

IMPORTS = {"pty_open": 4, "pty_write": 3, "pty_resize": 3, "pty_close": 1, "pty_alive": 1}
ALLOW = {NAME: {"allow_shells": ["sh", "cat", "no-such-shell"]}}
Make = Callable[..., CellUnderTest]


class Terminal:
    """A terminal of a cell, and what has been read from it."""

    def __init__(self, cell: Puppet, *args: str, shell: str = "sh", **more: Any) -> None:
        self.cell = cell
        self.number: int = cell.ask("pty_open", {"shell": shell, "args": list(args), **more})["pty_id"]
        self.text = ""

    def type(self, text: str) -> None:
        assert self.cell("pty_write", self.number, text.encode()) == (0, b"")

    def read(self, wanted: str) -> re.Match[str]:
        """Wait until the output holds something; return it, and forget what came before."""

        def found() -> re.Match[str] | None:
            for kind, payload in self.cell.events():
                assert kind == "pty.output"
                assert list(payload) == ["pty_id", "data"]
                if payload["pty_id"] == self.number:
                    self.text += payload["data"].decode()
            return re.search(wanted, self.text)

        match: re.Match[str] = until(found)
        self.text = self.text[match.end() :]
        return match

    @property
    def alive(self) -> int:
        code, _ = self.cell("pty_alive", self.number)
        return code


@pytest.fixture
def mark() -> str:
    return f"1000.{secrets.randbelow(10**9):09}"


def running(mark: str) -> list[int]:
    found = []
    for one in processes():
        try:
            arguments = Path(f"/proc/{one.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in arguments and not one.is_dead:
            found.append(one.pid)
    return found


# A terminal -------------------------------------------------------------------------------------------------------


def test_what_is_typed_is_read_and_what_is_written_comes_back(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one)

    terminal.type("echo the answer is $((6 * 7))\n")

    terminal.read("the answer is 42")
    assert terminal.number == 1
    assert terminal.alive == 1


def test_the_id_is_five_bytes_wide(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert one("pty_open", {"shell": "sh"}) == (0, b"\x81\xa6pty_id\xce\0\0\0\x01")


def test_it_is_the_program_s_own_terminal_of_a_size_that_can_change(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one)

    terminal.type("tty; stty size; trap 'echo changed' WINCH\n")
    terminal.read(r"/dev/pts/\d+\s+24 80")
    terminal.type("echo $((1 + 1)) again\n")
    terminal.read("2 again")  # the terminal is the shell's again, and so is the signal
    assert one("pty_resize", terminal.number, 100, 40) == (0, b"")
    terminal.type("\n")
    terminal.read("changed")
    terminal.type("stty size\n")
    terminal.read("40 100")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have programs begin with SIGINT as it is on a terminal: whoever runs the tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_program_is_interrupted_from_the_keyboard(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one)
    terminal.type(f"sleep {mark}\n")
    until(lambda: running(mark))

    terminal.type("\x03")
    until(lambda: not running(mark))
    terminal.type("echo still $((40 + 2))\n")  # not before: a shell that is interrupted may drop what was typed ahead

    terminal.read("still 42")


def test_its_arguments_are_the_cell_s(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one, "-c", 'echo "<$0> <$1>"', "a b", "$(id); *")

    terminal.read(re.escape("<a b> <$(id); *>"))


def test_several_terminals_have_their_own_output(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    numbers = [Terminal(one, "-c", f"echo number {index}; sleep 1000").number for index in range(3)]
    seen: dict[int, bytes] = dict.fromkeys(numbers, b"")

    def complete() -> bool:
        for _kind, payload in one.events():
            seen[payload["pty_id"]] += payload["data"]
        return all(seen.values())

    until(complete)
    assert seen == {number: f"number {index}\r\n".encode() for index, number in enumerate(numbers)}


# Its end ----------------------------------------------------------------------------------------------------------


def test_the_last_words_come_and_then_it_is_not_alive(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one, "-c", "sleep 0.05; echo last words")

    terminal.read("last words")

    until(lambda: terminal.alive == 0)
    assert one("pty_write", terminal.number, b"x")[0] in (4, 6)
    until(lambda: one("pty_write", terminal.number, b"x")[0] == 6)
    assert one("pty_resize", terminal.number, 80, 24)[0] == 6
    assert one("pty_close", terminal.number)[0] == 6


def test_closing_it_ends_everything_it_started(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one, "-c", f"trap '' HUP TERM; setsid sleep {mark} & (sleep {mark} &) ; sleep {mark}")
    until(lambda: len(running(mark)) == 3)

    assert one("pty_close", terminal.number) == (0, b"")

    assert terminal.alive == 0
    assert one("pty_write", terminal.number, b"x")[0] == 6
    until(lambda: running(mark) == [])


@pytest.mark.slow
def test_what_a_program_leaves_behind_ends_with_it(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one, "-c", f"trap '' HUP; setsid sleep {mark} & sleep 0.1; echo bye")

    terminal.read("bye")

    until(lambda: running(mark) == [])
    until(lambda: terminal.alive == 0)


def test_a_cell_that_crashes_loses_its_terminals_but_for_those_that_persist(puppets: Puppets, mark: str) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=ALLOW)
    Terminal(one, "-c", f"exec sleep {mark}")
    kept = Terminal(one, persist=True)
    other = Terminal(two)
    until(lambda: running(mark))

    one.trap()

    until(lambda: running(mark) == [])
    assert (kept.alive, other.alive) == (1, 1)
    kept.type("echo still $((40 + 2))\n")
    kept.read("still 42")
    assert two("pty_alive", kept.number) == (0, b"")


def test_when_the_host_stops_nothing_is_left(puppets: Puppets, mark: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    Terminal(one, "-c", f"trap '' HUP TERM; setsid sleep {mark} & sleep {mark}", persist=True)
    Terminal(one, "-c", f"exec sleep {mark}")
    until(lambda: len(running(mark)) == 3)

    puppets.stop()  # type: ignore[attr-defined]

    assert running(mark) == []


# Which programs, and what they are given --------------------------------------------------------------------------


def test_nothing_is_allowed_by_default_and_the_operator_is_told(puppets: Puppets, records: Any) -> None:
    (one,) = puppets(NAME, IMPORTS)

    for request in ({"shell": "sh"}, {"shell": "agent"}, {}, b""):
        assert one("pty_open", request) == (11, b"")
    assert records.fields("no terminal may be opened")
    assert [told["shell"] for told in records.fields("pty refused")] == ["sh", "agent", "", ""]


@pytest.mark.parametrize(
    ("user_s", "allowed", "expected"),
    [
        pytest.param("/bin/sh", "sh,bash", "sh", id="the user's"),
        pytest.param("/bin/no-such-shell", "sh,bash", "bash", id="bash if there is none"),
        pytest.param("", "sh,bash", "bash", id="bash if nobody says"),
        pytest.param("/bin/bash", "sh", "sh", id="the plain one if nothing else is allowed"),
    ],
)
def test_the_shell_is(
    puppets: Puppets, monkeypatch: pytest.MonkeyPatch, user_s: str, allowed: str, expected: str
) -> None:
    monkeypatch.setenv("SHELL", user_s)
    monkeypatch.setenv("PTY_ALLOW_SHELLS", allowed)
    (one,) = puppets(NAME, IMPORTS)
    terminal = Terminal(one, shell="")

    terminal.type("echo is:${BASH_VERSION:+bash}:\n")

    assert terminal.read("is:(bash|):")[1] == ("bash" if expected == "bash" else "")


def test_an_empty_request_is_the_shell(puppets: Puppets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert one("pty_open", b"")[0] == 0


def test_the_agent_is_the_operator_s_command(puppets: Puppets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJX_AGENT_CMD", "sh -c 'echo \"agent $0\"'")
    (one,) = puppets(NAME, IMPORTS, config={NAME: {"allow_shells": ["agent"]}})

    terminal = Terminal(one, "forty-two", shell="agent")

    terminal.read("agent forty-two")
    assert one("pty_open", {"shell": "sh"})[0] == 11


def test_threat_44_a_program_gets_no_secret_and_no_file_of_the_host(
    puppets: Puppets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "canary")
    monkeypatch.setenv("TOOL_KEY", "passed")
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**ALLOW[NAME], "pass_env": ["TOOL_*"]}})
    inherited = os.open(tmp_path / "canary", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(inherited, True)

    terminal = Terminal(one, "-c", "env; echo files /proc/self/fd/*; echo done")

    seen = terminal.read(r"(?s).*files ([^\n]*)\r\ndone")
    os.close(inherited)
    assert "TERM=xterm-256color" in seen[0]
    assert "TOOL_KEY=passed" in seen[0]
    assert "canary" not in seen[0]
    assert set(seen[1].split()) <= {f"/proc/self/fd/{number}" for number in (0, 1, 2, 3)}


def test_where_it_begins_lies_below_a_root(puppets: Puppets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTY_RUN_ROOTS", str(tmp_path))
    (tmp_path / "out").symlink_to("/")
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    Terminal(one, "-c", "pwd", dir=str(tmp_path)).read(re.escape(f"{tmp_path}\r\n"))
    for folder in ("/", f"{tmp_path}/out"):
        assert one("pty_open", {"shell": "sh", "dir": folder})[0] == 11
    assert one("pty_open", {"shell": "sh", "dir": f"{tmp_path}/not-there"})[0] == 4


def test_a_manifest_leaves_a_cell_less_than_the_operator_allows_and_never_more(puppets: Puppets) -> None:
    lines = {"less": ('[settings."spawn.pty"]', 'allow_shells = ["cat", "bash"]')}
    (less,) = puppets(NAME, IMPORTS, "less", lines=lines, config=ALLOW)

    assert less("pty_open", {"shell": "cat"})[0] == 0
    assert less("pty_open", {"shell": "sh"})[0] == 11
    assert less("pty_open", {"shell": "bash"})[0] == 11


# How many, how much -----------------------------------------------------------------------------------------------


def test_terminals_are_counted(puppets: Puppets) -> None:
    bounds = {"max_per_cell": 2, "max_total": 3}
    one, two = puppets(NAME, IMPORTS, "one", "two", config={NAME: {**ALLOW[NAME], **bounds}})

    assert [one("pty_open", {"shell": "cat"})[0] for _ in range(3)] == [0, 0, 16]
    assert [two("pty_open", {"shell": "cat"})[0] for _ in range(2)] == [0, 17]
    assert one("pty_close", 1)[0] == 0
    assert two("pty_open", {"shell": "cat"})[0] == 0


def test_much_is_typed_as_fast_as_it_is_read(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one, "-c", "stty raw -echo; echo ready; head -c 300000 | wc -c")
    terminal.read("ready")

    terminal.type("x" * 300_000)

    terminal.read("300000")


@pytest.mark.slow
def test_what_nobody_reads_is_4_before_the_call_s_deadline(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW, lines={"one": ("call_timeout_ms = 1000",)})
    terminal = Terminal(one, "-c", "stty raw -echo; echo ready; sleep 1000")
    terminal.read("ready")

    began = time.monotonic()
    assert one("pty_write", terminal.number, bytes(300_000))[0] == 4

    assert time.monotonic() - began < 5
    assert terminal.alive == 1


class Bench:
    """The capability on a loop that the test moves, with the mailbox in its hands."""

    def __init__(self, env: FakeHost) -> None:
        self.env = env
        self.ptys = Ptys()
        self.ptys.setup(env(NAME, config=ALLOW[NAME]))
        self.guest = StubGuest()
        self.ptys.setup_cell(self.guest.cell)
        env.advance(0.001)

    def open(self, script: str) -> int:
        self.ptys.pty_open(self.guest, PtyOpen(shell="sh", args=["-c", script]), 0, 0)  # type: ignore[arg-type]
        number: int = msgspec.msgpack.decode(self.guest.delivered[-1])["pty_id"]
        return number

    def wait(self, true: Callable[[], object]) -> None:
        until(lambda: (self.env.advance(0.005), true())[1])

    @property
    def seen(self) -> bytes:
        return b"".join(msgspec.msgpack.decode(event.payload)["data"] for event in self.env.posted)


@pytest.fixture
def bench(pulp_env: FakeHost) -> Iterator[Bench]:
    bench = Bench(pulp_env)
    yield bench
    pulp_env.close()
    bench.ptys.teardown()


def test_one_event_with_everything_that_waits_is_on_its_way_at_a_time(bench: Bench) -> None:
    number = bench.open("for i in 1 2 3; do echo $i; sleep 0.02; done; sleep 1000")
    bench.wait(lambda: bench.env.posted)
    session = bench.ptys._sessions[number]
    bench.wait(lambda: len(bench.seen) + len(session.waits) == 9)
    assert len(bench.env.posted) == 1

    bench.ptys.finalize(number)
    bench.wait(lambda: len(bench.env.posted) == 2)

    assert bench.seen == b"1\r\n2\r\n3\r\n"
    assert bench.env.posted[1].id == number


def test_output_that_the_cell_does_not_take_keeps_its_newest_part(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "BUFFER_BYTES", 1000)
    bench.env.answer = Posted.FULL
    number = bench.open("stty -opost; yes | head -c 50000; echo the end; sleep 1000")
    session = bench.ptys._sessions[number]
    bench.wait(lambda: session.waits.endswith(b"the end\n"))

    bench.env.posted.clear()
    bench.env.answer = Posted.ACCEPTED
    bench.wait(lambda: bench.env.posted)

    assert bench.seen == (b"y\n" * 496 + b"the end\n")
    assert "pty output dropped" in [record.message for record in bench.guest.logged]


def test_output_too_large_for_an_event_of_the_cell_comes_in_pieces(bench: Bench) -> None:
    taken: list[bytes] = []

    def post(event: Any) -> Posted:
        data = msgspec.msgpack.decode(event.payload)["data"]
        if len(data) > 100:
            return Posted.TOO_LARGE
        taken.append(data)
        bench.ptys.finalize(event.id)
        return Posted.ACCEPTED

    object.__setattr__(bench.ptys._env, "post", post)
    bench.open("stty -opost; yes | head -c 1000; sleep 1000")

    bench.wait(lambda: sum(map(len, taken)) == 1000)
    assert b"".join(taken) == b"y\n" * 500


def test_output_of_which_not_one_byte_fits_is_dropped_and_told(bench: Bench) -> None:
    bench.env.answer = Posted.TOO_LARGE
    bench.open("echo x; sleep 1000")

    bench.wait(lambda: "pty output dropped" in [record.message for record in bench.guest.logged])


@pytest.mark.parametrize("code", [Errno.ALLOC, Errno.WRITE])
def test_a_terminal_whose_id_cannot_be_told_is_closed(bench: Bench, mark: str, code: Errno) -> None:
    bench.guest.refuses = HostError(code)

    with pytest.raises(HostError) as refused:
        bench.ptys.pty_open(bench.guest, PtyOpen(shell="sh", args=["-c", f"sleep {mark}"]), 0, 0)  # type: ignore[arg-type]

    assert refused.value.code == code
    bench.wait(lambda: not running(mark) and not bench.ptys._sessions)


def test_a_terminal_that_is_closed_before_anybody_looked_after_it_ends(bench: Bench, mark: str) -> None:
    number = bench.open(f"sleep {mark}")

    bench.ptys.pty_close(bench.guest.cell, number)

    bench.wait(lambda: not running(mark))
    bench.wait(lambda: not bench.ptys._dying)


def test_while_the_host_stops_no_terminal_is_opened(bench: Bench) -> None:
    bench.env.cancel()
    bench.env.finish()

    with pytest.raises(HostError) as refused:
        bench.open("true")

    assert refused.value.code == 17


# Codes ------------------------------------------------------------------------------------------------------------


def run(cell: CellUnderTest, request: object) -> int:
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(1024, data)
    return cell.run("pty_open", 1024, len(data), 64, 68)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(b"\xc1", 3, id="no messagepack is 3"),
        pytest.param({"shell": 5}, 3, id="no text is 3"),
        pytest.param({"args": "x"}, 3, id="no list is 3"),
        pytest.param({"shell": "no-such-shell"}, 4, id="a shell that is not there is 4"),
        pytest.param({"shell": "sh", "args": ["a\0b"]}, 4, id="an argument that cannot be is 4"),
        pytest.param({"shell": "./sh"}, 11, id="a path that is not absolute is 11"),
        pytest.param({"shell": "bash"}, 11, id="another shell is 11"),
        pytest.param({"shell": "sh", "dir": "/"}, 11, id="a folder is 11"),
    ],
)
def test_a_request(pulp_cell: Make, request_: object, code: int) -> None:
    assert run(pulp_cell(guest(capability()), declares=[NAME], settings=ALLOW), request_) == code


def test_arguments_that_are_too_long_are_4(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)

    assert one("pty_open", {"shell": "sh", "args": ["x" * (128 * 1024 + 1)]})[0] == 4


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_bytes_outside_memory_are_2(pulp_cell: Make, words: tuple[int, int]) -> None:
    cell = pulp_cell(guest(capability()), declares=[NAME])

    assert cell.run("pty_open", *words, 64, 68) == 2
    assert cell.run("pty_write", 1, *words) == 2


@pytest.mark.parametrize("size", [(0, 24), (80, 0), (65_536, 24), (80, 0xFFFF_FFFF)])
def test_a_size_that_no_terminal_has_is_4(puppets: Puppets, size: tuple[int, int]) -> None:
    (one,) = puppets(NAME, IMPORTS, config=ALLOW)
    terminal = Terminal(one, shell="cat")

    assert one("pty_resize", terminal.number, *size)[0] == 4
    assert one("pty_resize", terminal.number, 65_535, 65_535)[0] == 0
    assert one("pty_write", terminal.number, b"")[0] == 0


def test_threat_47_a_terminal_of_another_cell_does_not_exist(puppets: Puppets) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=ALLOW)
    terminal = Terminal(one)
    terminal.type("echo begun $((1 + 1))\n")
    terminal.read("begun 2")

    assert two("pty_write", terminal.number, b"echo stolen\n") == (6, b"")
    assert two("pty_resize", terminal.number, 80, 24) == (6, b"")
    assert two("pty_close", terminal.number) == (6, b"")
    assert two("pty_alive", terminal.number) == (0, b"")

    terminal.type("echo mine $((40 + 2))\n")
    seen = terminal.read("(?s).*mine 42")
    assert "stolen" not in seen[0]
    assert two.events() == []


def test_without_the_capability_every_function_is_99_and_nothing_is_alive(pulp_cell: Make) -> None:
    cell = pulp_cell(guest(IMPORTS))

    codes = {name: cell.run(name, *[0] * words) for name, words in IMPORTS.items()}

    assert codes == {"pty_open": 99, "pty_write": 99, "pty_resize": 99, "pty_close": 99, "pty_alive": 0}


def test_before_it_is_set_up_it_is_99() -> None:
    with pytest.raises(HostError) as refused:
        Ptys().pty_open(StubGuest(), None, 0, 0)  # type: ignore[arg-type]

    assert refused.value.code == Errno.UNDECLARED


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"allow_shells": ["bin/sh"]}, "allow_shells: 'bin/sh' is neither a name nor an absolute path"),
        ({"run_roots": ["here"]}, "run_roots: 'here' is no absolute path"),
        ({"max_total": 0}, "max_total"),
        ({"allow": ["sh"]}, "unknown field `allow`"),
    ],
)
def test_a_wrong_setting_stops_the_host(puppets: Puppets, config: dict[str, object], said: str) -> None:
    with pytest.raises(Exception, match=r"spawn\.pty: setup") as raised:
        puppets(NAME, IMPORTS, config={NAME: config})

    assert said in str(raised.value)
