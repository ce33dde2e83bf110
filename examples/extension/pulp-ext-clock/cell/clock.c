/* clock: asks for the time when it starts, then counts ticks. */
#include <stdio.h>

#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(clock_now) int32_t clock_now(uint8_t **data, uint32_t *len);

static uint64_t ticks;

PULP_EXPORT(probe_ticks) int32_t probe_ticks(void) { return (int32_t)ticks; }

/* The number at `ticks` in {"unix_ms": …, "ticks": …}. */
static bool read_ticks(pulp_bytes now, uint64_t *out) {
    pulp_reader r = pulp_reader_of(now);
    uint32_t count;
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        if (pulp_equals(key, "ticks") ? !pulp_read_uint(&r, out) : !pulp_skip(&r)) return false;
    }
    return true;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    uint8_t *now;
    uint32_t now_len;
    (void)config, (void)len;

    int32_t code = clock_now(&now, &now_len);
    if (code != PULP_OK) return code;
    bool read = read_ticks(pulp_view(now, now_len), &ticks);
    pulp_free(now, now_len); /* what an import delivers is ours to free */
    return read ? 0 : 3;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    char line[32];

    if (!pulp_envelope_parse(data, len, &envelope)) return 1;
    if (envelope.payload.len == 0) return 0; /* idle */
    if (!pulp_event_parse(envelope.payload, &event)) return 2;
    if (!pulp_equals(event.kind, "clock.tick")) return 0;
    if (!read_ticks(event.payload, &ticks)) return 3;

    int written = snprintf(line, sizeof line, "tick %llu", (unsigned long long)ticks);
    return log_write(PULP_LOG_INFO, line, (uint32_t)written);
}

int32_t pulp_shutdown(void) { return 0; }
