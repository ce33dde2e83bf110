"""The example cells that share memory, in a host: `examples/frames`."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from pulp_runtime import Host
from pulp_runtime._kernel.shared_memory import SharedMemory

ROOT = Path(__file__).parents[2]
FRAMES = ROOT / "examples" / "frames"
DEADLINE_SECONDS = 20.0
SLOTS, SLOT_BYTES = 64, 65_536

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="this system cannot share pages")


class Seen(NamedTuple):
    frames: int
    bytes: int
    faulty: int


class Stage:
    def __init__(self, host: Host) -> None:
        self.host = host

    def produce(self) -> int:
        return int.from_bytes(self.host.call("producer", "frames.produce"), "little")

    def consume(self) -> Seen:
        return Seen(*struct.unpack("<3Q", self.host.call("consumer", "frames.consume")))

    def until(self, frames: int) -> Seen:
        """Produce and consume in turn until the consumer has seen so many frames."""
        end = time.monotonic() + DEADLINE_SECONDS
        while (seen := self.consume()).frames < frames:
            self.produce()
            assert time.monotonic() < end, seen
        return seen

    def do(self, operation: str, cell: str) -> None:
        self.host._thread.run(getattr(self.host.operations, operation)(cell))


@pytest.fixture
def quiet(tmp_path: Path) -> Callable[[str], Path]:
    """Return `quiet(name)`: an example cell without ticks, so that nothing happens but what a test asks for."""

    def quiet(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        manifest = (FRAMES / name / "pulp.cell.toml").read_text().replace("tick_ms = 20", "tick_ms = 0")
        (folder / "pulp.cell.toml").write_text(manifest)
        (folder / f"{name}.wasm").write_bytes((FRAMES / name / f"{name}.wasm").read_bytes())
        return folder

    return quiet


@pytest.fixture
def stage(quiet: Callable[[str], Path], tmp_path: Path) -> Iterator[Stage]:
    with Host([quiet("producer"), quiet("consumer")], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host:
        yield Stage(host)


def test_the_consumer_sees_every_byte_of_every_frame_where_the_producer_wrote_it(stage: Stage) -> None:
    assert stage.produce() == SLOTS
    assert stage.produce() == 0  # the ring is full until somebody reads
    assert stage.consume() == (SLOTS, SLOTS * SLOT_BYTES, 0)
    assert stage.consume() == (SLOTS, SLOTS * SLOT_BYTES, 0)

    assert stage.until(100 * SLOTS) == (100 * SLOTS, 100 * SLOTS * SLOT_BYTES, 0)


def test_no_host_call_is_made_for_a_frame(quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = SharedMemory._fence
    monkeypatch.setattr(SharedMemory, "_fence", lambda self, guest: calls.append(guest.cell.name) or real(self, guest))
    with Host([quiet("producer"), quiet("consumer")], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host:
        stage = Stage(host)
        for _ in range(10):
            assert stage.produce() == SLOTS
            stage.consume()
        assert stage.consume().frames == 10 * SLOTS

    assert calls.count("producer") == 20  # two fences for 64 frames
    assert calls.count("consumer") == 21


@pytest.mark.slow
def test_frames_are_whole_when_both_run_at_once(stage: Stage) -> None:
    def produce() -> int:
        made = 0
        while made < 20_000:
            made += stage.produce()
        return made

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(produce)
        while not making.done():
            assert stage.consume().faulty == 0
        made = making.result()

    assert stage.consume() == (made, made * SLOT_BYTES, 0)


@pytest.mark.parametrize("operation", ["restart", "reload"])
@pytest.mark.parametrize("who", ["producer", "consumer"])
def test_a_cell_that_starts_again_goes_on_where_it_was(stage: Stage, operation: str, who: str) -> None:
    before = stage.until(100)
    stage.produce()

    stage.do(operation, who)

    seen = stage.consume()
    assert seen.frames == (before.frames if who == "producer" else 0) + SLOTS
    assert stage.until(seen.frames + 100).faulty == 0


def test_when_both_have_stopped_the_group_is_gone_and_begins_anew(stage: Stage) -> None:
    stage.until(100)
    stage.produce()
    for who in ("producer", "consumer"):
        stage.do("stop", who)
    for who in ("producer", "consumer"):
        stage.do("start", who)

    assert stage.consume() == (0, 0, 0)
    assert stage.until(100).faulty == 0


@pytest.mark.parametrize("lie", [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_counter_that_cannot_be_is_not_believed_by_the_other_side(stage: Stage, lie: int) -> None:
    before = stage.until(5 * SLOTS)
    producer = stage.host._runners()["producer"].cell._instance
    (start, _length), *_ = producer.shared.ranges
    published = producer.memory.read(start, 4)

    producer.memory.write(start, lie.to_bytes(4, "little"))
    assert stage.consume() == before
    producer.memory.write(start, published)
    producer.memory.write(start + 64, lie.to_bytes(4, "little"))  # and what the consumer says of itself
    assert stage.produce() == 0


def test_each_works_alone_in_a_test_of_its_own(pulp_cell) -> None:
    producer = pulp_cell(FRAMES / "producer")
    producer.init()

    assert producer.call("frames.produce") == SLOTS.to_bytes(4, "little")
    assert producer.transcript[0].startswith("==> shm_attach(")
    assert producer.transcript[1] == "<== 0"


def test_two_hosts_in_one_process_share_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.produce()
    with Host([FRAMES / "consumer"], storage_root=tmp_path / "other", http_port="127.0.0.1:0") as other:
        assert other.call("consumer", "frames.consume") == bytes(24)


@pytest.mark.slow
def test_the_command_of_the_readme_counts_frames_by_itself(serve) -> None:
    host = serve(FRAMES / "producer", FRAMES / "consumer")

    host.wait_for("2000 frames, 0 of them faulty")

    assert host.stop() == 0
    assert host.failures == []
