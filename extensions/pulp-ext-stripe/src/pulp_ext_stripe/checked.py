"""What is sent to Stripe, checked before it goes: amounts, ids, texts.

A field that is empty is left out. What is wrong is answered 14, an amount over the operator's limit 12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pulp_runtime.ext import HostError

AMOUNT_LIMIT: Final = 12
INVALID: Final = 14

MOST_CENTS: Final = 999_999_999_999
MOST_TEXT: Final = 5_000
MOST_METADATA: Final = 50
MOST_KEY: Final = 40
MOST_VALUE: Final = 500
MOST_METHODS: Final = 20
MOST_NUMBER: Final = 1 << 53
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")
_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,500}")
_METHOD: Final = re.compile(r"[a-z0-9_]{1,64}")
_KEY: Final = re.compile(r"[!-~]{1,255}")
_URL: Final = re.compile(r"https?://[!-~]+")
_EMAIL: Final = re.compile(r"[^\s@]{1,255}@[^\s@]{1,255}")


class Form:
    """Fields of a request, checked one by one.

    Attributes:
        fields: what goes to Stripe.
    """

    def __init__(self) -> None:
        self.fields: Final[dict[str, Any]] = {}

    def text(self, name: str, value: str, *, required: bool = False, most: int = MOST_TEXT) -> Form:
        """Add words for people."""
        return self._matching(name, value, required=required, valid=len(value) <= most and "\0" not in value)

    def id(self, name: str, value: str, *, required: bool = False) -> Form:
        """Add the id of an object."""
        return self._matching(name, value, required=required, valid=bool(_ID.fullmatch(value)))

    def code(self, name: str, value: str) -> Form:
        """Add a promotion code."""
        return self._matching(name, value, valid=bool(_CODE.fullmatch(value)))

    def currency(self, name: str, value: str, *, required: bool = True) -> Form:
        """Add a currency: three letters."""
        return self._matching(name, value.lower(), required=required, valid=bool(_CURRENCY.fullmatch(value)))

    def url(self, name: str, value: str) -> Form:
        """Add an address, which must be there."""
        return self._matching(name, value, required=True, valid=len(value) <= MOST_TEXT and bool(_URL.fullmatch(value)))

    def email(self, name: str, value: str) -> Form:
        """Add the address of somebody."""
        return self._matching(name, value, valid=len(value) <= 512 and bool(_EMAIL.fullmatch(value)))

    def choice(self, name: str, value: str, *choices: str) -> Form:
        """Add one of a few words."""
        return self._matching(name, value, valid=value in choices)

    def number(self, name: str, value: int) -> Form:
        """Add a number from 1 on; 0 leaves it out."""
        if not 0 <= value <= MOST_NUMBER:
            raise invalid(name)
        if value:
            self.fields[name] = value
        return self

    def percent(self, name: str, value: float) -> Form:
        """Add a percentage, more than 0 and at most 100; 0 leaves it out."""
        if not (math.isfinite(value) and 0 <= value <= 100):
            raise invalid(name)
        if value:
            self.fields[name] = value
        return self

    def methods(self, name: str, values: Iterable[str]) -> Form:
        """Add ways to pay."""
        found = list(values)
        if len(found) > MOST_METHODS or not all(map(_METHOD.fullmatch, found)):
            raise invalid(name)
        if found:
            self.fields[name] = found
        return self

    def metadata(self, values: Mapping[str, str]) -> Form:
        """Add metadata: at most 50 values of 500 characters, under names of 40."""
        for key, value in values.items():
            if not 1 <= len(key) <= MOST_KEY or "[" in key or "]" in key or len(value) > MOST_VALUE:
                raise invalid("metadata")
            if "\0" in key + value:
                raise invalid("metadata")
        if len(values) > MOST_METADATA:
            raise invalid("metadata")
        if values:
            self.fields["metadata"] = dict(values)
        return self

    def put(self, **values: Any) -> Form:
        """Add what needs no check."""
        self.fields.update(values)
        return self

    def _matching(self, name: str, value: str, *, valid: bool, required: bool = False) -> Form:
        if (value and not valid) or (required and not value):
            raise invalid(name)
        if value:
            self.fields[name] = value
        return self


def invalid(name: str) -> HostError:
    """Return the refusal of a field."""
    return HostError(INVALID, f"{name} is missing, too long, or not what it should be")


def object_id(value: str) -> str:
    """Return the id of an object as it stands in an address; nothing else may."""
    if not _ID.fullmatch(value):
        raise invalid("id")
    return value


def key(value: str) -> str:
    """Return a key that makes a request one that is done once; "" for none."""
    if value and not _KEY.fullmatch(value):
        raise invalid("idempotency_key")
    return value


def cents(value: int, limit: int) -> int:
    """Return an amount from 1 on, up to the operator's limit if there is one.

    Raises:
        HostError: `AMOUNT_LIMIT`.
    """
    if not 1 <= value <= (min(limit, MOST_CENTS) if limit else MOST_CENTS):
        raise HostError(AMOUNT_LIMIT, f"the amount is not 1..{limit or MOST_CENTS}")
    return value
