/* heartbeat: remembers what the host last told it, and says so when asked.
 *
 * It uses no capability. The `probe_*` exports let a test, or the host at shutdown, look inside.
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

static pulp_envelope last;
static int64_t marker;
static int32_t greeted;

PULP_EXPORT(probe_last_call) int64_t probe_last_call(void) { return (int64_t)last.call_number; }
PULP_EXPORT(probe_last_wall) int64_t probe_last_wall(void) { return (int64_t)last.wall_time_ns; }
PULP_EXPORT(probe_last_payload) int32_t probe_last_payload(void) { return (int32_t)last.payload.len; }
PULP_EXPORT(probe_config_marker) int64_t probe_config_marker(void) { return marker; }
PULP_EXPORT(probe_config_greeted) int32_t probe_config_greeted(void) { return greeted; }

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    pulp_reader r = pulp_reader_of(pulp_view(config, len));
    uint32_t count;

    if (len == 0) return 0; /* no [config] */
    if (!pulp_read_map(&r, &count)) return 2;
    for (pulp_bytes key; count > 0; count--) {
        pulp_bytes raw;
        pulp_value value;
        if (!pulp_read_bytes(&r, &key) || !pulp_read_raw(&r, &raw)) return 2;

        pulp_reader one = pulp_reader_of(raw);
        if (!pulp_read(&one, &value)) return 2;
        /* 0xd3 is an int64, the form the host writes the integers of [config] in; any other width is not stored. */
        if (pulp_equals(key, "marker") && value.head == 0xd3) marker = (int64_t)value.number;
        if (pulp_equals(key, "greeting")) greeted = value.type == PULP_STR && value.bytes.len != 0;
    }
    return 0;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) { return pulp_envelope_parse(data, len, &last) ? 0 : 1; }

int32_t pulp_shutdown(void) { return 0; }
