"""Which of several implementations of one capability a host uses (spec/core §6.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability

UNIDENTIFIED = "<legacy-unidentified>"


def select(registered: Iterable[Capability], pins: Mapping[str, str]) -> tuple[Capability, ...]:
    """Return exactly one capability for each name, in the order the names were first registered.

    Args:
        registered: every implementation there is.
        pins: the wanted `Capability.provider`, by capability name.

    Raises:
        ExtensionError: a name with several implementations is not pinned, or a pin fits none or several.
    """
    by_name: dict[str, list[Capability]] = {}
    for capability in registered:
        by_name.setdefault(capability.name, []).append(capability)
    for name, provider in pins.items():
        if not name.strip() or not provider.strip():
            raise ExtensionError(f"provider pin {name!r} = {provider!r}: neither may be blank")
        if name not in by_name:
            raise ExtensionError(f'pinned capability "{name}" is not registered')
    return tuple(_one(name, offers, pins.get(name)) for name, offers in by_name.items())


def _one(name: str, offers: list[Capability], pin: str | None) -> Capability:
    providers = ", ".join(sorted(offer.provider or UNIDENTIFIED for offer in offers))
    if pin is None:
        if len(offers) > 1:
            raise ExtensionError(f'capability "{name}" requires explicit selection: pin one of {providers}')
        return offers[0]
    fitting = [offer for offer in offers if offer.provider == pin]
    if not fitting:
        raise ExtensionError(f'capability "{name}": want exact provider "{pin}", there are {providers}')
    if len(fitting) > 1:
        raise ExtensionError(f'capability "{name}" has {len(fitting)} registrations for pinned provider "{pin}"')
    return fitting[0]
