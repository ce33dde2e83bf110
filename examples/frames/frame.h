/* frame.h: what producer and consumer agree on. */
#ifndef FRAME_H
#define FRAME_H

#include "pulp_ring.h"

#define GROUP "frames"
enum { GROUP_BYTES = 65 * 65536, SLOT_BYTES = 65536, WORDS = SLOT_BYTES / 8 };

/* Word `i` of frame `number`: every word depends on the number, so half of a frame never passes for a whole one. */
static inline uint64_t first_word(uint32_t number) { return number * UINT64_C(0x9E3779B97F4A7C15); }
static inline uint64_t sum_of_words(uint32_t number) {
    return first_word(number) * WORDS + (uint64_t)WORDS * (WORDS - 1) / 2;
}

#endif
