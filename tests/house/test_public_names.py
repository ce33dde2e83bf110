from __future__ import annotations

import types

import pulp_runtime.ext

EXT = {
    "Bytes",
    "Capability",
    "Cell",
    "CellRef",
    "Endpoint",
    "Errno",
    "Entry",
    "ExtensionError",
    "File",
    "Folder",
    "Grants",
    "Guest",
    "HostError",
    "HostFunction",
    "How",
    "Kind",
    "Leaf",
    "Linker",
    "Node",
    "Outcome",
    "PerCell",
    "Posted",
    "Program",
    "ResourceKey",
    "Run",
    "Scope",
    "ScopedFactory",
    "Services",
    "SetupEnv",
    "Stat",
    "StepEvent",
    "Text",
    "U32",
    "U64",
    "all",
    "host_function",
    "legacy_scope",
    "register",
}


def test_the_extension_api_is_these_names_and_no_others() -> None:
    public = {
        name
        for name, value in vars(pulp_runtime.ext).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert public == EXT


def test_the_published_name_of_a_cell_is_the_same_class() -> None:
    assert pulp_runtime.ext.Cell is pulp_runtime.ext.CellRef
