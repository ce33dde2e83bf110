"""Payments, refunds and what belongs to them, against a server that speaks Stripe's API."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import WEBHOOK, Caller, settings
from fake_stripe import FakeStripe
from pulp_ext_stripe.payments import MOST_WEBHOOK_BYTES

Make = Callable[..., Caller]
CHECKOUT = {
    "amount_cents": 1999,
    "currency": "EUR",
    "success_url": "https://shop.test/thanks?x=1&y=2",
    "cancel_url": "https://shop.test/",
    "product_name": "A crown of 1 & 2",
}
INTENT = {"amount_cents": 1999, "currency": "eur"}


def authorised(shop: Caller, fake: FakeStripe, cents: int = 1999) -> str:
    """Return a payment that waits to be taken."""
    made = shop.answer("stripe_payment_intent_create", **{**INTENT, "amount_cents": cents, "capture_method": "manual"})
    fake.objects[made["id"]].update(status="requires_capture", amount_capturable=cents)
    return str(made["id"])


def paid(shop: Caller, fake: FakeStripe, cents: int = 1999) -> str:
    """Return a payment that has been taken."""
    identity = authorised(shop, fake, cents)
    charge = fake.keep("ch", "charge", amount=cents, amount_captured=cents, amount_refunded=0)
    fake.objects[identity].update(status="succeeded", amount_capturable=0, latest_charge=charge["id"])
    return identity


# Checkout -----------------------------------------------------------------------------------------------------------


def test_a_checkout_is_a_page_with_one_thing_on_it(shop: Caller, fake: FakeStripe) -> None:
    made = shop.answer(
        "stripe_checkout_session_create",
        **CHECKOUT,
        product_description="gold",
        metadata={"order": "7"},
        automatic_tax=True,
    )

    assert made == {"id": made["id"], "url": f"https://checkout.stripe.com/c/pay/{made['id']}"}
    method, path, form, headers = fake.asked[0]
    assert (method, path) == ("POST", "/v1/checkout/sessions")
    assert form == {
        "mode": "payment",
        "line_items": {
            "0": {
                "quantity": "1",
                "price_data": {
                    "currency": "eur",
                    "unit_amount": "1999",
                    "product_data": {"name": "A crown of 1 & 2", "description": "gold"},
                },
            }
        },
        "success_url": "https://shop.test/thanks?x=1&y=2",
        "cancel_url": "https://shop.test/",
        "metadata": {"order": "7"},
        "automatic_tax": {"enabled": "true"},
    }
    assert headers["Stripe-Version"] == "2024-06-20"


def test_a_checkout_is_looked_up(shop: Caller) -> None:
    made = shop.answer("stripe_checkout_session_create", **CHECKOUT, metadata={"order": "7"})

    assert shop.answer("stripe_checkout_session_get", id=made["id"]) == {
        "id": made["id"],
        "url": made["url"],
        "status": "open",
        "payment_status": "unpaid",
        "payment_intent": "",
        "amount_total": 1999,
        "currency": "eur",
        "customer": "",
        "customer_email": "ada@example.com",
        "metadata": {"order": "7"},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"currency": ""},
        {"currency": "euro"},
        {"currency": "€€€"},
        {"success_url": ""},
        {"success_url": "javascript:alert(1)"},
        {"success_url": "https://shop.test/a b"},
        {"cancel_url": "/here"},
        {"cancel_url": "https://shop.test/" + "x" * 5_000},
        {"product_name": ""},
        {"product_name": "x" * 251},
        {"product_description": "x" * 5_001},
        {"metadata": {"": "x"}},
        {"metadata": {"x" * 41: "x"}},
        {"metadata": {"a[b]": "x"}},
        {"metadata": {"a": "x" * 501}},
        {"metadata": {str(number): "" for number in range(51)}},
        {"idempotency_key": "a\r\nb"},
        {"idempotency_key": "k" * 256},
    ],
)
def test_a_checkout_is_refused_with(shop: Caller, fake: FakeStripe, wrong: dict[str, Any]) -> None:
    assert shop.code("stripe_checkout_session_create", **{**CHECKOUT, **wrong}) == 14
    assert fake.asked == []


# Payments -----------------------------------------------------------------------------------------------------------


def test_a_payment_is_made(shop: Caller, fake: FakeStripe) -> None:
    made = shop.answer(
        "stripe_payment_intent_create",
        **INTENT,
        description="a crown",
        receipt_email="ada@example.com",
        capture_method="manual",
        payment_method_types=["card", "sepa_debit"],
        customer="cus_1",
        metadata={"order": "7"},
        promotion_code_id="promo_1",
        idempotency_key="order-7",
    )

    assert made == {
        "id": made["id"],
        "status": "requires_payment_method",
        "amount": 1999,
        "currency": "eur",
        "client_secret": f"{made['id']}_secret_x",
        "receipt_email": "ada@example.com",
        "capture_method": "manual",
        "latest_charge": "",
        "last_error": "",
        "last_error_code": "",
        "metadata": {"order": "7", "promotion_code_id": "promo_1"},
    }
    _method, _path, form, headers = fake.asked[0]
    assert form["payment_method_types"] == {"0": "card", "1": "sepa_debit"}
    assert headers["Idempotency-Key"] == "order-7"


def test_without_types_the_account_chooses_how_to_pay(shop: Caller, fake: FakeStripe) -> None:
    shop.answer("stripe_payment_intent_create", **INTENT)

    assert fake.asked[0][2]["automatic_payment_methods"] == {"enabled": "true"}


def test_the_same_key_makes_one_payment(shop: Caller, fake: FakeStripe) -> None:
    both = [shop.answer("stripe_payment_intent_create", **INTENT, idempotency_key="k")["id"] for _ in "12"]
    others = [shop.answer("stripe_payment_intent_create", **INTENT)["id"] for _ in "12"]

    assert both[0] == both[1]
    assert len({*both, *others}) == 3
    changed = {**INTENT, "amount_cents": 1}
    assert shop.code("stripe_payment_intent_create", **changed, idempotency_key="k") == 14


def test_why_a_payment_failed_is_told(shop: Caller, fake: FakeStripe) -> None:
    made = shop.answer("stripe_payment_intent_create", **INTENT)
    error = {"code": "card_declined", "message": "Your card was declined."}
    fake.objects[made["id"]].update(last_payment_error=error, latest_charge={"id": "ch_1", "object": "charge"})

    found = shop.answer("stripe_payment_intent_get", id=made["id"])

    assert (found["last_error"], found["last_error_code"]) == ("Your card was declined.", "card_declined")
    assert found["latest_charge"] == "ch_1"


def test_a_payment_is_taken_in_part(shop: Caller, fake: FakeStripe) -> None:
    identity = authorised(shop, fake)

    taken = shop.answer("stripe_payment_intent_capture", id=identity, amount_cents=500)

    assert taken["status"] == "succeeded"
    assert fake.asked[-1][2] == {"amount_to_capture": "500"}
    assert shop.code("stripe_payment_intent_capture", id=identity) == 14, "there is nothing left to take"


def test_a_payment_is_given_up(shop: Caller, fake: FakeStripe) -> None:
    identity = authorised(shop, fake)

    given_up = shop.answer("stripe_payment_intent_cancel", id=identity, cancellation_reason="abandoned")

    assert given_up["status"] == "canceled"
    assert fake.asked[-1][2] == {"cancellation_reason": "abandoned"}
    assert shop.code("stripe_payment_intent_cancel", id=identity, cancellation_reason="bored") == 14


@pytest.mark.parametrize(
    "wrong",
    [
        {"currency": "eu"},
        {"description": "x" * 1_001},
        {"description": "a\0b"},
        {"receipt_email": "nobody"},
        {"receipt_email": "a b@example.com"},
        {"capture_method": "later"},
        {"payment_method_types": ["Card!"]},
        {"payment_method_types": ["card"] * 21},
        {"customer": "cus/1"},
        {"promotion_code_id": "../x"},
    ],
)
def test_a_payment_is_refused_with(shop: Caller, fake: FakeStripe, wrong: dict[str, Any]) -> None:
    assert shop.code("stripe_payment_intent_create", **{**INTENT, **wrong}) == 14
    assert fake.asked == []


def test_a_way_to_pay_later_is_set_up_and_looked_up(shop: Caller) -> None:
    made = shop.answer("stripe_setup_intent_create", customer="cus_1", usage="off_session", metadata={"a": "b"})

    assert made == {
        "id": made["id"],
        "status": "requires_payment_method",
        "client_secret": f"{made['id']}_secret_x",
        "customer": "cus_1",
        "payment_method": "",
        "usage": "off_session",
        "last_error": "Your card was declined.",
        "last_error_code": "card_declined",
        "metadata": {"a": "b"},
    }
    assert shop.answer("stripe_setup_intent_get", id=made["id"]) == made
    assert shop.code("stripe_setup_intent_create", usage="sometimes") == 14


# Amounts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("stripe_checkout_session_create", CHECKOUT),
        ("stripe_payment_intent_create", INTENT),
        ("stripe_payment_intent_capture", {"id": "pi_1"}),
        ("stripe_invoice_item_create", {"customer": "cus_1", "currency": "eur"}),
    ],
)
@pytest.mark.parametrize("cents", [0, -1, -(2**63), 5_001, 2**63])
def test_a_charge_over_the_limit_or_of_nothing_is_12(
    make: Make, fake: FakeStripe, function: str, message: dict[str, Any], cents: int
) -> None:
    shop = make(settings(fake, max_charge_cents=5_000))

    assert shop.code(function, **{**message, "amount_cents": cents}) == 12
    assert fake.asked == []


def test_a_charge_at_the_limit_is_made(make: Make, fake: FakeStripe) -> None:
    shop = make(settings(fake), {"STRIPE_MAX_CHARGE_CENTS": "5000"})
    made = make(settings(fake, max_charge_cents=5_000))

    assert made.answer("stripe_payment_intent_create", amount_cents=5_000, currency="eur")["amount"] == 5_000
    assert shop.code("stripe_payment_intent_create", amount_cents=5_001, currency="eur") == 12


def test_without_a_limit_there_is_still_an_end(shop: Caller) -> None:
    assert shop.code("stripe_payment_intent_create", amount_cents=1_000_000_000_000, currency="eur") == 12
    assert shop.answer("stripe_payment_intent_create", amount_cents=999_999_999_999, currency="eur")["amount"]


def test_taking_all_of_a_payment_keeps_to_the_limit_too(make: Make, shop: Caller, fake: FakeStripe) -> None:
    large, small = authorised(shop, fake, 9_999), authorised(shop, fake, 5_000)
    limited = make(settings(fake, max_charge_cents=5_000))

    assert limited.code("stripe_payment_intent_capture", id=large) == 12
    assert fake.objects[large]["status"] == "requires_capture"
    assert limited.code("stripe_payment_intent_capture", id=small) == 0


# Refunds ------------------------------------------------------------------------------------------------------------


def test_a_refund_without_an_amount_is_of_everything(shop: Caller, fake: FakeStripe) -> None:
    identity = paid(shop, fake)

    given = shop.answer("stripe_refund_create", payment_intent=identity, reason="duplicate")

    assert given == {
        "id": given["id"],
        "status": "succeeded",
        "amount": 1999,
        "currency": "eur",
        "payment_intent": identity,
        "charge": fake.objects[identity]["latest_charge"],
        "reason": "duplicate",
    }
    assert "amount" not in fake.asked[-1][2]


def test_a_refund_may_be_of_a_part_and_of_a_charge(shop: Caller, fake: FakeStripe) -> None:
    charge = fake.objects[paid(shop, fake)]["latest_charge"]

    given = shop.answer("stripe_refund_create", charge=charge, amount_cents=500)

    assert (given["amount"], given["charge"], given["payment_intent"]) == (500, charge, "")


@pytest.mark.parametrize("cents", [0, -1, 1_001])
def test_a_refund_of_nothing_or_over_the_limit_is_12(make: Make, shop: Caller, fake: FakeStripe, cents: int) -> None:
    identity = paid(shop, fake)
    limited = make(settings(fake, max_refund_cents=1_000))
    fake.asked.clear()

    assert limited.code("stripe_refund_create", payment_intent=identity, amount_cents=cents) == 12
    assert fake.asked == []


def test_a_refund_of_everything_keeps_to_the_limit_too(make: Make, shop: Caller, fake: FakeStripe) -> None:
    large, small = paid(shop, fake, 1_001), paid(shop, fake, 1_000)
    limited = make(settings(fake, max_refund_cents=1_000))

    assert limited.code("stripe_refund_create", payment_intent=large) == 12
    assert limited.code("stripe_refund_create", charge=fake.objects[large]["latest_charge"]) == 12
    assert fake.objects[fake.objects[large]["latest_charge"]]["amount_refunded"] == 0
    assert limited.answer("stripe_refund_create", payment_intent=small)["amount"] == 1_000
    assert limited.code("stripe_refund_create", payment_intent=small) == 12, "nothing is left"


@pytest.mark.parametrize(
    "wrong",
    [{}, {"payment_intent": "pi_1", "charge": "ch_1"}, {"payment_intent": "pi/1"}, {"charge": "c", "reason": "bored"}],
)
def test_a_refund_is_refused_with(shop: Caller, fake: FakeStripe, wrong: dict[str, Any]) -> None:
    assert shop.code("stripe_refund_create", **wrong) == 14
    assert fake.asked == []


# Customers and the balance ------------------------------------------------------------------------------------------


def test_a_customer_is_made(shop: Caller) -> None:
    made = shop.answer("stripe_customer_create", email="ada@example.com", name="Ada & Co", phone="+44 1", metadata={})

    assert made == {"id": made["id"], "email": "ada@example.com", "name": "Ada & Co"}
    assert shop.answer("stripe_customer_create")["email"] == ""
    assert shop.code("stripe_customer_create", phone="1" * 21) == 14


def test_the_balance_is_told_whatever_is_sent(shop: Caller) -> None:
    expected = {"available": [{"amount": -150, "currency": "eur"}], "pending": [{"amount": 5, "currency": "usd"}]}

    assert shop.answer("stripe_balance_get") == expected
    assert shop.cell.run("stripe_balance_get", 0, 0, 8, 12) == 0


# Webhooks -----------------------------------------------------------------------------------------------------------


def signed(payload: bytes, *, age: float = 0, secret: str = WEBHOOK) -> str:
    moment = int(time.time() - age)
    digest = hmac.new(secret.encode(), b"%d." % moment + payload, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest},v0=old"


def test_a_webhook_of_stripes_is_taken(shop: Caller) -> None:
    payload = '{"id": "evt_1", "who": "Zoë"}'.encode()

    assert shop.code("stripe_webhook_verify", payload=payload, signature_header=signed(payload)) == 0
    assert shop.code("stripe_webhook_verify", payload=payload, signature_header=signed(payload, age=290)) == 0


@pytest.mark.parametrize(
    ("payload", "header"),
    [
        pytest.param(b"{}", signed(b"{ }"), id="another body"),
        pytest.param(b"{}", signed(b"{}", secret="whsec_other"), id="another secret"),
        pytest.param(b"{}", signed(b"{}", age=310), id="an old one played again"),
        pytest.param(b"{}", "t=1,v1=", id="no signature"),
        pytest.param(b"{}", "t=soon,v1=00", id="no time"),
        pytest.param(b"{}", "v1=" + "0" * 64, id="no time at all"),
        pytest.param(b"{}", ",=,==,", id="no header at all"),
        pytest.param(b"{}", "t=1,v0=" + "0" * 64, id="an older kind of signature"),
        pytest.param(b"\xff", signed(b"\xff"), id="no text"),
        pytest.param(b"{}", signed(b"{}") + "," * 5_000, id="a header without end"),
    ],
)
def test_a_webhook_of_somebody_else_is_6(shop: Caller, payload: bytes, header: str) -> None:
    assert shop.code("stripe_webhook_verify", payload=payload, signature_header=header) == 6


def test_a_webhook_that_is_too_long_is_6(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_ext_stripe.payments.MOST_WEBHOOK_BYTES", 8)

    assert shop.code("stripe_webhook_verify", payload=b"12345678", signature_header=signed(b"12345678")) == 0
    assert shop.code("stripe_webhook_verify", payload=b"123456789", signature_header=signed(b"123456789")) == 6
    assert MOST_WEBHOOK_BYTES == 1024 * 1024


@pytest.mark.parametrize("message", [{}, {"payload": b"{}"}, {"signature_header": "t=1,v1=0"}])
def test_a_webhook_without_body_or_signature_is_1(shop: Caller, message: dict[str, Any]) -> None:
    assert shop.code("stripe_webhook_verify", **message) == 1
