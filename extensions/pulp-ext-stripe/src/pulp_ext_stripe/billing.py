"""The host functions about invoices, coupons and promotion codes (spec/capabilities §20)."""

from __future__ import annotations

from pulp_runtime.ext import Errno, Guest, HostError, host_function

from pulp_ext_stripe import objects
from pulp_ext_stripe.account import Account
from pulp_ext_stripe.checked import Form, cents, invalid, key, object_id
from pulp_ext_stripe.messages import (
    Coupon,
    CouponCreate,
    Invoice,
    InvoiceChange,
    InvoiceCreate,
    InvoiceItem,
    InvoiceItemCreate,
    PromotionCode,
    PromotionCodeCreate,
    PromotionCodeLookup,
    PromotionCodeUpdate,
)
from pulp_ext_stripe.settings import Settings


class Billing:
    """Invoices and what is taken off them."""

    _account: Account | None = None
    _settings: Settings

    def _open(self) -> Account:
        if self._account is None:
            raise HostError(Errno.UNAVAILABLE, "STRIPE_SECRET_KEY is not set")
        return self._account

    @host_function(blocking=True)
    def stripe_invoice_create(self, guest: Guest, create: InvoiceCreate) -> Invoice:
        """Make an invoice, still a draft, of what its customer has to pay."""
        form = (
            Form()
            .id("customer", create.customer, required=True)
            .choice("collection_method", create.collection_method, "charge_automatically", "send_invoice")
            .number("days_until_due", create.days_until_due)
            .currency("currency", create.currency, required=False)
            .text("description", create.description)
            .metadata(create.metadata)
            .put(auto_advance=create.auto_advance, pending_invoice_items_behavior="include")
        )
        once = key(create.idempotency_key)
        made = self._open().post(guest, "stripe_invoice_create", "/v1/invoices", form.fields, once)
        return objects.invoice(made)

    @host_function(blocking=True)
    def stripe_invoice_finalize(self, guest: Guest, change: InvoiceChange) -> Invoice:
        """Make a draft an invoice that is due."""
        path, once = f"/v1/invoices/{object_id(change.id)}", key(change.idempotency_key)
        account, limit = self._open(), self._settings.max_charge_cents
        if limit:
            due = objects.whole(account.get(guest, "stripe_invoice_finalize", path), "amount_due")
            if due > 0:
                cents(due, limit)
        return objects.invoice(account.post(guest, "stripe_invoice_finalize", f"{path}/finalize", {}, once))

    @host_function(blocking=True)
    def stripe_invoice_mark_paid_out_of_band(self, guest: Guest, change: InvoiceChange) -> Invoice:
        """Note that an invoice has been paid elsewhere; no money moves."""
        path, once = f"/v1/invoices/{object_id(change.id)}/pay", key(change.idempotency_key)
        function = "stripe_invoice_mark_paid_out_of_band"
        return objects.invoice(self._open().post(guest, function, path, {"paid_out_of_band": True}, once))

    @host_function(blocking=True)
    def stripe_invoice_item_create(self, guest: Guest, create: InvoiceItemCreate) -> InvoiceItem:
        """Add a line to an invoice, or to the customer's next one."""
        form = (
            Form()
            .id("customer", create.customer, required=True)
            .id("invoice", create.invoice)
            .put(amount=cents(create.amount_cents, self._settings.max_charge_cents))
            .currency("currency", create.currency)
            .text("description", create.description)
            .metadata(create.metadata)
        )
        once = key(create.idempotency_key)
        made = self._open().post(guest, "stripe_invoice_item_create", "/v1/invoiceitems", form.fields, once)
        return objects.invoice_item(made)

    @host_function(blocking=True)
    def stripe_coupon_create(self, guest: Guest, create: CouponCreate) -> Coupon:
        """Make a coupon: a percentage or an amount that is taken off."""
        if bool(create.percent_off) == bool(create.amount_off_cents):
            raise invalid("percent_off or amount_off_cents")
        form = (
            Form()
            .id("id", create.id)
            .text("name", create.name, most=40)
            .percent("percent_off", create.percent_off)
            .number("amount_off", create.amount_off_cents)
            .currency("currency", create.currency, required=bool(create.amount_off_cents))
            .choice("duration", create.duration or "once", "once", "repeating", "forever")
            .number("duration_in_months", create.duration_in_months)
            .number("max_redemptions", create.max_redemptions)
            .number("redeem_by", create.redeem_by_unix)
            .metadata(create.metadata)
        )
        once = key(create.idempotency_key)
        return objects.coupon(self._open().post(guest, "stripe_coupon_create", "/v1/coupons", form.fields, once))

    @host_function(blocking=True)
    def stripe_promotion_code_create(self, guest: Guest, create: PromotionCodeCreate) -> PromotionCode:
        """Make a word that people enter for a coupon."""
        form = (
            Form()
            .id("coupon", create.coupon, required=True)
            .code("code", create.code)
            .id("customer", create.customer)
            .number("max_redemptions", create.max_redemptions)
            .number("expires_at", create.expires_at_unix)
            .metadata(create.metadata)
        )
        once = key(create.idempotency_key)
        made = self._open().post(guest, "stripe_promotion_code_create", "/v1/promotion_codes", form.fields, once)
        return objects.promotion_code(made)

    @host_function(blocking=True)
    def stripe_promotion_code_lookup(self, guest: Guest, lookup: PromotionCodeLookup) -> PromotionCode:
        """Find a word that is active; its `id` is "" if there is none."""
        form = Form().code("code", lookup.code)
        if not form.fields:
            raise invalid("code")
        function = "stripe_promotion_code_lookup"
        found = self._open().get(guest, function, "/v1/promotion_codes", **form.fields, active=True, limit=1)
        listed = found.get("data")
        return objects.promotion_code(listed[0] if isinstance(listed, list) and listed else {})

    @host_function(blocking=True)
    def stripe_promotion_code_update(self, guest: Guest, update: PromotionCodeUpdate) -> PromotionCode:
        """Switch a word on or off, or change its metadata."""
        form = Form().metadata(update.metadata or {})
        if update.active is not None:
            form.put(active=update.active)
        if not form.fields:
            raise invalid("active or metadata")
        path, once = f"/v1/promotion_codes/{object_id(update.id)}", key(update.idempotency_key)
        made = self._open().post(guest, "stripe_promotion_code_update", path, form.fields, once)
        return objects.promotion_code(made)
