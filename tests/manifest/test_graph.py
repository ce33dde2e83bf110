from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.graph import load_cells, providers, start_order


def cell(name: str, *depends_on: str, provides: tuple[str, ...] = (), consumes: tuple[str, ...] = ()) -> CellSpec:
    return CellSpec(
        manifest_path=Path(f"/{name}/pulp.cell.toml"),
        name=name,
        version="1",
        wasm_path=Path(f"/{name}/cell.wasm"),
        depends_on=depends_on,
        provides=provides,
        consumes=consumes,
    )


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        pytest.param([cell("b"), cell("a")], "b a", id="independent cells as declared"),
        pytest.param(
            [cell("a", "b"), cell("b"), cell("c", "b"), cell("d")],
            "b d a c",
            id="free cells first, then what each releases",
        ),
        pytest.param([cell("a", "b", "c"), cell("b", "c"), cell("c")], "c b a", id="a chain backwards"),
        pytest.param([cell("a", "b", "b"), cell("b")], "b a", id="a dependency named twice"),
    ],
)
def test_a_cell_starts_after_those_it_depends_on(cells: list[CellSpec], order: str) -> None:
    assert " ".join(spec.name for spec in start_order(cells)) == order


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        pytest.param([], "no manifests supplied", id="no cells"),
        pytest.param(
            [cell("a"), cell("a")],
            'duplicate cell name "a" (in /a/pulp.cell.toml and /a/pulp.cell.toml)',
            id="two cells of one name",
        ),
        pytest.param(
            [cell("a", "z")],
            '"a" depends_on "z" but no such cell is in the manifest set',
            id="a missing dependency",
        ),
        pytest.param([cell("a", "a")], '"a" depends_on itself', id="a cell that waits for itself"),
        pytest.param(
            [cell("a", "b"), cell("b", "a")],
            "dependency cycle involving: a -> b -> a",
            id="two that wait for each other",
        ),
        pytest.param(
            [cell("x", "a"), cell("o"), cell("a", "o", "b"), cell("b", "c"), cell("c", "a")],
            "dependency cycle involving: a -> b -> c -> a;",
            id="a circle behind a cell outside it",
        ),
        pytest.param(
            [cell("a", consumes=("f",))],
            "no cell provides that exact provider",
            id="a function nobody provides",
        ),
        pytest.param(
            [cell("a", consumes=("f",)), cell("b", provides=("F",))],
            "no cell provides that exact provider",
            id="a function in another case",
        ),
        pytest.param(
            [cell("u", consumes=("f",)), cell("a", provides=("f",)), cell("b", provides=("f",))],
            "ambiguous providers a, b",
            id="a function two provide",
        ),
    ],
)
def test_a_set_that_cannot_start_is_refused_whole(cells: list[CellSpec], words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        start_order(cells)

    assert words in str(caught.value)


def test_each_consumed_function_has_its_provider() -> None:
    cells = [
        cell("a", provides=("f", "unused"), consumes=("g",)),
        cell("b", provides=("g", "unused"), consumes=("f",)),
    ]

    assert start_order(cells) == tuple(cells)
    assert providers(cells) == {"f": "a", "g": "b"}


def test_a_consumer_listed_first_starts_after_the_provider_it_depends_on_and_both_may_ask_each_other() -> None:
    consumer = cell("consumer", "provider", provides=("back",), consumes=("ask",))
    provider = cell("provider", provides=("ask",), consumes=("back",))

    assert start_order([consumer, provider]) == (provider, consumer)


def test_a_cell_may_consume_what_it_provides_itself() -> None:
    assert providers([cell("a", provides=("f",), consumes=("f",))]) == {"f": "a"}


def test_a_set_is_read_from_files_and_directories_in_start_order(write: Callable[..., Path]) -> None:
    web = write('name = "web"\nversion = "1"\ndepends_on = ["db"]', "web/pulp.cell.toml")
    db = write('name = "db"\nversion = "1"', "db/pulp.cell.toml")

    assert [spec.name for spec in load_cells([web, db.parent])] == ["db", "web"]


def test_a_set_with_one_bad_manifest_is_refused(write: Callable[..., Path]) -> None:
    good = write('name = "a"\nversion = "1"', "a/pulp.cell.toml")

    with pytest.raises(ManifestError, match="read manifest: "):
        load_cells([good, good.parent / "missing.toml"])


def test_a_set_without_manifests_is_refused() -> None:
    with pytest.raises(ManifestError, match="no manifests supplied"):
        load_cells([])
