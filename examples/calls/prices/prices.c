/* prices: answers other cells' question for a price.
 *
 *     price.of   the name of a thing -> its price in cents, as text
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

static const struct { const char *name, *cents; } prices[] = {{"apple", "40"}, {"bread", "320"}, {"tea", "495"}};

int32_t pulp_init(const uint8_t *config, uint32_t len) { (void)config, (void)len; return 0; }
int32_t pulp_step(const uint8_t *data, uint32_t len) { (void)data, (void)len; return 0; }
int32_t pulp_shutdown(void) { return 0; }

int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len,
                     uint8_t **response, uint32_t *response_len) {
    if (!pulp_equals(pulp_view(name, name_len), "price.of")) return 1;
    for (size_t i = 0; i < sizeof prices / sizeof *prices; i++) {
        if (!pulp_equals(pulp_view(args, args_len), prices[i].name)) continue;
        uint32_t size = (uint32_t)strlen(prices[i].cents);
        uint8_t *copy = pulp_alloc(size); /* the host frees it */
        if (copy == NULL) return 2;
        memcpy(copy, prices[i].cents, size);
        *response = copy;
        *response_len = size;
        return 0;
    }
    return 3; /* no such thing */
}
