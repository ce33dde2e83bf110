/* todo: a list that survives. Its page is served from the folder `public` by the host; here is what it talks to.
 *
 *     GET    /todo/api              [{"id":1,"text":"buy tea","done":false}, ...]
 *     POST   /todo/api              the text, as it is -> 201
 *     POST   /todo/api/:id/toggle   done, or not done after all -> 204
 *     DELETE /todo/api/:id          -> 204
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(sqlite_exec) int32_t sqlite_exec(const char *sql, uint32_t sql_len, const void *params, uint32_t params_len,
                                             uint8_t **result, uint32_t *result_len);
PULP_IMPORT(sqlite_query) int32_t sqlite_query(const char *sql, uint32_t sql_len, const void *params,
                                               uint32_t params_len, uint8_t **rows, uint32_t *rows_len);

enum { MOST_TEXT = 500 };

/* Run a statement with at most one parameter; return the code, and in `changed` how many rows it changed. */
static int32_t run(const char *sql, pulp_bytes param, uint64_t *changed) {
    uint8_t scratch[MOST_TEXT + 16];
    pulp_writer params = pulp_writer_in(scratch, sizeof scratch);
    if (param.data != NULL) {
        pulp_put_array(&params, 1);
        pulp_put_str(&params, (const char *)param.data, param.len);
    }
    uint8_t *result = NULL;
    uint32_t len = 0;
    int32_t code = sqlite_exec(sql, (uint32_t)strlen(sql), params.data, params.len, &result, &len);
    pulp_writer_free(&params);
    if (changed != NULL) {
        pulp_reader r = pulp_reader_of(pulp_view(result, len));
        pulp_bytes key;
        uint32_t count = 0;
        *changed = 0;
        if (code == PULP_OK && pulp_read_map(&r, &count) && count > 0 && pulp_read_bytes(&r, &key))
            pulp_read_uint(&r, changed); /* rows_affected comes first */
    }
    if (result != NULL) pulp_free(result, len);
    return code;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    pulp_bytes none = {NULL, 0};
    int32_t code = run("CREATE TABLE IF NOT EXISTS todos (id INTEGER PRIMARY KEY, text TEXT NOT NULL,"
                       " done INTEGER NOT NULL DEFAULT 0)", none, NULL);
    if (code == PULP_OK) code = pulp_http_register("GET", "/todo/api");
    if (code == PULP_OK) code = pulp_http_register("POST", "/todo/api");
    if (code == PULP_OK) code = pulp_http_register("POST", "/todo/api/:id/toggle");
    if (code == PULP_OK) code = pulp_http_register("DELETE", "/todo/api/:id");
    return code;
}

/* Answer with the list, which the database itself writes as JSON: one row, one column. */
static int32_t list(uint64_t id) {
    static const char sql[] = "SELECT json_group_array(json_object('id', id, 'text', text, 'done', json(iif(done,"
                              " 'true', 'false')))) FROM (SELECT * FROM todos ORDER BY id)";
    uint8_t *rows = NULL;
    uint32_t len = 0, count = 0;
    pulp_bytes json = {NULL, 0}, key;
    int32_t code = sqlite_query(sql, sizeof sql - 1, NULL, 0, &rows, &len);
    pulp_reader r = pulp_reader_of(pulp_view(rows, len));
    pulp_value v;
    if (code == PULP_OK && pulp_read_map(&r, &count)) {
        while (count-- > 0 && pulp_read_bytes(&r, &key)) {
            if (!pulp_equals(key, "rows")) pulp_skip(&r);
            else if (pulp_read(&r, &v) && pulp_read(&r, &v)) pulp_read_bytes(&r, &json);
        }
    }
    code = code == PULP_OK && json.data != NULL ? pulp_http_respond(id, 200, "application/json", json.data, json.len)
                                                : pulp_http_respond(id, 500, "text/plain", "the database failed", 19);
    if (rows != NULL) pulp_free(rows, len);
    return code;
}

static int32_t answer(uint64_t id, int32_t code, uint64_t changed, uint32_t status) {
    if (code != PULP_OK) return pulp_http_respond(id, 500, "text/plain", "the database failed", 19);
    return pulp_http_respond(id, changed ? status : 404, "text/plain", NULL, 0);
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    pulp_http_request request;

    if (!pulp_envelope_parse(data, len, &envelope) || envelope.payload.len == 0) return 0;
    if (!pulp_event_parse(envelope.payload, &event) || !pulp_equals(event.kind, "http.request")) return 0;
    if (!pulp_http_request_parse(event.payload, &request)) return 1;

    uint64_t changed = 0;
    pulp_bytes todo = pulp_http_param(&request, "id");
    if (pulp_equals(request.method, "GET")) return list(request.id);
    if (pulp_equals(request.method, "DELETE"))
        return answer(request.id, run("DELETE FROM todos WHERE id = ?", todo, &changed), changed, 204);
    if (todo.data != NULL)
        return answer(request.id, run("UPDATE todos SET done = NOT done WHERE id = ?", todo, &changed), changed, 204);
    if (request.body.len == 0 || request.body.len > MOST_TEXT)
        return pulp_http_respond(request.id, 400, "text/plain", "1 to 500 bytes of text, please", 30);
    return answer(request.id, run("INSERT INTO todos (text) VALUES (?)", request.body, &changed), changed, 201);
}

int32_t pulp_shutdown(void) { return 0; }
