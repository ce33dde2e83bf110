/* Reads or writes a file in pieces of 4 KiB, as often as it is told: wasi.wasm read|write|open COUNT PATH. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 4096, AROUND = 256 };

static char piece[PIECE];

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int count, char **words) {
    if (count != 4) {
        return 2;
    }
    long turns = atol(words[2]);
    int opening = !strcmp(words[1], "open");
    int writing = !strcmp(words[1], "write");
    int file = opening ? -1 : open(words[3], writing ? O_RDWR | O_CREAT : O_RDONLY, 0600);
    if (!opening && file < 0) {
        return 3;
    }
    double began = seconds();
    for (long turn = 0; turn < turns; turn++) {
        if (opening) {
            file = open(words[3], O_RDONLY);
            if (file < 0 || close(file) != 0) {
                return 4;
            }
            continue;
        }
        ssize_t done = writing ? write(file, piece, PIECE) : read(file, piece, PIECE);
        if (done != PIECE && (writing || lseek(file, 0, SEEK_SET) != 0)) {
            return 5;
        }
        if (writing && turn % AROUND == AROUND - 1 && lseek(file, 0, SEEK_SET) != 0) {
            return 6;
        }
    }
    printf("%.3f\n", (seconds() - began) / (double)turns * 1e6);
    return 0;
}
