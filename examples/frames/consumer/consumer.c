/* consumer: reads every byte of every frame where the producer wrote it, and checks it.
 *
 *     frames.consume   -> what it has seen since it started: frames, bytes, faulty frames, each u64 little-endian
 *
 * It does the same on every tick, and says how many frames there were every thousand.
 */
#include <stdio.h>

#include "../frame.h"

PULP_DEFINE_ALLOC

static pulp_ring ring;
static struct { uint64_t frames, bytes, faulty; } seen;

static void look_at(const uint8_t *slot, uint32_t number) {
    const uint64_t *words = (const uint64_t *)(const void *)slot;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < WORDS; i++) sum += words[i];
    seen.frames++;
    seen.bytes += SLOT_BYTES;
    seen.faulty += sum != sum_of_words(number);
    if (seen.frames % 1000 != 0) return;
    char line[80];
    int len = snprintf(line, sizeof line, "%llu frames, %llu of them faulty", (unsigned long long)seen.frames,
                       (unsigned long long)seen.faulty);
    log_write(PULP_LOG_INFO, line, (uint32_t)len);
}

static void consume(void) {
    uint32_t ready = pulp_ring_ready(&ring);
    for (uint32_t i = 0; i < ready; i++) look_at(pulp_ring_slot(&ring, i), ring.own + i);
    if (ready != 0) pulp_ring_release(&ring, ready);
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_ring_attach(&ring, GROUP, GROUP_BYTES, SLOT_BYTES);
    if (code == PULP_OK) pulp_ring_read_on(&ring);
    return code;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    (void)data, (void)len;
    consume();
    return 0;
}

int32_t pulp_shutdown(void) { return 0; }

int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len,
                     uint8_t **response, uint32_t *response_len) {
    (void)args, (void)args_len;
    if (!pulp_equals(pulp_view(name, name_len), "frames.consume")) return 1;
    consume();
    uint8_t *copy = pulp_alloc(sizeof seen); /* the host frees it */
    if (copy == NULL) return 2;
    memcpy(copy, &seen, sizeof seen);
    *response = copy;
    *response_len = sizeof seen;
    return 0;
}
