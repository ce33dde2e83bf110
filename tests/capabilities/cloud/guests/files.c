/* Does with files what lines on standard input say, and answers each with a line: `ok …` or `err <errno>`. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 100

static int files[SLOTS];

static void answer(int failed) {
    if (failed)
        printf("err %d\n", errno);
    else
        printf("ok\n");
}

static void show(const char *data, size_t size) {
    printf("ok ");
    for (size_t at = 0; at < size; at++)
        putchar(data[at] == '\n' ? '|' : data[at]);
    putchar('\n');
}

static int flags_of(const char *letters) {
    int flags = strchr(letters, '+') ? O_RDWR : strchr(letters, 'w') ? O_WRONLY : O_RDONLY;
    if (strchr(letters, 'c')) flags |= O_CREAT;
    if (strchr(letters, 'x')) flags |= O_EXCL;
    if (strchr(letters, 't')) flags |= O_TRUNC;
    if (strchr(letters, 'a')) flags |= O_APPEND;
    if (strchr(letters, 'd')) flags |= O_DIRECTORY;
    return flags;
}

static void with_stdio(const char *path, const char *mode, const char *text) {
    FILE *file = fopen(path, mode);
    if (!file) {
        answer(1);
        return;
    }
    int failed = fputs(text, file) < 0;
    failed |= fclose(file) != 0;
    answer(failed);
}

static void get(const char *path) {
    static char data[1 << 16];
    FILE *file = fopen(path, "r");
    if (!file) {
        answer(1);
        return;
    }
    size_t size = fread(data, 1, sizeof data, file);
    if (ferror(file)) {
        answer(1);
    } else {
        show(data, size);
    }
    fclose(file);
}

static void list(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        answer(1);
        return;
    }
    printf("ok");
    struct dirent *entry;
    while ((entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            printf(" %s%s", entry->d_name, entry->d_type == DT_DIR ? "/" : "");
    printf("\n");
    closedir(folder);
}

static void status(const char *path) {
    struct stat found;
    if (stat(path, &found)) {
        answer(1);
        return;
    }
    printf("ok %s %lld %lld %llu\n", S_ISDIR(found.st_mode) ? "folder" : "file", (long long)found.st_size,
           (long long)found.st_ctim.tv_sec * 1000000000 + found.st_ctim.tv_nsec, (unsigned long long)found.st_ino);
}

static void on_slot(const char *act, int *file, const char *rest) {
    static char data[1 << 16];
    if (!strcmp(act, "write")) {
        answer(write(*file, rest, strlen(rest)) != (ssize_t)strlen(rest));
    } else if (!strcmp(act, "read")) {
        ssize_t size = read(*file, data, (size_t)atoi(rest));
        if (size < 0)
            answer(1);
        else
            show(data, (size_t)size);
    } else if (!strcmp(act, "seek")) {
        answer(lseek(*file, atoll(rest), SEEK_SET) < 0);
    } else if (!strcmp(act, "cut")) {
        answer(ftruncate(*file, atoll(rest)));
    } else if (!strcmp(act, "sync")) {
        answer(fsync(*file));
    } else {
        answer(close(*file));
    }
}

static int fill(const char *path, int number, int lines) {
    FILE *file = fopen(path, "w");
    if (!file) return -1;
    for (int line = 0; line < lines; line++) fprintf(file, "%015d\n", number);
    return fclose(file);
}

/* Writes without end: five keys in turn, and every tenth time two in one transaction; says which once it is done. */
static void storm(const char *folder, int number) {
    char path[256], other[256];
    for (;; number++) {
        snprintf(path, sizeof path, "%s/key/%d", folder, number % 5);
        int failed = fill(path, number, number % 3 ? 1 : 3000);
        printf("%s %d %d\n", failed ? "failed" : "key", number % 5, number);
        if (number % 10) continue;
        snprintf(path, sizeof path, "%s/.tx/t", folder);
        failed = mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/.tx/t/pair/x", folder);
        failed |= fill(path, number, 100);
        snprintf(path, sizeof path, "%s/.tx/t/pair/y", folder);
        failed |= fill(path, number, 5000);
        snprintf(path, sizeof path, "%s/.tx/t", folder);
        snprintf(other, sizeof other, "%s/.tx/t.commit", folder);
        failed |= rename(path, other);
        printf("%s %d %d\n", failed ? "failed" : "pair", 0, number);
    }
}

static void act_on(char *line) {
    char *act = strtok(line, " "), *first = strtok(NULL, " "), *rest = strtok(NULL, "");
    if (!first) first = "";
    if (!rest) rest = "";
    if (!strcmp(act, "open")) {
        char *path = strchr(rest, ' ');
        *path++ = 0;
        files[atoi(first)] = open(path, flags_of(rest), 0666);
        answer(files[atoi(first)] < 0);
    } else if (!strcmp(act, "put")) {
        with_stdio(first, "w", rest);
    } else if (!strcmp(act, "add")) {
        with_stdio(first, "a", rest);
    } else if (!strcmp(act, "get")) {
        get(first);
    } else if (!strcmp(act, "ls")) {
        list(first);
    } else if (!strcmp(act, "stat")) {
        status(first);
    } else if (!strcmp(act, "rm")) {
        answer(unlink(first));
    } else if (!strcmp(act, "mkdir")) {
        answer(mkdir(first, 0777));
    } else if (!strcmp(act, "rmdir")) {
        answer(rmdir(first));
    } else if (!strcmp(act, "mv")) {
        answer(rename(first, rest));
    } else if (!strcmp(act, "touch")) {
        answer(utimensat(AT_FDCWD, first, NULL, 0));
    } else if (!strcmp(act, "exit")) {
        exit(atoi(first));
    } else if (!strcmp(act, "storm")) {
        storm(first, atoi(rest));
    } else if (!strcmp(act, "trap")) {
        __builtin_trap();
    } else {
        on_slot(act, &files[atoi(first)], rest);
    }
}

int main(void) {
    static char line[1 << 16];
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        act_on(line);
    }
    return 0;
}
