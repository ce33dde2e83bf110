"""The operator's account: the stripe library writes the requests, errors become the contract's codes."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any, Final

import stripe
from pulp_runtime.ext import CellRef, Errno, Guest, HostError

from pulp_ext_stripe.checked import INVALID
from pulp_ext_stripe.settings import Settings
from pulp_ext_stripe.transport import Transport

API_VERSION: Final = "2024-06-20"
"""Of Stripe's API: objects have the fields they had then, whatever version the account or the library is at."""
_MOST_MARGIN: Final = 0.5
_LIBRARY: Final = logging.getLogger("stripe")


class Quiet(logging.Filter):
    """Keeps the library's own records of our calls out of the log: they hold bodies, with what people entered.

    Args:
        transport: which knows whether this thread is in a call of ours.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport: Final = transport

    def filter(self, _record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        return not self._transport.busy


class Account:
    """An account at Stripe. From any thread.

    Args:
        settings: the operator's; with a secret key.
    """

    def __init__(self, settings: Settings) -> None:
        self._transport: Final = Transport(settings.api_base)
        self._client: Final = stripe.StripeClient(
            str(settings.secret_key),
            base_addresses={"api": settings.api_base},
            stripe_version=API_VERSION,
            max_network_retries=0,  # the cell knows whether it wants to try again, and has its deadline
            http_client=self._transport,
        )
        self._quiet: Final = Quiet(self._transport)
        _LIBRARY.addFilter(self._quiet)

    def get(self, guest: Guest, function: str, path: str, **query: Any) -> dict[str, Any]:
        """Return an object, as Stripe describes it.

        Raises:
            HostError: see `_refused`.
        """
        return self._ask(guest, function, "get", path, query)

    def post(self, guest: Guest, function: str, path: str, fields: Mapping[str, Any], once: str = "") -> dict[str, Any]:
        """Make or change an object; return it.

        Args:
            guest: who asks.
            function: the import.
            path: of the API.
            fields: what to send.
            once: the cell's key: the same request with the same key is done once. Without, it is done each time.

        Raises:
            HostError: see `_refused`.
        """
        return self._ask(guest, function, "post", path, {**fields, "idempotency_key": once or str(uuid.uuid4())})

    def _ask(self, guest: Guest, function: str, method: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        left = guest.seconds_left()
        try:
            # The cell is to hear of it before its own deadline passes.
            with self._transport.within(left - min(_MOST_MARGIN, left / 4)):
                answer = self._client.raw_request(method, path, **fields)
        except stripe.StripeError as error:
            raise _refused(guest.cell, function, error) from None
        found = getattr(answer, "data", None)
        if not isinstance(found, dict):
            raise failed(guest.cell, function, "the answer is not an object")
        return found

    def close(self) -> None:
        """Close connections, and leave the library's log as it was."""
        _LIBRARY.removeFilter(self._quiet)
        self._transport.close()


def failed(cell: CellRef, function: str, reason: str, code: int = Errno.FAILED) -> HostError:
    """Return a refusal that has been logged."""
    cell.log.warning("stripe call failed", function=function, code=int(code), reason=reason)
    return HostError(code, reason)


def _refused(cell: CellRef, function: str, error: stripe.StripeError) -> HostError:
    """Return what Stripe's refusal means. Its message is left out: it may quote keys and what people entered."""
    if isinstance(error, stripe.APIConnectionError):
        return failed(cell, function, str(error.user_message or error)[:200])
    kind = type(error).__name__
    words = [kind, str(error.code or ""), str(getattr(error, "param", None) or ""), str(error.http_status or "")]
    reason = " ".join(filter(None, words)) + (f" (request {error.request_id})" if error.request_id else "")
    code: int = Errno.FAILED
    if isinstance(error, stripe.AuthenticationError):
        code = Errno.UNAVAILABLE
    elif isinstance(error, stripe.InvalidRequestError | stripe.IdempotencyError) and error.http_status == 400:
        code = INVALID
    return failed(cell, function, reason[:500], code)
