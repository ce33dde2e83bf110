"""A server in Stripe's place, and a cell that calls `payment.stripe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from pulp_runtime.ext import Capability
from pulp_runtime.testing import CellUnderTest, guest

from fake_stripe import KEY, FakeStripe
from pulp_ext_stripe.payments import Payments
from pulp_ext_stripe.settings import NAME

REQUEST, ADDRESS, LENGTH = 64, 8, 12
"""Where a test's cell keeps its message, and where it is told of the answer."""
WEBHOOK = "whsec_canary9Qm3"


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    server = FakeStripe()
    yield server
    server.close()


class Caller:
    """A cell that passes messages on to `payment.stripe`."""

    def __init__(self, cell: CellUnderTest, capability: Capability) -> None:
        self.cell = cell
        self._capability = capability

    def code(self, name: str, /, **message: Any) -> int:
        """Return what an import answers."""
        data = msgspec.msgpack.encode(message)
        self.cell.write(REQUEST, data)
        out = (ADDRESS, LENGTH) if self._capability.functions[name].words == 4 else ()
        return self.cell.run(name, REQUEST, len(data), *out)

    def answer(self, name: str, /, **message: Any) -> Any:
        """Return what an import delivers; it must answer 0."""
        assert self.code(name, **message) == 0, [self.cell.transcript[-1], *self.cell.logged]
        return self.cell.calls[-1].answer

    @property
    def reasons(self) -> list[object]:
        """Why calls failed, as the operator is told."""
        return [record.fields["reason"] for record in self.cell.logged if record.message == "stripe call failed"]


@pytest.fixture
def make(pulp_cell: Callable[..., CellUnderTest]) -> Callable[..., Caller]:
    """Return `make(config, environment={}, **fields)`: a cell under an account with these settings."""

    def make(config: dict[str, Any], environment: dict[str, str] | None = None, **fields: Any) -> Caller:
        capability = Capability.of(NAME, Payments(environment or {}))
        text = guest(capability, alloc=fields.pop("alloc", "bump"))
        return Caller(pulp_cell(text, capabilities=[capability], settings={NAME: config}, **fields), capability)

    return make


def settings(fake: FakeStripe, **more: Any) -> dict[str, Any]:
    return {"secret_key": KEY, "webhook_secret": WEBHOOK, "api_base": fake.address, **more}


@pytest.fixture
def shop(make: Callable[..., Caller], fake: FakeStripe) -> Caller:
    return make(settings(fake))
