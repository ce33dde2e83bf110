"""The second wall: a host function asks at every call whether the cell was granted its capability.

The first one stands where a module is linked: what a cell did not declare is bound to a stub.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from pulp_runtime._kernel.registry import Binding
from pulp_runtime.errors import Errno
from pulp_runtime.ext import Guest


class Caller(Guest, Protocol):
    """The instance that calls.

    Attributes:
        granted: the capabilities it may use.
        blocking: makes the context in which a host function may wait.
    """

    granted: frozenset[str]
    blocking: Callable[[], AbstractContextManager[None]]


def guarded(binding: Binding, caller: Caller) -> Callable[..., int]:
    """Make a binding callable for one instance."""
    function, capability, granted = binding.function, binding.capability, caller.granted
    if binding.stub:
        return _refused(binding, caller)

    def call2(first: int, second: int) -> int:
        return function(caller, first, second) if capability in granted else Errno.UNDECLARED

    def call(*words: int) -> int:
        return function(caller, *words) if capability in granted else Errno.UNDECLARED

    def call_blocking(*words: int) -> int:
        if capability not in granted:
            return Errno.UNDECLARED
        with caller.blocking():
            return function(caller, *words)

    if binding.blocking:
        return call_blocking
    return call2 if binding.words == 2 else call


def _refused(binding: Binding, caller: Caller) -> Callable[..., int]:
    """Make a stub callable that tells the operator, once, what the guest was refused."""
    told: list[str] = []

    def call(*words: int) -> int:
        if not told:
            told.append(binding.name)
            caller.cell.log.warning(
                "call refused: add the capability to the manifest",
                function=binding.name,
                capability=binding.capability,
            )
        return binding.function(caller, *words)

    return call
