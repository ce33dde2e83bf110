"""What a manifest sets for a capability reaches the capability, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability, CellRef, host_function
from pulp_runtime.log import Log


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    allow: tuple[str, ...] = ()


def ref(**table: object) -> CellRef:
    return CellRef("guest", "guest", Log("pulp"), manifest=Path("/cells/pulp.cell.toml"), tables={"demo.fetch": table})


def test_settings_are_the_defaults_where_a_manifest_is_silent() -> None:
    assert CellRef("guest", "guest", Log("pulp")).settings("demo.fetch", Settings) == Settings()


def test_settings_are_what_the_manifest_says() -> None:
    assert ref(seconds=3, allow=["a", "b"]).settings("demo.fetch", Settings) == Settings(3.0, ("a", "b"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"second": 3}, "unknown field `second`"),
        ({"seconds": 0}, "> 0"),
        ({"seconds": "3"}, "Expected `float`, got `str` - at `$.seconds`"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_that_names_file_table_and_field(
    table: dict[str, object], told: str
) -> None:
    with pytest.raises(ExtensionError) as caught:
        ref(**table).settings("demo.fetch", Settings)

    assert str(caught.value).startswith('/cells/pulp.cell.toml: [settings."demo.fetch"]: ')
    assert told in str(caught.value)


def test_an_owner_sets_each_cell_up_before_its_functions_are_bound() -> None:
    seen: list[str] = []

    class Owner:
        def setup_cell(self, cell: CellRef) -> None:
            seen.append(cell.name)

        @host_function
        def demo_fetch(self, cell: CellRef) -> None: ...

    class Linker:
        def define(self, name: str, words: int, function: object, *, blocking: bool = False) -> None:
            seen.append(name)

    Capability.of("demo.fetch", Owner()).register(Linker(), ref())

    assert seen == ["guest", "demo_fetch"]


def test_two_versions_of_one_function_are_told_apart_by_their_words() -> None:
    class Owner:
        @host_function
        def fs_write(self, cell: CellRef, path: str, data: bytes) -> bytes: ...

        @host_function(name="fs_write")
        def fs_write_e0(self, cell: CellRef, path: str, data: bytes) -> None: ...

    functions = Capability.of("storage.fs", Owner()).functions

    assert [(key, one.name, one.words) for key, one in functions.items()] == [
        ("fs_write", "fs_write", 6),
        ("fs_write/4", "fs_write", 4),
    ]


def test_two_functions_of_one_name_and_as_many_words_are_an_error() -> None:
    class Owner:
        @host_function
        def fs_write(self, cell: CellRef, path: str) -> None: ...

        @host_function(name="fs_write")
        def fs_write_e0(self, cell: CellRef, path: bytes) -> None: ...

    with pytest.raises(ExtensionError, match="fs_write with 2 words is defined twice"):
        Capability.of("storage.fs", Owner())
