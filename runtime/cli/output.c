/* SPDX-License-Identifier: MIT */
/*
 * The terminal. Only text of this file and of the commands goes to standard output, in one stream
 * that is checked at the end: a full disk or a closed pipe is a failure of the tool.
 *
 * Memory that cannot be had ends the program at once: a tool has nothing to keep alive, and no
 * report may lack a fact because of it. JSON values are made by the same allocator, so they are
 * never NULL.
 */
#include "cli/output.h"

#include <numaperf/error.h>
#include <numaperf/version.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_MESSAGE_MAX 1024

/* ---- before and after ---- */

void output_prepare(void)
{
    /* Else a file that is opened later would take the number of a standard stream that the caller
       closed, and be written to. Reading end only: a write then fails, as it should. */
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd); /* nothing was written to it */

    struct sigaction ignore;
    memset(&ignore, 0, sizeof(ignore));
    ignore.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &ignore, NULL); /* cannot fail for a signal that exists */
    json_set_alloc_funcs(output_alloc, free);
}

int output_finish(int code)
{
    bool was_failing = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !was_failing)
        return code;
    output_error("standard output: %s", errno != 0 ? numaperf_strerror(-errno) : "not all written");
    return CLI_FAILED;
}

/* ---- memory ---- */

void *output_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory != NULL)
        return memory;
    (void)fputs("numaperf: no memory\n", stderr);
    _Exit(CLI_FAILED);
}

char *output_copy(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = output_alloc(size);
    memcpy(copy, text, size);
    return copy;
}

/* ---- text ---- */

const char *output_style(enum output_style style)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment of this program. */
    const char *no_color = getenv("NO_COLOR");
    if ((no_color != NULL && no_color[0] != '\0') || isatty(STDOUT_FILENO) == 0)
        return "";
    switch (style) {
    case OUTPUT_GOOD:
        return "\033[32m";
    case OUTPUT_BAD:
        return "\033[31m";
    case OUTPUT_MIDDLING:
        return "\033[33m";
    case OUTPUT_HEADING:
        return "\033[1m";
    case OUTPUT_PLAIN:
    default:
        return "\033[0m";
    }
}

/* Words of a line may be separated by one blank; a longer word than a line stays whole. */
static void wrap_to(FILE *stream, unsigned indent, const char *text)
{
    size_t column = indent;
    bool is_first = true;
    while (*text != '\0') {
        size_t length = strcspn(text, " \n");
        bool fits = column + (is_first ? 0 : 1) + length <= OUTPUT_COLUMNS;
        if (!is_first && !fits) {
            fprintf(stream, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!is_first) {
            fputc(' ', stream);
            column++;
        }
        fprintf(stream, "%.*s", (int)length, text);
        column += length;
        text += length;
        text += strspn(text, " \n");
        is_first = false;
    }
    fputc('\n', stream);
}

void output_wrapped(unsigned indent, const char *text)
{
    wrap_to(stdout, indent, text);
}

void output_error(const char *format, ...)
{
    char text[OUTPUT_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args); /* a message that is cut is still one */
    va_end(args);
    static const char prefix[] = "numaperf: ";
    fputs(prefix, stderr);
    wrap_to(stderr, sizeof(prefix) - 1, text);
}

void output_library_error(const char *what)
{
    const numaperf_error_t *error = numaperf_last_error();
    output_error("%s: %s: %s (%s)", what, error->operation, error->reason,
                 numaperf_err_name(error->code));
}

void output_make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

void output_bytes(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double amount = (double)bytes;
    size_t unit = 0;
    /* From 1023.95 on it would print as 1024.0. */
    while (amount >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        amount /= 1024;
        unit++;
    }
    bool is_whole = amount == (double)(uint64_t)amount;
    (void)snprintf(buf, size, "%.*f %s", is_whole ? 0 : 1, amount, units[unit]); /* 10 bytes */
}

/* ---- JSON ---- */

json_t *output_document(const char *schema)
{
    return json_pack("{s:s, s:i, s:s}", "schema", schema, "schema_version", 1, "numaperf",
                     numaperf_version_string());
}

void output_json(const json_t *document)
{
    (void)json_dumpf(document, stdout, JSON_INDENT(2)); /* output_finish() sees a failure */
    (void)fputc('\n', stdout);
}
