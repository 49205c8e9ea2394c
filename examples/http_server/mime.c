/* SPDX-License-Identifier: MIT */
/* What is not in the table is bytes: guessing from the content is how files become scripts. */
#include "mime.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *ending;
    const char *type;
} types[] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"txt", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"xml", "application/xml"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"wasm", "application/wasm"},
    {"pdf", "application/pdf"},
    {"gz", "application/gzip"},
    {"zip", "application/zip"},
    {"tar", "application/x-tar"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"ico", "image/x-icon"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"mp3", "audio/mpeg"},
    {"ogg", "audio/ogg"},
    {"wav", "audio/wav"},
    {"mp4", "video/mp4"},
    {"webm", "video/webm"},
};

const char *mime_type(const char *path, size_t length)
{
    const char *dot = memrchr(path, '.', length);
    size_t ending = dot != NULL ? (size_t)(path + length - dot) - 1 : 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && dot != NULL; i++) {
        if (strlen(types[i].ending) == ending && strncasecmp(types[i].ending, dot + 1, ending) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}
