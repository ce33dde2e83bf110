"""What the outbound transports share: who may be dialled, and how."""

from __future__ import annotations

from typing import Final

import msgspec

from pulp_runtime._net.dial import Dialer, Trust
from pulp_runtime._net.dial_names import Names, Resolve
from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime._net.egress import AllowList, EgressGuard, EntryInvalid
from pulp_runtime.capabilities.operator import Variable, operator_settings
from pulp_runtime.ext import CellRef, ExtensionError, SetupEnv


class OperatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator sets.

    Attributes:
        allow: hosts, `host:port` and networks that cells may dial although they are not public.
        ca_file: PEM certificates to trust beside the system's.
    """

    allow: tuple[str, ...] = ()
    ca_file: str = ""


class CellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a manifest sets.

    Attributes:
        allow: hosts, `host:port` and networks that this cell may dial although they are not public.
    """

    allow: tuple[str, ...] = ()


class WayOut:
    """The way out of one host for one capability.

    Args:
        capability: its name.
        variable: the environment variable that stands in for the operator's `allow`.
        exclusive: once the operator's list says anything, nothing else may be dialled.
        resolve: names to addresses; the host's own lookups by default.
    """

    def __init__(self, capability: str, variable: str, *, exclusive: bool = False, resolve: Resolve | None) -> None:
        self._capability: Final = capability
        self._variable: Final = variable
        self._exclusive: Final = exclusive
        self._given: Final = resolve
        self._resolve: Resolve | None = resolve
        self._allow = AllowList()
        self._trust = Trust()
        self._own = OwnListeners()

    def open(self, env: SetupEnv) -> None:
        """Read what the operator sets; an entry that means nothing is left out and logged.

        Raises:
            ExtensionError: a setting is not understood, a file of certificates cannot be read, or an exclusive list
                has no entry that means anything.
        """
        settings = operator_settings(env, OperatorSettings, {"allow": Variable(self._variable)})

        def told(entry: str, why: str) -> None:
            env.logger.warning("entry of the allow list ignored", entry=entry, reason=why)

        self._allow = AllowList.lenient(settings.allow, told)
        if self._exclusive and settings.allow and not self._allow:
            raise ExtensionError(f"allow (${self._variable}) names nothing that can be dialled; correct or remove it")
        self._trust = Trust(settings.ca_file)
        try:
            self._trust.check()
        except OSError as error:
            raise ExtensionError(f"ca_file {settings.ca_file}: {error.strerror or error}") from None
        self._own = env.services.get(OwnListeners, OwnListeners)
        self._resolve = self._given or env.services.get(Names, Names).resolve

    def dialer(self, cell: CellRef) -> Dialer:
        """Return what opens a cell's connections."""
        only = self._allow if self._exclusive else None
        guard = EgressGuard(self._allow, self.allowed(cell), only=only, own=self._own)
        return Dialer(cell.id, guard, self._resolve or Names().resolve, self._trust)

    def allowed(self, cell: CellRef) -> AllowList:
        """Return what a cell's manifest exempts.

        Raises:
            ExtensionError: an entry means nothing.
        """
        try:
            return AllowList(cell.settings(self._capability, CellSettings).allow)
        except EntryInvalid as error:
            raise ExtensionError(f'{cell.manifest}: [settings."{self._capability}"]: allow: {error}') from None
