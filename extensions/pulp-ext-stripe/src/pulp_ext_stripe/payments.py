"""The host functions about checkout, payments, set-ups, refunds, customers, the balance and webhooks.

See spec/capabilities §20.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import stripe
from pulp_runtime.ext import U32, Capability, Errno, Guest, HostError, SetupEnv, host_function

from pulp_ext_stripe import objects
from pulp_ext_stripe.account import Account
from pulp_ext_stripe.billing import Billing
from pulp_ext_stripe.checked import Form, cents, invalid, key, object_id
from pulp_ext_stripe.messages import (
    Balance,
    Checkout,
    CheckoutCreate,
    CheckoutCreated,
    Customer,
    CustomerCreate,
    Id,
    PaymentIntent,
    PaymentIntentCancel,
    PaymentIntentCapture,
    PaymentIntentCreate,
    Refund,
    RefundCreate,
    SetupIntent,
    SetupIntentCreate,
    WebhookVerify,
)
from pulp_ext_stripe.settings import NAME, read_settings

BAD_SIGNATURE: Final = 6
TOLERANCE_SECONDS: Final = 300
"""How old a webhook may be, so that one cannot be played back later."""
MOST_WEBHOOK_BYTES: Final = 1024 * 1024
_METHODS: Final = ("automatic", "automatic_async", "manual")
_CANCELLED: Final = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
_REFUNDED: Final = ("duplicate", "fraudulent", "requested_by_customer")


class Payments(Billing):
    """Payments at Stripe.

    Args:
        environment: where the operator's variables are.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment: Final = environment

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings. A secret that is missing does not stop the host: calls are answered 10.

        Raises:
            ExtensionError: a setting cannot be used.
        """
        self._settings = read_settings(env.config, self._environment)
        if self._settings.secret_key:
            self._account = Account(self._settings)
        else:
            env.logger.warning("payment.stripe has no STRIPE_SECRET_KEY; calls are answered 10")

    def teardown(self) -> None:
        """Close connections."""
        account, self._account = self._account, None
        if account is not None:
            account.close()

    # Checkout ---------------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def stripe_checkout_session_create(self, guest: Guest, create: CheckoutCreate) -> CheckoutCreated:
        """Make a page on which one thing is paid."""
        product = Form().text("name", create.product_name, required=True, most=250)
        product.text("description", create.product_description)
        price = Form().currency("currency", create.currency)
        price.put(unit_amount=cents(create.amount_cents, self._settings.max_charge_cents), product_data=product.fields)
        form = (
            Form()
            .put(mode="payment", line_items=[{"quantity": 1, "price_data": price.fields}])
            .url("success_url", create.success_url)
            .url("cancel_url", create.cancel_url)
            .metadata(create.metadata)
        )
        if create.automatic_tax:
            form.put(automatic_tax={"enabled": True})
        once = key(create.idempotency_key)
        function = "stripe_checkout_session_create"
        made = self._open().post(guest, function, "/v1/checkout/sessions", form.fields, once)
        return CheckoutCreated(objects.text(made, "id"), objects.text(made, "url"))

    @host_function(blocking=True)
    def stripe_checkout_session_get(self, guest: Guest, get: Id) -> Checkout:
        """Deliver a page and what became of it."""
        path = f"/v1/checkout/sessions/{object_id(get.id)}"
        return objects.checkout(self._open().get(guest, "stripe_checkout_session_get", path))

    # Payments ---------------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def stripe_payment_intent_create(self, guest: Guest, create: PaymentIntentCreate) -> PaymentIntent:
        """Make a payment that a customer can confirm."""
        kept = dict(create.metadata)
        if create.promotion_code_id:
            kept["promotion_code_id"] = object_id(create.promotion_code_id)
        form = (
            Form()
            .put(amount=cents(create.amount_cents, self._settings.max_charge_cents))
            .currency("currency", create.currency)
            .text("description", create.description, most=1_000)
            .email("receipt_email", create.receipt_email)
            .choice("capture_method", create.capture_method, *_METHODS)
            .methods("payment_method_types", create.payment_method_types)
            .id("customer", create.customer)
            .metadata(kept)
        )
        if not create.payment_method_types:
            form.put(automatic_payment_methods={"enabled": True})
        once = key(create.idempotency_key)
        made = self._open().post(guest, "stripe_payment_intent_create", "/v1/payment_intents", form.fields, once)
        return objects.payment_intent(made)

    @host_function(blocking=True)
    def stripe_payment_intent_get(self, guest: Guest, get: Id) -> PaymentIntent:
        """Deliver a payment as it is now."""
        return objects.payment_intent(self._intent(guest, "stripe_payment_intent_get", get.id))

    def _intent(self, guest: Guest, function: str, identity: str) -> dict[str, Any]:
        return self._open().get(guest, function, f"/v1/payment_intents/{object_id(identity)}")

    @host_function(blocking=True)
    def stripe_payment_intent_capture(self, guest: Guest, capture: PaymentIntentCapture) -> PaymentIntent:
        """Take a payment that has been authorised, or part of it."""
        function, limit = "stripe_payment_intent_capture", self._settings.max_charge_cents
        path, once = f"/v1/payment_intents/{object_id(capture.id)}", key(capture.idempotency_key)
        account, fields = self._open(), {}
        if capture.amount_cents is not None:
            fields["amount_to_capture"] = cents(capture.amount_cents, limit)
        elif limit:  # it may have been authorised by somebody without a limit
            held = objects.whole(account.get(guest, function, path), "amount_capturable")
            if held > 0:
                cents(held, limit)
        return objects.payment_intent(account.post(guest, function, f"{path}/capture", fields, once))

    @host_function(blocking=True)
    def stripe_payment_intent_cancel(self, guest: Guest, cancel: PaymentIntentCancel) -> PaymentIntent:
        """Give a payment up."""
        form = Form().choice("cancellation_reason", cancel.cancellation_reason, *_CANCELLED)
        path, once = f"/v1/payment_intents/{object_id(cancel.id)}/cancel", key(cancel.idempotency_key)
        made = self._open().post(guest, "stripe_payment_intent_cancel", path, form.fields, once)
        return objects.payment_intent(made)

    @host_function(blocking=True)
    def stripe_setup_intent_create(self, guest: Guest, create: SetupIntentCreate) -> SetupIntent:
        """Begin to set up a way to pay later."""
        form = (
            Form()
            .id("customer", create.customer)
            .methods("payment_method_types", create.payment_method_types)
            .choice("usage", create.usage, "off_session", "on_session")
            .text("description", create.description, most=1_000)
            .metadata(create.metadata)
        )
        if not create.payment_method_types:
            form.put(automatic_payment_methods={"enabled": True})
        once = key(create.idempotency_key)
        made = self._open().post(guest, "stripe_setup_intent_create", "/v1/setup_intents", form.fields, once)
        return objects.setup_intent(made)

    @host_function(blocking=True)
    def stripe_setup_intent_get(self, guest: Guest, get: Id) -> SetupIntent:
        """Deliver a set-up as it is now."""
        path = f"/v1/setup_intents/{object_id(get.id)}"
        return objects.setup_intent(self._open().get(guest, "stripe_setup_intent_get", path))

    @host_function(blocking=True)
    def stripe_refund_create(self, guest: Guest, create: RefundCreate) -> Refund:
        """Give a payment back, or part of it; 12 for an amount of 0 or less, and for one over the limit."""
        if bool(create.payment_intent) == bool(create.charge):
            raise invalid("payment_intent or charge")
        limit = self._settings.max_refund_cents
        amount = None if create.amount_cents is None else cents(create.amount_cents, limit)
        form = (
            Form()
            .id("payment_intent", create.payment_intent)
            .id("charge", create.charge)
            .choice("reason", create.reason, *_REFUNDED)
            .metadata(create.metadata)
        )
        once = key(create.idempotency_key)
        if amount is None and limit:
            amount = cents(self._left_to_refund(guest, create), limit)
        if amount is not None:
            form.put(amount=amount)
        return objects.refund(self._open().post(guest, "stripe_refund_create", "/v1/refunds", form.fields, once))

    def _left_to_refund(self, guest: Guest, create: RefundCreate) -> int:
        """Return how much "all of it" is: a limit would be none if it did not hold for that."""
        account, function = self._open(), "stripe_refund_create"
        if create.charge:
            charge: Mapping[str, Any] = account.get(guest, function, f"/v1/charges/{object_id(create.charge)}")
        else:
            path = f"/v1/payment_intents/{object_id(create.payment_intent)}"
            charge = objects.part(account.get(guest, function, path, expand=["latest_charge"]), "latest_charge")
        return objects.whole(charge, "amount_captured") - objects.whole(charge, "amount_refunded")

    # Customers, the balance, webhooks ---------------------------------------------------------------------------

    @host_function(blocking=True)
    def stripe_customer_create(self, guest: Guest, create: CustomerCreate) -> Customer:
        """Make a customer."""
        form = (
            Form()
            .email("email", create.email)
            .text("name", create.name, most=256)
            .text("phone", create.phone, most=20)
            .text("description", create.description)
            .metadata(create.metadata)
        )
        once = key(create.idempotency_key)
        return objects.customer(self._open().post(guest, "stripe_customer_create", "/v1/customers", form.fields, once))

    @host_function(blocking=True)
    def stripe_balance_get(self, guest: Guest, _req_ptr: U32, _req_len: U32) -> Balance:
        """Deliver what can be paid out, and what will be."""
        return objects.balance(self._open().get(guest, "stripe_balance_get", "/v1/balance"))

    @host_function
    def stripe_webhook_verify(self, verify: WebhookVerify) -> None:
        """Tell whether a webhook is Stripe's, and not older than five minutes; `BAD_SIGNATURE` (6) if not."""
        secret = self._settings.webhook_secret
        if not secret:
            raise HostError(Errno.UNAVAILABLE, "STRIPE_WEBHOOK_SECRET is not set")
        if not verify.payload or not verify.signature_header:
            raise HostError(Errno.EMPTY, "payload or signature_header")
        try:
            if len(verify.payload) > MOST_WEBHOOK_BYTES or len(verify.signature_header) > 4_096:
                raise ValueError("too long")
            text = verify.payload.decode()
            stripe.WebhookSignature.verify_header(text, verify.signature_header, str(secret), TOLERANCE_SECONDS)
        except (stripe.SignatureVerificationError, ValueError) as error:
            raise HostError(BAD_SIGNATURE, type(error).__name__) from None


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, Payments(), provider="pulp_ext_stripe")
