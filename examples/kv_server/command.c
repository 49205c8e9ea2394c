/* SPDX-License-Identifier: MIT */
/*
 * The command table and everything that depends on the command. Planning happens as a command
 * comes in, answering when its turn on the connection has come: a command without operations does
 * its work while it is answered, and so sees what those before it did.
 *
 * Over several keys, MSET and DEL are not atomic: every key is its own operation on its shard.
 */
#include "command.h"

#include "kv.h"
#include "limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum keys { KEYS_NONE, KEYS_FIRST, KEYS_ALL, KEYS_PAIRS };
enum answer { ANSWER_NOW, ANSWER_OK, ANSWER_VALUE, ANSWER_NUMBER, ANSWER_SUM, ANSWER_ARRAY };

struct command {
    const char *name;
    size_t name_length;
    int arity; /* with the name; negative: at least */
    enum keys keys;
    enum op_kind op;
    enum answer answer;
    /* For ANSWER_NOW. false: no memory, nothing was written. */
    bool (*now)(struct kv_worker *worker, const struct request *request, struct output *output);
};

static bool arg_is(const struct request *request, uint32_t index, const char *word)
{
    return request->argc > index && request->args[index].length == strlen(word) &&
           strncasecmp(request->args[index].data, word, strlen(word)) == 0;
}

static bool answer_ping(struct kv_worker *worker, const struct request *request,
                        struct output *output)
{
    (void)worker; /* all `now` functions look alike */
    if (request->argc > 2) {
        output_error(output, "ERR wrong number of arguments for 'ping' command");
        return true;
    }
    if (request->argc == 1) {
        output_text(output, "+PONG\r\n");
        return true;
    }
    if (!output_reserve(output, request->args[1].length + OUTPUT_SHORT))
        return false;
    output_bulk(output, request->args[1].data, request->args[1].length);
    return true;
}

static bool answer_quit(struct kv_worker *worker, const struct request *request,
                        struct output *output)
{
    (void)worker;
    (void)request;
    output_text(output, "+OK\r\n");
    return true;
}

static bool answer_dbsize(struct kv_worker *worker, const struct request *request,
                          struct output *output)
{
    (void)request;
    uint64_t keys = 0;
    for (uint32_t i = 0; i < worker->kv->shard_count; i++)
        keys += atomic_load_explicit(&worker->kv->shards[i]->store.key_count, memory_order_relaxed);
    output_number(output, ':', (int64_t)keys);
    return true;
}

static bool answer_info(struct kv_worker *worker, const struct request *request,
                        struct output *output)
{
    (void)request; /* sections are not told apart: all of it is the answer */
    const struct info_cache *info = info_text(worker);
    if (info == NULL || !output_reserve(output, info->length + OUTPUT_SHORT))
        return false;
    output_bulk(output, info->text, info->length);
    return true;
}

/* What clients ask at start: no snapshots, no log file. */
static bool answer_config(struct kv_worker *worker, const struct request *request,
                          struct output *output)
{
    (void)worker;
    static const char *const settings[][2] = {{"save", ""}, {"appendonly", "no"}};
    if (!arg_is(request, 1, "get") || request->argc < 3) {
        output_error(output, "ERR only CONFIG GET with a parameter is known");
        return true;
    }
    char text[OUTPUT_SHORT] = "";
    size_t length = 0;
    uint32_t found = 0;
    for (size_t s = 0; s < 2; s++) {
        bool wanted = false;
        for (uint32_t i = 2; i < request->argc; i++)
            wanted = wanted || arg_is(request, i, settings[s][0]) || arg_is(request, i, "*");
        if (!wanted)
            continue;
        length += (size_t)snprintf(text + length, sizeof(text) - length,
                                   "$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(settings[s][0]),
                                   settings[s][0], strlen(settings[s][1]), settings[s][1]);
        found++;
    }
    output_number(output, '*', (int64_t)found * 2);
    output_text(output, text);
    return true;
}

static bool answer_command(struct kv_worker *worker, const struct request *request,
                           struct output *output);

#define NAME(text) text, sizeof(text) - 1

static const struct command command_table[] = {
    {NAME("ping"), -1, KEYS_NONE, OP_GET, ANSWER_NOW, answer_ping},
    {NAME("echo"), 2, KEYS_NONE, OP_GET, ANSWER_NOW, answer_ping},
    {NAME("set"), 3, KEYS_PAIRS, OP_SET, ANSWER_OK, NULL},
    {NAME("get"), 2, KEYS_FIRST, OP_GET, ANSWER_VALUE, NULL},
    {NAME("del"), -2, KEYS_ALL, OP_DELETE, ANSWER_SUM, NULL},
    {NAME("exists"), -2, KEYS_ALL, OP_EXISTS, ANSWER_SUM, NULL},
    {NAME("incr"), 2, KEYS_FIRST, OP_INCREMENT, ANSWER_NUMBER, NULL},
    {NAME("mget"), -2, KEYS_ALL, OP_GET, ANSWER_ARRAY, NULL},
    {NAME("mset"), -3, KEYS_PAIRS, OP_SET, ANSWER_OK, NULL},
    {NAME("dbsize"), 1, KEYS_NONE, OP_GET, ANSWER_NOW, answer_dbsize},
    {NAME("info"), -1, KEYS_NONE, OP_GET, ANSWER_NOW, answer_info},
    {NAME("command"), -1, KEYS_NONE, OP_GET, ANSWER_NOW, answer_command},
    {NAME("config"), -2, KEYS_NONE, OP_GET, ANSWER_NOW, answer_config},
    {NAME("quit"), -1, KEYS_NONE, OP_GET, ANSWER_NOW, answer_quit},
};

#define COMMAND_COUNT (sizeof(command_table) / sizeof(command_table[0]))

/* Name, arity, flags, first key, last key, step; what a client may ask about COMMAND itself. */
static bool answer_command(struct kv_worker *worker, const struct request *request,
                           struct output *output)
{
    (void)worker;
    if (arg_is(request, 1, "count")) {
        output_number(output, ':', (int64_t)COMMAND_COUNT);
        return true;
    }
    if (request->argc > 1) { /* DOCS and the like: nothing to tell */
        output_text(output, "*0\r\n");
        return true;
    }
    if (!output_reserve(output, COMMAND_COUNT * OUTPUT_SHORT))
        return false;
    output_number(output, '*', (int64_t)COMMAND_COUNT);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &command_table[i];
        bool keyed = command->keys != KEYS_NONE;
        bool open = command->arity < 0;
        output_text(output, "*6\r\n");
        output_bulk(output, command->name, strlen(command->name));
        output_number(output, ':', command->arity);
        output_text(output, keyed && command->op != OP_GET && command->op != OP_EXISTS
                                ? "*1\r\n+write\r\n"
                                : "*1\r\n+readonly\r\n");
        output_number(output, ':', keyed ? 1 : 0);
        output_number(output, ':', keyed ? (open ? -1 : 1) : 0);
        output_number(output, ':', keyed ? (command->keys == KEYS_PAIRS ? 2 : 1) : 0);
    }
    return true;
}

static const struct command *command_find(const struct request *request)
{
    const struct slice name = request->argc > 0 ? request->args[0] : (struct slice){"", 0};
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (command_table[i].name_length == name.length &&
            strncasecmp(command_table[i].name, name.data, name.length) == 0)
            return &command_table[i];
    return NULL;
}

static bool arity_fits(const struct command *command, uint32_t argc)
{
    if (command->keys == KEYS_PAIRS && argc % 2 == 0)
        return false;
    int64_t given = argc;
    return command->arity < 0 ? given >= -command->arity : given == command->arity;
}

/* How many operations it is, its command and fault being set. */
static uint32_t plan_count(struct request *request)
{
    const struct command *command = command_find(request);
    request->command = command;
    if (command == NULL || !arity_fits(command, request->argc)) {
        request->fault = command == NULL ? FAULT_UNKNOWN : FAULT_ARITY;
        return 0;
    }
    uint32_t step = command->keys == KEYS_PAIRS ? 2 : 1;
    return command->keys == KEYS_NONE ? 0 : (request->argc - 1) / step;
}

static int plan_ops(struct request *request, numaperf_arena_t *arena, uint32_t count)
{
    if (count == 0)
        return 0;
    if (request_ops(request, arena, count) < 0)
        return -ENOMEM;
    uint32_t step = request->command->keys == KEYS_PAIRS ? 2 : 1;
    for (uint32_t i = 0; i < count; i++) {
        struct op *op = &request->ops[i];
        op->kind = request->command->op;
        op->key = request->args[1 + i * step];
        if (step == 2)
            op->value = request->args[2 + i * step];
    }
    return 0;
}

int command_plan(struct request *request, numaperf_arena_t *arena)
{
    return plan_ops(request, arena, plan_count(request));
}

bool command_plan_one(struct request *request)
{
    uint32_t count = plan_count(request);
    return count <= 1 && plan_ops(request, NULL, count) == 0;
}

static void answer_fault(const struct request *request, struct output *output)
{
    char text[OUTPUT_SHORT];
    const char *name = request->command != NULL ? request->command->name : "";
    switch (request->fault) {
    case FAULT_UNKNOWN: {
        int length = request->args[0].length > 64 ? 64 : (int)request->args[0].length;
        (void)snprintf(text, sizeof(text), "ERR unknown command '%.*s'", length,
                       request->args[0].data);
        break;
    }
    case FAULT_ARITY:
        (void)snprintf(text, sizeof(text), "ERR wrong number of arguments for '%s' command", name);
        break;
    default:
        (void)snprintf(text, sizeof(text), "%s", request->error);
        break;
    }
    output_error(output, text);
}

static const char *op_error(int status)
{
    switch (status) {
    case -ENOMEM:
        return "OOM the memory of the key's node is used up";
    case -EINVAL:
        return "ERR value is not an integer or out of range";
    case -ERANGE:
        return "ERR increment or decrement would overflow";
    case -EAGAIN:
        return "ERR busy: the key's node has too many tasks, try again";
    case NUMAPERF_E_STOPPING:
        return "ERR the server is stopping";
    default:
        return "ERR the key's node did not take it";
    }
}

/* The first failure of its operations; 0. */
static int request_status(const struct request *request)
{
    for (uint32_t i = 0; i < request->op_count; i++)
        if (request->ops[i].status < 0)
            return request->ops[i].status;
    return 0;
}

static void answer_value(const struct value *value, struct output *output)
{
    if (value == NULL)
        output_nil(output);
    else
        output_bulk(output, value->data, value->length);
}

static void answer_ops(const struct request *request, struct output *output)
{
    int64_t sum = 0;
    switch (request->command->answer) {
    case ANSWER_OK:
        output_text(output, "+OK\r\n");
        break;
    case ANSWER_VALUE:
        answer_value(request->ops[0].found, output);
        break;
    case ANSWER_ARRAY:
        output_number(output, '*', request->op_count);
        for (uint32_t i = 0; i < request->op_count; i++)
            answer_value(request->ops[i].found, output);
        break;
    default:
        for (uint32_t i = 0; i < request->op_count; i++)
            sum += request->ops[i].number;
        output_number(output, ':', sum);
        break;
    }
}

bool command_answer(struct kv_worker *worker, struct request *request, struct output *output)
{
    size_t need = OUTPUT_SHORT;
    for (uint32_t i = 0; i < request->op_count; i++)
        need += 32 + (request->ops[i].found != NULL ? request->ops[i].found->length : 0);
    bool large = need > KV_REPLY_MAX;
    if (!output_reserve(output, large ? OUTPUT_SHORT : need))
        return false;

    int status = request_status(request);
    if (request->fault != FAULT_NONE)
        answer_fault(request, output);
    else if (request->command->answer == ANSWER_NOW)
        return request->command->now(worker, request, output);
    else if (status < 0)
        output_error(output, op_error(status));
    else if (large)
        output_error(output, "ERR the answer would be too large");
    else
        answer_ops(request, output);
    return true;
}

bool command_is_last(const struct request *request)
{
    return request->fault == FAULT_NONE && request->command != NULL &&
           request->command->now == answer_quit;
}
