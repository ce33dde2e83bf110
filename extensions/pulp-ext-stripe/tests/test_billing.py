"""Invoices, coupons and promotion codes, against a server that speaks Stripe's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conftest import Caller, settings
from fake_stripe import FakeStripe

Make = Callable[..., Caller]


def invoice(shop: Caller, cents: int = 1_500) -> str:
    customer = shop.answer("stripe_customer_create", name="Ada")["id"]
    shop.answer("stripe_invoice_item_create", customer=customer, amount_cents=cents, currency="eur", description="tea")
    return str(shop.answer("stripe_invoice_create", customer=customer)["id"])


def test_an_invoice_is_made_of_lines_finalized_and_marked_as_paid(shop: Caller, fake: FakeStripe) -> None:
    customer = shop.answer("stripe_customer_create", name="Ada")["id"]
    line = shop.answer("stripe_invoice_item_create", customer=customer, amount_cents=1_500, currency="EUR")
    draft = shop.answer("stripe_invoice_create", customer=customer, collection_method="send_invoice", days_until_due=14)
    due = shop.answer("stripe_invoice_finalize", id=draft["id"])
    paid = shop.answer("stripe_invoice_mark_paid_out_of_band", id=draft["id"])

    assert line == {
        "id": line["id"],
        "invoice": "",
        "customer": customer,
        "amount": 1_500,
        "currency": "eur",
        "description": "",
    }
    assert draft == {
        "id": draft["id"],
        "status": "draft",
        "customer": customer,
        "currency": "eur",
        "amount_due": 1_500,
        "amount_paid": 0,
        "total": 1_500,
        "number": "",
        "hosted_invoice_url": "",
        "invoice_pdf": "",
    }
    assert (due["status"], due["number"], due["hosted_invoice_url"]) == ("open", "A-1", "https://invoice.stripe.com/i")
    assert paid["status"] == "paid"
    made = next(form for _method, path, form, _headers in fake.asked if path == "/v1/invoices")
    assert made == {
        "customer": customer,
        "collection_method": "send_invoice",
        "days_until_due": "14",
        "auto_advance": "false",
        "pending_invoice_items_behavior": "include",
    }


def test_an_invoice_of_many_small_lines_keeps_to_the_limit(make: Make, fake: FakeStripe) -> None:
    limited = make(settings(fake, max_charge_cents=2_000))
    customer = limited.answer("stripe_customer_create", name="Ada")["id"]
    for _ in "12":
        limited.answer("stripe_invoice_item_create", customer=customer, amount_cents=1_500, currency="eur")
    draft = limited.answer("stripe_invoice_create", customer=customer)["id"]

    assert limited.code("stripe_invoice_finalize", id=draft) == 12
    assert fake.objects[draft]["status"] == "draft"
    assert limited.code("stripe_invoice_finalize", id=invoice(limited)) == 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("stripe_invoice_create", {}),
        ("stripe_invoice_create", {"customer": "cus_1", "collection_method": "by force"}),
        ("stripe_invoice_create", {"customer": "cus_1", "days_until_due": -1}),
        ("stripe_invoice_create", {"customer": "cus_1", "currency": "euros"}),
        ("stripe_invoice_finalize", {"id": "in_1/pay"}),
        ("stripe_invoice_finalize", {"id": ""}),
        ("stripe_invoice_mark_paid_out_of_band", {"id": "in_1?x=1"}),
        ("stripe_invoice_item_create", {"customer": "cus_1", "amount_cents": 1}),
        ("stripe_invoice_item_create", {"amount_cents": 1, "currency": "eur"}),
        ("stripe_invoice_item_create", {"customer": "c", "amount_cents": 1, "currency": "eur", "invoice": "a b"}),
    ],
)
def test_an_invoice_is_refused_with(shop: Caller, fake: FakeStripe, function: str, message: dict[str, Any]) -> None:
    assert shop.code(function, **message) == 14
    assert fake.asked == []


# Coupons and promotion codes ----------------------------------------------------------------------------------------


def test_a_coupon_takes_a_percentage_off(shop: Caller, fake: FakeStripe) -> None:
    made = shop.answer(
        "stripe_coupon_create", id="SPRING", name="Spring", percent_off=12.5, redeem_by_unix=2_000_000_000
    )

    assert made == {
        "id": "SPRING",
        "name": "Spring",
        "percent_off": 12.5,
        "amount_off": 0,
        "currency": "",
        "duration": "once",
        "valid": True,
    }
    assert fake.asked[-1][2]["redeem_by"] == "2000000000"


def test_a_coupon_takes_an_amount_off(shop: Caller) -> None:
    made = shop.answer(
        "stripe_coupon_create", amount_off_cents=500, currency="EUR", duration="repeating", duration_in_months=3
    )

    assert (made["percent_off"], made["amount_off"], made["currency"]) == (0.0, 500, "eur")
    assert made["duration"] == "repeating"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"percent_off": 10.0, "amount_off_cents": 1, "currency": "eur"},
        {"amount_off_cents": 1},
        {"percent_off": 100.1},
        {"percent_off": -1.0},
        {"percent_off": float("nan")},
        {"percent_off": 1.0, "duration": "sometimes"},
        {"percent_off": 1.0, "max_redemptions": -1},
        {"percent_off": 1.0, "redeem_by_unix": 1 << 54},
        {"percent_off": 1.0, "id": "a/b"},
        {"percent_off": 1.0, "name": "x" * 41},
    ],
)
def test_a_coupon_is_refused_with(shop: Caller, fake: FakeStripe, wrong: dict[str, Any]) -> None:
    assert shop.code("stripe_coupon_create", **wrong) == 14
    assert fake.asked == []


@pytest.fixture
def word(shop: Caller) -> Any:
    """Return a promotion code."""
    coupon = shop.answer("stripe_coupon_create", percent_off=20.0)["id"]
    return shop.answer("stripe_promotion_code_create", coupon=coupon, code="TEA20", max_redemptions=5)


def test_a_word_for_a_coupon_is_made_and_looked_up(shop: Caller, word: Any) -> None:
    assert word == {
        "id": word["id"],
        "code": "TEA20",
        "active": True,
        "coupon": word["coupon"],
        "percent_off": 20.0,
        "amount_off": 0,
        "currency": "",
        "times_redeemed": 0,
        "max_redemptions": 5,
        "expires_at": 0,
    }
    assert shop.answer("stripe_promotion_code_lookup", code="TEA20") == word


def test_a_word_that_nobody_made_has_no_id(shop: Caller) -> None:
    found = shop.answer("stripe_promotion_code_lookup", code="NONE")

    assert (found["id"], found["active"]) == ("", False)


def test_a_word_is_switched_off_and_found_no_more(shop: Caller, word: Any) -> None:
    assert shop.answer("stripe_promotion_code_update", id=word["id"], active=False)["active"] is False
    assert shop.answer("stripe_promotion_code_lookup", code="TEA20")["id"] == ""
    assert shop.answer("stripe_promotion_code_update", id=word["id"], metadata={"a": "b"})["active"] is False


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("stripe_promotion_code_create", {}),
        ("stripe_promotion_code_create", {"coupon": "c", "code": "two words"}),
        ("stripe_promotion_code_create", {"coupon": "c", "expires_at_unix": -1}),
        ("stripe_promotion_code_lookup", {"code": ""}),
        ("stripe_promotion_code_lookup", {"code": "a&active=false"}),
        ("stripe_promotion_code_update", {"id": "promo_1"}),
        ("stripe_promotion_code_update", {"id": "", "active": True}),
    ],
)
def test_a_word_is_refused_with(shop: Caller, fake: FakeStripe, function: str, message: dict[str, Any]) -> None:
    assert shop.code(function, **message) == 14
    assert fake.asked == []
