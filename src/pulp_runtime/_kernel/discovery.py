"""Capabilities of installed packages: entry points in the group `pulp.capabilities`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability
from pulp_runtime.log import Log

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "pulp.capabilities"


def installed(
    built_in: Collection[str] = (), pins: Mapping[str, str] | None = None
) -> Mapping[str, Callable[[], Capability]]:
    """Return the capabilities that installed packages offer, as loaders by name; none is imported here.

    Args:
        built_in: names that no package may take unless it is pinned; an offer of one is ignored, and said so.
        pins: the wanted provider by capability name: the module of the entry point, or the package's name.
    """
    from importlib.metadata import entry_points  # most hosts never ask, and it takes a while to import

    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        pin = (pins or {}).get(point.name)
        if pin is not None:
            if pin in (point.module, _package(point)):
                found.setdefault(point.name, []).append(point)
        elif point.name in built_in:
            Log("pulp").warning("extension ignored", capability=point.name, reason="the name is built in")
        else:
            found.setdefault(point.name, []).append(point)
    return {name: _loader(name, points) for name, points in found.items()}


def _loader(name: str, points: list[EntryPoint]) -> Callable[[], Capability]:
    def load() -> Capability:
        if len({point.value for point in points}) > 1:
            offers = " and ".join(sorted(f"{point.value} of {_package(point)}" for point in points))
            raise ExtensionError(f"capability {name} is offered by {offers}; pin one of them")
        try:
            offered = points[0].load()
            capability = offered if isinstance(offered, Capability) else offered()
        except Exception as error:
            raise ExtensionError(
                f"capability {name} of {_package(points[0])} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(capability, Capability):
            raise ExtensionError(f"entry point {name} = {points[0].value} is not a Capability")
        return capability

    return load


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unnamed package"
