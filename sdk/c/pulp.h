/* pulp.h: write a Pulp cell in C.
 *
 * A cell is a WebAssembly module the host calls: `pulp_init` once, `pulp_step` for every event (and now and then
 * with none), `pulp_shutdown` at the end. Define those three, write `PULP_DEFINE_ALLOC` once, and build:
 *
 *     zig cc -target wasm32-wasi -mexec-model=reactor -O2 -s -o cell.wasm cell.c
 *
 * This header is the whole SDK. It needs C99, clang's wasm attributes and five functions of libc (malloc, realloc,
 * free, memcpy, memcmp); it has no state. Everything is `static inline`: what a cell does not use is not in the
 * module, imports included. Compiled for another target it leaves the attributes out, so a cell can be unit-tested
 * natively.
 *
 * Every reading function answers `true`, or `false` when the input is cut short or is not what was asked for; it
 * never reads past the end, recurses, or allocates, whatever the input. What it hands out are views into the input,
 * valid until the export that received it returns: copy what you keep.
 */
#ifndef PULP_H
#define PULP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__wasm__)
#define PULP_EXPORT(name) __attribute__((export_name(#name)))
#define PULP_IMPORT(name) __attribute__((import_module("pulp"), import_name(#name)))
#else
#define PULP_EXPORT(name)
#define PULP_IMPORT(name)
#endif

/* ---- exports: the functions the host calls ------------------------------------------------------------------
 * Defining a function declared here exports it; no attribute is needed at the definition. */

/* Called once, before anything else. `config` is the manifest's [config] table as a MessagePack map; without one
 * it is NULL and `len` is 0. Anything but 0 refuses to start, and the number is logged. */
PULP_EXPORT(pulp_init) int32_t pulp_init(const uint8_t *config, uint32_t len);

/* Called for every event, and when idle with an empty envelope. Read it with `pulp_envelope_parse`. The answer is
 * free for the cell's own use. */
PULP_EXPORT(pulp_step) int32_t pulp_step(const uint8_t *envelope, uint32_t len);

/* Called once, last. Anything but 0 is logged. */
PULP_EXPORT(pulp_shutdown) int32_t pulp_shutdown(void);

/* How the host puts bytes into the cell, and takes them out again. `pulp_alloc` answers NULL when it cannot; it may
 * be called while the cell is inside an import. */
PULP_EXPORT(pulp_alloc) void *pulp_alloc(uint32_t size);
PULP_EXPORT(pulp_free) void pulp_free(void *ptr, uint32_t size);

#define PULP_DEFINE_ALLOC                                        \
    void *pulp_alloc(uint32_t size) { return malloc(size); }     \
    void pulp_free(void *ptr, uint32_t size) { (void)size; free(ptr); }

/* Optional: say why `pulp_init` refused, in at most 4096 bytes of UTF-8. */
PULP_EXPORT(pulp_init_error_ptr) const char *pulp_init_error_ptr(void);
PULP_EXPORT(pulp_init_error_len) uint32_t pulp_init_error_len(void);

/* Optional: called in the place of pulp_init in an instance that goes on from a snapshot (snapshotable = true); all
 * variables are as they were. Another number than 0: begin afresh. */
PULP_EXPORT(pulp_restored) int32_t pulp_restored(void);

/* Optional: answer calls of other cells, for the names under `provides`. On success store a response from
 * `pulp_alloc` (or NULL and 0) and return 0; the host copies it and calls `pulp_free`. */
PULP_EXPORT(pulp_on_call)
int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len,
                     uint8_t **response, uint32_t *response_len);

/* ---- imports: the functions the host offers -----------------------------------------------------------------
 * Declare others the same way: PULP_IMPORT(fs_delete) int32_t fs_delete(const char *path, uint32_t len);
 * 0 is success. Common refusals: 1 empty, 2 outside memory, 3 undecodable, 4 failed, 99 not in the manifest. */

enum { PULP_OK = 0, PULP_NOT_DECLARED = 99, PULP_OUT_OF_MEMORY = -1 /* the host was not asked */ };
enum { PULP_LOG_DEBUG = 0, PULP_LOG_INFO = 1, PULP_LOG_WARN = 2, PULP_LOG_ERROR = 3 };

PULP_IMPORT(http_register) int32_t http_register(const void *request, uint32_t len); /* transport.http.inbound */
PULP_IMPORT(http_respond) int32_t http_respond(const void *response, uint32_t len);  /* transport.http.inbound */
PULP_IMPORT(pulp_call) int32_t pulp_call(const char *target, uint32_t target_len, const char *name, uint32_t name_len,
                                         const void *args, uint32_t args_len, uint8_t **response,
                                         uint32_t *response_len); /* the name is under `consumes` */
/* `shared_memory_groups`: attach a group; `len` is a multiple of 65,536. What a fence separates stays in order for the
 * other members too. See pulp_ring.h. */
PULP_IMPORT(shm_attach) int32_t shm_attach(const char *group, uint32_t group_len, uint32_t len, void **address);
PULP_IMPORT(shm_fence) int32_t shm_fence(void);
PULP_IMPORT(log_write) int32_t log_write(int32_t level, const void *text, uint32_t len);

/* ---- bytes: a view of memory someone else owns --------------------------------------------------------------
 * `data` is NULL when there is nothing at all, which is not the same as zero bytes. */

typedef struct { const uint8_t *data; uint32_t len; } pulp_bytes;

static inline pulp_bytes pulp_view(const void *data, uint32_t len) { return (pulp_bytes){data, len}; }

/* Ask another cell for a function it provides. The response is from `pulp_alloc`, yours to `pulp_free`; no response is
 * NULL and 0. */
static inline int32_t pulp_ask(const char *target, const char *name, pulp_bytes args, uint8_t **response,
                               uint32_t *response_len) {
    return pulp_call(target, (uint32_t)strlen(target), name, (uint32_t)strlen(name), args.data, args.len, response,
                     response_len);
}

static inline bool pulp_equals(pulp_bytes bytes, const char *text) {
    size_t len = strlen(text);
    return bytes.len == len && (len == 0 || memcmp(bytes.data, text, len) == 0);
}

/* The same for names of headers, where A-Z are a-z. */
static inline bool pulp_equals_nocase(pulp_bytes bytes, const char *text) {
    for (uint32_t i = 0; i < bytes.len; i++) {
        uint8_t a = bytes.data[i], b = (uint8_t)text[i]; /* the final 0 of a shorter `text` differs and stops us */
        if ((a >= 'A' && a <= 'Z' ? a | 32 : a) != (b >= 'A' && b <= 'Z' ? b | 32 : b) || b == 0) return false;
    }
    return text[bytes.len] == 0;
}

/* ---- MessagePack writer -------------------------------------------------------------------------------------
 * Give it a buffer of yours; when that is full it continues in one of its own. Errors stick: write everything, then
 * look at `failed` once.
 *
 *     uint8_t scratch[256];
 *     pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
 *     pulp_put_map(&w, 1);
 *     pulp_put_text(&w, "answer");
 *     pulp_put_uint(&w, 42);
 *     if (!w.failed) send(w.data, w.len);
 *     pulp_writer_free(&w);
 */

typedef struct {
    uint8_t *data;
    uint32_t len, capacity;
    bool owned;  /* `data` is ours to free */
    bool fixed;  /* set it to never allocate: the first byte too many is then a failure */
    bool failed; /* out of room; `data` is incomplete */
} pulp_writer;

static inline pulp_writer pulp_writer_in(void *scratch, uint32_t capacity) {
    return (pulp_writer){scratch, 0, capacity, false, false, false};
}
static inline void pulp_writer_free(pulp_writer *w) {
    if (w->owned) free(w->data);
    *w = pulp_writer_in(NULL, 0);
}

/* Room for `n` bytes more at the end, or NULL. */
static inline uint8_t *pulp_put_room(pulp_writer *w, uint32_t n) {
    if (w->failed) return NULL;
    if (n > w->capacity - w->len) {
        uint64_t need = (uint64_t)w->len + n, twice = (uint64_t)w->capacity * 2;
        uint32_t capacity = (uint32_t)(need > twice ? need : twice);
        bool possible = !w->fixed && need <= INT32_MAX;
        uint8_t *grown = possible ? (uint8_t *)realloc(w->owned ? w->data : NULL, capacity) : NULL;
        if (grown == NULL) return w->failed = true, NULL;
        if (!w->owned && w->len != 0) memcpy(grown, w->data, w->len);
        *w = (pulp_writer){grown, w->len, capacity, true, false, false};
    }
    return w->len += n, w->data + w->len - n;
}

/* Bytes as they are: a value encoded earlier. */
static inline void pulp_put_raw(pulp_writer *w, const void *data, uint32_t len) {
    uint8_t *room = len != 0 ? pulp_put_room(w, len) : NULL;
    if (room != NULL) memcpy(room, data, len);
}

/* A head: one byte, then `width` bytes of `number`, most significant first. */
static inline void pulp_put_head(pulp_writer *w, int head, uint64_t number, uint32_t width) {
    uint8_t *room = pulp_put_room(w, 1 + width);
    if (room == NULL) return;
    *room++ = (uint8_t)head;
    while (width-- > 0) *room++ = (uint8_t)(number >> (8 * width));
}

/* `number` in 1, 2, 4 or 8 bytes, whichever hold it; the head counts up with the width. */
static inline void pulp_put_sized(pulp_writer *w, int head, uint64_t number) {
    int step = number <= UINT8_MAX ? 0 : number <= UINT16_MAX ? 1 : number <= UINT32_MAX ? 2 : 3;
    pulp_put_head(w, head + step, number, 1u << step);
}

static inline void pulp_put_nil(pulp_writer *w) { pulp_put_head(w, 0xc0, 0, 0); }
static inline void pulp_put_bool(pulp_writer *w, bool value) { pulp_put_head(w, value ? 0xc3 : 0xc2, 0, 0); }

static inline void pulp_put_uint(pulp_writer *w, uint64_t value) {
    value <= 0x7f ? pulp_put_head(w, (int)value, 0, 0) : pulp_put_sized(w, 0xcc, value);
}
static inline void pulp_put_int(pulp_writer *w, int64_t value) {
    if (value >= 0) pulp_put_uint(w, (uint64_t)value);
    else if (value >= -32) pulp_put_head(w, (int)value, 0, 0);
    else pulp_put_head(w, 0xd3, (uint64_t)value, 8);
}
static inline void pulp_put_float(pulp_writer *w, double value) {
    union { double real; uint64_t bits; } number = {value};
    pulp_put_head(w, 0xcb, number.bits, 8);
}

static inline void pulp_put_str(pulp_writer *w, const char *text, uint32_t len) {
    len <= 31 ? pulp_put_head(w, 0xa0 | (int)len, 0, 0) : pulp_put_sized(w, 0xd9, len);
    pulp_put_raw(w, text, len);
}
static inline void pulp_put_text(pulp_writer *w, const char *text) { pulp_put_str(w, text, (uint32_t)strlen(text)); }

static inline void pulp_put_bin(pulp_writer *w, const void *data, uint32_t len) {
    pulp_put_sized(w, 0xc4, len);
    pulp_put_raw(w, data, len);
}

/* `count` values follow, or for a map `count` times a key and a value. */
static inline void pulp_put_array(pulp_writer *w, uint32_t count) {
    pulp_put_head(w, count <= 15 ? 0x90 | (int)count : 0xdd, count, count <= 15 ? 0 : 4);
}
static inline void pulp_put_map(pulp_writer *w, uint32_t count) {
    pulp_put_head(w, count <= 15 ? 0x80 | (int)count : 0xdf, count, count <= 15 ? 0 : 4);
}

/* ---- MessagePack reader -------------------------------------------------------------------------------------
 * Liberal in what it takes: an integer of any width where an integer is wanted, str or bin where bytes are wanted,
 * nil for an empty or zero anything. */

typedef struct { const uint8_t *at, *end; } pulp_reader;

typedef enum {
    PULP_NIL, PULP_BOOL, PULP_UINT, PULP_INT, PULP_FLOAT, PULP_STR, PULP_BIN, PULP_EXT, PULP_ARRAY, PULP_MAP
} pulp_type;

typedef struct {
    pulp_type type;   /* an integer is a UINT, however it was written, and an INT only when negative */
    uint8_t head;     /* the first byte, for those who care how it was written (0xd3: as an int64) */
    uint64_t number;  /* BOOL 0 or 1; UINT; INT in two's complement; EXT its type byte */
    double real;      /* FLOAT */
    pulp_bytes bytes; /* STR, BIN, EXT */
    uint32_t count;   /* so many values follow an ARRAY, so many keys and values a MAP */
} pulp_value;

static inline pulp_reader pulp_reader_of(pulp_bytes b) {
    return (pulp_reader){b.data, b.len != 0 ? b.data + b.len : b.data};
}
static inline uint32_t pulp_left(const pulp_reader *r) { return (uint32_t)(r->end - r->at); }

/* An unsigned number of `width` bytes, most significant first. */
static inline bool pulp_read_number(pulp_reader *r, uint32_t width, uint64_t *out) {
    if (width > pulp_left(r)) return false;
    uint64_t number = 0;
    while (width-- > 0) number = number << 8 | *r->at++;
    *out = number;
    return true;
}

/* A length of `width` bytes (or `len` when 0), for ext a type byte, then as many bytes. */
static inline bool pulp_read_blob(pulp_reader *r, pulp_type type, uint32_t width, uint64_t len, pulp_value *v) {
    v->type = type;
    if (width != 0 && !pulp_read_number(r, width, &len)) return false;
    if (type == PULP_EXT && !pulp_read_number(r, 1, &v->number)) return false;
    if (len > pulp_left(r)) return false;
    v->bytes = pulp_view(r->at, (uint32_t)len);
    r->at += len;
    return true;
}

/* A count; one that the remaining bytes cannot hold is refused here, so callers may loop over it. */
static inline bool pulp_read_count(pulp_reader *r, pulp_type type, uint32_t width, uint64_t count, pulp_value *v) {
    v->type = type;
    if (width != 0 && !pulp_read_number(r, width, &count)) return false;
    v->count = (uint32_t)count;
    return (type == PULP_MAP ? 2 * count : count) <= pulp_left(r);
}

/* The next value; of an array or a map only its head. */
static inline bool pulp_read(pulp_reader *r, pulp_value *v) {
    memset(v, 0, sizeof *v);
    if (r->at == r->end) return false;
    uint8_t head = v->head = *r->at++;
    v->type = PULP_UINT;
    v->number = head;
    if (head <= 0x7f) return true;
    if (head <= 0x8f) return pulp_read_count(r, PULP_MAP, 0, head & 15, v);
    if (head <= 0x9f) return pulp_read_count(r, PULP_ARRAY, 0, head & 15, v);
    if (head <= 0xbf) return pulp_read_blob(r, PULP_STR, 0, head & 31, v);
    if (head >= 0xe0) return v->type = PULP_INT, v->number |= ~(uint64_t)0xff, true;
    switch (head) {
    case 0xc0: return v->type = PULP_NIL, v->number = 0, true;
    case 0xc2: case 0xc3: return v->type = PULP_BOOL, v->number = head & 1, true;
    case 0xc4: case 0xc5: case 0xc6: return pulp_read_blob(r, PULP_BIN, 1u << (head - 0xc4), 0, v);
    case 0xc7: case 0xc8: case 0xc9: return pulp_read_blob(r, PULP_EXT, 1u << (head - 0xc7), 0, v);
    case 0xca: case 0xcb: {
        union { uint64_t bits; double wide; uint32_t half; float narrow; } number;
        v->type = PULP_FLOAT;
        if (!pulp_read_number(r, head == 0xca ? 4 : 8, &number.bits)) return false;
        if (head == 0xca) number.half = (uint32_t)number.bits;
        v->real = head == 0xca ? number.narrow : number.wide;
        return true;
    }
    case 0xcc: case 0xcd: case 0xce: case 0xcf: return pulp_read_number(r, 1u << (head - 0xcc), &v->number);
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: {
        uint32_t width = 1u << (head - 0xd0);
        uint64_t sign = (uint64_t)1 << (8 * width - 1);
        if (!pulp_read_number(r, width, &v->number)) return false;
        v->type = v->number & sign ? PULP_INT : PULP_UINT;
        v->number = (v->number ^ sign) - sign;
        return true;
    }
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return pulp_read_blob(r, PULP_EXT, 0, 1u << (head - 0xd4), v);
    case 0xd9: case 0xda: case 0xdb: return pulp_read_blob(r, PULP_STR, 1u << (head - 0xd9), 0, v);
    case 0xdc: case 0xdd: return pulp_read_count(r, PULP_ARRAY, 2u << (head - 0xdc), 0, v);
    case 0xde: case 0xdf: return pulp_read_count(r, PULP_MAP, 2u << (head - 0xde), 0, v);
    default: return false; /* 0xc1 means nothing */
    }
}

/* Past one whole value, however deeply nested: what is still owed is counted, nothing recurses. */
static inline bool pulp_skip(pulp_reader *r) {
    for (uint64_t owed = 1; owed > 0; owed--) {
        pulp_value v;
        if (owed > pulp_left(r) || !pulp_read(r, &v)) return false;
        if (v.type == PULP_ARRAY) owed += v.count;
        if (v.type == PULP_MAP) owed += 2 * (uint64_t)v.count;
    }
    return true;
}

/* One whole value as it is written. */
static inline bool pulp_read_raw(pulp_reader *r, pulp_bytes *out) {
    const uint8_t *start = r->at;
    return pulp_skip(r) && (*out = pulp_view(start, (uint32_t)(r->at - start)), true);
}

static inline bool pulp_read_bytes(pulp_reader *r, pulp_bytes *out) {
    pulp_value v;
    return pulp_read(r, &v) && (*out = v.bytes, v.type == PULP_STR || v.type == PULP_BIN || v.type == PULP_NIL);
}
static inline bool pulp_read_uint(pulp_reader *r, uint64_t *out) {
    pulp_value v;
    return pulp_read(r, &v) && (*out = v.number, v.type == PULP_UINT || v.type == PULP_NIL);
}
static inline bool pulp_read_map(pulp_reader *r, uint32_t *count) {
    pulp_value v;
    return pulp_read(r, &v) && (*count = v.count, v.type == PULP_MAP || v.type == PULP_NIL);
}

/* ---- envelopes and events: what pulp_step is given ---------------------------------------------------------- */

typedef struct {
    uint64_t call_number;
    uint64_t wall_time_ns; /* since 1970 */
    pulp_bytes payload;    /* an event for `pulp_event_parse`; no bytes when idle */
} pulp_envelope;

typedef struct {
    pulp_bytes kind;    /* such as "http.request" */
    pulp_bytes payload; /* one MessagePack value, its shape given by the kind */
} pulp_event;

static inline bool pulp_envelope_parse(const uint8_t *data, uint32_t len, pulp_envelope *out) {
    if (len < 20) return false;
    uint64_t words[3] = {0, 0, 0}; /* little-endian: call u64 @0, time u64 @8, length u32 @16 */
    for (int i = 0; i < 20; i++) words[i / 8] |= (uint64_t)data[i] << (8 * (i % 8));
    if (words[2] > len - 20) return false;
    *out = (pulp_envelope){words[0], words[1], pulp_view(data + 20, (uint32_t)words[2])};
    return true;
}

static inline bool pulp_event_parse(pulp_bytes payload, pulp_event *out) {
    pulp_reader r = pulp_reader_of(payload);
    uint32_t count;
    memset(out, 0, sizeof *out);
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        bool read = pulp_equals(key, "kind")      ? pulp_read_bytes(&r, &out->kind)
                    : pulp_equals(key, "payload") ? pulp_read_raw(&r, &out->payload)
                                                  : pulp_skip(&r);
        if (!read) return false;
    }
    return true;
}

/* ---- HTTP (transport.http.inbound) -------------------------------------------------------------------------- */

typedef struct {
    uint64_t id; /* give it back to `pulp_http_respond` before `pulp_step` returns */
    pulp_bytes method, path, body, remote_addr;
    pulp_bytes params, query, headers; /* maps; look into them with the three functions below */
} pulp_http_request;

/* A map of text to text, checked to its end and kept as it is written. */
static inline bool pulp_read_text_map(pulp_reader *r, pulp_bytes *out) {
    const uint8_t *start = r->at;
    pulp_bytes key, value;
    uint32_t count;
    if (!pulp_read_map(r, &count)) return false;
    while (count-- > 0) {
        if (!pulp_read_bytes(r, &key) || !pulp_read_bytes(r, &value)) return false;
    }
    *out = pulp_view(start, (uint32_t)(r->at - start));
    return true;
}

static inline bool pulp_http_request_parse(pulp_bytes payload, pulp_http_request *out) {
    pulp_reader r = pulp_reader_of(payload);
    uint32_t count;
    memset(out, 0, sizeof *out);
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        bool read = pulp_equals(key, "id")            ? pulp_read_uint(&r, &out->id)
                    : pulp_equals(key, "method")      ? pulp_read_bytes(&r, &out->method)
                    : pulp_equals(key, "path")        ? pulp_read_bytes(&r, &out->path)
                    : pulp_equals(key, "body")        ? pulp_read_bytes(&r, &out->body)
                    : pulp_equals(key, "remote_addr") ? pulp_read_bytes(&r, &out->remote_addr)
                    : pulp_equals(key, "params")      ? pulp_read_text_map(&r, &out->params)
                    : pulp_equals(key, "query")       ? pulp_read_text_map(&r, &out->query)
                    : pulp_equals(key, "headers")     ? pulp_read_text_map(&r, &out->headers)
                                                      : pulp_skip(&r);
        if (!read) return false;
    }
    return true;
}

/* The value at `name` in a map of text to text; `data` is NULL when there is none. */
static inline pulp_bytes pulp_text_map_get(pulp_bytes map, const char *name, bool any_case) {
    pulp_reader r = pulp_reader_of(map);
    pulp_bytes key, value;
    uint32_t count;
    if (!pulp_read_map(&r, &count)) return pulp_view(NULL, 0);
    while (count-- > 0 && pulp_read_bytes(&r, &key) && pulp_read_bytes(&r, &value)) {
        if (any_case ? pulp_equals_nocase(key, name) : pulp_equals(key, name)) return value;
    }
    return pulp_view(NULL, 0);
}
static inline pulp_bytes pulp_http_param(const pulp_http_request *request, const char *name) {
    return pulp_text_map_get(request->params, name, false);
}
static inline pulp_bytes pulp_http_query(const pulp_http_request *request, const char *name) {
    return pulp_text_map_get(request->query, name, false);
}
static inline pulp_bytes pulp_http_header(const pulp_http_request *request, const char *name) {
    return pulp_text_map_get(request->headers, name, true);
}

/* Ask for requests of one method to one path, such as "/echo/:msg". Call it from `pulp_init`. */
static inline int32_t pulp_http_register(const char *method, const char *path) {
    uint8_t scratch[256];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 2);
    pulp_put_text(&w, "method"), pulp_put_text(&w, method);
    pulp_put_text(&w, "path"), pulp_put_text(&w, path);
    int32_t code = w.failed ? PULP_OUT_OF_MEMORY : http_register(w.data, w.len);
    pulp_writer_free(&w);
    return code;
}

/* Answer a request. `content_type` may be NULL: the host then guesses. */
static inline int32_t pulp_http_respond(uint64_t id, uint32_t status, const char *content_type, const void *body,
                                        uint32_t len) {
    uint8_t scratch[512];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 4);
    pulp_put_text(&w, "id"), pulp_put_uint(&w, id);
    pulp_put_text(&w, "status"), pulp_put_uint(&w, status);
    pulp_put_text(&w, "headers"), pulp_put_map(&w, content_type != NULL ? 1 : 0);
    if (content_type != NULL) pulp_put_text(&w, "Content-Type"), pulp_put_text(&w, content_type);
    pulp_put_text(&w, "body"), pulp_put_bin(&w, body, len);
    int32_t code = w.failed ? PULP_OUT_OF_MEMORY : http_respond(w.data, w.len);
    pulp_writer_free(&w);
    return code;
}

#endif /* PULP_H */
