from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.capabilities.puppet import Puppet, until
from tests.capabilities.storage.tables import PAGE, memory_guest

from pulp_runtime.capabilities.storage import kv
from pulp_runtime.capabilities.storage.kv import NAME, WATCHES
from pulp_runtime.capabilities.storage.kv_feed import IN_FLIGHT, WAITING, Feed
from pulp_runtime.capabilities.storage.place import KV_FOLDER as FOLDER
from pulp_runtime.errors import HookFailed
from pulp_runtime.ext import Capability, CellRef, Linker, Posted, StepEvent
from pulp_runtime.kv.entry import Change
from pulp_runtime.kv.store import Store
from pulp_runtime.log import Log
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

Make = Callable[..., CellUnderTest]
Puppets = Callable[..., tuple[Puppet, ...]]

IMPORTS = {
    **{"kv_get": 4, "kv_put": 5, "kv_entry": 4, "kv_delete": 2, "kv_list": 4, "kv_cas": 4, "kv_batch": 4},
    **{"kv_increment": 4, "kv_watch": 4, "kv_unwatch": 1},
}
RECORDS = ("kv_list", "kv_cas", "kv_batch", "kv_increment", "kv_watch")
PLACE = 64
OUTS = (16, 20)
MIB = 1 << 20


def settled(disk_bytes: int | None = None, **settings: Any) -> Capability:
    """Return the capability for a cell with these settings in its manifest."""
    plain = kv.capability()

    def register(linker: Linker, cell: CellRef) -> None:
        known = msgspec.structs.replace(cell, tables={NAME: settings})
        plain.register(linker, known if disk_bytes is None else msgspec.structs.replace(known, disk_bytes=disk_bytes))

    return dataclasses.replace(plain, register=register)


class Keys:
    """What a guest can do with its store: every method answers the code, and what was delivered."""

    def __init__(self, cell: CellUnderTest) -> None:
        self.cell = cell

    def _raw(self, function: str, *words: int) -> tuple[int, bytes | None]:
        outs = OUTS if IMPORTS[function] == len(words) + 2 else ()
        self.cell.write(OUTS[0], b"\xee" * 8)
        code = self.cell.run(function, *words, *outs)
        stored = self.cell.read(OUTS[0], 8)
        if stored == b"\xee" * 8:
            return code, None
        data = self.cell.read(int.from_bytes(stored[:4], "little"), int.from_bytes(stored[4:], "little"))
        self.cell.run("reset")
        return code, data

    def get(self, key: str | bytes) -> tuple[int, bytes | None]:
        data = key.encode() if isinstance(key, str) else key
        self.cell.write(PLACE, data)
        return self._raw("kv_get", PLACE, len(data))

    def put(self, key: str | bytes, value: bytes, ttl_seconds: int = 0) -> int:
        data = key.encode() if isinstance(key, str) else key
        self.cell.write(PLACE, data + value)
        return self._raw("kv_put", PLACE, len(data), PLACE + len(data), len(value), ttl_seconds)[0]

    def entry(self, key: str) -> tuple[int, Any]:
        self.cell.write(PLACE, key.encode())
        code, data = self._raw("kv_entry", PLACE, len(key.encode()))
        return code, None if data is None else msgspec.msgpack.decode(data)

    def delete(self, key: str) -> int:
        self.cell.write(PLACE, key.encode())
        return self._raw("kv_delete", PLACE, len(key.encode()))[0]

    def ask(self, function: str, request: bytes | None = None, **fields: Any) -> tuple[int, Any]:
        data = msgspec.msgpack.encode(fields) if request is None else request
        self.cell.write(PLACE, data)
        code, answer = self._raw(function, PLACE, len(data))
        return code, None if answer is None else msgspec.msgpack.decode(answer)


def keys_of(pulp_cell: Make, tmp_path: Path, capability: Capability | None = None, **fields: Any) -> Keys:
    fields.setdefault("name", "one")
    fields.setdefault("storage_root", tmp_path / "data")
    cell = pulp_cell(memory_guest(IMPORTS, 600), capabilities=[capability or kv.capability()], **fields)
    cell.init()
    return Keys(cell)


@pytest.fixture
def keys(pulp_cell: Make, tmp_path: Path) -> Keys:
    return keys_of(pulp_cell, tmp_path)


# One key ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"x", b"\0\xff" * 5_000, bytes(16 * MIB)], ids=["0", "1", "10000", "16 MiB"])
def test_what_was_put_is_got(keys: Keys, value: bytes) -> None:
    assert keys.put("colour", value) == 0
    assert keys.get("colour") == (0, value)


def test_the_transcript_says_what_crossed(keys: Keys) -> None:
    keys.put("colour", b"red")
    keys.get("colour")
    keys.get("size")

    assert keys.cell.transcript == [
        "==> kv_put(key='colour', value=b'red', ttl_seconds=0)",
        "<== 0",
        "==> kv_get('colour')",
        "<== 0 b'red'",
        "==> kv_get('size')",
        "<== 6",
    ]


def test_what_is_missing_is_6(keys: Keys) -> None:
    assert keys.get("nobody") == (6, None)
    assert keys.entry("nobody") == (6, None)
    assert keys.delete("nobody") == 6


def test_an_entry_has_its_revision_and_times(keys: Keys) -> None:
    keys.put("a", b"1")
    keys.put("a", b"2", ttl_seconds=100)

    code, entry = keys.entry("a")
    assert (code, entry["value"], entry["revision"]) == (0, b"2", 2)
    assert 99e9 < entry["expires_ns"] - entry["modified_ns"] <= 100e9
    assert keys.delete("a") == 0
    assert keys.get("a") == (6, None)


@pytest.mark.parametrize(
    ("key", "code"),
    [(b"", 1), (b"a\0b", 1), (b"\xff", 1), (b"x" * 1024, 0), (b"x" * 1025, 19), ("é" * 512, 0)],
)
def test_a_key_is_1_to_1024_bytes_of_utf8(keys: Keys, key: str | bytes, code: int) -> None:
    assert keys.put(key, b"v") == code
    assert keys.get(key) == ((0, b"v") if code == 0 else (6 if key else 1, None))


def test_a_value_past_16_mib_is_19(keys: Keys) -> None:
    assert keys.put("a", bytes(16 * MIB + 1)) == 19
    assert keys.get("a") == (6, None)


# Several ------------------------------------------------------------------------------------------------------------


def test_keys_are_listed_in_pages(keys: Keys) -> None:
    for name in ("b/2", "a", "b/1", "c", "b/3"):
        keys.put(name, name.encode())

    code, page = keys.ask("kv_list", prefix="b/", limit=2)
    assert (code, [one["key"] for one in page["keys"]], page["more"]) == (0, ["b/1", "b/2"], True)
    assert page["keys"][0] == {"key": "b/1", "size": 3, "revision": 3} | {
        name: page["keys"][0][name] for name in ("modified_ns", "expires_ns")
    }
    code, page = keys.ask("kv_list", prefix="b/", limit=2, after="b/2")
    assert (code, [one["key"] for one in page["keys"]], page["more"]) == (0, ["b/3"], False)
    assert [one["key"] for one in keys.ask("kv_list", b"")[1]["keys"]] == ["a", "b/1", "b/2", "b/3", "c"]
    assert keys.ask("kv_list", prefix="nobody") == (0, {"keys": [], "more": False})


def test_a_swap_happens_only_at_the_expected_revision(keys: Keys) -> None:
    assert keys.ask("kv_cas", key="a", value=b"1", revision=0) == (0, {"revision": 1})
    assert keys.ask("kv_cas", key="a", value=b"2", revision=0) == (18, None)
    assert keys.ask("kv_cas", key="a", value=b"2", revision=1) == (0, {"revision": 2})
    assert keys.ask("kv_cas", key="a", value=b"3", revision=1) == (18, None)
    assert keys.get("a") == (0, b"2")
    assert keys.ask("kv_cas", key="a", revision=1) == (18, None)
    assert keys.ask("kv_cas", key="a", value=None, revision=2) == (0, {"revision": 3})
    assert keys.get("a") == (6, None)
    assert keys.ask("kv_cas", key="a", value=b"4", ttl_seconds=5) == (0, {"revision": 4})
    assert keys.entry("a")[1]["expires_ns"] > 0


def test_a_batch_happens_whole_or_not_at_all(keys: Keys) -> None:
    keys.put("a", b"1")
    changes = [{"key": "a", "value": b"2", "revision": 1}, {"key": "b", "value": b"3"}, {"key": "nobody"}]
    assert keys.ask("kv_batch", changes=changes) == (0, {"revision": 3})
    assert keys.ask("kv_batch", changes=[{"key": "c", "value": b""}, *changes]) == (18, None)
    assert keys.ask("kv_batch", changes=[]) == (0, {"revision": 3})
    assert keys.ask("kv_batch", changes=[{"key": "a"}] * 10_001) == (21, None)
    assert keys.ask("kv_batch", changes=[{"value": b"x"}]) == (1, None)

    assert [one["key"] for one in keys.ask("kv_list")[1]["keys"]] == ["a", "b"]


def test_a_counter_counts(keys: Keys) -> None:
    assert keys.ask("kv_increment", key="n") == (0, {"value": 1, "revision": 1})
    assert keys.ask("kv_increment", key="n", by=-43) == (0, {"value": -42, "revision": 2})
    assert keys.get("n") == (0, b"-42")
    keys.put("n", b"many")
    assert keys.ask("kv_increment", key="n") == (4, None)
    keys.put("n", b"9223372036854775807")
    assert keys.ask("kv_increment", key="n") == (4, None)
    assert keys.ask("kv_increment", by=1) == (1, None)


def test_a_time_to_live_may_be_136_years(keys: Keys) -> None:
    assert keys.put("a", b"x", ttl_seconds=0xFFFF_FFFF) == 0
    assert keys.get("a") == (0, b"x")


# Words of the boundary ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [name for name, words in IMPORTS.items() if words > 1])
@pytest.mark.parametrize("place", HOSTILE_RANGES)
def test_what_is_outside_memory_is_2(keys: Keys, function: str, place: str) -> None:
    address, length = HOSTILE_RANGES[place]
    outside = address + 599 * PAGE if address <= PAGE and length < 4 else address
    rest = (PLACE, 1, 0)[: IMPORTS[function] - 2]

    assert keys.cell.run(function, outside, length, *rest[: IMPORTS[function] - 2]) == 2
    if function == "kv_put":
        assert keys.cell.run(function, PLACE, 1, outside, length, 0) == 2


@pytest.mark.parametrize("function", RECORDS)
@pytest.mark.parametrize("request_", [b"\x01", b"\xa1a", b"\x92\x01", b"\xc1", b"\x81\xa1"])
def test_a_request_that_is_no_record_is_3(keys: Keys, function: str, request_: bytes) -> None:
    assert keys.ask(function, request_) == (3, None)


@pytest.mark.parametrize("function", ["kv_cas", "kv_batch", "kv_increment"])
def test_no_request_is_1(keys: Keys, function: str) -> None:
    assert keys.ask(function, b"") == (1, None)


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("kv_cas", {"key": "a", "value": b"", "revision": -1}),
        ("kv_cas", {"key": "a", "value": b"", "ttl_seconds": 1 << 32}),
        ("kv_increment", {"key": "a", "by": 1 << 63}),
        ("kv_list", {"limit": -1}),
    ],
)
def test_numbers_out_of_range_are_3(keys: Keys, function: str, fields: dict[str, Any]) -> None:
    assert keys.ask(function, **fields) == (3, None)


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
def test_a_value_without_a_place_is_7_or_8(pulp_cell: Make, tmp_path: Path, alloc: Any, code: int) -> None:
    cell = pulp_cell(guest(IMPORTS, alloc=alloc), capabilities=[kv.capability()], storage_root=tmp_path)
    cell.init()
    cell.write(PLACE, b"keyvalue")

    assert cell.run("kv_put", PLACE, 3, PLACE + 3, 5, 0) == 0
    assert cell.run("kv_get", PLACE, 3, *OUTS) == code
    assert cell.run("kv_entry", PLACE, 3, *OUTS) == code


def test_a_cell_that_has_been_torn_down_has_no_store(pulp_cell: Make, tmp_path: Path) -> None:
    capability = kv.capability()
    keys = keys_of(pulp_cell, tmp_path, capability)
    capability.teardown_cell("one")  # type: ignore[misc]

    assert keys.get("a") == (9, None)
    assert keys.put("a", b"") == 9
    for function in RECORDS:
        assert keys.ask(function, key="a") == (9, None)
    assert keys.cell.run("kv_unwatch", 1) == 9


def test_a_cell_that_does_not_declare_it_is_answered_99(pulp_cell: Make, tmp_path: Path) -> None:
    cell = pulp_cell(memory_guest(IMPORTS, 4), capabilities=[kv.capability()], declares=[], storage_root=tmp_path)
    cell.init()

    assert cell.run("kv_get", PLACE, 1, *OUTS) == 99


# Where it is --------------------------------------------------------------------------------------------------------


def test_a_cell_has_a_store_of_its_own(pulp_cell: Make, tmp_path: Path) -> None:
    one, two = (keys_of(pulp_cell, tmp_path, name=name) for name in ("one", "two"))
    one.put("a", b"mine")

    assert two.get("a") == (6, None)
    assert (tmp_path / "data" / "one" / FOLDER / "kv.db").exists()


def test_threat_47_cells_share_a_store_only_when_both_say_so(puppets: Puppets, tmp_path: Path) -> None:
    shop = ('[settings."storage.kv"]', 'namespace = "shop"')
    one, two, three = puppets(NAME, IMPORTS, "one", "two", "shop", lines={"one": shop, "two": shop})
    one.ask("kv_cas", {"key": "a", "value": b"shared"})

    assert two("kv_get", b"a") == (0, b"shared")
    assert three("kv_get", b"a") == (6, b"")
    assert (tmp_path / "data" / FOLDER / "shop" / "kv.db").exists()


@pytest.mark.parametrize(
    ("table", "problem"),
    [({"namespace": "../x"}, "namespace"), ({"namespace": "A"}, "namespace"), ({"durability": "none"}, "durability"),
     ({"name": "x"}, "name")],
)  # fmt: skip
def test_settings_that_make_no_sense_fail_the_load(
    pulp_cell: Make, tmp_path: Path, table: dict[str, Any], problem: str
) -> None:
    with pytest.raises(HookFailed, match=problem):
        keys_of(pulp_cell, tmp_path, settled(**table))


def test_those_who_share_a_store_want_the_same_durability(puppets: Puppets) -> None:
    lines = {
        "one": ('[settings."storage.kv"]', 'namespace = "shop"'),
        "two": ('[settings."storage.kv"]', 'namespace = "shop"', 'durability = "power"'),
    }
    one, two = puppets(NAME, IMPORTS, "one", "two", lines=lines)
    reasons = [one.host.status()[cell.name].reason for cell in (one, two)]

    assert sorted(bool(reason) for reason in reasons) == [False, True]
    assert any("all who share it must want the same" in reason for reason in reasons)


def test_a_change_that_waits_for_the_disk_is_answered_too(pulp_cell: Make, tmp_path: Path) -> None:
    keys = keys_of(pulp_cell, tmp_path, settled(durability="power"))

    assert keys.put("a", b"1") == 0
    assert keys.ask("kv_increment", key="a") == (0, {"value": 2, "revision": 2})


def test_a_store_that_is_none_fails_the_load_and_says_what_to_do(pulp_cell: Make, tmp_path: Path) -> None:
    file = tmp_path / "data" / "one" / FOLDER / "kv.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database" * 1000)

    with pytest.raises(HookFailed, match=r"storage\.kv: .*kv\.db: .*; put it right, restore a backup"):
        keys_of(pulp_cell, tmp_path)


def test_a_store_that_another_process_has_open_fails_the_load(pulp_cell: Make, tmp_path: Path) -> None:
    store = Store(tmp_path / "data" / "one" / FOLDER / "kv.db")
    with pytest.raises(HookFailed, match="in use by another process"):
        keys_of(pulp_cell, tmp_path)
    store.close()


def test_what_was_put_is_there_in_the_next_life(pulp_cell: Make, tmp_path: Path) -> None:
    keys = keys_of(pulp_cell, tmp_path)
    keys.put("a", b"kept")
    keys.cell.restart()
    assert keys.get("a") == (0, b"kept")
    keys.cell.close()

    assert keys_of(pulp_cell, tmp_path).get("a") == (0, b"kept")


def test_threat_9_a_store_that_fills_its_quota_is_22_and_what_is_there_stays(pulp_cell: Make, tmp_path: Path) -> None:
    keys = keys_of(pulp_cell, tmp_path, settled(disk_bytes=4 * MIB))
    codes = [keys.put(f"key{number}", bytes(100_000)) for number in range(60)]

    assert codes[0] == 0
    assert set(codes) == {0, 22}
    assert sum(file.stat().st_size for file in (tmp_path / "data" / "one" / FOLDER).iterdir()) <= 4 * MIB
    assert keys.get("key0") == (0, bytes(100_000))
    assert keys.delete("key0") == 0
    assert keys.ask("kv_cas", key="large", value=bytes(4 * MIB)) == (22, None)


# Watches ------------------------------------------------------------------------------------------------------------


def test_a_watch_posts_every_change_of_its_prefix_in_order(puppets: Puppets) -> None:
    (cell,) = puppets(NAME, IMPORTS)
    cell.ask("kv_increment", {"key": "before"})
    watching = cell.ask("kv_watch", {"prefix": "a/"})
    assert watching["revision"] == 1
    for number in range(300):  # more than a mailbox has room for
        cell.ask("kv_increment", {"key": f"a/{number % 3}"})
        cell.ask("kv_increment", {"key": "other"})
    cell("kv_delete", b"a/0")
    events = cell.wait_for(lambda events: len(events) == 301)

    assert {kind for kind, _payload in events} == {"kv.change"}
    payloads = [payload for _kind, payload in events]
    assert [payload["key"] for payload in payloads] == [*(f"a/{number % 3}" for number in range(300)), "a/0"]
    assert [payload["kind"] for payload in payloads] == ["put"] * 300 + ["del"]
    assert [payload["revision"] for payload in payloads[:300]] == list(range(2, 602, 2))
    assert {payload["watch"] for payload in payloads} == {watching["watch"]}


def test_a_watch_ends(puppets: Puppets) -> None:
    (cell,) = puppets(NAME, IMPORTS)
    first, second = (cell.ask("kv_watch", {"prefix": "a"})["watch"] for _ in range(2))
    assert cell("kv_unwatch", first)[0] == 0
    assert cell("kv_unwatch", first)[0] == 6
    assert cell("kv_unwatch", 0)[0] == 6
    cell.ask("kv_increment", {"key": "a"})

    events = cell.wait_for(bool)
    assert [payload["watch"] for _kind, payload in events] == [second]


def test_cells_hear_of_each_others_changes_in_a_shared_store(puppets: Puppets) -> None:
    shop = ('[settings."storage.kv"]', 'namespace = "shop"')
    names = ("one", "two", "three")
    cells = puppets(NAME, IMPORTS, *names, lines=dict.fromkeys(names, shop))
    for cell in cells:
        cell.ask("kv_watch", {"prefix": ""})

    def work(cell: Puppet) -> None:
        for _ in range(40):
            cell.ask("kv_increment", {"key": cell.name})

    with ThreadPoolExecutor(3) as pool:
        for result in [pool.submit(work, cell) for cell in cells]:
            result.result()
    seen = [cell.wait_for(lambda events: len(events) == 120) for cell in cells]
    revisions = [[payload["revision"] for _kind, payload in events] for events in seen]
    assert revisions == [list(range(1, 121))] * 3


def test_a_watch_does_not_outlive_its_instance(puppets: Puppets) -> None:
    (cell,) = puppets(NAME, IMPORTS)
    old = cell.ask("kv_watch", {"prefix": ""})["watch"]
    cell.trap()
    new = cell.ask("kv_watch", {"prefix": ""})["watch"]
    cell.ask("kv_increment", {"key": "a"})

    events = cell.wait_for(bool)
    assert [payload["watch"] for _kind, payload in events] == [new]
    assert cell("kv_unwatch", old)[0] == 6


@pytest.mark.parametrize("adopted", [True, False])
def test_at_a_reload_the_watches_of_one_version_go_on(pulp_cell: Make, tmp_path: Path, adopted: bool) -> None:
    capability = kv.capability()
    keys = keys_of(pulp_cell, tmp_path, capability)
    old = keys.ask("kv_watch", b"")[1]["watch"]
    capability.swap_begin("one")  # type: ignore[misc]
    capability.register(Binder(), CellRef("one", "one", Log("pulp")))
    new = keys.ask("kv_watch", b"")[1]["watch"]
    assert keys.put("a", b"while both are there") == 0
    capability.swap_end("one", adopted)  # type: ignore[misc]

    assert keys.get("a") == (0, b"while both are there")
    assert keys.cell.run("kv_unwatch", old) == (6 if adopted else 0)
    assert keys.cell.run("kv_unwatch", new) == (0 if adopted else 6)


class Binder:
    """A linker that binds nothing."""

    wanted: dict[str, int] = {}  # noqa: RUF012  # as the protocol has it

    def define(self, *_words: object, **_options: object) -> None:
        pass


def test_watches_of_a_cell_are_bounded(keys: Keys) -> None:
    for _ in range(WATCHES):
        assert keys.ask("kv_watch", b"")[0] == 0
    assert keys.ask("kv_watch", b"") == (21, None)


@pytest.mark.slow
def test_an_expired_key_is_told_of(puppets: Puppets) -> None:
    (cell,) = puppets(NAME, IMPORTS)
    cell.ask("kv_watch", {"prefix": ""})
    cell.ask("kv_cas", {"key": "a", "value": b"x", "ttl_seconds": 1})
    events = cell.wait_for(lambda events: len(events) == 2)

    assert [(payload["kind"], payload["key"]) for _kind, payload in events] == [("put", "a"), ("del", "a")]
    assert cell("kv_get", b"a")[0] == 6


# The way of a change ------------------------------------------------------------------------------------------------


class Mailbox:
    """A mailbox that a test fills and empties."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.answer = Posted.ACCEPTED

    def post(self, event: StepEvent) -> Posted:
        if self.answer is Posted.ACCEPTED:
            self.events.append(msgspec.msgpack.decode(event.payload))
        return self.answer


def changes(*revisions: int) -> list[Change]:
    return [Change(b"key", revision, False) for revision in revisions]


def test_few_events_are_in_the_mailbox_at_one_time() -> None:
    mailbox = Mailbox()
    feed = Feed("one", 1, mailbox.post)
    listen = feed.listener(7)
    for change in changes(*range(1, 31)):
        listen(change)
    assert len(mailbox.events) == IN_FLIGHT
    for done in range(30):
        assert len(mailbox.events) == min(30, IN_FLIGHT + done)
        feed.done()

    assert [event["revision"] for event in mailbox.events] == list(range(1, 31))


def test_what_the_mailbox_has_no_room_for_is_tried_again() -> None:
    mailbox = Mailbox()
    mailbox.answer = Posted.FULL
    feed = Feed("one", 1, mailbox.post)
    for change in changes(1, 2):
        feed.listener(7)(change)
    assert feed.stuck
    mailbox.answer = Posted.ACCEPTED
    feed.retry()

    assert not feed.stuck
    assert [event["revision"] for event in mailbox.events] == [1, 2]


def test_when_too_much_waits_the_cell_is_told_which_watch_has_a_gap() -> None:
    mailbox = Mailbox()
    mailbox.answer = Posted.FULL
    feed = Feed("one", 1, mailbox.post)
    slow, other = feed.listener(7), feed.listener(8)
    other(Change(b"other", 1, False))
    for change in changes(*range(2, WAITING + 10)):
        slow(change)
    mailbox.answer = Posted.ACCEPTED
    feed.retry()
    while feed._in_flight:
        feed.done()

    assert mailbox.events[0] == {"watch": 8, "kind": "put", "key": "other", "revision": 1}
    assert mailbox.events[1] == {"watch": 7, "kind": "lost", "key": "", "revision": WAITING + 1}
    assert [event["revision"] for event in mailbox.events[2:]] == list(range(WAITING + 2, WAITING + 10))


def test_an_event_past_the_message_limit_is_told_as_lost() -> None:
    posted: list[dict[str, Any]] = []

    def post(event: StepEvent) -> Posted:
        payload = msgspec.msgpack.decode(event.payload)
        if len(payload["key"]) > 100:
            return Posted.TOO_LARGE
        posted.append(payload)
        return Posted.ACCEPTED

    feed = Feed("one", 1, post)
    feed.listener(7)(Change(b"x" * 1000, 5, False))
    feed.listener(7)(Change(b"y", 6, True))

    assert posted == [
        {"watch": 7, "kind": "lost", "key": "", "revision": 5},
        {"watch": 7, "kind": "del", "key": "y", "revision": 6},
    ]


def test_a_cell_that_is_gone_hears_nothing_more() -> None:
    mailbox = Mailbox()
    mailbox.answer = Posted.CLOSED
    feed = Feed("one", 1, mailbox.post)
    feed.listener(7)(Change(b"a", 1, False))
    assert not feed.stuck
    feed.close()
    mailbox.answer = Posted.ACCEPTED
    feed.listener(7)(Change(b"a", 2, False))

    assert mailbox.events == []


def test_a_store_in_a_host_survives_its_restart(puppets: Puppets, tmp_path: Path) -> None:
    (cell,) = puppets(NAME, IMPORTS)
    cell.ask("kv_cas", {"key": "a", "value": b"kept"})
    puppets.stop()  # type: ignore[attr-defined]

    store = until(lambda: Store(tmp_path / "data" / "one" / FOLDER / "kv.db"))
    assert store.get(b"a").value == b"kept"
    store.close()
    assert os.stat(tmp_path / "data" / "one" / FOLDER).st_mode & 0o777 == 0o700
