"""Every target there is."""

from __future__ import annotations

from tests.fuzz import decoders, guests, preview1, web
from tests.fuzz.harness import Target


def targets() -> list[Target]:
    """Return them in the order in which they run."""
    return [*decoders.targets(), *web.targets(), *guests.targets(), *preview1.targets()]
