/* files: keeps what it is given, in its own folder.
 *
 *     PUT    /files/PATH     the body becomes a file: whole or not at all, and on the disk when the answer comes
 *     GET    /files/PATH     the file; of a path that ends with a slash what is in that folder, as MessagePack
 *     DELETE /files/PATH     the file, or the empty folder, is gone
 */
#include "pulp.h"

PULP_DEFINE_ALLOC

PULP_IMPORT(fs_read) int32_t fs_read(const void *path, uint32_t len, uint8_t **data, uint32_t *data_len);
PULP_IMPORT(fs_list) int32_t fs_list(const void *path, uint32_t len, uint8_t **names, uint32_t *names_len);
PULP_IMPORT(fs_delete) int32_t fs_delete(const void *path, uint32_t len);
PULP_IMPORT(fs_write)
int32_t fs_write(const void *path, uint32_t len, const void *data, uint32_t data_len, const void *options,
                 uint32_t options_len);

enum { FS_FAILED = 4, FS_BAD_PATH = 5, FS_NOT_FOUND = 6 };

static uint32_t status_of(int32_t code, uint32_t good) {
    switch (code) {
    case 0: return good;
    case FS_FAILED: return 409; /* it is a folder, it is not empty, the disk quota is used up; the host's log says */
    case FS_BAD_PATH: return 400;
    case FS_NOT_FOUND: return 404;
    default: return 500;
    }
}

static int32_t respond_with_file(uint64_t id, pulp_bytes path) {
    uint8_t *data = NULL;
    uint32_t len = 0;
    bool folder = path.len == 0 || path.data[path.len - 1] == '/';
    int32_t code = !folder         ? fs_read(path.data, path.len, &data, &len)
                   : path.len == 0 ? fs_list(".", 1, &data, &len)
                                   : fs_list(path.data, path.len, &data, &len);
    const char *type = folder ? "application/msgpack" : "application/octet-stream";
    code = pulp_http_respond(id, status_of(code, 200), type, data, len);
    pulp_free(data, len); /* what the host delivers is ours */
    return code;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    static const char *const methods[] = {"GET", "PUT", "DELETE"};
    for (int i = 0; i < 3; i++) {
        int32_t code = pulp_http_register(methods[i], "/files/*path");
        if (code != PULP_OK) return 100 + code;
    }
    return 0;
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

    pulp_bytes path = pulp_http_param(&request, "path");
    if (pulp_equals(request.method, "GET")) return respond_with_file(request.id, path);

    int32_t code = pulp_equals(request.method, "PUT")
                       ? fs_write(path.data, path.len, request.body.data, request.body.len, NULL, 0)
                       : fs_delete(path.data, path.len);
    return pulp_http_respond(request.id, status_of(code, 204), NULL, NULL, 0);
}

int32_t pulp_shutdown(void) { return 0; }
