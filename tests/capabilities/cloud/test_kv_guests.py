"""Every row of the key-value table, by unmodified programs in C and Go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.capabilities.cloud.kv_guests import LANGUAGES, Guests, Session, build
from tests.capabilities.cloud.kv_runs import Cloud

from pulp_runtime._kernel.engine import Engine
from pulp_runtime.capabilities.cloud import kv
from pulp_runtime.testing import FakeHost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOCAL = "/beta/kv/local"
Start = Callable[[], Session]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    modules: dict[str, Path] = {}

    def find(language: str) -> Path:
        if language not in modules:
            modules[language] = build(language, tmp_path_factory.mktemp(language))
        return modules[language]

    return find


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("cache"))
    yield engine
    engine.close()


@pytest.fixture(params=LANGUAGES)
def start(
    request: pytest.FixtureRequest, built: Callable[[str], Path], engine: Engine, tmp_path: Path
) -> Iterator[Start]:
    with FakeHost(tmp_path / "data") as host:
        cloud = Cloud(host, kv.capability())
        cell = cloud.cell(granted={"kv": {"local": "rw", "region": "rw", "global": "ro"}})
        guests = Guests(built(request.param), cell, cloud.capability, engine)
        yield guests
        guests.close()
        cloud.close()


def test_what_a_shell_would_do(start: Start) -> None:
    guest = start()

    assert guest("ls /beta/kv") == "ok local/ region/ global/"
    assert guest(f"put {LOCAL}/user/17 ann") == "ok"
    assert guest(f"get {LOCAL}/user/17") == "ok ann"
    assert guest(f"add {LOCAL}/user/17 +bob") == "ok"
    assert guest(f"get {LOCAL}/user/17") == "ok ann+bob"
    assert guest(f"ls {LOCAL}") == "ok user/"
    assert guest(f"ls {LOCAL}/user") == "ok 17"
    assert guest(f"mv {LOCAL}/user/17 {LOCAL}/user/18") == "ok"
    assert guest(f"get {LOCAL}/user/17") == "err NOENT"
    assert guest(f"touch {LOCAL}/user/18") == "ok"
    assert guest(f"mkdir {LOCAL}/new") == "ok"
    assert guest(f"ls {LOCAL}") == "ok new/ user/"
    assert guest(f"rmdir {LOCAL}/new") == "ok"
    assert guest(f"rm {LOCAL}/user/18") == "ok"
    assert guest(f"rmdir {LOCAL}/user") == "ok"
    assert guest(f"ls {LOCAL}") == "ok"


def test_reads_are_snapshots_and_puts_happen_at_close(start: Start) -> None:
    one, two = start(), start()
    assert one(f"put {LOCAL}/a old") == "ok"
    assert one(f"open 1 r {LOCAL}/a") == "ok"
    assert two(f"open 1 wct {LOCAL}/a") == "ok"
    assert two("write 1 newer") == "ok"
    assert one(f"get {LOCAL}/a") == "ok old"
    assert two("close 1") == "ok"
    assert one("read 1 100") == "ok old"
    assert one(f"get {LOCAL}/a") == "ok newer"


def test_a_part_is_rewritten(start: Start) -> None:
    guest = start()
    for line in (
        f"put {LOCAL}/a 0123456789", f"open 1 + {LOCAL}/a", "seek 1 3", "write 1 xy", "cut 1 7", "seek 1 0",
    ):  # fmt: skip
        assert guest(line) == "ok"
    assert guest("read 1 100") == "ok 012xy56"
    assert guest(f"get {LOCAL}/a") == "ok 0123456789"
    assert guest("close 1") == "ok"
    assert guest(f"get {LOCAL}/a") == "ok 012xy56"


def test_a_program_that_exits_has_put_what_it_had_open(start: Start) -> None:
    one, two = start(), start()
    one(f"open 1 wct {LOCAL}/a")
    one("write 1 whole")
    assert one.end("exit 3").status == 3

    assert two(f"get {LOCAL}/a") == "ok whole"


def test_exclusive_creation_is_decided_at_open(start: Start) -> None:
    one, two = start(), start()
    assert one(f"open 1 wcx {LOCAL}/a") == "ok"
    assert two(f"open 1 wcx {LOCAL}/a") == "err EXIST"
    assert two(f"get {LOCAL}/a") == "err NOENT"
    assert one("close 1") == "ok"
    assert two(f"get {LOCAL}/a") == "ok "


def test_appends_of_two_programs_interleave_whole(start: Start) -> None:
    one, two = start(), start()
    for guest in (one, two):
        assert guest(f"open 1 wca {LOCAL}/log") == "ok"
    for _ in range(2):
        assert one("write 1 one,") == "ok"
        assert two("write 1 two,") == "ok"
    assert one(f"get {LOCAL}/log") == "ok one,two,one,two,"
    assert one("open 2 wca /beta/kv/region/log") == "err NOTSUP"


def test_a_held_revision_makes_a_put_conditional(start: Start) -> None:
    one, two = start(), start()
    one(f"put {LOCAL}/a 1")
    assert one(f"open 1 r {LOCAL}/.rev/a") == "ok"
    assert one("read 1 100") == "ok 1"
    two(f"put {LOCAL}/a 2")
    assert one(f"open 2 wt {LOCAL}/a") == "ok"
    assert one("write 2 3") == "ok"
    assert one("close 2") == "err STALE"
    assert one("close 1") == "ok"
    assert one(f"get {LOCAL}/a") == "ok 2"
    assert one(f"get {LOCAL}/.rev/a") == "ok 2"


@pytest.mark.parametrize("way", ["close 1", "exit 1", "exit 0"])
def test_a_lock_goes_when_it_is_closed_or_its_program_ends(start: Start, way: str) -> None:
    one, two = start(), start()
    assert one(f"open 1 wcx {LOCAL}/.lock/job") == "ok"
    assert one("write 1 me") == "ok"
    assert two(f"open 1 wcx {LOCAL}/.lock/job") == "err EXIST"
    assert two(f"get {LOCAL}/.lock/job") == "ok me"
    if way == "close 1":
        one(way)
    else:
        one.end(way)
    assert two(f"open 1 wcx {LOCAL}/.lock/job") == "ok"


def test_a_transaction_commits_all_or_nothing(start: Start) -> None:
    one, two = start(), start()
    one(f"put {LOCAL}/a 1")
    for guest in (one, two):
        assert guest(f"mkdir {LOCAL}/.tx/t") == "ok"
        assert guest(f"get {LOCAL}/.tx/t/a") == "ok 1"
    assert one(f"put {LOCAL}/.tx/t/a 2") == "ok"
    assert one(f"put {LOCAL}/.tx/t/b 3") == "ok"
    assert two(f"put {LOCAL}/.tx/t/a 4") == "ok"
    assert one(f"mv {LOCAL}/.tx/t {LOCAL}/.tx/t.commit") == "ok"
    assert two(f"get {LOCAL}/.tx/t/a") == "ok 4"
    assert two(f"mv {LOCAL}/.tx/t {LOCAL}/.tx/t.commit") == "err STALE"
    assert two(f"get {LOCAL}/a") == "ok 2"
    assert two(f"mkdir {LOCAL}/.tx/t") == "ok"
    assert two(f"rm {LOCAL}/.tx/t/a") == "ok"
    assert two(f"rmdir {LOCAL}/.tx/t") == "ok"
    assert one(f"ls {LOCAL}") == "ok a b"


def test_a_watch_waits_for_lines(start: Start) -> None:
    one, two = start(), start()
    assert one(f"open 1 r {LOCAL}/.watch/user") == "ok"
    one.say("read 1 100")
    time.sleep(0.1)
    two(f"put {LOCAL}/other 1")
    two(f"put {LOCAL}/user/1 1")
    assert one.hear() == "ok put user/1 2|"
    two(f"rm {LOCAL}/user/1")
    assert one("read 1 100") == "ok del user/1 3|"


def test_a_key_lives_as_long_as_it_says(start: Start) -> None:
    guest = start()
    guest(f"put {LOCAL}/a 1")
    assert guest(f"get {LOCAL}/.ttl/a") == "ok 0"
    assert guest(f"put {LOCAL}/.ttl/a 1") == "ok"
    assert guest(f"get {LOCAL}/.ttl/a") == "ok 1"
    time.sleep(1.05)
    assert guest(f"get {LOCAL}/a") == "err NOENT"
    assert guest(f"put {LOCAL}/.ttl/a 1") == "err NOENT"


def test_stat_carries_size_revision_and_inode(start: Start) -> None:
    guest = start()
    guest(f"put {LOCAL}/a 12345")
    first = guest(f"stat {LOCAL}/a").split()
    guest(f"put {LOCAL}/a 1")
    second = guest(f"stat {LOCAL}/a").split()

    assert first[1:3] == ["file", "5"]
    assert second[1:4] == ["file", "1", "2"]
    assert first[4] == second[4]
    assert guest(f"stat {LOCAL}").split()[1] == "folder"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("put {}/a/b/.hidden 1", "err INVAL"),
        ("put {}/.nothing 1", "err INVAL"),
        ("put {}/" + "k" * 1025 + " 1", "err NAMETOOLONG"),
        ("mv {}/none {}/other", "err NOENT"),
        ("get {}", "err ISDIR"),
        ("put /beta/kv/global/a 1", "err ROFS"),
        ("add /beta/kv/global/a 1", "err ROFS"),
        ("rm /beta/kv/global/a", "err ROFS"),
        ("mkdir /beta/kv/global/a", "err ROFS"),
        ("touch /beta/kv/global/a", "err ROFS"),
        ("put /beta/kv/moon/a 1", "err NOENT"),
        ("get /beta/kv/moon/a", "err NOENT"),
        ("get /beta/secrets/a", "err NOENT"),
    ],
)
def test_what_cannot_be_done_has_a_number(start: Start, line: str, answer: str) -> None:
    assert start()(line.format(LOCAL, LOCAL)) == answer


def test_scopes_are_mounts_of_their_own(start: Start) -> None:
    guest = start()
    guest(f"put {LOCAL}/a 1")

    assert guest(f"mv {LOCAL}/a /beta/kv/region/a") == "err XDEV"
    assert guest(f"mv {LOCAL}/a /beta/kv/global/a") == "err ROFS"
    assert guest(f"mv {LOCAL}/a /tmp/a") == "err XDEV"
    assert guest(f"mv /beta/kv/global/a {LOCAL}/a") == "err ROFS"


@pytest.mark.parametrize("start", LANGUAGES[:1], indirect=True)
def test_a_trap_leaves_the_old_value_and_lets_go_of_everything(start: Start) -> None:
    one, two = start(), start()
    one(f"put {LOCAL}/a old")
    for line in (
        f"open 1 wct {LOCAL}/a", "write 1 half", f"open 2 wcx {LOCAL}/.lock/l", f"open 3 wcx {LOCAL}/b",
        f"mkdir {LOCAL}/.tx/t", f"put {LOCAL}/.tx/t/c 1",
    ):  # fmt: skip
        assert one(line) == "ok"
    assert one.end("trap").status is None

    assert two(f"get {LOCAL}/a") == "ok old"
    assert two(f"ls {LOCAL}") == "ok a"
    assert two(f"open 1 wcx {LOCAL}/.lock/l") == "ok"
    assert two(f"open 2 wcx {LOCAL}/b") == "ok"
