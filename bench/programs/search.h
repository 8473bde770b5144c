/* A search for a text in bytes that arrive in pieces. */

#include <string.h>
#include <sys/types.h>

/* The number of `text`s that end in these bytes; `matched`: the characters of one that came before them. */
static int occurrences(const char *bytes, ssize_t size, const char *text, int *matched)
{
    int found = 0, length = strlen(text);
    const char *end = bytes + size;
    while (bytes < end) {
        if (!*matched) {
            bytes = memchr(bytes, text[0], end - bytes);
            if (!bytes)
                return found;
            *matched = 1;
            bytes++;
        } else if (*bytes == text[*matched]) {
            bytes++;
            ++*matched;
        } else
            *matched = 0; /* and compare this byte again */
        if (*matched == length) {
            found++;
            *matched = 0;
        }
    }
    return found;
}
