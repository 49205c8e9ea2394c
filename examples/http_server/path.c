/* SPDX-License-Identifier: MIT */
/*
 * Request targets. What is decoded is decoded once, and only then looked at: an escaped dot is a
 * dot, an escaped slash is refused, as no file name holds one. The kernel is told to stay beneath
 * the root all the same (load.c): this file keeps hidden files hidden, that one keeps us inside.
 */
#include "path.h"

#include <stdbool.h>
#include <string.h>

static const char index_name[] = "index.html";

size_t path_of_target(const char *target, size_t length, const char **out_path)
{
    const char *end = target + length;
    const char *from = target;
    if (length > 0 && target[0] != '/') {
        const char *mark = memmem(target, length, "://", 3);
        if (mark == NULL || (size_t)(mark - target) > 5)
            return 0;
        from = memchr(mark + 3, '/', (size_t)(end - mark) - 3);
        if (from == NULL)
            return 0;
    }
    const char *query = memchr(from, '?', (size_t)(end - from));
    *out_path = from;
    return (size_t)((query != NULL ? query : end) - from);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One character, decoded: 0, or the status that refuses it. `*at` moves behind it. */
static unsigned path_next(const char *raw, size_t length, size_t *at, char *out)
{
    bool escaped = raw[*at] == '%';
    if (!escaped) {
        *out = raw[(*at)++];
    } else {
        int high = *at + 2 < length ? hex_digit(raw[*at + 1]) : -1;
        int low = high >= 0 ? hex_digit(raw[*at + 2]) : -1;
        if (low < 0)
            return 400;
        *out = (char)(high << 4 | low);
        *at += 3;
    }
    if ((unsigned char)*out < 0x20 || *out == 0x7f)
        return 400;
    return escaped && *out == '/' ? 404 : 0;
}

unsigned path_decode(const char *raw, size_t length, struct path *out)
{
    size_t n = 0;
    char before = '/';
    if (length == 0 || raw[0] != '/')
        return 400;
    for (size_t i = 1; i < length;) {
        char c = 0;
        unsigned status = path_next(raw, length, &i, &c);
        if (status != 0)
            return status;
        if (before == '/' && c == '/')
            continue;
        if (before == '/' && c == '.')
            return 404; /* ".", ".." and everything hidden */
        if (n + sizeof(index_name) >= sizeof(out->text))
            return 414;
        out->text[n++] = c;
        before = c;
    }
    if (before == '/') {
        memcpy(out->text + n, index_name, sizeof(index_name) - 1);
        n += sizeof(index_name) - 1;
    }
    out->text[n] = '\0';
    out->length = n;
    return 0;
}

size_t path_encode(const struct path *path, char *out, size_t size)
{
    static const char plain[] = "-._~/!$&'()*+,;=:@";
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    if (n < size)
        out[n] = '/';
    n++;
    for (size_t i = 0; i < path->length; i++) {
        unsigned char c = (unsigned char)path->text[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        bool keep = alnum || (c != '\0' && strchr(plain, c) != NULL);
        if (n + 3 < size && keep) {
            out[n] = (char)c;
        } else if (n + 3 < size) {
            out[n] = '%';
            out[n + 1] = digits[c >> 4];
            out[n + 2] = digits[c & 15];
        }
        n += keep ? 1 : 3;
    }
    if (size > 0)
        out[n < size ? n : size - 1] = '\0';
    return n;
}
