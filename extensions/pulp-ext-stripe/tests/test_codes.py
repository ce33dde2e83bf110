"""Every code, and what the operator is told with it; what is told to nobody."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pulp_runtime.ext import ExtensionError
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

from conftest import ADDRESS, LENGTH, REQUEST, WEBHOOK, Caller, settings
from fake_stripe import KEY, FakeStripe, Refusal
from pulp_ext_stripe import effect
from pulp_ext_stripe.payments import capability
from pulp_ext_stripe.settings import read_settings

Make = Callable[..., Caller]
FUNCTIONS = {function.name: function.words for function in capability().functions.values()}
WITHOUT_MESSAGE = ("stripe_balance_get",)
MESSAGES: dict[str, dict[str, Any]] = {
    **{name: {"id": "x_1"} for name in FUNCTIONS},
    "stripe_checkout_session_create": {
        "amount_cents": 1,
        "currency": "eur",
        "success_url": "https://a.test",
        "cancel_url": "https://a.test",
        "product_name": "a",
    },
    "stripe_payment_intent_create": {"amount_cents": 1, "currency": "eur"},
    "stripe_refund_create": {"payment_intent": "pi_1"},
    "stripe_invoice_create": {"customer": "cus_1"},
    "stripe_invoice_item_create": {"customer": "cus_1", "amount_cents": 1, "currency": "eur"},
    "stripe_coupon_create": {"percent_off": 1.0},
    "stripe_promotion_code_create": {"coupon": "c"},
    "stripe_promotion_code_lookup": {"code": "c"},
    "stripe_promotion_code_update": {"id": "promo_1", "active": True},
    "stripe_webhook_verify": {"payload": b"{}", "signature_header": "t=1,v1=0"},
}
TAKING_AN_ID = [
    *("stripe_checkout_session_get", "stripe_payment_intent_get", "stripe_setup_intent_get"),
    *("stripe_payment_intent_capture", "stripe_payment_intent_cancel", "stripe_promotion_code_update"),
    *("stripe_invoice_finalize", "stripe_invoice_mark_paid_out_of_band"),
]


def words(name: str, *message: int) -> list[int]:
    return [*message, *((ADDRESS, LENGTH) if FUNCTIONS[name] == 4 else ())]


def test_the_imports_are_the_published_ones() -> None:
    assert [name for name, count in FUNCTIONS.items() if count == 2] == ["stripe_webhook_verify"]
    assert {name for name, count in FUNCTIONS.items() if count == 4} == {
        "stripe_balance_get",
        "stripe_checkout_session_create",
        "stripe_checkout_session_get",
        "stripe_coupon_create",
        "stripe_customer_create",
        "stripe_invoice_create",
        "stripe_invoice_finalize",
        "stripe_invoice_item_create",
        "stripe_invoice_mark_paid_out_of_band",
        "stripe_payment_intent_cancel",
        "stripe_payment_intent_capture",
        "stripe_payment_intent_create",
        "stripe_payment_intent_get",
        "stripe_promotion_code_create",
        "stripe_promotion_code_lookup",
        "stripe_promotion_code_update",
        "stripe_refund_create",
        "stripe_setup_intent_create",
        "stripe_setup_intent_get",
    }


# Before Stripe is asked ---------------------------------------------------------------------------------------------


@pytest.fixture
def unset(make: Make) -> Caller:
    return make({})


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_MESSAGE])
def test_an_empty_message_is_1(unset: Caller, name: str) -> None:
    assert unset.cell.run(name, *words(name, REQUEST, 0)) == 1


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_MESSAGE])
@pytest.mark.parametrize("hostile", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_message_outside_memory_is_2(unset: Caller, name: str, hostile: tuple[int, int]) -> None:
    assert unset.cell.run(name, *words(name, *hostile)) == 2


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_MESSAGE])
@pytest.mark.parametrize("data", [b"\xc1", b"\x01", b"\xdf\xff\xff\xff\xff", b"\x81\xa1x"])
def test_a_message_of_another_kind_is_3(unset: Caller, name: str, data: bytes) -> None:
    unset.cell.write(REQUEST, data)

    assert unset.cell.run(name, *words(name, REQUEST, len(data))) == 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_settings_a_good_call_is_10(unset: Caller, name: str) -> None:
    assert unset.code(name, **MESSAGES[name]) == 10


def test_the_operator_is_told_that_the_key_is_missing(unset: Caller) -> None:
    assert "payment.stripe has no STRIPE_SECRET_KEY; calls are answered 10" in [
        record.message for record in unset.cell.logged
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_cell_that_does_not_declare_it_is_answered_99(pulp_cell: Callable[..., CellUnderTest], name: str) -> None:
    one = capability()
    cell = pulp_cell(guest(one), capabilities=[one], declares=[])

    assert cell.run(name, *[0] * FUNCTIONS[name]) == 99


@pytest.mark.parametrize("name", TAKING_AN_ID)
@pytest.mark.parametrize("identity", ["", "..", "a/b", "a?b", "a%2fb", "a b", "é", "x" * 256])
def test_an_id_that_would_change_the_address_is_14(shop: Caller, fake: FakeStripe, name: str, identity: str) -> None:
    assert shop.code(name, **{**MESSAGES[name], "id": identity}) == 14
    assert fake.asked == []


# Delivery -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alloc", "code"), [pytest.param("refuse", 7, id="has no room"), pytest.param("outside", 8, id="lies about it")]
)
def test_an_answer_is_lost_on_a_guest_that(make: Make, fake: FakeStripe, alloc: str, code: int) -> None:
    shop = make(settings(fake), alloc=alloc)

    assert shop.code("stripe_customer_create", name="Ada") == code
    assert len(fake.objects) == 1, "there is a customer all the same"


def test_an_answer_without_a_place_is_8(shop: Caller) -> None:
    assert shop.cell.run("stripe_balance_get", 0, 0, 65_533, LENGTH) == 8


def test_amounts_cross_as_integers_of_nine_bytes(shop: Caller) -> None:
    data = msgspec.msgpack.encode(MESSAGES["stripe_payment_intent_create"])
    shop.cell.write(REQUEST, data)
    shop.cell.run("stripe_payment_intent_create", *words("stripe_payment_intent_create", REQUEST, len(data)))

    address, length = (int.from_bytes(shop.cell.read(at, 4), "little") for at in (ADDRESS, LENGTH))
    assert b"\xa6amount\xd3" + bytes(7) + b"\x01\xa8currency" in shop.cell.read(address, length)


# Refused by Stripe --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (
            Refusal(400, "invalid_request_error", "parameter_invalid_integer", "amount"),
            14,
            "InvalidRequestError parameter_invalid_integer amount 400 (request req_1)",
        ),
        (Refusal(400, "idempotency_error"), 14, "IdempotencyError 400 (request req_1)"),
        (
            Refusal(404, "invalid_request_error", "resource_missing"),
            4,
            "InvalidRequestError resource_missing 404 (request req_1)",
        ),
        (Refusal(402, "card_error", "card_declined"), 4, "CardError card_declined 402 (request req_1)"),
        (Refusal(401, "invalid_request_error"), 10, "AuthenticationError 401 (request req_1)"),
        (Refusal(403, "invalid_request_error"), 4, "PermissionError 403 (request req_1)"),
        (Refusal(429, "invalid_request_error"), 4, "RateLimitError 429 (request req_1)"),
        (Refusal(500, "api_error"), 4, "APIError 500 (request req_1)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_refusal_is_a_code_and_a_reason_without_words_of_others(
    shop: Caller, fake: FakeStripe, refusal: Refusal, code: int, reason: str
) -> None:
    fake.refuse = refusal

    assert shop.code("stripe_payment_intent_create", amount_cents=1, currency="eur") == code
    assert shop.reasons == [reason]
    assert "canary" not in str(shop.cell.logged)


def test_a_wrong_key_is_10(make: Make, fake: FakeStripe) -> None:
    shop = make(settings(fake, secret_key="sk_test_wrong"))

    assert shop.code("stripe_balance_get") == 10
    assert "sk_test_wrong" not in str(shop.cell.logged)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "the answer is not an object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "more than 1,048,576 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "IncompleteRead"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", "APIError 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "APIError"),
        (b"SSH-2.0-whatever\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
    ],
)
def test_an_answer_that_is_none_is_4(shop: Caller, fake: FakeStripe, raw: bytes, reason: str) -> None:
    fake.raw = raw

    assert shop.code("stripe_balance_get") == 4
    assert reason in str(shop.reasons)


def test_a_stripe_that_is_not_there_is_4(make: Make, fake: FakeStripe) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    shop = make(settings(fake, api_base=address))

    assert shop.code("stripe_balance_get") == 4
    assert shop.reasons == ["ConnectionRefusedError: Connection refused"]


@pytest.mark.slow
def test_a_stripe_that_is_too_slow_is_4_before_the_deadline(make: Make, fake: FakeStripe) -> None:
    fake.slow = True
    shop = make(settings(fake), call_timeout_ms=800)
    began = time.monotonic()

    assert shop.code("stripe_balance_get") == 4
    assert 0.5 < time.monotonic() - began < 0.8
    assert shop.reasons == ["TimeoutError: no answer before the deadline of the call"]


def test_a_request_is_sent_once_and_not_again_by_the_library(shop: Caller, fake: FakeStripe) -> None:
    fake.refuse = Refusal(500, "api_error")

    assert shop.code("stripe_customer_create", name="Ada") == 4
    assert len(fake.asked) == 1


def test_connections_are_kept_and_replaced(shop: Caller, fake: FakeStripe) -> None:
    for _ in "123":
        assert shop.code("stripe_balance_get") == 0
    fake.raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"  # and close, without a word

    assert [shop.code("stripe_balance_get") for _ in "123"] == [0, 0, 0]


# What is told to nobody ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", ["secret_key", "webhook_secret"])
def test_threat_44_the_secrets_are_in_no_log_no_answer_and_no_memory_of_the_guest(
    make: Make, fake: FakeStripe, caplog: pytest.LogCaptureFixture, alone: str
) -> None:
    caplog.set_level(logging.DEBUG)
    shop = make(settings(fake))
    for name, message in MESSAGES.items():
        shop.code(name, **message)

    secret = {"secret_key": KEY, "webhook_secret": WEBHOOK}[alone]
    seen = "\n".join([caplog.text, *shop.cell.transcript, *map(str, shop.cell.logged)])
    assert "stripe call failed" in seen
    assert "somebody@example.com" not in seen, "nor what the library writes of answers"
    assert secret not in seen
    assert secret.encode() not in shop.cell.read(0, shop.cell.memory_bytes)
    assert secret not in repr(read_settings(settings(fake), {}))


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        ({"key": KEY}, {}),
        ({"secret_key": 5}, {}),
        ({"max_charge_cents": -1}, {}),
        ({}, {"STRIPE_MAX_CHARGE_CENTS": "5.00"}),
        ({}, {"STRIPE_MAX_REFUND_CENTS": "-1"}),
        ({"api_base": "http://api.stripe.com"}, {}),
        ({"api_base": "http://127.0.0.1.example.com"}, {}),
        ({"api_base": f"https://u:{KEY}@api.stripe.com"}, {}),
        ({"api_base": "https://api.stripe.com/v1"}, {}),
        ({"api_base": "https://"}, {}),
    ],
)
def test_a_setting_that_is_wrong_is_refused_and_no_secret_repeated(
    config: dict[str, Any], environment: dict[str, str]
) -> None:
    with pytest.raises(ExtensionError) as caught:
        read_settings(config, environment)

    assert KEY not in str(caught.value)


def test_the_librarys_log_is_as_it_was_when_the_host_has_stopped(make: Make, fake: FakeStripe) -> None:
    shop = make(settings(fake))
    assert len(logging.getLogger("stripe").filters) == 1
    shop.cell.close()

    assert logging.getLogger("stripe").filters == []


def test_the_environment_is_enough_and_the_hosts_settings_win() -> None:
    environment = {
        "STRIPE_SECRET_KEY": "sk",
        "STRIPE_WEBHOOK_SECRET": "wh",
        "STRIPE_MAX_CHARGE_CENTS": "5",
        "STRIPE_MAX_REFUND_CENTS": "6",
    }
    found = read_settings({"max_refund_cents": 0}, environment)

    assert (str(found.secret_key), str(found.webhook_secret)) == ("sk", "wh")
    assert (found.max_charge_cents, found.max_refund_cents, found.api_base) == (5, 0, "https://api.stripe.com")


def test_the_effect_is_refused_with_a_sentence(pulp_cell: Callable[..., CellUnderTest]) -> None:
    one = effect.capability()

    with pytest.raises(Exception, match="is not built: what its messages hold is not published"):
        pulp_cell(guest(one), capabilities=[one])
    assert pulp_cell(guest(one), capabilities=[one], declares=[]).run("stripe_effect_execute", 0, 0, 0, 0) == 99
