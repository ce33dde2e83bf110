/* An ordinary program of the C library: `files` uses it on `/`, the other words are small tools. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int line;

#define CHECK(what) do { if (!(what)) { line = __LINE__; return 1; } } while (0)
#define FAILS(what, number) CHECK((errno = 0, (what)) && errno == (number))

static long position(int fd) {
    return (long)(lseek)(fd, 0, SEEK_CUR);
}

static int files(void) {
    char buffer[64] = {0};
    FILE *file = fopen("/kept", "w");
    CHECK(file && fputs("hello", file) >= 0 && fclose(file) == 0);
    file = fopen("/kept", "a");
    CHECK(file && fputs(" world", file) >= 0 && fclose(file) == 0);
    file = fopen("/kept", "r+");
    CHECK(file && fread(buffer, 1, 5, file) == 5 && !strcmp(buffer, "hello"));
    CHECK(fseek(file, -5, SEEK_END) == 0 && fread(buffer, 1, 64, file) == 5 && ftell(file) == 11);
    CHECK(fclose(file) == 0);
    FAILS(fopen("/none", "r") == NULL, ENOENT);
    FAILS(fopen("/none/x", "w") == NULL, ENOENT);

    CHECK(mkdir("/d", 0700) == 0 && mkdir("/d/e", 0700) == 0);
    FAILS(mkdir("/d", 0700) != 0, EEXIST);
    FAILS(rmdir("/d") != 0, ENOTEMPTY);
    int fd = open("/d/f", O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 3 && write(fd, "abcdef", 6) == 6);
    FAILS(open("/d/f", O_RDWR | O_CREAT | O_EXCL, 0600) < 0, EEXIST);
    CHECK(pread(fd, buffer, 3, 2) == 3 && !memcmp(buffer, "cde", 3));
    CHECK(pwrite(fd, "X", 1, 0) == 1 && position(fd) == 6);
    CHECK(ftruncate(fd, 2) == 0);
    struct stat by_name, by_number;
    CHECK(fstat(fd, &by_number) == 0 && stat("/d/f", &by_name) == 0);
    CHECK(by_name.st_size == 2 && by_name.st_ino == by_number.st_ino && S_ISREG(by_name.st_mode));
    CHECK(close(fd) == 0);
    FAILS(close(fd) != 0, EBADF);

    CHECK(symlink("f", "/d/link") == 0 && readlink("/d/link", buffer, 64) == 1 && buffer[0] == 'f');
    CHECK(lstat("/d/link", &by_name) == 0 && S_ISLNK(by_name.st_mode));
    CHECK(link("/d/f", "/d/g") == 0 && stat("/d/g", &by_name) == 0 && by_name.st_nlink == 2);
    CHECK(rename("/d/g", "/d/e/g") == 0);
    FAILS(access("/d/g", F_OK) != 0, ENOENT);
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    CHECK(utimensat(AT_FDCWD, "/d/f", times, 0) == 0 && stat("/d/f", &by_name) == 0);
    CHECK(by_name.st_mtim.tv_sec == 2000);

    int seen = 0;
    DIR *folder = opendir("/d");
    CHECK(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        seen += !strcmp(entry->d_name, "e") || !strcmp(entry->d_name, "f") || !strcmp(entry->d_name, "link");
    }
    CHECK(seen == 3 && closedir(folder) == 0);
    CHECK(unlink("/d/e/g") == 0 && rmdir("/d/e") == 0 && unlink("/d/f") == 0 && unlink("/d/link") == 0);
    FAILS(unlink("/d") != 0, EISDIR);
    CHECK(rmdir("/d") == 0);
    CHECK(!isatty(0) && !isatty(1));
    puts("all as it should be");
    return 0;
}

static int copy(int from, int to) {
    static char buffer[10000];
    for (;;) {
        ssize_t got = read(from, buffer, sizeof buffer);
        if (got <= 0) {
            return got < 0;
        }
        for (ssize_t done = 0; done < got;) {
            ssize_t sent = write(to, buffer + done, (size_t)(got - done));
            if (sent < 0) {
                return 1;
            }
            done += sent;
        }
    }
}

static int said(const char *word) {
    puts(word);
    return fflush(stdout);
}

int main(int count, char **words) {
    const char *act = count > 1 ? words[1] : "";
    if (!strcmp(act, "files")) {
        int failed = files();
        if (failed) {
            printf("line %d: errno %d\n", line, errno);
        }
        return failed;
    }
    if (!strcmp(act, "echo")) {
        for (int at = 1; at < count; at++) {
            printf("%s%s", words[at], at + 1 < count ? "|" : "\n");
        }
        for (char **one = environ; *one; one++) {
            puts(*one);
        }
        fflush(stdout);
        fputs("to stderr\n", stderr);
        return copy(0, 1) ? 1 : 42;
    }
    if (!strcmp(act, "cat")) {
        int fd = open(words[2], O_RDONLY);
        return fd < 0 || copy(fd, 1);
    }
    if (!strcmp(act, "copy")) {
        return copy(0, 1);
    }
    if (!strcmp(act, "yes")) {
        while (said("y") == 0) {
        }
        return 1;
    }
    if (!strcmp(act, "exit")) {
        exit(atoi(words[2]));
    }
    if (!strcmp(act, "trap")) {
        __builtin_trap();
    }
    said("ready");
    if (!strcmp(act, "sleep")) {
        sleep(1000);
    }
    if (!strcmp(act, "wait")) {
        return copy(0, 1);
    }
    for (volatile int turn = 0;; turn++) {
    }
}
