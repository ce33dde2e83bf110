"""Which capabilities a host knows: built in, registered by code, given, and what installed packages offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulp_runtime._kernel.discovery import installed
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.selection import select
from pulp_runtime.capabilities.catalog import ALWAYS, BUILT_IN
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability
from pulp_runtime.ext import all as registered


def make_registry(capabilities: Sequence[Capability], pins: Mapping[str, str]) -> Registry:
    """Return the capabilities for one application; those that come with Pulp are made anew for each.

    Args:
        capabilities: given by the program, beside those that were registered.
        pins: the wanted provider, by the capability's name.

    Raises:
        ExtensionError: one name has several implementations, or a pin fits none.
    """
    there = [*registered(), *capabilities]
    rivals = {capability.name for capability in there} | set(pins)
    there += [make() for name, make in BUILT_IN.items() if name in rivals]
    known = {(capability.name, capability.provider) for capability in there}
    elsewhere = {name for name, provider in pins.items() if (name, provider) not in known}
    there = [capability for capability in there if capability.name not in elsewhere]
    own = {name: make for name, make in BUILT_IN.items() if name not in rivals}
    registry = Registry(prefill=False, built_in=own, discover=lambda: installed({**BUILT_IN, **ALWAYS}, pins))
    for make in ALWAYS.values():
        registry.always(make())
    for capability in select(there, {name: pin for name, pin in pins.items() if name not in elsewhere}):
        registry.gated(capability)
    for name in elsewhere:
        if registry.find(name) is None:
            raise ExtensionError(f'pinned capability "{name}": no installed package is or has provider "{pins[name]}"')
    return registry


def check_config(config: Mapping[str, object], registry: Registry) -> None:
    """Refuse settings for a capability that nobody offers.

    Raises:
        ExtensionError: naming it.
    """
    for name in config:
        if name != "http" and registry.find(name) is None:
            raise ExtensionError(f"config: nobody offers a capability {name!r}; write http, or a capability's name")
