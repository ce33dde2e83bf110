"""What cells send and get: MessagePack maps, fields in the order of the wire (spec/capabilities §20).

Where the contract names a function and not its fields, the fields are Stripe's own, with amounts in `amount_cents` as
in the messages that the contract does give. Every message that writes may have an `idempotency_key`.
"""

from __future__ import annotations

import struct

import msgspec

UNSET = msgspec.UNSET


def int64(value: int) -> msgspec.Raw:
    """Return `value` as the contract writes a signed integer: nine bytes, whatever it is."""
    least, most = -(1 << 63), (1 << 63) - 1
    return msgspec.Raw(struct.pack(">Bq", 0xD3, min(max(value, least), most)))


# Sent ---------------------------------------------------------------------------------------------------------------


class Id(msgspec.Struct, frozen=True):
    """One object of Stripe's."""

    id: str = ""


class CheckoutCreate(msgspec.Struct, frozen=True):
    """A page on which one thing is paid."""

    amount_cents: int = 0
    currency: str = ""
    success_url: str = ""
    cancel_url: str = ""
    product_name: str = ""
    product_description: str = ""
    metadata: dict[str, str] = {}
    automatic_tax: bool = False
    idempotency_key: str = ""


class PaymentIntentCreate(msgspec.Struct, frozen=True):
    """A payment that is to be made.

    Attributes:
        amount_cents: the amount, in the smallest unit of the currency.
        currency: three letters.
        description: for people.
        receipt_email: who gets a receipt.
        capture_method: `automatic`, `automatic_async` or `manual`; "" leaves it to Stripe.
        payment_method_types: such as `card`; none leaves it to the account's settings.
        customer: id of a customer.
        metadata: kept with the payment.
        idempotency_key: the same key makes the same payment, once.
        promotion_code_id: kept with the payment, as metadata; what it takes off is for the cell to work out.
    """

    amount_cents: int = 0
    currency: str = ""
    description: str = ""
    receipt_email: str = ""
    capture_method: str = ""
    payment_method_types: list[str] = []
    customer: str = ""
    metadata: dict[str, str] = {}
    idempotency_key: str = ""
    promotion_code_id: str = ""


class PaymentIntentCapture(msgspec.Struct, frozen=True):
    """A payment to be taken that has been authorised: `amount_cents` of it, all of it if absent."""

    id: str = ""
    amount_cents: int | None = None
    idempotency_key: str = ""


class PaymentIntentCancel(msgspec.Struct, frozen=True):
    """A payment to be given up: `duplicate`, `fraudulent`, `requested_by_customer` or `abandoned`."""

    id: str = ""
    cancellation_reason: str = ""
    idempotency_key: str = ""


class SetupIntentCreate(msgspec.Struct, frozen=True):
    """A way to pay that is to be set up for later: `usage` is `off_session` or `on_session`."""

    customer: str = ""
    payment_method_types: list[str] = []
    usage: str = ""
    description: str = ""
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class RefundCreate(msgspec.Struct, frozen=True):
    """Money to be given back, of a payment or of a charge.

    Attributes:
        payment_intent: id of the payment.
        charge: id of the charge, in its place.
        amount_cents: how much; absent is all that is left.
        reason: `duplicate`, `fraudulent` or `requested_by_customer`.
        metadata: kept with the refund.
        idempotency_key: the same key gives the same back, once.
    """

    payment_intent: str = ""
    charge: str = ""
    amount_cents: int | None = None
    reason: str = ""
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class CustomerCreate(msgspec.Struct, frozen=True):
    """Somebody who pays."""

    email: str = ""
    name: str = ""
    phone: str = ""
    description: str = ""
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class InvoiceCreate(msgspec.Struct, frozen=True):
    """An invoice, still a draft.

    Attributes:
        customer: who it is for.
        collection_method: `charge_automatically` or `send_invoice`.
        days_until_due: with `send_invoice`.
        auto_advance: let Stripe finalize and collect it by itself.
        currency: three letters; "" is the customer's.
        description: for people.
        metadata: kept with the invoice.
        idempotency_key: the same key makes the same invoice, once.
    """

    customer: str = ""
    collection_method: str = ""
    days_until_due: int = 0
    auto_advance: bool = False
    currency: str = ""
    description: str = ""
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class InvoiceChange(msgspec.Struct, frozen=True):
    """An invoice to be finalized, or marked as paid elsewhere."""

    id: str = ""
    idempotency_key: str = ""


class InvoiceItemCreate(msgspec.Struct, frozen=True):
    """A line of an invoice; of the customer's next one if `invoice` is ""."""

    customer: str = ""
    invoice: str = ""
    amount_cents: int = 0
    currency: str = ""
    description: str = ""
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class CouponCreate(msgspec.Struct, frozen=True):
    """What is taken off: a percentage, or an amount of a currency.

    Attributes:
        id: what it is called; "" lets Stripe find a name.
        name: for people.
        percent_off: more than 0, at most 100.
        amount_off_cents: the amount, in place of a percentage.
        currency: of the amount.
        duration: `once`, `repeating` or `forever`; "" is `once`.
        duration_in_months: with `repeating`.
        max_redemptions: how often it can be used; 0 is no limit.
        redeem_by_unix: until when, in seconds since 1970; 0 is for ever.
        metadata: kept with the coupon.
        idempotency_key: the same key makes the same coupon, once.
    """

    id: str = ""
    name: str = ""
    percent_off: float = 0.0
    amount_off_cents: int = 0
    currency: str = ""
    duration: str = ""
    duration_in_months: int = 0
    max_redemptions: int = 0
    redeem_by_unix: int = 0
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class PromotionCodeCreate(msgspec.Struct, frozen=True):
    """A word that people enter for a coupon; numbers of 0 are no limit."""

    coupon: str = ""
    code: str = ""
    customer: str = ""
    max_redemptions: int = 0
    expires_at_unix: int = 0
    metadata: dict[str, str] = {}
    idempotency_key: str = ""


class PromotionCodeLookup(msgspec.Struct, frozen=True):
    """The word that somebody entered."""

    code: str = ""


class PromotionCodeUpdate(msgspec.Struct, frozen=True):
    """A word to be switched on or off, or given other metadata; what is absent stays."""

    id: str = ""
    active: bool | None = None
    metadata: dict[str, str] | None = None
    idempotency_key: str = ""


class WebhookVerify(msgspec.Struct, frozen=True):
    """The body of a webhook as it came, and its header `Stripe-Signature`."""

    payload: bytes = b""
    signature_header: str = ""


# Delivered ----------------------------------------------------------------------------------------------------------


class CheckoutCreated(msgspec.Struct, frozen=True):
    """A page, and where it is."""

    id: str
    url: str


class Checkout(msgspec.Struct, frozen=True):
    """A page and what became of it; `amount_total` is int64."""

    id: str
    url: str
    status: str
    payment_status: str
    payment_intent: str
    amount_total: msgspec.Raw
    currency: str
    customer: str
    customer_email: str
    metadata: dict[str, str]


class PaymentIntent(msgspec.Struct, frozen=True):
    """A payment; `amount` is int64. `last_error` is what the last attempt failed with, "" if it did not."""

    id: str
    status: str
    amount: msgspec.Raw
    currency: str
    client_secret: str
    receipt_email: str
    capture_method: str
    latest_charge: str
    last_error: str
    last_error_code: str
    metadata: dict[str, str]


class SetupIntent(msgspec.Struct, frozen=True):
    """A way to pay that is set up, or being set up."""

    id: str
    status: str
    client_secret: str
    customer: str
    payment_method: str
    usage: str
    last_error: str
    last_error_code: str
    metadata: dict[str, str]


class Refund(msgspec.Struct, frozen=True):
    """Money given back; `amount` is int64."""

    id: str
    status: str
    amount: msgspec.Raw
    currency: str
    payment_intent: str
    charge: str
    reason: str


class Customer(msgspec.Struct, frozen=True):
    """Somebody who pays."""

    id: str
    email: str
    name: str


class Invoice(msgspec.Struct, frozen=True):
    """An invoice; amounts are int64."""

    id: str
    status: str
    customer: str
    currency: str
    amount_due: msgspec.Raw
    amount_paid: msgspec.Raw
    total: msgspec.Raw
    number: str
    hosted_invoice_url: str
    invoice_pdf: str


class InvoiceItem(msgspec.Struct, frozen=True):
    """A line of an invoice; `amount` is int64."""

    id: str
    invoice: str
    customer: str
    amount: msgspec.Raw
    currency: str
    description: str


class Money(msgspec.Struct, frozen=True):
    """An amount, int64, of a currency."""

    amount: msgspec.Raw
    currency: str


class Balance(msgspec.Struct, frozen=True):
    """What can be paid out, and what will be."""

    available: list[Money]
    pending: list[Money]


class Coupon(msgspec.Struct, frozen=True):
    """What is taken off; `amount_off` is int64. Either `percent_off` or `amount_off` is 0."""

    id: str
    name: str
    percent_off: float
    amount_off: msgspec.Raw
    currency: str
    duration: str
    valid: bool


class PromotionCode(msgspec.Struct, frozen=True):
    """A word and its coupon; numbers are int64, 0 for no limit. `id` is "" for a word that nobody made."""

    id: str
    code: str
    active: bool
    coupon: str
    percent_off: float
    amount_off: msgspec.Raw
    currency: str
    times_redeemed: msgspec.Raw
    max_redemptions: msgspec.Raw
    expires_at: msgspec.Raw
