/* ledger: one thing kept in three ways. What is answered 204 is on the disk.
 *
 *     PUT /files/:key, /rows/:key, /keys/:key   keep the body in a file, a row of a database, or at a key
 *     GET the same                              what is kept, or 404
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(fs_read) int32_t fs_read(const char *path, uint32_t len, uint8_t **data, uint32_t *data_len);
PULP_IMPORT(fs_write) int32_t fs_write(const char *path, uint32_t len, const void *data, uint32_t data_len,
                                       const void *options, uint32_t options_len);
PULP_IMPORT(sqlite_exec) int32_t sqlite_exec(const char *sql, uint32_t len, const void *params, uint32_t params_len,
                                             uint8_t **result, uint32_t *result_len);
PULP_IMPORT(sqlite_query) int32_t sqlite_query(const char *sql, uint32_t len, const void *params, uint32_t params_len,
                                               uint8_t **rows, uint32_t *rows_len);
PULP_IMPORT(kv_get) int32_t kv_get(const void *key, uint32_t len, uint8_t **value, uint32_t *value_len);
PULP_IMPORT(kv_put) int32_t kv_put(const void *key, uint32_t len, const void *value, uint32_t value_len,
                                   uint32_t ttl_seconds);

/* Run one statement with text and perhaps a blob; hand out what came back. */
static int32_t sql(bool query, const char *text, const pulp_bytes *key, const pulp_bytes *value, uint8_t **out,
                   uint32_t *out_len) {
    uint8_t scratch[512];
    pulp_writer params = pulp_writer_in(scratch, sizeof scratch);
    if (key != NULL) {
        pulp_put_array(&params, value != NULL ? 2 : 1);
        pulp_put_str(&params, (const char *)key->data, key->len);
        if (value != NULL) pulp_put_bin(&params, value->data, value->len);
    }
    uint32_t len = (uint32_t)strlen(text);
    int32_t code = params.failed ? PULP_OUT_OF_MEMORY
                   : query       ? sqlite_query(text, len, params.data, params.len, out, out_len)
                                 : sqlite_exec(text, len, params.data, params.len, out, out_len);
    pulp_writer_free(&params);
    return code;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    uint8_t *result = NULL;
    uint32_t result_len = 0;
    int32_t code = sql(false, "CREATE TABLE IF NOT EXISTS ledger (key TEXT PRIMARY KEY, value BLOB)", NULL, NULL, &result,
                       &result_len);
    if (result != NULL) pulp_free(result, result_len);
    static const char *const paths[] = {"/files/:file", "/rows/:row", "/keys/:key"};
    for (int i = 0; i < 3 && code == PULP_OK; i++) {
        code = pulp_http_register("PUT", paths[i]);
        if (code == PULP_OK) code = pulp_http_register("GET", paths[i]);
    }
    return code;
}

static int32_t keep(pulp_bytes file, pulp_bytes row, pulp_bytes key, pulp_bytes value) {
    if (file.data != NULL) return fs_write((const char *)file.data, file.len, value.data, value.len, NULL, 0);
    if (key.data != NULL) return kv_put(key.data, key.len, value.data, value.len, 0);
    uint8_t *result = NULL;
    uint32_t len = 0;
    int32_t code = sql(false, "INSERT INTO ledger VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                       &row, &value, &result, &len);
    if (result != NULL) pulp_free(result, len);
    return code;
}

/* The bytes lie inside `buffer`, which is the caller's to free. */
static int32_t find(pulp_bytes file, pulp_bytes row, pulp_bytes key, uint8_t **buffer, uint32_t *len, pulp_bytes *found) {
    int32_t code = file.data != NULL  ? fs_read((const char *)file.data, file.len, buffer, len)
                   : key.data != NULL ? kv_get(key.data, key.len, buffer, len)
                                      : sql(true, "SELECT value FROM ledger WHERE key = ?", &row, NULL, buffer, len);
    *found = pulp_view(*buffer, *len);
    if (code != PULP_OK || row.data == NULL) return code;
    pulp_reader r = pulp_reader_of(*found);
    pulp_bytes name;
    pulp_value v;
    uint32_t count = 0;
    if (!pulp_read_map(&r, &count)) return 3;
    for (; count > 0 && pulp_read_bytes(&r, &name); count--) {
        if (!pulp_equals(name, "rows")) pulp_skip(&r);
        else if (!pulp_read(&r, &v) || v.type != PULP_ARRAY || v.count == 0) return 6;
        else return pulp_read(&r, &v) && pulp_read_bytes(&r, found) ? PULP_OK : 3;
    }
    return 6;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    pulp_http_request request;

    if (!pulp_envelope_parse(data, len, &envelope) || envelope.payload.len == 0) return 0;
    if (!pulp_event_parse(envelope.payload, &event) || !pulp_equals(event.kind, "http.request")) return 0;
    if (!pulp_http_request_parse(event.payload, &request)) return 1;

    pulp_bytes file = pulp_http_param(&request, "file"), row = pulp_http_param(&request, "row"),
               key = pulp_http_param(&request, "key"), found = {NULL, 0};
    if (pulp_equals(request.method, "PUT")) {
        int32_t code = keep(file, row, key, request.body);
        return pulp_http_respond(request.id, code == PULP_OK ? 204 : 507, "text/plain", NULL, 0);
    }
    uint8_t *buffer = NULL;
    uint32_t size = 0;
    int32_t code = find(file, row, key, &buffer, &size, &found);
    code = code == PULP_OK ? pulp_http_respond(request.id, 200, "application/octet-stream", found.data, found.len)
                           : pulp_http_respond(request.id, code == 6 ? 404 : 500, "text/plain", NULL, 0);
    if (buffer != NULL) pulp_free(buffer, size);
    return code;
}

int32_t pulp_shutdown(void) { return 0; }
