"""An extension that posts events, in a host with threads, a loop and a clock of its own."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.host import Host

PACKAGE = Path(__file__).parents[2] / "examples" / "extension" / "pulp-ext-clock"


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    monkeypatch.syspath_prepend(str(PACKAGE / "src"))
    monkeypatch.delitem(sys.modules, "pulp_ext_clock", raising=False)
    return importlib.import_module("pulp_ext_clock").capability


@pytest.mark.slow
def test_ticks_reach_every_cell_that_declares_the_clock(capability, tmp_path: Path, records) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "clock.wasm").symlink_to(PACKAGE / "cell" / "clock.wasm")
    manifest = (PACKAGE / "cell" / "pulp.cell.toml").read_text()
    (other / "pulp.cell.toml").write_text(manifest.replace('"clock"', '"other"', 1))

    def ticked() -> set[object]:
        return {
            record.fields["cell"]
            for record in list(records.all)
            if record.getMessage() in ("tick 1", "tick 2", "tick 3") and record.fields.get("cell")
        }

    async def main() -> None:
        async with (
            asyncio.timeout(20),
            Host(
                [PACKAGE / "cell", other],
                capabilities=[capability()],
                config={"demo.clock": {"every_ms": 5}},
                http_port=0,
                storage_root=tmp_path / "data",
                cache=tmp_path / "cache",
            ),
        ):
            while ticked() != {"clock", "other"}:
                await asyncio.sleep(0.005)

    asyncio.run(main())


@pytest.mark.slow
def test_a_setting_that_is_wrong_stops_the_host_and_names_the_extension(capability, tmp_path: Path) -> None:
    host = Host(
        [PACKAGE / "cell"],
        capabilities=[capability()],
        config={"demo.clock": {"every_ms": 0}},
        http_port=0,
        cache=tmp_path / "cache",
    )

    with pytest.raises(Exception, match=r"demo\.clock: setup failed: ExtensionError: every_ms is 0"):
        asyncio.run(host.start())
