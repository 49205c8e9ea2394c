/* SPDX-License-Identifier: MIT */
/*
 * Commands and their options. One table a command holds every option with its reader and its help
 * line, so that the parser, the messages and --help cannot disagree.
 */
#ifndef NUMAPERF_CLI_OPTIONS_H
#define NUMAPERF_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct option {
    const char *name;
    const char *value; /* what --help calls it; NULL: the option takes none */
    const char *help;
    /* Puts the value into the command's settings. NULL, or in plain words why it does not. */
    const char *(*read)(void *settings, const char *text);
};

struct command {
    const char *name;
    const char *operand; /* what --help calls it; NULL: the command takes none */
    const char *summary;
    const char *about; /* the text of --help, with line ends */
    const struct option *options;
    size_t option_count;
    /* As that of an option; NULL: none. */
    const char *(*read_operand)(void *settings, const char *text);
    bool is_operand_required;
    size_t settings_size; /* zeroed before options are read */
    int (*run)(const void *settings);
};

extern const struct command info_command;
extern const struct command doctor_command;
extern const struct command audit_command;

/* Reads the words after the command's name and runs it; returns the exit code. */
int options_run(const struct command *command, char *const *words);

/* "text" or "json", for a bool that is true for JSON. */
const char *options_read_format(bool *out_is_json, const char *text);

/* The line of --format, the same in every command. */
#define OPTIONS_FORMAT(reader)                                           \
    {                                                                    \
        "--format", "text|json", "what to print (default: text)", reader \
    }

#endif
