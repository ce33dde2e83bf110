"""The fixtures of the plugin, whether or not its entry point is installed here."""

from __future__ import annotations

from pulp_runtime.testing.pytest_plugin import pulp_cell, pulp_env

__all__ = ["pulp_cell", "pulp_env"]
