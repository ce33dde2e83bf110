/* A function that does what its path says, with nothing but a C library. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[65536];

static size_t slurp(const char *path, char *into, size_t room) {
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t size = fread(into, 1, room - 1, file);
    fclose(file);
    into[size] = 0;
    return size;
}

static int spew(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file) return -1;
    fputs(text, file);
    return fclose(file);
}

static int json(void) {
    FILE *from = fopen("/request/json", "r");
    size_t size;
    while ((size = fread(buffer, 1, sizeof buffer, from)) > 0) fwrite(buffer, 1, size, stdout);
    return fclose(from);
}

static int echo(void) { /* piece by piece, as it arrives */
    FILE *to = fopen("/response/body", "w");
    ssize_t size;
    while ((size = read(STDIN_FILENO, buffer, sizeof buffer)) > 0) {
        fwrite(buffer, 1, (size_t)size, to);
        fflush(to);
    }
    return fclose(to);
}

static int count(void) {
    size_t total = 0, size;
    while ((size = fread(buffer, 1, sizeof buffer, stdin)) > 0) total += size;
    printf("%zu", total);
    return 0;
}

static int download(void) {
    FILE *to = fopen("/response/body", "w");
    memset(buffer, 'x', sizeof buffer);
    for (int left = 512; left; left--)
        if (fwrite(buffer, 1, sizeof buffer, to) != sizeof buffer) return 1;
    return fclose(to);
}

static int list(void) {
    DIR *folder = opendir("/request");
    for (struct dirent *entry; (entry = readdir(folder));) printf("%s\n", entry->d_name);
    return closedir(folder);
}

static int created(void) {
    spew("/response/status", "201\n");
    spew("/response/headers/content-type", "text/x\n");
    printf("not the answer\n");
    return spew("/response/body", "made");
}

static int busy(void) {
    spew("/response/body", "files");
    return fopen("/response/txt", "w") || errno != EBUSY;
}

static int path(void) {
    slurp("/request/path", buffer, sizeof buffer);
    return spew("/response/body", buffer);
}

static int environment(void) {
    printf("%s %s %s", getenv("REQUEST_METHOD"), getenv("QUERY_STRING"), getenv("GREETING"));
    return 0;
}

static int cut(void) {
    FILE *to = fopen("/response/body", "w");
    fputs("half", to);
    fflush(to);
    usleep(100000);
    __builtin_trap();
}

int main(void) {
    char what[64] = "";
    slurp("/request/params/what", what, sizeof what);
    if (!strcmp(what, "print")) return printf("Content-Type: text/html\n\n<p>hello") < 0;
    if (!strcmp(what, "plain")) return printf("hello") < 0;
    if (!strcmp(what, "path")) return path();
    if (!strcmp(what, "json")) return json();
    if (!strcmp(what, "env")) return environment();
    if (!strcmp(what, "echo")) return echo();
    if (!strcmp(what, "count")) return count();
    if (!strcmp(what, "download")) return download();
    if (!strcmp(what, "list")) return list();
    if (!strcmp(what, "created")) return created();
    if (!strcmp(what, "busy")) return busy();
    if (!strcmp(what, "malformed")) return spew("/response/txt", "HTTP/1.1 zero\n\n"), 0;
    if (!strcmp(what, "sleep")) return usleep(300000), printf("slept") < 0;
    if (!strcmp(what, "spin")) for (volatile int turns = 0;; turns++);
    if (!strcmp(what, "trap")) __builtin_trap();
    if (!strcmp(what, "cut")) return cut();
    if (!strcmp(what, "fail")) return fprintf(stderr, "I give up\n"), 3;
    return 0;
}
