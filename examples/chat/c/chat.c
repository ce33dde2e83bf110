/* chat: everybody hears what anybody says.
 *
 *     GET /                    the page
 *     GET /chat?name=, upgraded   one line a message: a name, a tab, what was said; notices have no name
 */
#include "pulp.h"

PULP_IMPORT(ws_register) int32_t ws_register(const char *path, uint32_t len); /* transport.ws.inbound */
PULP_IMPORT(ws_send) int32_t ws_send(const void *message, uint32_t len);      /* transport.ws.inbound */

PULP_DEFINE_ALLOC

static const char page[] = {
#embed "index.html"
};

enum { NAME_BYTES = 64, TEXT_BYTES = 4000, LINE_BYTES = NAME_BYTES + 1 + TEXT_BYTES, HISTORY = 20, TEXT = 1 };

typedef struct {
    uint64_t conn_id;
    uint32_t name_len;
    char name[NAME_BYTES];
} member;

typedef struct {
    uint32_t len;
    char text[LINE_BYTES];
} line;

static member *members;
static uint32_t member_count, member_room;
static line history[HISTORY];
static uint32_t said_count;

/* ---- what clients hear -------------------------------------------------------------------------------------- */

static void tell(uint64_t conn_id, const line *said) {
    uint8_t scratch[LINE_BYTES + 64];
    pulp_writer w = pulp_writer_in(scratch, sizeof scratch);
    pulp_put_map(&w, 3);
    pulp_put_text(&w, "conn_id"), pulp_put_uint(&w, conn_id);
    pulp_put_text(&w, "opcode"), pulp_put_uint(&w, TEXT);
    pulp_put_text(&w, "payload"), pulp_put_bin(&w, said->text, said->len);
    if (!w.failed) ws_send(w.data, w.len); /* 4 when the client has just left: its ws.close is on the way */
    pulp_writer_free(&w);
}

static void tell_all(const line *said) {
    history[said_count++ % HISTORY] = *said;
    for (uint32_t i = 0; i < member_count; i++) tell(members[i].conn_id, said);
}

static void append(line *out, const void *data, uint32_t len) {
    if (len > LINE_BYTES - out->len) len = LINE_BYTES - out->len;
    if (len != 0) memcpy(out->text + out->len, data, len);
    out->len += len;
}

static void notice(const member *who, const char *what) {
    line said = {0};
    append(&said, "\t", 1);
    append(&said, who->name, who->name_len);
    append(&said, what, (uint32_t)strlen(what));
    tell_all(&said);
}

/* ---- who is there ------------------------------------------------------------------------------------------- */

static member *find(uint64_t conn_id) {
    for (uint32_t i = 0; i < member_count; i++) {
        if (members[i].conn_id == conn_id) return &members[i];
    }
    return NULL;
}

/* A name is cut where a character of UTF-8 begins, and has no tab. */
static member named(uint64_t conn_id, pulp_bytes name) {
    member who = {conn_id, 0, {0}};
    if (name.len == 0) name = pulp_view("somebody", 8);
    if (name.len > NAME_BYTES) {
        for (name.len = NAME_BYTES; name.len > 0 && (name.data[name.len] & 0xc0) == 0x80;) name.len--;
    }
    for (; who.name_len < name.len; who.name_len++) {
        uint8_t byte = name.data[who.name_len];
        who.name[who.name_len] = (char)(byte < ' ' ? ' ' : byte);
    }
    return who;
}

static int32_t join(uint64_t conn_id, pulp_bytes query) {
    if (member_count == member_room) {
        uint32_t room = member_room != 0 ? 2 * member_room : 16;
        member *grown = (member *)realloc(members, room * sizeof *members);
        if (grown == NULL) return 4;
        members = grown, member_room = room;
    }
    members[member_count++] = named(conn_id, pulp_text_map_get(query, "name", false));
    uint32_t first = said_count > HISTORY ? said_count - HISTORY : 0;
    for (; first < said_count; first++) tell(conn_id, &history[first % HISTORY]);
    notice(&members[member_count - 1], " came in");
    return 0;
}

static int32_t leave(uint64_t conn_id) {
    member *found = find(conn_id);
    if (found == NULL) return 0; /* it came to an earlier instance of this cell */
    member who = *found;
    *found = members[--member_count];
    notice(&who, " left");
    return 0;
}

static int32_t say(uint64_t conn_id, pulp_bytes text) {
    const member *who = find(conn_id);
    if (who == NULL || text.len == 0 || text.len > TEXT_BYTES) return 0;
    line said = {0};
    append(&said, who->name, who->name_len);
    append(&said, "\t", 1);
    append(&said, text.data, text.len);
    tell_all(&said);
    return 0;
}

/* ---- events ------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t conn_id, opcode;
    pulp_bytes query, payload;
} ws_event;

static bool ws_event_parse(pulp_bytes data, ws_event *out) {
    pulp_reader r = pulp_reader_of(data);
    uint32_t count;
    memset(out, 0, sizeof *out);
    if (!pulp_read_map(&r, &count)) return false;
    for (pulp_bytes key; count > 0; count--) {
        if (!pulp_read_bytes(&r, &key)) return false;
        bool read = pulp_equals(key, "conn_id")   ? pulp_read_uint(&r, &out->conn_id)
                    : pulp_equals(key, "opcode")  ? pulp_read_uint(&r, &out->opcode)
                    : pulp_equals(key, "payload") ? pulp_read_bytes(&r, &out->payload)
                    : pulp_equals(key, "query")   ? pulp_read_text_map(&r, &out->query)
                                                  : pulp_skip(&r);
        if (!read) return false;
    }
    return true;
}

static int32_t show_page(pulp_bytes payload) {
    pulp_http_request request;
    if (!pulp_http_request_parse(payload, &request)) return 3;
    int32_t code = pulp_http_respond(request.id, 200, "text/html; charset=utf-8", page, sizeof page);
    return code != PULP_OK ? 300 + code : 0;
}

int32_t pulp_init(const uint8_t *config, uint32_t len) {
    (void)config, (void)len;
    int32_t code = pulp_http_register("GET", "/");
    if (code != PULP_OK) return 100 + code;
    code = ws_register("/chat", 5);
    return code != PULP_OK ? 200 + code : 0;
}

int32_t pulp_step(const uint8_t *data, uint32_t len) {
    pulp_envelope envelope;
    pulp_event event;
    ws_event said;

    if (!pulp_envelope_parse(data, len, &envelope)) return 1;
    if (envelope.payload.len == 0) return 0; /* idle */
    if (!pulp_event_parse(envelope.payload, &event)) return 2;
    if (pulp_equals(event.kind, "http.request")) return show_page(event.payload);
    if (!ws_event_parse(event.payload, &said)) return 3;
    if (pulp_equals(event.kind, "ws.open")) return join(said.conn_id, said.query);
    if (pulp_equals(event.kind, "ws.close")) return leave(said.conn_id);
    if (pulp_equals(event.kind, "ws.frame") && said.opcode == TEXT) return say(said.conn_id, said.payload);
    return 0;
}

int32_t pulp_shutdown(void) { return 0; }
