/* producer: writes frames into shared memory, as many as there is room for.
 *
 *     frames.produce   -> how many it wrote, u32 little-endian
 *
 * It does the same on every tick, so that it works alone too.
 */
#include "../frame.h"

PULP_DEFINE_ALLOC

static pulp_ring ring;

static void fill(uint8_t *slot, uint32_t number) {
    uint64_t *words = (uint64_t *)(void *)slot, first = first_word(number);
    for (uint32_t i = 0; i < WORDS; i++) words[i] = first + i;
}

static uint32_t produce(void) {
    uint32_t room = pulp_ring_room(&ring);
    for (uint32_t i = 0; i < room; i++) fill(pulp_ring_slot(&ring, i), ring.own + i);
    if (room != 0) pulp_ring_publish(&ring, room);
    return room;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_ring_attach(&ring, GROUP, GROUP_BYTES, SLOT_BYTES);
    if (code == PULP_OK) pulp_ring_write_on(&ring);
    return code;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    (void)data, (void)len;
    return (int32_t)produce();
}

int32_t pulp_shutdown(void) { return 0; }

int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len,
                     uint8_t **response, uint32_t *response_len) {
    (void)args, (void)args_len;
    if (!pulp_equals(pulp_view(name, name_len), "frames.produce")) return 1;
    uint32_t made = produce();
    uint8_t *copy = pulp_alloc(sizeof made); /* the host frees it */
    if (copy == NULL) return 2;
    memcpy(copy, &made, sizeof made);
    *response = copy;
    *response_len = sizeof made;
    return 0;
}
