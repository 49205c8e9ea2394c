/* SPDX-License-Identifier: MIT */
/*
 * Tables. Cells are copies; a cell that was not set is empty. Breaks of the last column fall after
 * a comma or at a blank, so that lists of PUs of any length stay within the terminal.
 */
#include "cli/table.h"

#include "cli/output.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_GAP 2u
#define TABLE_ROWS_FIRST 16u

/* ---- filling ---- */

void table_init(struct table *table, size_t column_count, unsigned is_right,
                const char *const *headings)
{
    assert(column_count > 0 && column_count <= TABLE_COLUMNS_MAX);
    memset(table, 0, sizeof(*table));
    table->column_count = column_count;
    table->is_right = is_right;
    table_next(table);
    for (size_t i = 0; i < column_count; i++)
        table_set(table, i, "%s", headings[i]);
}

static char **table_cell(const struct table *table, size_t row, size_t column)
{
    return &table->cells[row * table->column_count + column];
}

void table_next(struct table *table)
{
    if (table->row_count == table->row_max) {
        size_t more = table->row_max > 0 ? table->row_max * 2 : TABLE_ROWS_FIRST;
        char **cells = output_alloc(more * table->column_count * sizeof(*cells));
        if (table->row_count > 0)
            memcpy(cells, table->cells, table->row_count * table->column_count * sizeof(*cells));
        free(table->cells);
        table->cells = cells;
        table->row_max = more;
    }
    table->row_count++;
}

void table_set(struct table *table, size_t column, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = output_alloc((size_t)length + 1);
    va_start(args, format);
    (void)vsnprintf(text, (size_t)length + 1, format, args); /* measured above */
    va_end(args);
    char **cell = table_cell(table, table->row_count - 1, column);
    free(*cell);
    *cell = text;
}

/* ---- printing ---- */

static const char *table_text(const struct table *table, size_t row, size_t column)
{
    const char *text = *table_cell(table, row, column);
    return text != NULL ? text : "";
}

/* How much of `text` goes on a line of `room`: all, or up to the last good place, or a whole word.
 */
static size_t table_break(const char *text, size_t room)
{
    size_t length = strlen(text);
    if (length <= room)
        return length;
    size_t at = room;
    while (at > 0 && text[at - 1] != ',' && text[at] != ' ')
        at--;
    if (at > 0)
        return at;
    at = strcspn(text, ", ");
    return text[at] == ',' ? at + 1 : at;
}

static void table_print_last(const char *text, size_t indent)
{
    size_t room = indent < OUTPUT_COLUMNS ? OUTPUT_COLUMNS - indent : 1;
    while (*text != '\0') {
        size_t length = table_break(text, room);
        printf("%.*s\n", (int)length, text);
        text += length;
        text += strspn(text, " ");
        if (*text != '\0')
            printf("%*s", (int)indent, "");
    }
}

static void table_print_row(const struct table *table, size_t row, const size_t *widths)
{
    size_t indent = 0;
    size_t pending = 0; /* blanks, printed only when something follows */
    for (size_t i = 0; i < table->column_count; i++) {
        const char *text = table_text(table, row, i);
        size_t blank = widths[i] - strlen(text);
        bool is_right = (table->is_right >> i & 1u) != 0;
        if (i + 1 == table->column_count && !is_right) {
            if (*text == '\0')
                break;
            printf("%*s", (int)pending, "");
            table_print_last(text, indent);
            return;
        }
        pending += is_right ? blank : 0;
        if (*text != '\0') {
            printf("%*s%s", (int)pending, "", text);
            pending = 0;
        }
        pending += (is_right ? 0 : blank) + TABLE_GAP;
        indent += widths[i] + TABLE_GAP;
    }
    printf("\n");
}

static void table_free(struct table *table)
{
    for (size_t i = 0; i < table->row_count * table->column_count; i++)
        free(table->cells[i]);
    free(table->cells);
    memset(table, 0, sizeof(*table));
}

void table_print(struct table *table)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t row = 0; row < table->row_count; row++) {
        for (size_t i = 0; i < table->column_count; i++) {
            size_t length = strlen(table_text(table, row, i));
            widths[i] = length > widths[i] ? length : widths[i];
        }
    }
    for (size_t row = 0; row < table->row_count; row++) {
        if (row == 0)
            printf("%s", output_style(OUTPUT_HEADING));
        table_print_row(table, row, widths);
        if (row == 0)
            printf("%s", output_style(OUTPUT_PLAIN));
    }
    table_free(table);
}

void table_bar(uint64_t part, uint64_t whole, unsigned width)
{
    double share = whole > 0 ? (double)part / (double)whole : 0.0;
    unsigned filled = (unsigned)(share * width + 0.5);
    if (filled == 0 && part > 0)
        filled = 1;
    for (unsigned i = 0; i < width; i++)
        fputc(i < filled ? '#' : '.', stdout);
}
