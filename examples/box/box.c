/* box: a small shell for looking around in the tree that a program is given. Nothing but the C library's file API.
 *
 *     pulp exec --grant kv.local=rw examples/box/box.wasm                      a prompt
 *     pulp exec --grant kv.local=rw examples/box/box.wasm ls -l /beta/kv       one command
 *
 *     ls [-l] [PATH...]   cat PATH...   echo WORD... [> PATH | >> PATH]   cp FROM TO   mv FROM TO   rm PATH...
 *     mkdir PATH...   rmdir PATH...   touch PATH...   stat PATH...   head PATH   cd PATH   pwd   env   exit
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WORDS = 64, LINE = 4096, PIECE = 65536 };

extern char **environ;
static char cwd[LINE] = "/";
static char room[2][LINE];

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

/* The absolute form of a path, without `.` and `..`; good until the call after the next. */
static const char *absolute(const char *path) {
    static int turn;
    char joined[2 * LINE], *out = room[turn ^= 1], *at = out, *part;
    snprintf(joined, sizeof joined, "%s/%s", *path == '/' ? "" : cwd, path);
    *at = 0;
    for (part = strtok(joined, "/"); part != NULL; part = strtok(NULL, "/")) {
        if (strcmp(part, ".") == 0) continue;
        if (strcmp(part, "..") == 0) {
            while (at > out && *--at != '/') {}
            *at = 0;
        } else if (at + strlen(part) + 2 < out + LINE) {
            at += sprintf(at, "/%s", part);
        }
    }
    if (at == out) strcpy(out, "/");
    return out;
}

static const char *kind(mode_t mode) {
    return S_ISDIR(mode) ? "folder" : S_ISREG(mode) ? "file" : S_ISLNK(mode) ? "link" : "stream";
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void show(const char *folder, const char *name, int details) {
    char path[2 * LINE], when[32] = "";
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (lstat(path, &about) != 0) {
        printf("%s%s\n", details ? "?                                       " : "", name);
        return;
    }
    if (about.st_mtim.tv_sec > 0) strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", gmtime(&about.st_mtim.tv_sec));
    if (details) printf("%-6s %12lld  %-19s  ", kind(about.st_mode), (long long)about.st_size, when);
    printf("%s%s\n", name, S_ISDIR(about.st_mode) ? "/" : "");
}

static int list(const char *path, int details) {
    DIR *folder = opendir(path);
    if (folder == NULL && errno == ENOTDIR) {
        const char *name = strrchr(path, '/');
        char parent[LINE];
        snprintf(parent, sizeof parent, "%.*s", (int)(name - path), path);
        show(parent, name + 1, details);
        return 0;
    }
    if (folder == NULL) return fail(path);
    char **names = NULL;
    size_t count = 0, space = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (count == space) names = realloc(names, (space = 2 * space + 16) * sizeof *names);
        names[count++] = strdup(entry->d_name);
    }
    closedir(folder);
    if (count > 0) qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) show(path, names[i], details), free(names[i]);
    free(names);
    return 0;
}

/* Copy what `from` has to `out`, up to `most` lines if that is not 0. */
static int pour(const char *from, int out, int most) {
    static char piece[PIECE];
    int in = open(from, O_RDONLY), lines = 0;
    if (in < 0) return fail(from);
    for (ssize_t n; (n = read(in, piece, sizeof piece)) != 0;) {
        if (n < 0) return close(in), fail(from);
        ssize_t end = n;
        for (ssize_t i = 0; most && i < n; i++)
            if (piece[i] == '\n' && ++lines == most) end = i + 1;
        for (ssize_t done = 0, w; done < end; done += w)
            if ((w = write(out, piece + done, (size_t)(end - done))) < 0) return close(in), fail("write");
        if (most && lines >= most) break;
    }
    return close(in) < 0 ? fail(from) : 0;
}

static int echo(int count, char **words) {
    const char *to = NULL;
    int more = 0, last = count;
    for (int i = 1; i < count; i++) {
        if (words[i][0] != '>') continue;
        more = words[i][1] == '>';
        to = words[i][1 + more] ? words[i] + 1 + more : i + 1 < count ? words[i + 1] : NULL;
        if (to == NULL) return fprintf(stderr, "echo: > what?\n"), 1;
        last = i;
        break;
    }
    FILE *out = to == NULL ? stdout : fopen(absolute(to), more ? "a" : "w");
    if (out == NULL) return fail(to);
    for (int i = 1; i < last; i++) fprintf(out, "%s%s", i > 1 ? " " : "", words[i]);
    fputc('\n', out);
    if (out == stdout) return fflush(stdout) != 0;
    return fclose(out) != 0 ? fail(to) : 0;
}

static int copy(const char *from, const char *to) {
    char source[LINE];
    snprintf(source, sizeof source, "%s", absolute(from));
    int out = open(absolute(to), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (out < 0) return fail(to);
    int failed = pour(source, out, 0);
    return close(out) < 0 ? fail(to) : failed;
}

static int touch(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT, 0644);
    if (file < 0) return fail(path);
    int failed = futimens(file, NULL) != 0 && errno != ENOTSUP;
    return close(file) != 0 || failed ? fail(path) : 0;
}

static int tell(const char *path) {
    struct stat about;
    if (lstat(path, &about) != 0) return fail(path);
    printf("%s: %s, %lld bytes, inode %llu, links %llu, revision or change %lld.%09ld\n", path, kind(about.st_mode),
           (long long)about.st_size, (unsigned long long)about.st_ino, (unsigned long long)about.st_nlink,
           (long long)about.st_ctim.tv_sec, about.st_ctim.tv_nsec);
    return 0;
}

static int enter(const char *path) {
    struct stat about;
    const char *to = absolute(path);
    if (stat(to, &about) != 0) return fail(path);
    if (!S_ISDIR(about.st_mode)) return errno = ENOTDIR, fail(path);
    snprintf(cwd, sizeof cwd, "%s", to);
    return 0;
}

/* Do something to each path; the last failure is the answer. */
static int each(int count, char **words, int first, int (*act)(const char *)) {
    int failed = 0;
    for (int i = first; i < count; i++) failed |= act(absolute(words[i]));
    return failed;
}

static int put_out(const char *path) { return pour(path, 1, 0); }
static int put_head(const char *path) { return pour(path, 1, 10); }
static int erase(const char *path) { return unlink(path) != 0 ? fail(path) : 0; }
static int make(const char *path) { return mkdir(path, 0755) != 0 ? fail(path) : 0; }
static int unmake(const char *path) { return rmdir(path) != 0 ? fail(path) : 0; }

static int run(int count, char **words) {
    const char *verb = words[0];
    if (strcmp(verb, "ls") == 0) {
        int details = count > 1 && strcmp(words[1], "-l") == 0, failed = 0;
        if (count == 1 + details) return list(cwd, details);
        for (int i = 1 + details; i < count; i++) {
            if (count > 2 + details) printf("%s:\n", words[i]);
            failed |= list(absolute(words[i]), details);
        }
        return failed;
    }
    if (strcmp(verb, "cat") == 0) return each(count, words, 1, put_out);
    if (strcmp(verb, "head") == 0) return each(count, words, 1, put_head);
    if (strcmp(verb, "echo") == 0) return echo(count, words);
    if (strcmp(verb, "cp") == 0 && count == 3) return copy(words[1], words[2]);
    if (strcmp(verb, "mv") == 0 && count == 3) {
        const char *from = absolute(words[1]), *to = absolute(words[2]);
        return rename(from, to) != 0 ? fail(words[1]) : 0;
    }
    if (strcmp(verb, "rm") == 0) return each(count, words, 1, erase);
    if (strcmp(verb, "mkdir") == 0) return each(count, words, 1, make);
    if (strcmp(verb, "rmdir") == 0) return each(count, words, 1, unmake);
    if (strcmp(verb, "touch") == 0) return each(count, words, 1, touch);
    if (strcmp(verb, "stat") == 0) return each(count, words, 1, tell);
    if (strcmp(verb, "cd") == 0) return enter(count > 1 ? words[1] : "/");
    if (strcmp(verb, "pwd") == 0) return puts(cwd) < 0;
    if (strcmp(verb, "env") == 0) {
        for (char **one = environ; one != NULL && *one != NULL; one++) puts(*one);
        return 0;
    }
    fprintf(stderr, "%s: no such command; there are ls cat head echo cp mv rm mkdir rmdir touch stat cd pwd env exit\n",
            verb);
    return 127;
}

static int split(char *line, char **words) {
    int count = 0;
    for (char *at = line; count < MOST_WORDS;) {
        while (*at == ' ' || *at == '\t' || *at == '\n') at++;
        if (*at == 0) break;
        char quote = *at == '\'' || *at == '"' ? *at++ : 0;
        words[count++] = at;
        while (*at != 0 && (quote ? *at != quote : *at != ' ' && *at != '\t' && *at != '\n')) at++;
        if (*at != 0) *at++ = 0;
    }
    return count;
}

int main(int argc, char **argv) {
    if (argc > 1) return run(argc - 1, argv + 1);
    char line[LINE], *words[MOST_WORDS];
    int failed = 0, prompt = isatty(0);
    for (;;) {
        if (prompt) printf("%s $ ", cwd), fflush(stdout);
        if (fgets(line, sizeof line, stdin) == NULL) break;
        int count = split(line, words);
        if (count == 0 || words[0][0] == '#') continue;
        if (strcmp(words[0], "exit") == 0) break;
        failed = run(count, words);
        fflush(stdout);
    }
    return failed;
}
