/* pulp_ring.h: frames from one cell to another through shared memory, without a copy and without a call per frame.
 *
 * One cell writes, one reads. Both name the same group under `shared_memory_groups`, attach it with the same length and
 * use the same `slot_bytes`:
 *
 *     pulp_ring ring;
 *     if (pulp_ring_attach(&ring, "frames", 1u << 20, 65536) != PULP_OK) ...
 *
 *     for (uint32_t i = 0, n = pulp_ring_room(&ring); i < n; i++) fill(pulp_ring_slot(&ring, i));     the writer
 *     pulp_ring_publish(&ring, n);
 *
 *     for (uint32_t i = 0, n = pulp_ring_ready(&ring); i < n; i++) look_at(pulp_ring_slot(&ring, i)); the reader
 *     pulp_ring_release(&ring, n);
 *
 * In memory: at 0 how many slots have been published, at 64 how many have been released (each written by one side only,
 * counting up and around), from 4096 the slots. `room` and `ready` call the host once, `publish` and `release` once.
 *
 * Do not trust the other side: it may write anything at any time, into a slot you are reading too. The counters are
 * checked here; what is in a slot is for you to check, after you have copied it if you look at it twice.
 */
#ifndef PULP_RING_H
#define PULP_RING_H

#include "pulp.h"

typedef struct {
    uint8_t *base;
    uint32_t slots, slot_bytes;
    uint32_t own;   /* what this side has published, or released */
} pulp_ring;

enum { PULP_RING_HEADER = 4096, PULP_RING_TOO_SMALL = -2 /* no room for one slot; the host was not asked */ };

/* `volatile`: the compiler may neither leave such an access out nor move it past another one. */
static inline volatile uint32_t *pulp_ring_published(const pulp_ring *r) { return (volatile uint32_t *)(void *)r->base; }
static inline volatile uint32_t *pulp_ring_released(const pulp_ring *r) {
    return (volatile uint32_t *)(void *)(r->base + 64);
}

/* `shm_attach`'s codes. The number of slots is a power of two, so that counters may go around. */
static inline int32_t pulp_ring_attach(pulp_ring *r, const char *group, uint32_t len, uint32_t slot_bytes) {
    if (slot_bytes == 0 || len < PULP_RING_HEADER || (len - PULP_RING_HEADER) / slot_bytes == 0) return PULP_RING_TOO_SMALL;
    uint32_t most = (len - PULP_RING_HEADER) / slot_bytes, slots = 1;
    while (slots <= most / 2) slots *= 2;
    void *base = NULL;
    int32_t code = shm_attach(group, (uint32_t)strlen(group), len, &base);
    *r = (pulp_ring){(uint8_t *)base, slots, slot_bytes, 0};
    return code;
}

/* Once, after attaching: go on where the writer, or the reader, before this one stopped. */
static inline void pulp_ring_write_on(pulp_ring *r) { r->own = *pulp_ring_published(r); }
static inline void pulp_ring_read_on(pulp_ring *r) { r->own = *pulp_ring_released(r); }

/* The writer: slots that are free. 0 too when the reader's counter is not one it can have. */
static inline uint32_t pulp_ring_room(const pulp_ring *r) {
    uint32_t waiting = r->own - *pulp_ring_released(r);
    shm_fence(); /* the slots are written after the counter was read */
    return waiting <= r->slots ? r->slots - waiting : 0;
}

/* The reader: slots that are full. 0 too when the writer's counter is not one it can have. */
static inline uint32_t pulp_ring_ready(const pulp_ring *r) {
    uint32_t ready = *pulp_ring_published(r) - r->own;
    shm_fence(); /* the slots are read after the counter was */
    return ready <= r->slots ? ready : 0;
}

/* The slot `i` after those this side is done with. */
static inline uint8_t *pulp_ring_slot(const pulp_ring *r, uint32_t i) {
    return r->base + PULP_RING_HEADER + (size_t)((r->own + i) & (r->slots - 1)) * r->slot_bytes;
}

static inline void pulp_ring_publish(pulp_ring *r, uint32_t slots) {
    shm_fence(); /* the slots are written before the counter is */
    *pulp_ring_published(r) = r->own += slots;
}

static inline void pulp_ring_release(pulp_ring *r, uint32_t slots) {
    shm_fence(); /* the slots are read before the counter is written */
    *pulp_ring_released(r) = r->own += slots;
}

#endif
