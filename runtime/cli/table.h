/* SPDX-License-Identifier: MIT */
/* Tables of text: columns as wide as their widest cell, the last one wrapped; and bars. */
#ifndef NUMAPERF_CLI_TABLE_H
#define NUMAPERF_CLI_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define TABLE_COLUMNS_MAX 16

struct table {
    size_t column_count;
    unsigned is_right; /* a bit a column: numbers */
    size_t row_count;  /* the heading is row 0 */
    size_t row_max;
    char **cells; /* row by row */
};

/* `headings`: of column_count texts. */
void table_init(struct table *table, size_t column_count, unsigned is_right,
                const char *const *headings);
/* A cell, added left to right, row by row. */
__attribute__((format(printf, 3, 4))) void table_set(struct table *table, size_t column,
                                                     const char *format, ...);
/* Opens the next row. */
void table_next(struct table *table);
/* Prints it, and frees everything. */
void table_print(struct table *table);

/* A bar of `width` characters, `part` of `whole` filled; anything above nothing shows. */
void table_bar(uint64_t part, uint64_t whole, unsigned width);

#endif
