/* echo: says back what it is told.
 *
 *     GET  /echo/:msg   the message, as text
 *     POST /echo        the body, as bytes
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/echo/:msg");
    if (code != PULP_OK) return 100 + code;
    code = pulp_http_register("POST", "/echo");
    return code != PULP_OK ? 200 + code : 0;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    pulp_http_request request;

    if (!pulp_envelope_parse(data, len, &envelope)) return 1;
    if (envelope.payload.len == 0) return 0; /* idle */
    if (!pulp_event_parse(envelope.payload, &event)) return 2;
    if (!pulp_equals(event.kind, "http.request")) return 0;
    if (!pulp_http_request_parse(event.payload, &request)) return 3;

    bool post = pulp_equals(request.method, "POST");
    pulp_bytes said = post ? request.body : pulp_http_param(&request, "msg");
    const char *type = post ? "application/octet-stream" : "text/plain; charset=utf-8";

    int32_t code = pulp_http_respond(request.id, 200, type, said.data, said.len);
    if (code == PULP_OUT_OF_MEMORY) return 4;
    return code != PULP_OK ? 300 + code : 0;
}

int32_t pulp_shutdown(void) { return 0; }
