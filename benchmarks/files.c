/* files: does one thing with its file as often as it is asked to, for benchmarks/files.py. */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(fs_read) int32_t fs_read(const void *path, uint32_t len, uint8_t **data, uint32_t *data_len);
PULP_IMPORT(fs_stat) int32_t fs_stat(const void *request, uint32_t len, uint8_t **answer, uint32_t *answer_len);
PULP_IMPORT(fs_write)
int32_t fs_write(const void *path, uint32_t len, const void *data, uint32_t data_len, const void *options,
                 uint32_t options_len);

static uint8_t content[1 << 20];

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    memset(content, 'x', sizeof content);
    return 0;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) { return (void)data, (void)len, 0; }
int32_t pulp_shutdown(void) { return 0; }

/* `args`: how often, how many bytes; both u32. The file is called "4096" or "1048576". */
int32_t pulp_on_call(const char *name, uint32_t name_len, const uint8_t *args, uint32_t args_len, uint8_t **response,
                     uint32_t *response_len) {
    uint32_t words[2];
    if (args_len != sizeof words) return 1;
    memcpy(words, args, sizeof words);
    const char *path = words[1] == 4096 ? "4096" : "1048576";
    const char *record = words[1] == 4096 ? "\x81\xa4path\xa4" "4096" : "\x81\xa4path\xa7" "1048576";
    uint32_t len = (uint32_t)strlen(path);

    for (uint32_t i = 0; i < words[0]; i++) {
        uint8_t *data = NULL;
        uint32_t data_len = 0;
        int32_t code = pulp_equals(pulp_view(name, name_len), "write") ? fs_write(path, len, content, words[1], NULL, 0)
                       : pulp_equals(pulp_view(name, name_len), "stat")
                           ? fs_stat(record, 7 + len, &data, &data_len)
                           : fs_read(path, len, &data, &data_len);
        pulp_free(data, data_len);
        if (code != PULP_OK) return 100 + code;
    }
    *response = NULL, *response_len = 0;
    return 0;
}
