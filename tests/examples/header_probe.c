/* Takes any MessagePack value apart with pulp.h and puts it together again: test_header.py compares the two. */
#include "pulp.h"

PULP_DEFINE_ALLOC

static pulp_writer out;

int32_t pulp_init(const uint8_t *config, uint32_t len) { return (void)config, (void)len, 0; }
int32_t pulp_step(const uint8_t *data, uint32_t len) { return (void)data, (void)len, 0; }
int32_t pulp_shutdown(void) { return 0; }

static bool rewrite(pulp_reader *r, int depth) {
    const uint8_t *start = r->at;
    pulp_value v;
    if (depth == 0 || !pulp_read(r, &v)) return false;
    switch (v.type) {
    case PULP_NIL: pulp_put_nil(&out); return true;
    case PULP_BOOL: pulp_put_bool(&out, v.number); return true;
    case PULP_UINT: pulp_put_uint(&out, v.number); return true;
    case PULP_INT: pulp_put_int(&out, (int64_t)v.number); return true;
    case PULP_FLOAT: pulp_put_float(&out, v.real); return true;
    case PULP_STR: pulp_put_str(&out, (const char *)v.bytes.data, v.bytes.len); return true;
    case PULP_BIN: pulp_put_bin(&out, v.bytes.data, v.bytes.len); return true;
    case PULP_EXT: pulp_put_raw(&out, start, (uint32_t)(r->at - start)); return true;
    case PULP_ARRAY: pulp_put_array(&out, v.count); break;
    case PULP_MAP: pulp_put_map(&out, v.count); break;
    }
    for (uint64_t n = v.type == PULP_MAP ? 2 * (uint64_t)v.count : v.count; n > 0; n--) {
        if (!rewrite(r, depth - 1)) return false;
    }
    return true;
}

/* 0: rewritten; 1: undecodable; 2: no room; 3: pulp_skip does not agree with pulp_read about where the value ends. */
static int32_t run(const uint8_t *data, uint32_t len, void *buffer, uint32_t capacity, bool fixed) {
    pulp_reader reading = pulp_reader_of(pulp_view(data, len)), skipping = reading;
    pulp_writer_free(&out);
    out = pulp_writer_in(buffer, capacity);
    out.fixed = fixed;
    bool read = rewrite(&reading, 64), skipped = pulp_skip(&skipping);
    if (read != skipped || (read && reading.at != skipping.at)) return 3;
    if (!read) return 1;
    return out.failed ? 2 : 0;
}

static uint8_t scratch[64];

PULP_EXPORT(probe_rewrite) int32_t probe_rewrite(const uint8_t *data, uint32_t len) {
    return run(data, len, scratch, sizeof scratch, false);
}
PULP_EXPORT(probe_rewrite_fixed) int32_t probe_rewrite_fixed(const uint8_t *data, uint32_t len) {
    return run(data, len, scratch, sizeof scratch, true);
}
PULP_EXPORT(probe_out) const uint8_t *probe_out(void) { return out.data; }
PULP_EXPORT(probe_out_len) uint32_t probe_out_len(void) { return out.len; }

/* Whether the bytes are "Content-Type", letters of either case. */
PULP_EXPORT(probe_header_name) int32_t probe_header_name(const uint8_t *data, uint32_t len) {
    return pulp_equals_nocase(pulp_view(data, len), "Content-Type");
}
