/* What `kv_files` measures: whole values through files, `ACT COUNT SIZE` as arguments; says nanoseconds for each. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char data[1 << 20];

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int put(const char *path, size_t size, int flags) {
    int file = open(path, O_WRONLY | O_CREAT | flags, 0666);
    if (file < 0) return 1;
    int failed = write(file, data, size) != (ssize_t)size;
    return failed | (close(file) != 0);
}

static int get(const char *path, size_t size) {
    int file = open(path, O_RDONLY);
    if (file < 0) return 1;
    int failed = read(file, data, sizeof data) < (ssize_t)size;
    return failed | (close(file) != 0);
}

int main(int count, char **words) {
    if (count != 5) return 2;
    const char *act = words[1];
    int times = atoi(words[2]);
    size_t size = (size_t)atoi(words[3]);
    char path[256];
    memset(data, 'x', sizeof data);
    long long began = now();
    for (int number = 0; number < times; number++) {
        snprintf(path, sizeof path, "%s/key/%s%d", words[4], act[0] == 'a' ? "log" : "", number % 1000);
        int failed;
        if (!strcmp(act, "put"))
            failed = put(path, size, O_TRUNC);
        else if (!strcmp(act, "append"))
            failed = put(path, size, O_APPEND);
        else
            failed = get(path, size);
        if (failed) return 1;
    }
    printf("%lld\n", (now() - began) / times);
    return 0;
}
