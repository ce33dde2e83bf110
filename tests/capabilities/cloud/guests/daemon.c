/* A daemon with poll(): requests are answered, and what one WebSocket says, all of them hear. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 16 };

static struct pollfd ends[1 + MOST];
static int numbers[1 + MOST];
static int count = 1;
static char buffer[65536];

static int open_in(int number, const char *name, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/conn/%d/%s", number, name);
    return open(path, flags);
}

static void put(int number, const char *name, const char *data, size_t size) {
    int file = open_in(number, name, O_WRONLY);
    if (file < 0) return;
    write(file, data, size);
    close(file);
}

static void answer(int number) {
    int file = open_in(number, "request/path", O_RDONLY);
    ssize_t size = read(file, buffer, sizeof buffer);
    close(file);
    if (size == 6 && !memcmp(buffer, "/leave", 6)) exit(0);
    if (size == 6 && !memcmp(buffer, "/crash", 6)) __builtin_trap();
    if (size == 5 && !memcmp(buffer, "/mute", 5)) return; /* and never answer */
    put(number, "response/body", buffer, (size_t)size);
}

static void hear(int at) {
    ssize_t size = read(ends[at].fd, buffer, sizeof buffer);
    if (size > 0) {
        for (int other = 1; other < count; other++) put(numbers[other], "send", buffer, (size_t)size);
        return;
    }
    close(ends[at].fd);
    ends[at] = ends[--count];
    numbers[at] = numbers[count];
}

static int accept_one(void) {
    char kind[8];
    int number;
    ssize_t size = read(ends[0].fd, buffer, sizeof buffer - 1);
    if (size <= 0) return 0;
    buffer[size] = 0;
    if (sscanf(buffer, "%7s %d\n", kind, &number) != 2) return 0;
    if (!strcmp(kind, "http")) {
        answer(number);
    } else if (count > MOST) {
        put(number, "close", "1013 full", 9);
    } else {
        numbers[count] = number;
        ends[count].fd = open_in(number, "recv", O_RDONLY);
        ends[count++].events = POLLIN;
    }
    return 1;
}

int main(void) {
    ends[0].fd = open("/accept", O_RDONLY);
    ends[0].events = POLLIN;
    for (;;) {
        int ready = poll(ends, (nfds_t)count, 5000);
        if (ready < 0) return 1;
        for (int at = count - 1; at > 0; at--)
            if (ends[at].revents) hear(at);
        if (ends[0].revents && !accept_one()) break;
    }
    printf("no more\n");
    return 0;
}
