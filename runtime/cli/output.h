/* SPDX-License-Identifier: MIT */
/*
 * The terminal: colours, wrapped text, messages, JSON, and whether all of it was really written.
 */
#ifndef NUMAPERF_CLI_OUTPUT_H
#define NUMAPERF_CLI_OUTPUT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes of the tool. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* Text is written for terminals of this width. */
#define OUTPUT_COLUMNS 80u

enum output_style { OUTPUT_PLAIN = 0, OUTPUT_GOOD, OUTPUT_BAD, OUTPUT_MIDDLING, OUTPUT_HEADING };

/* Standard descriptors exist, a closed pipe is an error and not a signal; before anything else. */
void output_prepare(void);

/* The escape sequence that begins a style, or "" where there are no colours. */
const char *output_style(enum output_style style);

/* Prints words, with lines after the first indented, none beyond OUTPUT_COLUMNS where words allow;
   the cursor is at column `indent` before. Ends the line. */
void output_wrapped(unsigned indent, const char *text);

/* "numaperf: ..." on standard error, wrapped. */
__attribute__((format(printf, 1, 2))) void output_error(const char *format, ...);

/* What the library said last on this thread, as such a message. */
void output_library_error(const char *what);

/* Memory; ends the program when there is none. */
void *output_alloc(size_t size);
char *output_copy(const char *text);

/* Text from other processes may hold terminal escapes and no UTF-8: what is not printable ASCII
   becomes a question mark. */
void output_make_printable(char *text);

/* A size in binary units: "512 KiB", "1.9 GiB". */
void output_bytes(uint64_t bytes, char *buf, size_t size);

/* The beginning of every JSON document: {"schema": ..., "schema_version": 1, "numaperf": ...}. */
json_t *output_document(const char *schema);

/* Prints the document. */
void output_json(const json_t *document);

/* Whether everything reached standard output: `code`, or CLI_FAILED and a message. */
int output_finish(int code);

#endif
