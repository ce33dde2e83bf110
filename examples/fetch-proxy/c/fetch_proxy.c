/* fetch-proxy: fetches what it is asked for, and hands it on.
 *
 *     GET /proxy?url=https://example.com/   the page: its status, its type, its body
 *
 * Where it may go is not its decision: see docs/how-to/outbound.md.
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(http_fetch)
int32_t http_fetch(const void *request, uint32_t len, uint8_t **response, uint32_t *response_len);

typedef struct {
    uint64_t status;
    pulp_bytes headers, body; /* views into the response */
} page;

static bool page_parse(pulp_bytes response, page *out) {
    pulp_reader r = pulp_reader_of(response);
    uint32_t count;
    memset(out, 0, sizeof *out);
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        bool read = pulp_equals(key, "status")    ? pulp_read_uint(&r, &out->status)
                    : pulp_equals(key, "headers") ? pulp_read_text_map(&r, &out->headers)
                    : pulp_equals(key, "body")    ? pulp_read_bytes(&r, &out->body)
                                                  : pulp_skip(&r);
        if (!read) return false;
    }
    return true;
}

/* Ask for `url`; the response is in a buffer of ours, which the host has filled. */
static int32_t fetch(pulp_bytes url, uint8_t **response, uint32_t *len) {
    uint8_t scratch[512];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 2);
    pulp_put_text(&w, "url"), pulp_put_str(&w, (const char *)url.data, url.len);
    pulp_put_text(&w, "timeout"), pulp_put_uint(&w, 10000000000u); /* 10 s, in nanoseconds */
    int32_t code = w.failed ? PULP_OUT_OF_MEMORY : http_fetch(w.data, w.len, response, len);
    pulp_writer_free(&w);
    return code;
}

static int32_t respond(uint64_t id, uint64_t status, pulp_bytes type, pulp_bytes body) {
    uint8_t scratch[512];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 4);
    pulp_put_text(&w, "id"), pulp_put_uint(&w, id);
    pulp_put_text(&w, "status"), pulp_put_uint(&w, status);
    pulp_put_text(&w, "headers"), pulp_put_map(&w, type.len != 0 ? 1 : 0);
    if (type.len != 0) pulp_put_text(&w, "Content-Type"), pulp_put_str(&w, (const char *)type.data, type.len);
    pulp_put_text(&w, "body"), pulp_put_bin(&w, body.data, body.len);
    int32_t code = w.failed ? PULP_OUT_OF_MEMORY : http_respond(w.data, w.len);
    pulp_writer_free(&w);
    return code;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/proxy");
    return code != PULP_OK ? 100 + code : 0;
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

    uint8_t *response = NULL;
    uint32_t size = 0;
    page page;
    int32_t code = fetch(pulp_http_query(&request, "url"), &response, &size);
    if (code == PULP_OK && page_parse(pulp_view(response, size), &page)) {
        pulp_bytes type = pulp_text_map_get(page.headers, "Content-Type", false);
        code = respond(request.id, page.status, type, page.body);
    } else {
        static const char refused[] = "cannot fetch that\n";
        code = pulp_http_respond(request.id, 502, "text/plain; charset=utf-8", refused, sizeof refused - 1);
    }
    pulp_free(response, size);
    return code != PULP_OK ? 300 + code : 0;
}

int32_t pulp_shutdown(void) { return 0; }
