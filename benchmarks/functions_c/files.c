/* Reads a file of the request, writes a file of the response: the last part of the path. */
#include <stdio.h>
#include <string.h>

int main(void) {
    char path[256] = "";
    FILE *file = fopen("/request/path", "r");
    if (!file) return 1;
    path[fread(path, 1, sizeof path - 1, file)] = 0;
    fclose(file);
    file = fopen("/response/body", "w");
    if (!file) return 2;
    fputs(strrchr(path, '/') + 1, file);
    return fclose(file) ? 3 : 0;
}
