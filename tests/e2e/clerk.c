// What can be done with queues, blobs and other cells by stdio alone. The path of the request says what:
//
//   /publish     the body becomes a message                 /consume   as a daemon: messages become blobs, for ever
//   /take        one message, acknowledged                  /trap      one message, and a bad end
//   /forget      one message, and it is not acknowledged
//   /ask         the body goes to billing.reverse           /half      a blob that is never closed, and a bad end
//   /refused     what must not work, and what is answered
//   /write       MiB as many as the query says              /read      and reads them, tells how many bytes
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char body[1 << 20];
static const char *queue = "/beta/queue/orders";

static int fail(const char *what) {
  printf("Status: 500\r\n\r\n%s: %s", what, strerror(errno));
  return 0;
}

static size_t whole(const char *path, char *into, size_t room) {
  FILE *file = fopen(path, "r");
  if (!file) return (size_t)-1;
  size_t size = fread(into, 1, room - 1, file);
  if (ferror(file)) size = (size_t)-1;
  fclose(file);
  if (size != (size_t)-1) into[size] = 0;
  return size;
}

static int put(const char *path, const char *data, size_t size) {
  FILE *file = fopen(path, "w");
  if (!file) return -1;
  size_t done = fwrite(data, 1, size, file);
  return fclose(file) || done != size ? -1 : 0;
}

static int take(int acknowledges) {
  char path[128], id[32];
  size_t size = whole("/beta/queue/orders/next", body, sizeof body);
  if (size == (size_t)-1) return -1;
  if (whole("/beta/queue/orders/next.id", id, sizeof id) == 0) return 1;
  if (!acknowledges) return 0;
  snprintf(path, sizeof path, "%s/inflight/%s", queue, id);
  return remove(path);
}

static int consume(void) {
  char path[128], id[32];
  for (;;) {
    int done = take(0);
    if (done) return done < 0 ? 3 : 0;
    whole("/beta/queue/orders/next.id", id, sizeof id);
    snprintf(path, sizeof path, "/beta/blob/photos/order-%s", id);
    if (put(path, body, strlen(body))) return 4;
    snprintf(path, sizeof path, "%s/inflight/%s", queue, id);
    if (remove(path)) return 5;
  }
}

static int bulk(int writes, long mib) {
  FILE *file = fopen("/beta/blob/photos/bulk", writes ? "w" : "r");
  if (!file) return fail("bulk");
  setvbuf(file, NULL, _IONBF, 0);
  long long total = 0;
  size_t got;
  if (writes) {
    memset(body, 'x', sizeof body);
    for (long at = 0; at < mib; at++) {
      memcpy(body, &at, sizeof at);
      total += (long long)fwrite(body, 1, sizeof body, file);
    }
  } else {
    while ((got = fread(body, 1, sizeof body, file)) > 0) total += (long long)got;
  }
  if (ferror(file)) return fail("bulk");
  if (fclose(file)) return fail("close");
  printf("%lld", total);
  return 0;
}

static void told(const char *what, int answer) {
  printf("%s: %s\n", what, answer < 0 ? strerror(errno) : "it worked");
}

static void refused(void) {
  told("create", open("/beta/blob/docs/new", O_WRONLY | O_CREAT, 0666));
  told("truncate", open("/beta/blob/docs/new", O_WRONLY | O_TRUNC));
  told("remove", unlink("/beta/blob/docs/x"));
  told("rename out", rename("/beta/blob/docs/x", "/beta/blob/photos/x"));
  told("rename in", (put("/beta/blob/photos/x", "x", 1), rename("/beta/blob/photos/x", "/beta/blob/docs/x")));
  told("mkdir", mkdir("/beta/blob/docs/new", 0777));
  told("link", link("/beta/blob/photos/x", "/beta/blob/photos/y"));
  told("symlink", symlink("/etc/passwd", "/beta/blob/photos/y"));
  told("climb", open("/beta/blob/photos/../../../../etc/passwd", O_RDONLY));
  told("hidden", open("/beta/blob/photos/.x", O_WRONLY | O_CREAT, 0666));
  told("not granted", open("/beta/blob/other/x", O_RDONLY));
  told("below an object", open("/beta/blob/photos/x/y", O_WRONLY | O_CREAT, 0666));
  told("publish", open("/beta/queue/refunds/new", O_WRONLY | O_CREAT, 0666));
  told("take", open("/beta/queue/mail/next", O_RDONLY));
  told("call", open("/beta/ipc/billing/steal", O_RDWR));
  int count = 0;
  while (open("/beta/blob/photos/x", O_RDONLY) >= 0) count++;
  told(count > 500 ? "descriptors" : "too few descriptors", -1);
}

int main(void) {
  const char *path = getenv("PATH_INFO");
  if (!path) return consume();
  if (!strcmp(path, "/publish")) {
    size_t size = fread(body, 1, sizeof body, stdin);
    if (put("/beta/queue/orders/new", body, size)) return fail("publish");
    printf("published");
  } else if (!strcmp(path, "/take")) {
    if (take(1)) return fail("take");
    printf("%s", body);
  } else if (!strcmp(path, "/forget")) {
    if (take(0)) return fail("take");
    printf("%s", body);
  } else if (!strcmp(path, "/trap")) {
    take(0);
    __builtin_trap();
  } else if (!strcmp(path, "/ask")) {
    size_t size = fread(body, 1, sizeof body, stdin);
    FILE *file = fopen("/beta/ipc/billing/reverse", "r+");
    if (!file) return fail("ipc");
    setvbuf(file, NULL, _IONBF, 0);
    if (fwrite(body, 1, size, file) != size) return fail("arguments");
    size = fread(body, 1, sizeof body, file);
    if (ferror(file)) {
      whole("/beta/ipc/billing/reverse.error", body, sizeof body);
      printf("Status: 500\r\n\r\n%s", body);
      return 0;
    }
    fclose(file);
    fwrite(body, 1, size, stdout);
  } else if (!strcmp(path, "/half")) {
    FILE *file = fopen("/beta/blob/photos/half", "w");
    fwrite(body, 1, sizeof body, file);
    __builtin_trap();
  } else if (!strcmp(path, "/refused")) {
    refused();
  } else if (!strcmp(path, "/write") || !strcmp(path, "/read")) {
    return bulk(path[1] == 'w', atol(getenv("QUERY_STRING")));
  }
  return 0;
}
