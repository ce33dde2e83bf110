/* chatroom: a daemon. Who connects to /room hears what everybody else in it says. Nothing but open, read, write, poll.
 *
 *     GET /room    a WebSocket
 *
 * `/accept` has a line for each connection, and `/conn/<id>/recv` and `send` are its two ways.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 200, PIECE = 4096 };

static struct pollfd waiting[1 + MOST]; /* 0 is /accept; the others are what somebody sends us */
static int out[1 + MOST];
static int present = 1;

static int opened(const char *id, const char *way, int how) {
    char path[64];
    snprintf(path, sizeof path, "/conn/%s/%s", id, way);
    return open(path, how);
}

static void tell_all(const char *text, size_t length) {
    for (int i = 1; i < present; i++)
        if (write(out[i], text, length) < 0 && errno != EAGAIN) waiting[i].fd = -1; /* too slow, or gone */
}

static void tell_count(void) {
    char text[64];
    tell_all(text, (size_t)snprintf(text, sizeof text, "* %d here", present - 1));
}

static void enter(const char *id) {
    int in = opened(id, "recv", O_RDONLY | O_NONBLOCK), to = opened(id, "send", O_WRONLY | O_NONBLOCK);
    if (present > MOST || in < 0 || to < 0) {
        if (in >= 0) close(in);
        if (to >= 0) close(to);
        int bye = opened(id, "close", O_WRONLY);
        if (bye >= 0) write(bye, "1013 full", 9), close(bye);
        return;
    }
    waiting[present] = (struct pollfd){.fd = in, .events = POLLIN};
    out[present++] = to;
    tell_count();
}

static void leave(int who) {
    if (waiting[who].fd >= 0) close(waiting[who].fd);
    close(out[who]);
    waiting[who] = waiting[--present];
    out[who] = out[present];
    tell_count();
}

static void listen_to(int who) {
    char text[PIECE];
    ssize_t length = read(waiting[who].fd, text, sizeof text);
    if (length > 0) tell_all(text, (size_t)length);
    else if (length == 0 || errno != EAGAIN) leave(who);
}

int main(void) {
    waiting[0] = (struct pollfd){.fd = open("/accept", O_RDONLY), .events = POLLIN};
    if (waiting[0].fd < 0) return perror("/accept"), 1;
    for (;;) {
        if (poll(waiting, (nfds_t)present, -1) < 0 && errno != EINTR) return perror("poll"), 1;
        for (int i = present - 1; i > 0; i--) {
            if (waiting[i].fd < 0) leave(i);
            else if (waiting[i].revents) listen_to(i);
        }
        if (!waiting[0].revents) continue;
        char line[64], id[32];
        ssize_t length = read(waiting[0].fd, line, sizeof line - 1);
        if (length <= 0) return 0; /* the host stops */
        line[length] = 0;
        if (sscanf(line, "ws %31s", id) == 1) enter(id);
    }
}
