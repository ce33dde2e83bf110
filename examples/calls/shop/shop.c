/* shop: asks another cell for its answers.
 *
 *     GET /price/:thing          what `price.of` of the cell `prices` says
 *     GET /price/:thing/:times   the same, asked so many times: for measuring
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/price/:thing");
    return code != PULP_OK ? code : pulp_http_register("GET", "/price/:thing/:times");
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    pulp_http_request request;

    if (!pulp_envelope_parse(data, len, &envelope) || envelope.payload.len == 0) return 0;
    if (!pulp_event_parse(envelope.payload, &event) || !pulp_equals(event.kind, "http.request")) return 0;
    if (!pulp_http_request_parse(event.payload, &request)) return 1;

    pulp_bytes thing = pulp_http_param(&request, "thing"), times = pulp_http_param(&request, "times");
    uint32_t count = 0;
    for (uint32_t i = 0; i < times.len && times.data[i] >= '0' && times.data[i] <= '9' && count < 1000000; i++)
        count = 10 * count + (times.data[i] - '0');

    uint8_t *price = NULL;
    uint32_t price_len = 0;
    int32_t code;
    do {
        if (price != NULL) pulp_free(price, price_len);
        price = NULL;
        code = pulp_ask("prices", "price.of", thing, &price, &price_len);
    } while (code == PULP_OK && count-- > 1);

    if (code != PULP_OK) return pulp_http_respond(request.id, code == 4 ? 404 : 500, "text/plain", NULL, 0);
    code = pulp_http_respond(request.id, 200, "text/plain", price, price_len);
    pulp_free(price, price_len);
    return code;
}

int32_t pulp_shutdown(void) { return 0; }
