/* greet: has the host say hello, once, to `name` of its [config]. */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(demo_greet) int32_t demo_greet(const void *name, uint32_t len);

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    pulp_reader r = pulp_reader_of(pulp_view(config, len));
    pulp_bytes name = pulp_view("world", 5);
    uint32_t count = 0;

    if (len != 0 && !pulp_read_map(&r, &count)) return 3;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return 3;
        if (pulp_equals(key, "name") ? !pulp_read_bytes(&r, &name) : !pulp_skip(&r)) return 3;
    }
    return demo_greet(name.data, name.len);
}

int32_t pulp_step(const uint8_t *envelope, uint32_t len) { return (void)envelope, (void)len, 0; }

int32_t pulp_shutdown(void) { return 0; }
