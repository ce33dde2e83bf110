"""Stripe's objects as the contract's records. What an object lacks is empty, or 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pulp_ext_stripe.messages import (
    Balance,
    Checkout,
    Coupon,
    Customer,
    Invoice,
    InvoiceItem,
    Money,
    PaymentIntent,
    PromotionCode,
    Refund,
    SetupIntent,
    int64,
)

Described = Mapping[str, Any]


def text(described: Described, name: str) -> str:
    """Return a text; the id of an object that is described in full."""
    value = described.get(name)
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) else ""


def whole(described: Described, name: str) -> int:
    """Return a whole number."""
    value = described.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def part(described: Described, name: str) -> Described:
    """Return an object inside."""
    value = described.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(described: Described, name: str) -> msgspec.Raw:
    return int64(whole(described, name))


def _metadata(described: Described) -> dict[str, str]:
    return {str(name): str(value) for name, value in part(described, "metadata").items()}


def checkout(described: Described) -> Checkout:
    """Return a checkout session."""
    customer = part(described, "customer_details")
    return Checkout(
        id=text(described, "id"),
        url=text(described, "url"),
        status=text(described, "status"),
        payment_status=text(described, "payment_status"),
        payment_intent=text(described, "payment_intent"),
        amount_total=_number(described, "amount_total"),
        currency=text(described, "currency"),
        customer=text(described, "customer"),
        customer_email=text(customer, "email") or text(described, "customer_email"),
        metadata=_metadata(described),
    )


def payment_intent(described: Described) -> PaymentIntent:
    """Return a payment intent."""
    error = part(described, "last_payment_error")
    return PaymentIntent(
        id=text(described, "id"),
        status=text(described, "status"),
        amount=_number(described, "amount"),
        currency=text(described, "currency"),
        client_secret=text(described, "client_secret"),
        receipt_email=text(described, "receipt_email"),
        capture_method=text(described, "capture_method"),
        latest_charge=text(described, "latest_charge"),
        last_error=text(error, "message"),
        last_error_code=text(error, "code"),
        metadata=_metadata(described),
    )


def setup_intent(described: Described) -> SetupIntent:
    """Return a setup intent."""
    error = part(described, "last_setup_error")
    return SetupIntent(
        id=text(described, "id"),
        status=text(described, "status"),
        client_secret=text(described, "client_secret"),
        customer=text(described, "customer"),
        payment_method=text(described, "payment_method"),
        usage=text(described, "usage"),
        last_error=text(error, "message"),
        last_error_code=text(error, "code"),
        metadata=_metadata(described),
    )


def refund(described: Described) -> Refund:
    """Return a refund."""
    return Refund(
        id=text(described, "id"),
        status=text(described, "status"),
        amount=_number(described, "amount"),
        currency=text(described, "currency"),
        payment_intent=text(described, "payment_intent"),
        charge=text(described, "charge"),
        reason=text(described, "reason"),
    )


def customer(described: Described) -> Customer:
    """Return a customer."""
    return Customer(text(described, "id"), text(described, "email"), text(described, "name"))


def invoice(described: Described) -> Invoice:
    """Return an invoice."""
    return Invoice(
        id=text(described, "id"),
        status=text(described, "status"),
        customer=text(described, "customer"),
        currency=text(described, "currency"),
        amount_due=_number(described, "amount_due"),
        amount_paid=_number(described, "amount_paid"),
        total=_number(described, "total"),
        number=text(described, "number"),
        hosted_invoice_url=text(described, "hosted_invoice_url"),
        invoice_pdf=text(described, "invoice_pdf"),
    )


def invoice_item(described: Described) -> InvoiceItem:
    """Return a line of an invoice."""
    return InvoiceItem(
        id=text(described, "id"),
        invoice=text(described, "invoice"),
        customer=text(described, "customer"),
        amount=_number(described, "amount"),
        currency=text(described, "currency"),
        description=text(described, "description"),
    )


def balance(described: Described) -> Balance:
    """Return the balance."""
    return Balance(_moneys(described.get("available")), _moneys(described.get("pending")))


def _moneys(listed: Any) -> list[Money]:
    found = listed if isinstance(listed, list) else []
    return [Money(_number(one, "amount"), text(one, "currency")) for one in found if isinstance(one, Mapping)]


def coupon(described: Described) -> Coupon:
    """Return a coupon."""
    return Coupon(
        id=text(described, "id"),
        name=text(described, "name"),
        percent_off=float(described.get("percent_off") or 0.0),
        amount_off=_number(described, "amount_off"),
        currency=text(described, "currency"),
        duration=text(described, "duration"),
        valid=described.get("valid") is True,
    )


def promotion_code(described: Described) -> PromotionCode:
    """Return a promotion code, with what its coupon takes off."""
    inside = part(described, "coupon")
    return PromotionCode(
        id=text(described, "id"),
        code=text(described, "code"),
        active=described.get("active") is True,
        coupon=text(described, "coupon"),
        percent_off=float(inside.get("percent_off") or 0.0),
        amount_off=_number(inside, "amount_off"),
        currency=text(inside, "currency"),
        times_redeemed=_number(described, "times_redeemed"),
        max_redemptions=_number(described, "max_redemptions"),
        expires_at=_number(described, "expires_at"),
    )
