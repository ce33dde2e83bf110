/* accounts: who has how much. Only this cell sees the database; the others ask it.
 *
 *     accounts.list       nothing                 -> [{"name":"ada","cents":10000}, ...] as JSON
 *     accounts.open       name                    -> nothing; 1 if there is one of that name
 *     accounts.transfer   [from, to, cents]       -> nothing; 2 if one of them is missing, or has not enough
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(sqlite_exec) int32_t sqlite_exec(const char *sql, uint32_t sql_len, const void *params, uint32_t params_len,
                                             uint8_t **result, uint32_t *result_len);
PULP_IMPORT(sqlite_query) int32_t sqlite_query(const char *sql, uint32_t sql_len, const void *params,
                                               uint32_t params_len, uint8_t **rows, uint32_t *rows_len);

enum { TAKEN = 1, REFUSED = 2, BAD_ARGS = 3, FAILED = 4 };

/* Run a statement with parameters in MessagePack; return whether it worked, and how many rows it changed. */
static bool run(const char *sql, pulp_bytes params, uint64_t *changed) {
    uint8_t *result = NULL;
    uint32_t len = 0, count = 0;
    pulp_bytes key;
    bool ok = sqlite_exec(sql, (uint32_t)strlen(sql), params.data, params.len, &result, &len) == PULP_OK;
    pulp_reader r = pulp_reader_of(pulp_view(result, len));
    *changed = 0;
    if (ok && pulp_read_map(&r, &count) && count > 0 && pulp_read_bytes(&r, &key)) pulp_read_uint(&r, changed);
    if (result != NULL) pulp_free(result, len);
    return ok;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    uint64_t changed;
    pulp_bytes none = {NULL, 0};
    return run("CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0))",
               none, &changed) ? 0 : FAILED;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) { (void)data, (void)len; return 0; }
int32_t pulp_shutdown(void) { return 0; }

static int32_t open_account(pulp_bytes name) {
    uint8_t scratch[256];
    uint64_t changed;
    pulp_writer params = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_array(&params, 1);
    pulp_put_str(&params, (const char *)name.data, name.len);
    bool ok = run("INSERT OR IGNORE INTO accounts VALUES (?, 10000)", pulp_view(params.data, params.len), &changed);
    pulp_writer_free(&params);
    return !ok ? FAILED : changed ? 0 : TAKEN;
}

/* One statement: both are changed, or neither is. What `args` holds are its parameters, as they came. */
static int32_t transfer(pulp_bytes args) {
    uint64_t changed;
    bool ok = run("UPDATE accounts SET cents = cents + iif(name = ?1, -?3, ?3) WHERE name IN (?1, ?2) AND ?1 <> ?2"
                  " AND ?3 > 0 AND (SELECT count(*) FROM accounts WHERE name IN (?1, ?2)) = 2", args, &changed);
    return ok && changed == 2 ? 0 : REFUSED;
}

/* The database writes the list itself: one row, one column. */
static int32_t list(uint8_t **response, uint32_t *response_len) {
    static const char sql[] = "SELECT json_group_array(json_object('name', name, 'cents', cents))"
                              " FROM (SELECT * FROM accounts ORDER BY name)";
    uint8_t *rows = NULL;
    uint32_t len = 0, count = 0;
    pulp_bytes json = {NULL, 0}, key;
    pulp_value v;
    if (sqlite_query(sql, sizeof sql - 1, NULL, 0, &rows, &len) != PULP_OK) return FAILED;
    pulp_reader r = pulp_reader_of(pulp_view(rows, len));
    if (pulp_read_map(&r, &count)) {
        while (count-- > 0 && pulp_read_bytes(&r, &key)) {
            if (!pulp_equals(key, "rows")) pulp_skip(&r);
            else if (pulp_read(&r, &v) && pulp_read(&r, &v)) pulp_read_bytes(&r, &json);
        }
    }
    uint8_t *copy = json.data == NULL ? NULL : pulp_alloc(json.len); /* the host frees it */
    if (copy != NULL) {
        memcpy(copy, json.data, json.len);
        *response = copy;
        *response_len = json.len;
    }
    pulp_free(rows, len);
    return copy == NULL ? FAILED : 0;
}

int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len,
                     uint8_t **response, uint32_t *response_len) {
    pulp_bytes what = pulp_view(name, name_len), given = pulp_view(args, args_len);
    *response = NULL;
    *response_len = 0;
    if (pulp_equals(what, "accounts.list")) return list(response, response_len);
    if (pulp_equals(what, "accounts.open")) return given.len && given.len <= 200 ? open_account(given) : BAD_ARGS;
    return pulp_equals(what, "accounts.transfer") ? transfer(given) : BAD_ARGS;
}
