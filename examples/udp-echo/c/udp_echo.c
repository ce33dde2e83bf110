/* udp-echo: sends every datagram back to where it came from.
 *
 * Where it listens is in [config]: address = "127.0.0.1:9000". The manifest cannot let it answer more hosts than the
 * operator does: set UDP_SEND_ALLOW, or it may answer private networks only.
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(udp_listen) int32_t udp_listen(const void *request, uint32_t len, uint8_t **answer, uint32_t *answer_len);
PULP_IMPORT(udp_send) int32_t udp_send(const void *request, uint32_t len, uint8_t **answer, uint32_t *answer_len);

/* The value at `name` in a map, as it is written. */
static bool find(pulp_bytes map, const char *name, pulp_bytes *out) {
    pulp_reader r = pulp_reader_of(map);
    uint32_t count;
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        if (pulp_equals(key, name)) return pulp_read_raw(&r, out);
        if (!pulp_skip(&r)) return false;
    }
    return false;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    uint8_t scratch[128];
    uint8_t *answer;
    uint32_t answer_len;
    pulp_bytes address;

    if (!find(pulp_view(config, len), "address", &address)) return 1;
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 1);
    pulp_put_text(&w, "addr");
    pulp_put_raw(&w, address.data, address.len);
    int32_t code = w.failed ? 2 : udp_listen(w.data, w.len, &answer, &answer_len);
    pulp_writer_free(&w);
    if (code != PULP_OK) return 100 + code;
    pulp_free(answer, answer_len); /* the socket's id: it comes with every packet */
    return 0;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    uint8_t scratch[2048];
    uint8_t *answer;
    uint32_t answer_len;
    pulp_envelope envelope;
    pulp_event event;
    pulp_bytes id, from, payload;

    if (!pulp_envelope_parse(data, len, &envelope)) return 1;
    if (envelope.payload.len == 0) return 0; /* idle */
    if (!pulp_event_parse(envelope.payload, &event)) return 2;
    if (!pulp_equals(event.kind, "udp.packet")) return 0;
    if (!find(event.payload, "socket_id", &id) || !find(event.payload, "src_addr", &from) ||
        !find(event.payload, "payload", &payload))
        return 3;

    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 3); /* the values go back as they came */
    pulp_put_text(&w, "socket_id");
    pulp_put_raw(&w, id.data, id.len);
    pulp_put_text(&w, "dst_addr");
    pulp_put_raw(&w, from.data, from.len);
    pulp_put_text(&w, "payload");
    pulp_put_raw(&w, payload.data, payload.len);
    int32_t code = w.failed ? PULP_OUT_OF_MEMORY : udp_send(w.data, w.len, &answer, &answer_len);
    pulp_writer_free(&w);
    if (code == PULP_OK) pulp_free(answer, answer_len);
    return code;
}

int32_t pulp_shutdown(void) { return 0; }
