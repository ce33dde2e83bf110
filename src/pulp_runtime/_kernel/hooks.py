"""Run an extension's hooks so that nothing they raise reaches anyone else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pulp_runtime.errors import HookFailed
from pulp_runtime.ext import Capability, Scope, SetupEnv, legacy_scope
from pulp_runtime.log import Log

_NO_APPLICATION: Final = legacy_scope("host")


def contained(capability: Capability, hook: str, *args: Any, cell: str = "") -> Any:
    """Run a hook if the capability has it; log what it raises and return None.

    Args:
        capability: whose hook.
        hook: the field's name.
        args: what it is given.
        cell: the cell it runs for, for the log.
    """
    function = getattr(capability, hook)
    if function is None:
        return None
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001  # an extension's mistake ends here
        failed = HookFailed(capability.name, hook, error, cell=cell)
        Log("pulp").error("extension hook failed", err=str(failed), exc_info=error)
        return None


def set_up(capabilities: Sequence[tuple[Capability, SetupEnv]]) -> None:
    """Run `setup` of each in order; when one fails, tear down those before it, newest first.

    Raises:
        HookFailed: naming the extension whose set-up failed.
    """
    done: list[Capability] = []
    for capability, env in capabilities:
        if capability.setup is not None:
            try:
                capability.setup(env)
            except Exception as error:
                tear_down(done, env.scope)
                raise HookFailed(capability.name, "setup", error) from error
            env.logger.info("capability ready", name=capability.name)
        done.append(capability)


def tear_down(capabilities: Sequence[Capability], scope: Scope = _NO_APPLICATION) -> None:
    """Run `teardown` of each, in reverse of set-up; a failure skips nobody.

    If the scope is an application's, `teardown_scope` runs instead where there is one (spec/core §7.4).
    """
    for capability in reversed(capabilities):
        if not scope.is_legacy and capability.teardown_scope is not None:
            contained(capability, "teardown_scope", scope)
        else:
            contained(capability, "teardown")
