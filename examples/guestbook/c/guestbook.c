/* guestbook: a page where people leave a line. Every line is a key; nothing but the C library's file API.
 *
 *     GET  /guestbook   the page
 *     POST /guestbook   name=...&line=... as a form sends it -> 303, back to the page
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#define LINES "/beta/kv/local/lines"
enum { MOST = 500, SHOWN = 100 };

static size_t slurp(const char *path, char *into, size_t size) {
    FILE *file = fopen(path, "r");
    size_t length = file == NULL ? 0 : fread(into, 1, size - 1, file);
    if (file != NULL) fclose(file);
    into[length] = 0;
    return length;
}

static int spill(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (file == NULL) return perror(path), 1;
    fputs(text, file);
    return fclose(file) != 0 ? perror(path), 1 : 0; /* what is closed is on disk */
}

/* Write `text` so that no browser takes it for anything but text. */
static void escaped(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '<') fputs("&lt;", out);
        else if (*text == '&') fputs("&amp;", out);
        else if (*text == '"') fputs("&quot;", out);
        else if ((unsigned char)*text >= ' ') fputc(*text, out);
    }
}

/* The value of a field of a form, at most `size` - 1 bytes. */
static void field(const char *form, const char *name, char *into, size_t size) {
    size_t length = strlen(name), used = 0;
    for (; form != NULL && *form; form = strchr(form, '&') ? strchr(form, '&') + 1 : NULL) {
        if (strncmp(form, name, length) != 0 || form[length] != '=') continue;
        for (const char *at = form + length + 1; *at && *at != '&' && used + 1 < size; at++) {
            unsigned code;
            if (*at == '%' && sscanf(at + 1, "%2x", &code) == 1) into[used++] = (char)code, at += 2;
            else into[used++] = *at == '+' ? ' ' : *at;
        }
        break;
    }
    into[used] = 0;
}

static int add(void) {
    static char form[4 * MOST], name[MOST], line[MOST], value[2 * MOST + 2], key[128];
    unsigned long long chance = 0;
    slurp("/request/body", form, sizeof form);
    field(form, "name", name, sizeof name);
    field(form, "line", line, sizeof line);
    if (*line) {
        getentropy(&chance, sizeof chance);
        snprintf(key, sizeof key, LINES "/%012lld-%016llx", (long long)time(NULL), chance); /* in order of time */
        snprintf(value, sizeof value, "%s\n%s", *name ? name : "somebody", line);
        if (spill(key, value) != 0) return 1;
    }
    return spill("/response/headers/location", "/guestbook") || spill("/response/status", "303");
}

static int newest_first(const void *a, const void *b) { return strcmp(*(char *const *)b, *(char *const *)a); }

static int page(void) {
    static char value[2 * MOST + 2], path[512];
    char *keys[4096];
    size_t count = 0;
    DIR *folder = opendir(LINES);
    for (struct dirent *entry; folder != NULL && count < 4096 && (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.') keys[count++] = strdup(entry->d_name);
    if (folder != NULL) closedir(folder);
    qsort(keys, count, sizeof *keys, newest_first);

    if (spill("/response/headers/content-type", "text/html; charset=utf-8") != 0) return 1;
    FILE *out = fopen("/response/body", "w");
    if (out == NULL) return perror("/response/body"), 1;
    fputs("<!doctype html><html lang=en><meta charset=utf-8><title>Guestbook</title>"
          "<style>body{font:1.1rem/1.5 system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem}"
          "li{margin:.5rem 0}input,button{font:inherit}</style><h1>Guestbook</h1>"
          "<form method=post><input name=name placeholder=name> <input name=line placeholder='a line' required>"
          " <button>Sign</button></form><ul>", out);
    for (size_t i = 0; i < count && i < SHOWN; i++) {
        snprintf(path, sizeof path, LINES "/%s", keys[i]);
        if (slurp(path, value, sizeof value) == 0) continue; /* somebody took it away meanwhile */
        char *line = strchr(value, '\n');
        if (line == NULL) continue;
        *line++ = 0;
        fputs("<li><b>", out), escaped(out, value), fputs("</b>: ", out), escaped(out, line), fputs("</li>", out);
    }
    fputs("</ul>", out);
    return fclose(out) != 0;
}

int main(void) {
    char method[16];
    slurp("/request/method", method, sizeof method);
    return strcmp(method, "POST") == 0 ? add() : page();
}
