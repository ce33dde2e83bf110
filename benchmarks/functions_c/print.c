/* Prints a CGI response: as a function, and as a binary that a CGI server starts. */
#include <stdio.h>

int main(void) {
    printf("Content-Type: text/plain; charset=utf-8\n\nhello");
    return 0;
}
