/* SPDX-License-Identifier: MIT */
/*
 * numaperf audit: an independent witness. Where the threads of any process may run and do run, and
 * on which nodes its pages are, read from /proc alone: nothing of the library takes part, and the
 * process notices nothing.
 */
#include "cli/audit_read.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/procfs.h"
#include "cli/table.h"

#include <numaperf/error.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AUDIT_BAR_WIDTH 40u
#define AUDIT_BYTES_TEXT 32

/* What mappings are told apart into; the last column of the table is their sum. */
static const char *const audit_kinds[] = {"heap", "stack", "anonymous", "file", "huge"};
#define AUDIT_KIND_COUNT (sizeof(audit_kinds) / sizeof(audit_kinds[0]))

struct audit_settings {
    int pid;
    bool is_json;
};

/* ---- the document ---- */

/* Bytes of a kind (NULL: of any) on a node. */
static uint64_t audit_bytes(const json_t *sums, const char *kind, int node)
{
    uint64_t bytes = 0;
    size_t i;
    json_t *sum;
    json_array_foreach(sums, i, sum)
    {
        if (json_integer_value(json_object_get(sum, "node")) == node &&
            (kind == NULL || strcmp(json_string_value(json_object_get(sum, "kind")), kind) == 0))
            bytes += (uint64_t)json_integer_value(json_object_get(sum, "bytes"));
    }
    return bytes;
}

static int audit_thread_count(const json_t *threads, int node)
{
    int count = 0;
    size_t i;
    json_t *thread;
    json_array_foreach(threads, i, thread)
    {
        const json_t *where = json_object_get(thread, "node");
        count += json_is_integer(where) && json_integer_value(where) == node ? 1 : 0;
    }
    return count;
}

/* A row a node: threads there now, and bytes by kind (null when they cannot be read). */
static json_t *audit_nodes(const struct audit_machine *machine, const json_t *threads,
                           const json_t *sums)
{
    numaperf_nodemask_t ids = machine->nodes;
    size_t i;
    json_t *sum;
    json_array_foreach(sums, i, sum)(void)
        numaperf_nodemask_add(/* the reader lets none out of range through */
                              &ids, (int)json_integer_value(json_object_get(sum, "node")));

    json_t *nodes = json_array();
    for (int id = numaperf_nodemask_next(&ids, -1); id >= 0;
         id = numaperf_nodemask_next(&ids, id)) {
        json_t *bytes = json_object();
        for (size_t kind = 0; kind < AUDIT_KIND_COUNT; kind++)
            json_object_set_new(bytes, audit_kinds[kind],
                                json_integer((json_int_t)audit_bytes(sums, audit_kinds[kind], id)));
        json_object_set_new(bytes, "total", json_integer((json_int_t)audit_bytes(sums, NULL, id)));
        json_t *node =
            json_pack("{s:i, s:i}", "node", id, "thread_count", audit_thread_count(threads, id));
        json_object_set(node, "bytes", sums != NULL ? bytes : json_null());
        json_decref(bytes);
        json_array_append_new(nodes, node);
    }
    return nodes;
}

/* Bytes by policy and node, over all kinds. */
static json_t *audit_policies(const json_t *sums)
{
    json_t *policies = json_array();
    size_t i;
    json_t *sum;
    json_array_foreach(sums, i, sum)
    {
        json_int_t node = json_integer_value(json_object_get(sum, "node"));
        const char *policy = json_string_value(json_object_get(sum, "policy"));
        size_t k;
        json_t *known;
        json_t *found = NULL;
        json_array_foreach(policies, k, known)
        {
            if (json_integer_value(json_object_get(known, "node")) == node &&
                strcmp(json_string_value(json_object_get(known, "policy")), policy) == 0)
                found = known;
        }
        if (found == NULL) {
            found = json_pack("{s:s, s:I, s:I}", "policy", policy, "node", node, "bytes",
                              (json_int_t)0);
            json_array_append_new(policies, found);
        }
        json_t *bytes = json_object_get(found, "bytes");
        json_integer_set(bytes, json_integer_value(bytes) +
                                    json_integer_value(json_object_get(sum, "bytes")));
    }
    return policies;
}

/* ---- text ---- */

static void audit_set_number(struct table *table, size_t column, const json_t *value)
{
    if (json_is_integer(value))
        table_set(table, column, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        table_set(table, column, "?");
}

static void audit_set_text(struct table *table, size_t column, const json_t *value)
{
    table_set(table, column, "%s", json_is_string(value) ? json_string_value(value) : "?");
}

static void audit_set_bytes(struct table *table, size_t column, const json_t *value)
{
    char text[AUDIT_BYTES_TEXT] = "?";
    if (json_is_integer(value))
        output_bytes((uint64_t)json_integer_value(value), text, sizeof(text));
    table_set(table, column, "%s", text);
}

static void audit_print_threads(const json_t *threads)
{
    static const char *const headings[] = {"THREAD", "NAME",  "STATE",   "PU",
                                           "NODE",   "NODES", "AFFINITY"};
    struct table table;
    table_init(&table, 7, 0x19u, headings);
    size_t i;
    json_t *thread;
    json_array_foreach(threads, i, thread)
    {
        table_next(&table);
        audit_set_number(&table, 0, json_object_get(thread, "thread"));
        audit_set_text(&table, 1, json_object_get(thread, "name"));
        audit_set_text(&table, 2, json_object_get(thread, "state"));
        audit_set_number(&table, 3, json_object_get(thread, "pu"));
        audit_set_number(&table, 4, json_object_get(thread, "node"));
        audit_set_text(&table, 5, json_object_get(thread, "affinity_nodes"));
        audit_set_text(&table, 6, json_object_get(thread, "affinity"));
    }
    table_print(&table);
}

static void audit_print_nodes(const json_t *nodes)
{
    static const char *const headings[] = {"NODE",      "THREADS", "HEAP", "STACK",
                                           "ANONYMOUS", "FILE",    "HUGE", "TOTAL"};
    struct table table;
    table_init(&table, 8, 0xffu, headings);
    size_t i;
    json_t *node;
    json_array_foreach(nodes, i, node)
    {
        const json_t *bytes = json_object_get(node, "bytes");
        table_next(&table);
        audit_set_number(&table, 0, json_object_get(node, "node"));
        audit_set_number(&table, 1, json_object_get(node, "thread_count"));
        for (size_t kind = 0; kind < AUDIT_KIND_COUNT; kind++)
            audit_set_bytes(&table, 2 + kind, json_object_get(bytes, audit_kinds[kind]));
        audit_set_bytes(&table, 2 + AUDIT_KIND_COUNT, json_object_get(bytes, "total"));
    }
    table_print(&table);
}

static void audit_print_policies(const json_t *policies)
{
    static const char *const headings[] = {"NODE", "BYTES", "POLICY"};
    struct table table;
    table_init(&table, 3, 0x3u, headings);
    size_t i;
    json_t *sum;
    json_array_foreach(policies, i, sum)
    {
        table_next(&table);
        audit_set_number(&table, 0, json_object_get(sum, "node"));
        audit_set_bytes(&table, 1, json_object_get(sum, "bytes"));
        audit_set_text(&table, 2, json_object_get(sum, "policy"));
    }
    table_print(&table);
}

static void audit_print_bars(const json_t *nodes)
{
    uint64_t whole = 0;
    size_t i;
    json_t *node;
    json_array_foreach(nodes, i, node) whole +=
        (uint64_t)json_integer_value(json_object_get(json_object_get(node, "bytes"), "total"));
    json_array_foreach(nodes, i, node)
    {
        uint64_t part =
            (uint64_t)json_integer_value(json_object_get(json_object_get(node, "bytes"), "total"));
        char text[AUDIT_BYTES_TEXT];
        output_bytes(part, text, sizeof(text));
        printf("node %-4" JSON_INTEGER_FORMAT " ",
               json_integer_value(json_object_get(node, "node")));
        table_bar(part, whole, AUDIT_BAR_WIDTH);
        printf(" %5.1f %%  %s\n", whole > 0 ? 100.0 * (double)part / (double)whole : 0.0, text);
    }
}

static void audit_print(const json_t *document)
{
    const json_t *threads = json_object_get(document, "threads");
    const json_t *nodes = json_object_get(document, "nodes");
    const json_t *policies = json_object_get(document, "policies");
    size_t count = json_array_size(threads);
    printf("%sprocess %" JSON_INTEGER_FORMAT "%s, %zu thread%s\n\n", output_style(OUTPUT_HEADING),
           json_integer_value(json_object_get(document, "process")), output_style(OUTPUT_PLAIN),
           count, count == 1 ? "" : "s");
    audit_print_threads(threads);
    printf("\n");
    audit_print_nodes(nodes);
    if (!json_is_array(policies))
        return; /* without pages there is nothing to draw */
    printf("\n");
    audit_print_policies(policies);
    printf("\n");
    audit_print_bars(nodes);
}

/* ---- the command ---- */

static void audit_complain(int pid, const char *what, int rc)
{
    if (rc == -ENOENT || rc == -ESRCH)
        output_error("process %d has ended, or its %s cannot be seen", pid, what);
    else if (rc == -EACCES || rc == -EPERM)
        output_error("process %d: no permission to read its %s: run this as its user, or as root "
                     "(CAP_SYS_PTRACE)",
                     pid, what);
    else
        output_error("process %d: its %s cannot be read: %s", pid, what, numaperf_strerror(rc));
}

/* A kernel without NUMA has no numa_maps, which is something else than a process that ended. */
static void audit_complain_pages(int process_fd, int pid, int rc)
{
    if (rc == -ENOENT && faccessat(process_fd, "status", F_OK, 0) == 0)
        output_error("process %d: this kernel does not tell where pages are (CONFIG_NUMA)", pid);
    else
        audit_complain(pid, "pages", rc);
}

static int audit_process(const struct audit_settings *settings, int process_fd)
{
    json_t *threads = NULL;
    json_t *sums = NULL;
    struct audit_machine *machine = output_alloc(sizeof(*machine));
    audit_machine_read(machine);
    int code = CLI_FAILED;
    int rc = audit_threads_read(process_fd, machine, &threads);
    if (rc == 0 && json_array_size(threads) == 0)
        rc = -ESRCH;
    if (rc < 0) {
        audit_complain(settings->pid, "threads", rc);
        goto done;
    }
    rc = audit_pages_read(process_fd, &sums);
    if (rc < 0)
        audit_complain_pages(process_fd, settings->pid, rc);
    else
        code = CLI_OK;

    json_t *document = output_document("numaperf-audit");
    json_object_set_new(document, "process", json_integer(settings->pid));
    json_object_set(document, "threads", threads);
    json_object_set_new(document, "nodes", audit_nodes(machine, threads, sums));
    json_object_set_new(document, "policies", sums != NULL ? audit_policies(sums) : json_null());
    if (settings->is_json)
        output_json(document);
    else
        audit_print(document);
    json_decref(document);

done:
    json_decref(sums);
    json_decref(threads);
    free(machine);
    return code;
}

static int audit_run(const void *given)
{
    const struct audit_settings *settings = given;
    char path[32];
    (void)snprintf(path, sizeof(path), "/proc/%d", settings->pid); /* it fits */
    int process_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (process_fd < 0 && errno == ENOENT) {
        output_error("process %d: no such process", settings->pid);
        return CLI_FAILED;
    }
    if (process_fd < 0) {
        audit_complain(settings->pid, "directory", -errno);
        return CLI_FAILED;
    }
    int code = audit_process(settings, process_fd);
    (void)close(process_fd); /* read only */
    return code;
}

static const char *audit_read_pid(void *settings, const char *text)
{
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return "is not a process id";
    errno = 0;
    unsigned long pid = strtoul(text, NULL, 10);
    if (errno != 0 || pid == 0 || pid > INT_MAX)
        return "is not a process id";
    ((struct audit_settings *)settings)->pid = (int)pid;
    return NULL;
}

static const char *audit_read_format(void *settings, const char *text)
{
    return options_read_format(&((struct audit_settings *)settings)->is_json, text);
}

static const struct option audit_options[] = {OPTIONS_FORMAT(audit_read_format)};

const struct command audit_command = {
    .name = "audit",
    .operand = "PID",
    .summary = "where the threads and pages of any process are",
    .about = "Shows where the threads of a process may run and do run, and on which nodes its\n"
             "pages are, as /proc tells: nothing of the library takes part. For each node,\n"
             "threads that run there now and memory by kind of mapping; then memory by policy;\n"
             "then a bar a node.\n",
    .options = audit_options,
    .option_count = sizeof(audit_options) / sizeof(audit_options[0]),
    .read_operand = audit_read_pid,
    .is_operand_required = true,
    .settings_size = sizeof(struct audit_settings),
    .run = audit_run,
};
