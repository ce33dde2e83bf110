/* The guest of benchmarks/sqlite.py and benchmarks/kv.py: each export does one thing `count` times and answers the
 * first code that is not 0. */
#include "pulp.h"

#define EXPORT(name) __attribute__((export_name(#name))) int32_t name
#define BATCH 1000

typedef int32_t(sql_import)(const char *, uint32_t, const void *, uint32_t, uint8_t **, uint32_t *);
PULP_IMPORT(sqlite_exec) sql_import sqlite_exec;
PULP_IMPORT(sqlite_query) sql_import sqlite_query;
PULP_IMPORT(sqlite_exec_many) sql_import sqlite_exec_many;
PULP_IMPORT(sqlite_query_many) sql_import sqlite_query_many;
PULP_IMPORT(kv_get) int32_t kv_get(const char *key, uint32_t len, uint8_t **value, uint32_t *value_len);
PULP_IMPORT(kv_put)
int32_t kv_put(const char *key, uint32_t len, const void *value, uint32_t value_len, uint32_t ttl_seconds);

PULP_DEFINE_ALLOC
int32_t pulp_init(const uint8_t *config, uint32_t len) { (void)config; (void)len; return 0; }
int32_t pulp_step(const uint8_t *envelope, uint32_t len) { (void)envelope; (void)len; return 0; }
int32_t pulp_shutdown(void) { return 0; }

static int32_t run(sql_import *import, const char *sql, pulp_writer *params) {
    uint8_t *answer = NULL;
    uint32_t len = 0;
    int32_t code = import(sql, (uint32_t)strlen(sql), params ? params->data : NULL, params ? params->len : 0, &answer, &len);
    if (answer != NULL) pulp_free(answer, len);
    return code;
}

static const char INSERT[] = "INSERT INTO player (id, name, score) VALUES (?, ?, ?)";
static const char SELECT[] = "SELECT id, name, score FROM player WHERE id = ?";
static const char SCAN[] = "SELECT id, name, score FROM player WHERE id < 1000";

static void put_player(pulp_writer *w, uint32_t id) {
    pulp_put_array(w, 3);
    pulp_put_uint(w, id);
    pulp_put_text(w, "a name of some length");
    pulp_put_float(w, id / 2.0);
}

EXPORT(create)(void) {
    return run(sqlite_exec, "CREATE TABLE IF NOT EXISTS player (id INTEGER PRIMARY KEY, name TEXT, score REAL)", NULL);
}
EXPORT(begin)(void) { return run(sqlite_exec, "BEGIN", NULL); }
EXPORT(commit)(void) { return run(sqlite_exec, "COMMIT", NULL); }

EXPORT(insert)(uint32_t from, uint32_t count) {
    for (uint32_t i = from; i < from + count; i++) {
        uint8_t scratch[128];
        pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
        put_player(&w, i);
        int32_t code = run(sqlite_exec, INSERT, &w);
        if (code != 0) return code;
    }
    return 0;
}

EXPORT(insert_many)(uint32_t from, uint32_t count) {
    for (uint32_t i = from; i < from + count; i += BATCH) {
        pulp_writer w = pulp_writer_in(NULL, 0);
        pulp_put_array(&w, BATCH);
        for (uint32_t j = 0; j < BATCH; j++) put_player(&w, i + j);
        int32_t code = run(sqlite_exec_many, INSERT, &w);
        pulp_writer_free(&w);
        if (code != 0) return code;
    }
    return 0;
}

EXPORT(query)(uint32_t from, uint32_t count) {
    for (uint32_t i = from; i < from + count; i++) {
        uint8_t scratch[16];
        pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
        pulp_put_array(&w, 1);
        pulp_put_uint(&w, i);
        int32_t code = run(sqlite_query, SELECT, &w);
        if (code != 0) return code;
    }
    return 0;
}

EXPORT(query_many)(uint32_t from, uint32_t count) {
    for (uint32_t i = from; i < from + count; i += BATCH) {
        pulp_writer w = pulp_writer_in(NULL, 0);
        pulp_put_array(&w, BATCH);
        for (uint32_t j = 0; j < BATCH; j++) {
            pulp_put_array(&w, 1);
            pulp_put_uint(&w, i + j);
        }
        int32_t code = run(sqlite_query_many, SELECT, &w);
        pulp_writer_free(&w);
        if (code != 0) return code;
    }
    return 0;
}

EXPORT(scan)(uint32_t from, uint32_t count) {
    (void)from;
    for (uint32_t i = 0; i < count; i++) {
        int32_t code = run(sqlite_query, SCAN, NULL);
        if (code != 0) return code;
    }
    return 0;
}

static uint32_t put_key(char *key, uint32_t number) {
    uint32_t len = 0;
    do key[len++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return len;
}

EXPORT(put)(uint32_t from, uint32_t count) {
    static const char value[100];
    for (uint32_t i = from; i < from + count; i++) {
        char key[16];
        int32_t code = kv_put(key, put_key(key, i), value, sizeof value, 0);
        if (code != 0) return code;
    }
    return 0;
}

EXPORT(get)(uint32_t from, uint32_t count) {
    for (uint32_t i = from; i < from + count; i++) {
        char key[16];
        uint8_t *value = NULL;
        uint32_t len = 0;
        int32_t code = kv_get(key, put_key(key, i), &value, &len);
        if (code != 0) return code;
        pulp_free(value, len);
    }
    return 0;
}
