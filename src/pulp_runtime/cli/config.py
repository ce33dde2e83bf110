"""`--config FILE`: what the operator sets for the listener and for capabilities, in one TOML file.

[http]                      # the shared listener
access_log = true

["spawn.process"]           # a capability
allow_bins = ["/usr/bin/git"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pulp_runtime.manifest.names import explain_capability, quote
from pulp_runtime.manifest.table import read_table


def read_config(path: str) -> dict[str, dict[str, Any]]:
    """Return the tables of a configuration file, by `http` or the capability's name; who owns one judges it.

    Raises:
        ManifestError: naming the file, the line or field, and the way out.
    """
    file = read_table(Path(path))
    found: dict[str, dict[str, Any]] = {}
    for name in file.values:
        problem = explain_capability(name)
        if problem:
            raise file.invalid(f"{quote(name)} is neither http nor a capability: {problem}", field=name)
        table = file.table(name)
        assert table is not None  # noqa: S101 - the name is one of its keys
        found[name] = dict(table.values)
    return found
