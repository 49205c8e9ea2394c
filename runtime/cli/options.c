/* SPDX-License-Identifier: MIT */
/*
 * Words of the command line to settings of a command. A value follows its option as the next word
 * or after "="; options and the operand come in any order; "--" ends the options; the last of an
 * option that is repeated counts.
 */
#include "cli/options.h"

#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void options_help(const struct command *command)
{
    printf("usage: numaperf %s [options]%s", command->name, command->operand != NULL ? " " : "");
    if (command->operand != NULL && command->is_operand_required)
        printf("%s", command->operand);
    else if (command->operand != NULL)
        printf("[%s]", command->operand);
    printf("\n\n%s\n", command->about);
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *option = &command->options[i];
        char left[48];
        (void)snprintf(left, sizeof(left), "%s %s", option->name,
                       option->value != NULL ? option->value : ""); /* short, and cut if not */
        printf("  %-32s ", left);
        output_wrapped(35, option->help);
    }
    printf("  %-32s this text\n", "--help");
}

static const struct option *options_find(const struct command *command, const char *name,
                                         size_t length)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const char *known = command->options[i].name;
        if (strlen(known) == length && memcmp(known, name, length) == 0)
            return &command->options[i];
    }
    return NULL;
}

/* Reads one option, "--name value" or "--name=value"; how many words it took, 0: bad. */
static size_t options_read_one(const struct command *command, char *const *words, void *settings)
{
    const char *word = words[0];
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const struct option *option = options_find(command, word, length);
    if (option == NULL) {
        output_error("unknown option '%s'; see: numaperf %s --help", word, command->name);
        return 0;
    }
    if (option->value == NULL && equals != NULL) {
        output_error("%s takes no value", option->name);
        return 0;
    }
    const char *value = equals != NULL ? equals + 1 : words[1];
    if (option->value != NULL && value == NULL) {
        output_error("%s needs a value: %s", option->name, option->value);
        return 0;
    }
    const char *why = option->read(settings, option->value != NULL ? value : "");
    if (why != NULL) {
        output_error("%s: '%s' %s", option->name, value, why);
        return 0;
    }
    return option->value != NULL && equals == NULL ? 2 : 1;
}

static bool options_read_operand(const struct command *command, const char *word, bool is_second,
                                 void *settings)
{
    if (command->read_operand == NULL || is_second) {
        output_error("unexpected '%s'; see: numaperf %s --help", word, command->name);
        return false;
    }
    const char *why = command->read_operand(settings, word);
    if (why != NULL)
        output_error("%s: '%s' %s", command->operand, word, why);
    return why == NULL;
}

/* Whether all words could be read; `*out_has_operand` tells of the operand. */
static bool options_read(const struct command *command, char *const *words, void *settings)
{
    bool has_operand = false;
    bool is_past_options = false;
    while (*words != NULL) {
        size_t taken = 1;
        if (!is_past_options && strcmp(*words, "--") == 0) {
            is_past_options = true;
        } else if (!is_past_options && (*words)[0] == '-' && (*words)[1] != '\0') {
            taken = options_read_one(command, words, settings);
        } else {
            if (!options_read_operand(command, *words, has_operand, settings))
                return false;
            has_operand = true;
        }
        if (taken == 0)
            return false;
        words += taken;
    }
    if (command->is_operand_required && !has_operand) {
        output_error("%s is missing; see: numaperf %s --help", command->operand, command->name);
        return false;
    }
    return true;
}

static bool options_ask_help(char *const *words)
{
    for (; *words != NULL && strcmp(*words, "--") != 0; words++) {
        if (strcmp(*words, "--help") == 0 || strcmp(*words, "-h") == 0)
            return true;
    }
    return false;
}

int options_run(const struct command *command, char *const *words)
{
    if (options_ask_help(words)) {
        options_help(command);
        return CLI_OK;
    }
    void *settings = output_alloc(command->settings_size);
    int code = CLI_USAGE;
    if (options_read(command, words, settings))
        code = command->run(settings);
    free(settings);
    return code;
}

const char *options_read_format(bool *out_is_json, const char *text)
{
    *out_is_json = strcmp(text, "json") == 0;
    return *out_is_json || strcmp(text, "text") == 0 ? NULL : "is not text or json";
}
