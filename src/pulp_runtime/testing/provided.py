"""Which capabilities a cell under test may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pulp_runtime._kernel.discovery import installed
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.shared_memory import SharedMemory
from pulp_runtime.capabilities.catalog import ALWAYS, BUILT_IN
from pulp_runtime.ext import Capability, CellRef, Errno, HostError, host_function
from pulp_runtime.testing.fake import Fake
from pulp_runtime.testing.tape import Tape

Load = Callable[[], Capability]


class NoSiblings:
    """`core.call` where there is one cell: nobody may be called. A test that wants an answer gives a `Fake`."""

    @host_function
    def pulp_call(self, cell: CellRef, target: str, function: str, _args: bytes) -> bytes:
        """See `_kernel.siblings`."""
        if not target or not function:
            raise HostError(Errno.EMPTY)
        raise HostError(Errno.DENIED, f"{cell.name} is alone in this test")


def registry_of(given: Iterable[Capability | Fake], instead: Mapping[str, Load], tape: Tape) -> Registry:
    """Return a registry whose every function is on `tape`.

    Args:
        given: capabilities of the test; one that is called like another takes its place.
        instead: what stands in for capabilities that come with Pulp, unless the test gives them itself.
        tape: where calls are recorded.
    """
    own = {item.capability.name if isinstance(item, Fake) else item.name: item for item in given}

    def discover() -> Mapping[str, Load]:
        offers = {**installed(), **BUILT_IN, **instead}
        return {name: lambda load=load: tape.record(load()) for name, load in offers.items()}  # type: ignore[misc]

    registry = Registry(prefill=False, discover=discover)
    for name, load in {**ALWAYS, "core.call": _no_siblings, "core.shared_memory": _nobody_else}.items():
        registry.always(tape.record(_capability(own.pop(name)) if name in own else load()))
    for item in own.values():
        registry.gated(tape.record(_capability(item)))
    return registry


def _no_siblings() -> Capability:
    return Capability.of("core.call", NoSiblings())


def _nobody_else() -> Capability:
    """`core.shared_memory` where there is one cell: its groups work, and nobody else is in them."""
    return SharedMemory().capability()


def _capability(item: Capability | Fake) -> Capability:
    return item.capability if isinstance(item, Fake) else item
