"""A server that speaks Stripe's API over HTTP: forms in, objects out, errors as Stripe words them."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "sk_test_canary4Zp8"
_WORD = re.compile(r"\[([^\]]*)\]")


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, kind: str, code: str = "", param: str = "") -> None:
        super().__init__(kind)
        self.status = status
        # The real one's messages repeat what was sent: keys too, with some letters hidden.
        message = f"canary-message about {KEY} and somebody@example.com"
        self.body = {"error": {"type": kind, "message": message, **({"code": code} if code else {}), "param": param}}


class FakeStripe:
    """What is there.

    Attributes:
        objects: by id.
        asked: method, path, fields and headers of every request, oldest first.
        refuse: an error for the next request.
        raw: bytes to answer the next request with.
        slow: whether requests wait until the server closes.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, dict[str, Any], dict[str, str]]] = []
        self.refuse: Refusal | None = None
        self.raw: bytes | None = None
        self.slow = False
        self.once: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.closing = threading.Event()
        about = self

        class Handler(_Handler):
            fake = about

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    # Objects ----------------------------------------------------------------------------------------------------

    def keep(self, prefix: str, kind: str, **fields: Any) -> dict[str, Any]:
        identity = fields.pop("id", None) or f"{prefix}_{secrets.token_hex(8)}"
        self.objects[identity] = {"id": identity, "object": kind, "created": int(time.time()), **fields}
        return self.objects[identity]

    def find(self, identity: str) -> dict[str, Any]:
        if identity not in self.objects:
            raise Refusal(404, "invalid_request_error", "resource_missing", "id")
        return self.objects[identity]

    def answer(self, method: str, path: str, form: dict[str, Any]) -> dict[str, Any]:
        parts = path.removeprefix("/v1/").split("/")
        match (method, *parts):
            case ("POST", "checkout", "sessions"):
                price = needed(form, "line_items")["0"]["price_data"]
                made = self.keep(
                    "cs",
                    "checkout.session",
                    status="open",
                    payment_status="unpaid",
                    amount_total=int(price["unit_amount"]),
                    currency=price["currency"],
                    metadata=form.get("metadata", {}),
                    payment_intent=None,
                    customer_details={"email": "ada@example.com"},
                )
                made["url"] = f"https://checkout.stripe.com/c/pay/{made['id']}"
                return made
            case ("POST", "payment_intents"):
                made = self.keep(
                    "pi",
                    "payment_intent",
                    status="requires_payment_method",
                    amount=int(needed(form, "amount")),
                    amount_capturable=0,
                    currency=needed(form, "currency"),
                    receipt_email=form.get("receipt_email"),
                    capture_method=form.get("capture_method", "automatic_async"),
                    latest_charge=None,
                    last_payment_error=None,
                    metadata=form.get("metadata", {}),
                )
                made["client_secret"] = f"{made['id']}_secret_x"
                return made
            case ("POST", "payment_intents", identity, "capture"):
                intent = self.find(identity)
                if intent["status"] != "requires_capture":
                    raise Refusal(400, "invalid_request_error", "payment_intent_unexpected_state")
                amount = int(form.get("amount_to_capture", intent["amount_capturable"]))
                charge = self.keep("ch", "charge", amount=amount, amount_captured=amount, amount_refunded=0)
                intent.update(status="succeeded", amount_capturable=0, latest_charge=charge["id"])
                return intent
            case ("POST", "payment_intents", identity, "cancel"):
                self.find(identity).update(status="canceled", cancellation_reason=form.get("cancellation_reason"))
                return self.find(identity)
            case ("POST", "setup_intents"):
                made = self.keep(
                    "seti",
                    "setup_intent",
                    status="requires_payment_method",
                    usage=form.get("usage", "off_session"),
                    customer=form.get("customer"),
                    payment_method=None,
                    last_setup_error={"code": "card_declined", "message": "Your card was declined."},
                    metadata=form.get("metadata", {}),
                )
                made["client_secret"] = f"{made['id']}_secret_x"
                return made
            case ("POST", "refunds"):
                of = self.find(form.get("payment_intent") or form["charge"])
                charge = of if of["object"] == "charge" else self.find(of["latest_charge"])
                amount = int(form.get("amount", charge["amount_captured"] - charge["amount_refunded"]))
                charge["amount_refunded"] += amount
                return self.keep(
                    "re",
                    "refund",
                    status="succeeded",
                    amount=amount,
                    currency="eur",
                    payment_intent=form.get("payment_intent"),
                    charge=charge["id"],
                    reason=form.get("reason"),
                )
            case ("POST", "customers"):
                return self.keep("cus", "customer", email=form.get("email"), name=form.get("name"))
            case ("POST", "invoices"):
                items = [one for one in self.objects.values() if one["object"] == "invoiceitem" and not one["invoice"]]
                made = self.keep("in", "invoice", status="draft", customer=needed(form, "customer"), currency="eur")
                for item in items:
                    item["invoice"] = made["id"]
                total = sum(item["amount"] for item in items)
                made.update(amount_due=total, amount_paid=0, total=total, number=None)
                return made
            case ("POST", "invoices", identity, "finalize"):
                self.find(identity).update(
                    status="open", number="A-1", hosted_invoice_url="https://invoice.stripe.com/i"
                )
                return self.find(identity)
            case ("POST", "invoices", identity, "pay"):
                assert form == {"paid_out_of_band": "true"}
                self.find(identity).update(status="paid")
                return self.find(identity)
            case ("POST", "invoiceitems"):
                return self.keep(
                    "ii",
                    "invoiceitem",
                    customer=needed(form, "customer"),
                    invoice=form.get("invoice"),
                    amount=int(needed(form, "amount")),
                    currency=form["currency"],
                    description=form.get("description"),
                )
            case ("GET", "balance"):
                money = [{"amount": -150, "currency": "eur", "source_types": {"card": -150}}]
                return {"object": "balance", "available": money, "pending": [{"amount": 5, "currency": "usd"}]}
            case ("POST", "coupons"):
                return self.keep(
                    "co",
                    "coupon",
                    id=form.get("id"),
                    name=form.get("name"),
                    percent_off=float(form["percent_off"]) if "percent_off" in form else None,
                    amount_off=int(form["amount_off"]) if "amount_off" in form else None,
                    currency=form.get("currency"),
                    duration=needed(form, "duration"),
                    valid=True,
                )
            case ("POST", "promotion_codes"):
                return self.keep(
                    "promo",
                    "promotion_code",
                    code=form.get("code", "RANDOM"),
                    coupon=self.find(needed(form, "coupon")),
                    active=True,
                    times_redeemed=0,
                    max_redemptions=int(form["max_redemptions"]) if "max_redemptions" in form else None,
                    expires_at=None,
                )
            case ("GET", "promotion_codes"):
                found = [
                    one
                    for one in self.objects.values()
                    if one["object"] == "promotion_code" and one["code"] == form["code"] and one["active"]
                ]
                assert (form["active"], form["limit"]) == ("true", "1")
                return {"object": "list", "data": found[:1], "has_more": False}
            case ("POST", "promotion_codes", identity):
                if "active" in form:
                    self.find(identity)["active"] = form["active"] == "true"
                return self.find(identity)
            case ("GET", *_, identity):
                found = dict(self.find(identity))
                if form.get("expand") == {"0": "latest_charge"}:
                    found["latest_charge"] = self.objects.get(found["latest_charge"])
                return found
        raise Refusal(404, "invalid_request_error")


def needed(form: dict[str, Any], name: str) -> Any:
    if name not in form:
        raise Refusal(400, "invalid_request_error", "parameter_missing", name)
    return form[name]


def nested(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a form's fields: `a[b][0]=c` is `{"a": {"b": {"0": "c"}}}`."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        place, path = found, [name.partition("[")[0], *_WORD.findall(name)]
        for word in path[:-1]:
            place = place.setdefault(word, {})
        place[path[-1]] = value
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeStripe

    def log_message(self, *_about: object) -> None: ...

    def _serve(self) -> None:
        fake, address = self.fake, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = nested(parse_qsl(address.query or body, keep_blank_values=True))
        fake.asked.append((self.command, address.path, form, dict(self.headers.items())))
        if fake.slow:
            fake.closing.wait()
            return
        if fake.raw is not None:
            self.wfile.write(fake.raw)
            self.close_connection, fake.raw = True, None
            return
        try:
            refusal, fake.refuse = fake.refuse, None
            if self.headers["Authorization"] != f"Bearer {KEY}":
                refusal = Refusal(401, "invalid_request_error")
            if refusal is not None:
                raise refusal
            self._json(200, self._once(address.path, form))
        except Refusal as refusal:
            self._json(refusal.status, refusal.body)

    do_GET = do_POST = _serve

    def _once(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        key = self.headers.get("Idempotency-Key")
        if self.command == "GET" or key is None:
            return self.fake.answer(self.command, path, form)
        if key in self.fake.once:
            before, answer = self.fake.once[key]
            if before != form:
                raise Refusal(400, "idempotency_error")
            return answer
        answer = self.fake.answer(self.command, path, form)
        self.fake.once[key] = (form, answer)
        return answer

    def _json(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Request-Id", "req_1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
