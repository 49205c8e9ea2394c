/* SPDX-License-Identifier: MIT */
/*
 * The numaperf tool: chooses the command and turns its outcome into an exit code: 0 done or ready,
 * 1 failed or not ready, 2 usage.
 */
#include "cli/options.h"
#include "cli/output.h"

#include <numaperf/version.h>

#include <stdio.h>
#include <string.h>

static const struct command *const main_commands[] = {&info_command, &doctor_command,
                                                      &audit_command};
#define MAIN_COMMAND_COUNT (sizeof(main_commands) / sizeof(main_commands[0]))

static void main_help(FILE *stream)
{
    fprintf(stream, "usage: numaperf COMMAND [options]\n\n");
    for (size_t i = 0; i < MAIN_COMMAND_COUNT; i++)
        fprintf(stream, "  %-10s %s\n", main_commands[i]->name, main_commands[i]->summary);
    fprintf(stream, "\n"
                    "  --help     this text; after a command: what it does, and its options\n"
                    "  --version  version of the tool and of the library in it\n\n"
                    "Exit status: 0 done or ready, 1 failed or not ready, 2 usage.\n");
}

static int main_run(char **words)
{
    const char *word = words[0];
    if (word == NULL) {
        main_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        main_help(stdout);
        return CLI_OK;
    }
    if (strcmp(word, "--version") == 0) {
        printf("numaperf %s\n", numaperf_version_string());
        return CLI_OK;
    }
    for (size_t i = 0; i < MAIN_COMMAND_COUNT; i++) {
        if (strcmp(word, main_commands[i]->name) == 0)
            return options_run(main_commands[i], words + 1);
    }
    output_error("unknown %s '%s'; see: numaperf --help", word[0] == '-' ? "option" : "command",
                 word);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    output_prepare();
    return output_finish(main_run(argc > 0 ? argv + 1 : argv));
}
