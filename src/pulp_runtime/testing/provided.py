"""Which capabilities a cell under test may have."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pulp_runtime import capabilities as built_in
from pulp_runtime._kernel.discovery import installed
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.capabilities.core import entropy
from pulp_runtime.capabilities.core import log as core_log
from pulp_runtime.ext import Capability
from pulp_runtime.testing.fake import Fake
from pulp_runtime.testing.tape import Tape

Load = Callable[[], Capability]

ALWAYS: Final[Mapping[str, Load]] = {core_log.NAME: core_log.capability, entropy.NAME: entropy.capability}
"""What every cell has."""


def registry_of(given: Iterable[Capability | Fake], instead: Mapping[str, Load], tape: Tape) -> Registry:
    """Return a registry whose every function is on `tape`.

    Args:
        given: capabilities of the test; one that is called like another takes its place.
        instead: what stands in for capabilities that come with Pulp, unless the test gives them itself.
        tape: where calls are recorded.
    """
    own = {item.capability.name if isinstance(item, Fake) else item.name: item for item in given}

    def discover() -> Mapping[str, Load]:
        offers = {**installed(), **_built_in(), **instead}
        return {name: lambda load=load: tape.record(load()) for name, load in offers.items()}  # type: ignore[misc]

    registry = Registry(prefill=False, discover=discover)
    for name, load in ALWAYS.items():
        registry.always(tape.record(_capability(own.pop(name)) if name in own else load()))
    for item in own.values():
        registry.gated(tape.record(_capability(item)))
    return registry


def _capability(item: Capability | Fake) -> Capability:
    return item.capability if isinstance(item, Fake) else item


def _built_in() -> Mapping[str, Load]:
    """Return the capabilities that come with Pulp: a capability's name is its path, with dots for underscores."""
    found: dict[str, Load] = {}
    for module in pkgutil.walk_packages(built_in.__path__, f"{built_in.__name__}."):
        path = module.name.removeprefix(f"{built_in.__name__}.")
        if not module.ispkg and not path.startswith("core."):
            found[path.replace("_", ".")] = _loader(module.name)
    return found


def _loader(module: str) -> Load:
    def load() -> Capability:
        capability = importlib.import_module(module).capability()
        assert isinstance(capability, Capability)  # noqa: S101  # every module there has one
        return capability

    return load
