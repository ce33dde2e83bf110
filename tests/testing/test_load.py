from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.errors import CellRefused, LoadError, ManifestError
from pulp_runtime.testing import CellUnderTest, Fake, load, words_guest

Make = Callable[..., CellUnderTest]

MINIMAL = Path(__file__).parents[1] / "guests" / "minimal.wat"
ECHO = Path(__file__).parents[2] / "examples" / "echo" / "c"


@pytest.fixture(params=["text", "bytes", "a text file", "a module", "a manifest", "a folder", "a path as text"])
def source(request: pytest.FixtureRequest, tmp_path: Path, wasm: Callable[[str], bytes]) -> str | bytes | Path:
    module = wasm("minimal")
    (tmp_path / "cell.wasm").write_bytes(module)
    manifest = tmp_path / "pulp.cell.toml"
    manifest.write_text('name = "guest"\nversion = "1"\n')
    return {
        "text": MINIMAL.read_text(),
        "bytes": module,
        "a text file": MINIMAL,
        "a module": tmp_path / "cell.wasm",
        "a manifest": manifest,
        "a folder": tmp_path,
        "a path as text": str(tmp_path),
    }[request.param]


def test_a_cell_may_come_as_anything(pulp_cell: Make, source: str | bytes | Path) -> None:
    cell = pulp_cell(source)

    cell.init()

    assert cell.tick() == 0
    assert cell.spec.name == "guest"


def test_what_a_manifest_says_may_be_said_differently(pulp_cell: Make) -> None:
    cell = pulp_cell(ECHO, name="parrot", call_timeout_ms=50, storage_root=Path("/elsewhere"))

    assert (cell.spec.name, cell.spec.call_timeout_ms) == ("parrot", 50)
    assert cell.spec.capabilities == ("transport.http.inbound",)
    assert cell.storage_root == Path("/elsewhere")


def test_a_field_no_manifest_has_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        load(MINIMAL, colour="red")


def test_text_that_is_no_webassembly_is_refused() -> None:
    with pytest.raises(ValueError, match="not WebAssembly"):
        load("(module (func (export")


def test_bytes_that_are_no_valid_module_are_refused() -> None:
    with pytest.raises(LoadError, match="compile wasm"):
        load(b"\0asm\x01\0\0\0\xff")


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        load(tmp_path / "nowhere")


def test_a_cell_without_a_manifest_declares_what_it_is_given(pulp_cell: Make) -> None:
    cell = pulp_cell(words_guest("kv_get", (1, 2)), capabilities=[Fake("storage.kv", kv_get=2)])

    assert cell.spec.capabilities == ("storage.kv",)
    assert cell.run("code") == 0


def test_what_a_cell_is_given_but_does_not_declare_answers_99(pulp_cell: Make) -> None:
    cell = pulp_cell(words_guest("kv_get", (1, 2)), capabilities=[Fake("storage.kv", kv_get=2)], declares=[])

    assert cell.run("code") == 99
    assert cell.transcript == ["==> kv_get(1, 2)", "<== 99"]


def test_a_capability_that_comes_with_pulp_need_not_be_given(pulp_cell: Make) -> None:
    cell = pulp_cell(words_guest("http_register", (0, 0)))

    assert cell.run("code") == 99, "it is known, and not declared"


def test_a_declared_capability_nobody_offers_is_refused_with_the_nearest() -> None:
    with pytest.raises(LoadError, match=r'declares unknown capability "demo.great"; did you mean demo.greet\?'):
        load(MINIMAL, capabilities=[Fake("demo.greet", demo_greet=2)], declares=["demo.great"])


def test_an_import_nobody_owns_is_refused_with_the_nearest() -> None:
    with pytest.raises(LoadError, match=r"did you mean demo_greet\?"):
        load(words_guest("demo_great", (0, 0)), capabilities=[Fake("demo.greet", demo_greet=2)])


def test_one_that_is_called_like_an_always_bound_capability_takes_its_place(pulp_cell: Make) -> None:
    cell = pulp_cell(
        words_guest("entropy_read", (0, 0, 0, 0)), capabilities=[Fake("entropy.read", entropy_read=(4, 6))]
    )

    assert cell.run("code") == 6


def test_a_config_reaches_the_guest(pulp_cell: Make) -> None:
    heartbeat = Path(__file__).parents[2] / "examples" / "heartbeat" / "c"
    cell = pulp_cell(heartbeat)

    cell.init()
    assert cell.run("probe_config_marker") == 424_242
    cell.init({"marker": 7})
    assert cell.run("probe_config_marker") == 7
    cell.close()
    other = pulp_cell(heartbeat, config={"marker": 9})
    other.init()
    assert other.run("probe_config_marker") == 9


def test_a_cell_that_refuses_to_start_says_why(pulp_cell: Make) -> None:
    cell = pulp_cell(MINIMAL.with_name("refuse_init.wat"))

    with pytest.raises(CellRefused, match="pulp_init returned 7: no such table: players"):
        cell.init()
