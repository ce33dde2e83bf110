/* gateway: the only cell that browsers talk to. It keeps nothing; it asks `accounts`, and lets `notifier` tell.
 *
 *     GET  /bank/accounts                        what `accounts.list` says
 *     POST /bank/accounts/:name                  opens one, with 100.00 in it -> 201, or 409
 *     POST /bank/transfer/:from/:to/:cents       -> 204, or 409
 *     GET  /bank/                                the page, which the host serves by itself
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/bank/accounts");
    if (code == PULP_OK) code = pulp_http_register("POST", "/bank/accounts/:name");
    if (code == PULP_OK) code = pulp_http_register("POST", "/bank/transfer/:from/:to/:cents");
    return code;
}

int32_t pulp_shutdown(void) { return 0; }

/* Tell the browsers. That nobody could be told does not undo what has happened. */
static void tell(const char *what, pulp_bytes who) {
    uint8_t scratch[512];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_raw(&w, what, (uint32_t)strlen(what));
    pulp_put_raw(&w, who.data, who.len);
    uint8_t *answer = NULL;
    uint32_t len = 0;
    pulp_ask("notifier", "notify", pulp_view(w.data, w.len), &answer, &len);
    pulp_writer_free(&w);
    if (answer != NULL) pulp_free(answer, len);
}

static int32_t ask(const char *function, pulp_bytes args) {
    uint8_t *answer = NULL;
    uint32_t len = 0;
    int32_t code = pulp_ask("accounts", function, args, &answer, &len);
    if (answer != NULL) pulp_free(answer, len);
    return code;
}

static int32_t list(uint64_t id) {
    uint8_t *answer = NULL;
    uint32_t len = 0;
    int32_t code = pulp_ask("accounts", "accounts.list", pulp_view(NULL, 0), &answer, &len);
    code = code == PULP_OK ? pulp_http_respond(id, 200, "application/json", answer, len)
                           : pulp_http_respond(id, 503, "text/plain", "the accounts cannot be asked", 28);
    if (answer != NULL) pulp_free(answer, len);
    return code;
}

static int32_t transfer(const pulp_http_request *request, pulp_bytes to) {
    uint8_t scratch[512];
    uint64_t cents = 0;
    pulp_bytes from = pulp_http_param(request, "from"), digits = pulp_http_param(request, "cents");
    for (uint32_t i = 0; i < digits.len && digits.data[i] >= '0' && digits.data[i] <= '9' && cents < 1000000000; i++)
        cents = 10 * cents + (digits.data[i] - '0');
    pulp_writer args = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_array(&args, 3);
    pulp_put_str(&args, (const char *)from.data, from.len);
    pulp_put_str(&args, (const char *)to.data, to.len);
    pulp_put_uint(&args, cents);
    int32_t code = ask("accounts.transfer", pulp_view(args.data, args.len));
    pulp_writer_free(&args);
    if (code != PULP_OK) return pulp_http_respond(request->id, 409, "text/plain", "that cannot be done", 19);
    tell("a transfer to ", to);
    return pulp_http_respond(request->id, 204, "text/plain", NULL, 0);
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    pulp_http_request request;

    if (!pulp_envelope_parse(data, len, &envelope) || envelope.payload.len == 0) return 0;
    if (!pulp_event_parse(envelope.payload, &event) || !pulp_equals(event.kind, "http.request")) return 0;
    if (!pulp_http_request_parse(event.payload, &request)) return 1;

    if (pulp_equals(request.method, "GET")) return list(request.id);
    pulp_bytes name = pulp_http_param(&request, "name"), to = pulp_http_param(&request, "to");
    if (name.data == NULL) return transfer(&request, to);
    if (ask("accounts.open", name) != PULP_OK)
        return pulp_http_respond(request.id, 409, "text/plain", "there is one of that name", 25);
    tell("a new account: ", name);
    return pulp_http_respond(request.id, 201, "text/plain", NULL, 0);
}
