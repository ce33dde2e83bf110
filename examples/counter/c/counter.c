/* counter: a number that everybody sees change at once.
 *
 *     GET  /count    the number
 *     POST /count    one more; tells every browser that listens
 *     GET  /events   the stream they listen to
 *     GET  /         the page, which the host serves by itself
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(sse_register) int32_t sse_register(const char *path, uint32_t len);
PULP_IMPORT(sse_emit) int32_t sse_emit(const void *event, uint32_t len);

static uint64_t count;

/* `number` in decimal, at the end of `room`. */
static const char *written(uint64_t number, char room[21]) {
    char *at = room + 20;
    for (*at = 0; number != 0 || *at == 0; number /= 10) *--at = (char)('0' + number % 10);
    return at;
}

/* Send an event to every client of /events. Its id lets one that was away get what it missed. */
static int32_t tell(const char *number) {
    uint8_t scratch[128];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 4);
    pulp_put_text(&w, "path"), pulp_put_text(&w, "/events");
    pulp_put_text(&w, "id"), pulp_put_text(&w, number);
    pulp_put_text(&w, "event"), pulp_put_text(&w, "count");
    pulp_put_text(&w, "data"), pulp_put_text(&w, number);
    int32_t code = sse_emit(w.data, w.len);
    pulp_writer_free(&w);
    return code;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/count");
    if (code == PULP_OK) code = pulp_http_register("POST", "/count");
    if (code == PULP_OK) code = sse_register("/events", 7);
    return code;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    pulp_http_request request;

    if (!pulp_envelope_parse(data, len, &envelope)) return 1;
    if (envelope.payload.len == 0) return 0; /* idle */
    if (!pulp_event_parse(envelope.payload, &event)) return 2;
    if (!pulp_equals(event.kind, "http.request")) return 0;
    if (!pulp_http_request_parse(event.payload, &request)) return 3;

    char room[21];
    bool post = pulp_equals(request.method, "POST");
    if (post) count++;
    const char *number = written(count, room);
    int32_t code = post ? tell(number) : PULP_OK;
    if (code != PULP_OK) return 100 + code;
    return pulp_http_respond(request.id, 200, "text/plain", number, (uint32_t)strlen(number));
}

int32_t pulp_shutdown(void) { return 0; }
