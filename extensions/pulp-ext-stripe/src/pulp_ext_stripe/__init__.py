"""`payment.stripe`: payments through Stripe, for Pulp cells.

settings    what the operator says: keys, limits
messages    what cells send and get
checked     what is sent to Stripe, checked before it goes
transport   sends requests, with a deadline and a bound
account     the operator's account: requests made by the stripe library, errors as codes
objects     Stripe's objects as the contract's records
payments    the host functions: checkout, payments, set-ups, refunds, customers, the balance, webhooks
billing     the host functions: invoices, coupons, promotion codes
effect      `effect.stripe.runtime`, whose messages are not published: refused, with a sentence
"""

from pulp_ext_stripe.payments import capability as capability
from pulp_ext_stripe.settings import NAME as NAME
