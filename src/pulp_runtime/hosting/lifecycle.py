"""Who is told when an application has started, and before it stops (spec/core §7.9)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pulp_runtime.errors import ExtensionError
from pulp_runtime.hosting.access import ApplicationIdentity, ProviderAccess


class LifecycleObserver(Protocol):
    """Host code that looks after applications: fills them, announces them, takes their leave.

    Both methods may be coroutines; those that are not run on a thread of their own and may block. The observer decides
    by the identity which applications it cares about.
    """

    def after_application_start(
        self, application: ApplicationIdentity, access: ProviderAccess
    ) -> Awaitable[None] | None:
        """Learn that an application instance runs. What this raises fails the start of the host."""

    def before_application_shutdown(self, application: ApplicationIdentity) -> Awaitable[None] | None:
        """Learn that one for which `after_application_start` returned is about to stop; it still runs."""


_registered: list[LifecycleObserver] = []


def observe(observer: LifecycleObserver) -> None:
    """Have `observer` told by every later host of this process that runs applications and is given no other.

    For a deployment's own main module. There is no way back.

    Raises:
        ExtensionError: it has not both methods, or there is one already.
    """
    for method in ("after_application_start", "before_application_shutdown"):
        if not callable(getattr(observer, method, None)):
            raise ExtensionError(f"a lifecycle observer has a method {method}")
    if _registered:
        raise ExtensionError("a lifecycle observer is registered already")
    _registered.append(observer)


def registered_observer() -> LifecycleObserver | None:
    """Return who has been registered."""
    return _registered[0] if _registered else None


async def notify(method: Callable[..., Any], *args: Any) -> None:
    """Run one of an observer's methods to its end, off the loop unless it is a coroutine."""
    if inspect.iscoroutinefunction(method):
        await method(*args)
    else:
        await asyncio.to_thread(method, *args)
