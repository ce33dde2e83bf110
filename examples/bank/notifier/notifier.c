/* notifier: tells everybody who listens at /bank/events what another cell says.
 *
 *     notify   a line of text -> an event to every browser
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(sse_register) int32_t sse_register(const char *path, uint32_t len);
PULP_IMPORT(sse_emit) int32_t sse_emit(const void *event, uint32_t len);

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    return sse_register("/bank/events", 12);
}

int32_t pulp_step(const uint8_t *data, uint32_t len) { (void)data, (void)len; return 0; }
int32_t pulp_shutdown(void) { return 0; }

int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len,
                     uint8_t **response, uint32_t *response_len) {
    uint8_t scratch[512];
    *response = NULL;
    *response_len = 0;
    if (!pulp_equals(pulp_view(name, name_len), "notify") || args_len > 400) return 1;
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 3);
    pulp_put_text(&w, "path"), pulp_put_text(&w, "/bank/events");
    pulp_put_text(&w, "event"), pulp_put_text(&w, "news");
    pulp_put_text(&w, "data"), pulp_put_str(&w, (const char *)args, args_len);
    int32_t code = sse_emit(w.data, w.len);
    pulp_writer_free(&w);
    return code;
}
