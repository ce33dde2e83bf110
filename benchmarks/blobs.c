/* One object, written or read through stdio's descriptors: MODE w or r, MiB, bytes at a time. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[1 << 20];

int main(void) {
  char how[32] = "", mode = 0;
  long long mib = 0, step = 0, left, got;
  int out = -1;
  const char *asked = getenv("QUERY_STRING");
  if (asked) snprintf(how, sizeof how, "%s", asked);
  if (sscanf(how, "%c-%lld-%lld", &mode, &mib, &step) != 3 || step < 1 || step > (long long)sizeof buffer) return 2;
  out = open("/beta/blob/bench/object", mode == 'w' ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0644);
  if (out < 0) return 3;
  memset(buffer, 'x', sizeof buffer);
  for (left = mib << 20; left > 0; left -= got) {
    if (mode == 'w') memcpy(buffer, &left, sizeof left);
    got = mode == 'w' ? write(out, buffer, (size_t)step) : read(out, buffer, (size_t)step);
    if (got <= 0) return 4;
  }
  if (close(out)) return 5;
  printf("%lld", mib);
  return 0;
}
