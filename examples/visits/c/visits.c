/* visits: who was here, kept nowhere but in memory. The manifest says snapshotable, so a restart forgets nobody.
 *
 *     POST /visits    one more; answers "<visits> <sum of the squares of their numbers> <how often restored>"
 *     GET  /visits    the same, without one more
 */
#include <stdlib.h>

#include "pulp.h"

PULP_DEFINE_ALLOC

typedef struct visit {
    struct visit *before;
    uint64_t number;
} visit;

static visit *last;        /* a list on the heap */
static uint64_t restored;  /* how often this has gone on from a snapshot */

static char *digits(uint64_t number, char *end) {
    *--end = '0' + (char)(number % 10);
    return number < 10 ? end : digits(number / 10, end);
}

/* Walk the list on the stack: both have to be as they were. */
static uint64_t squares(const visit *one) { return one == NULL ? 0 : one->number * one->number + squares(one->before); }

int32_t pulp_restored(void) {
    restored++;
    return 0;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/visits");
    return code == PULP_OK ? pulp_http_register("POST", "/visits") : code;
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

    if (pulp_equals(request.method, "POST")) {
        visit *one = malloc(sizeof *one);
        if (one == NULL) return 4;
        one->before = last;
        one->number = last == NULL ? 1 : last->number + 1;
        last = one;
    }
    char room[64], *end = room + sizeof room;
    char *at = digits(restored, end);
    *--at = ' ';
    at = digits(squares(last), at);
    *--at = ' ';
    at = digits(last == NULL ? 0 : last->number, at);
    return pulp_http_respond(request.id, 200, "text/plain", at, (uint32_t)(end - at));
}

int32_t pulp_shutdown(void) { return 0; }
