/* A function for requests: PUT and GET keep and give values by path, DELETE forgets them, POST says a secret's length. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char data[1 << 20];

static size_t take(FILE *file) {
    return file ? fread(data, 1, sizeof data, file) : 0;
}

static int answer(int failed) {
    const char *why = strerror(errno);
    printf("Status: %d\r\nContent-Type: text/plain\r\n\r\n", failed ? 409 : 200);
    if (failed) printf("%s", why);
    return 0;
}

int main(void) {
    const char *method = getenv("REQUEST_METHOD");
    char path[1200];
    snprintf(path, sizeof path, "/beta/kv/local%s", getenv("PATH_INFO"));
    if (!strcmp(method, "PUT")) {
        size_t size = take(stdin);
        FILE *file = fopen(path, "w");
        int failed = !file || fwrite(data, 1, size, file) != size;
        if (file) failed |= fclose(file) != 0;
        return answer(failed);
    }
    if (!strcmp(method, "DELETE")) return answer(unlink(path) != 0);
    if (!strcmp(method, "POST")) {
        FILE *file = fopen("/beta/secrets/stripe_key", "r");
        size_t size = take(file);
        fprintf(stderr, "a secret of %zu bytes\n", size);
        answer(!file);
        printf("%zu", size);
        if (getenv("QUERY_STRING")[0]) __builtin_trap();
        return 0;
    }
    FILE *file = fopen(path, "r");
    size_t size = take(file);
    answer(!file);
    fwrite(data, 1, size, stdout);
    return 0;
}
