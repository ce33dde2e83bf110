/* ws-echo: says every WebSocket message back, as it came.
 *
 *     GET /echo, upgraded   text as text, bytes as bytes
 */
#include "pulp.h"

PULP_IMPORT(ws_register) int32_t ws_register(const char *path, uint32_t len);   /* transport.ws.inbound */
PULP_IMPORT(ws_send) int32_t ws_send(const void *message, uint32_t len);        /* transport.ws.inbound */

PULP_DEFINE_ALLOC

typedef struct {
    uint64_t conn_id, opcode;
    pulp_bytes payload;
} frame;

static bool frame_parse(pulp_bytes payload, frame *out) {
    pulp_reader r = pulp_reader_of(payload);
    uint32_t count;
    memset(out, 0, sizeof *out);
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        bool read = pulp_equals(key, "conn_id")   ? pulp_read_uint(&r, &out->conn_id)
                    : pulp_equals(key, "opcode")  ? pulp_read_uint(&r, &out->opcode)
                    : pulp_equals(key, "payload") ? pulp_read_bytes(&r, &out->payload)
                                                  : pulp_skip(&r);
        if (!read) return false;
    }
    return true;
}

static int32_t say(const frame *said) {
    uint8_t scratch[1024];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 3);
    pulp_put_text(&w, "conn_id"), pulp_put_uint(&w, said->conn_id);
    pulp_put_text(&w, "opcode"), pulp_put_uint(&w, said->opcode);
    pulp_put_text(&w, "payload"), pulp_put_bin(&w, said->payload.data, said->payload.len);
    int32_t code = w.failed ? PULP_OUT_OF_MEMORY : ws_send(w.data, w.len);
    pulp_writer_free(&w);
    return code;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    return ws_register("/echo", 5);
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    frame said;

    if (!pulp_envelope_parse(data, len, &envelope)) return 1;
    if (envelope.payload.len == 0) return 0; /* idle */
    if (!pulp_event_parse(envelope.payload, &event)) return 2;
    if (!pulp_equals(event.kind, "ws.frame")) return 0; /* ws.open and ws.close need no answer */
    if (!frame_parse(event.payload, &said)) return 3;
    return say(&said); /* 4 when the client has left in the meantime */
}

int32_t pulp_shutdown(void) { return 0; }
