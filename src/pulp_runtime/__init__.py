"""Pulp: run WebAssembly cells, each with exactly the capabilities its manifest declares.

    from pulp_runtime import Host

    with Host(["examples/echo/c"], http_port=0) as host:
        print(host.url)

`Host` runs cells; `Cell` and `Registry` are for programs that drive a cell themselves; `pulp_runtime.ext` is for
those who write capabilities, `pulp_runtime.testing` for those who test cells. Names are imported when they are first
used: importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulp_runtime._kernel.cell import Cell as Cell
    from pulp_runtime._kernel.cell import Cell as Plugin
    from pulp_runtime._kernel.registry import Registry as Registry
    from pulp_runtime._kernel.supervisor import Runaway as Runaway
    from pulp_runtime._kernel.supervisor import Supervisor as Supervisor
    from pulp_runtime.abi.config import encode_config as encode_config
    from pulp_runtime.abi.envelope import StepEnvelope as StepEnvelope
    from pulp_runtime.errors import CellError as CellError
    from pulp_runtime.errors import HostError as HostError
    from pulp_runtime.errors import ManifestError as ManifestError
    from pulp_runtime.errors import OperatorCommandError as OperatorCommandError
    from pulp_runtime.errors import PulpError as PulpError
    from pulp_runtime.errors import StartError as StartError
    from pulp_runtime.ext import Capability as Capability
    from pulp_runtime.ext import StepEvent as StepEvent
    from pulp_runtime.host import Host as Host
    from pulp_runtime.hosting.access import ApplicationIdentity as ApplicationIdentity
    from pulp_runtime.hosting.access import ProviderAccess as ProviderAccess
    from pulp_runtime.hosting.commands import OperatorCommand as OperatorCommand
    from pulp_runtime.hosting.commands import operator_commands as operator_commands
    from pulp_runtime.hosting.composition import Composition as Composition
    from pulp_runtime.hosting.lifecycle import LifecycleObserver as LifecycleObserver
    from pulp_runtime.hosting.lifecycle import observe as observe
    from pulp_runtime.hosting.running import CellStatus as CellStatus
    from pulp_runtime.manifest.app import AppSpec as AppSpec
    from pulp_runtime.manifest.app import load_app as load_app
    from pulp_runtime.manifest.cell import CellSpec as CellSpec
    from pulp_runtime.manifest.cell import load_cell as load_cell
    from pulp_runtime.manifest.host import HostSpec as HostSpec
    from pulp_runtime.manifest.host import load_host as load_host

_HOMES = {
    "AppSpec": "pulp_runtime.manifest.app",
    "ApplicationIdentity": "pulp_runtime.hosting.access",
    "Capability": "pulp_runtime.ext",
    "Cell": "pulp_runtime._kernel.cell",
    "CellError": "pulp_runtime.errors",
    "CellSpec": "pulp_runtime.manifest.cell",
    "CellStatus": "pulp_runtime.hosting.running",
    "Composition": "pulp_runtime.hosting.composition",
    "Host": "pulp_runtime.host",
    "HostError": "pulp_runtime.errors",
    "HostSpec": "pulp_runtime.manifest.host",
    "LifecycleObserver": "pulp_runtime.hosting.lifecycle",
    "ManifestError": "pulp_runtime.errors",
    "OperatorCommand": "pulp_runtime.hosting.commands",
    "OperatorCommandError": "pulp_runtime.errors",
    "ProviderAccess": "pulp_runtime.hosting.access",
    "PulpError": "pulp_runtime.errors",
    "Registry": "pulp_runtime._kernel.registry",
    "Runaway": "pulp_runtime._kernel.supervisor",
    "StartError": "pulp_runtime.errors",
    "StepEnvelope": "pulp_runtime.abi.envelope",
    "StepEvent": "pulp_runtime.ext",
    "Supervisor": "pulp_runtime._kernel.supervisor",
    "encode_config": "pulp_runtime.abi.config",
    "load_app": "pulp_runtime.manifest.app",
    "load_cell": "pulp_runtime.manifest.cell",
    "load_host": "pulp_runtime.manifest.host",
    "observe": "pulp_runtime.hosting.lifecycle",
    "operator_commands": "pulp_runtime.hosting.commands",
}

__all__ = [*sorted(_HOMES), "Plugin"]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    home = _HOMES.get("Cell" if name == "Plugin" else name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), "Cell" if name == "Plugin" else name)
    globals()[name] = value
    return value
