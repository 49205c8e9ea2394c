/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/task/TID/{stat,status} and /proc/PID/numa_maps, parsed defensively: a field that is
 * not there is unknown, a line that makes no sense is skipped, a thread that has ended is left out.
 * Files are opened below the process' own directory, so that a process which takes over its id
 * cannot be mistaken for it.
 *
 * Source: proc(5), numa(7), Documentation/filesystems/proc.rst.
 */
#include "cli/audit_read.h"

#include "cli/output.h"
#include "cli/procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AUDIT_STAT_STATE 3 /* fields of stat, counted from 1 as in proc(5) */
#define AUDIT_STAT_PROCESSOR 39
#define AUDIT_PATH_MAX 64

/* ---- the machine ---- */

void audit_machine_read(struct audit_machine *out)
{
    numaperf_nodemask_zero(&out->nodes);
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++)
        out->node_of_cpu[cpu] = -1;

    char *text = procfs_read(AT_FDCWD, "/sys/devices/system/node/online");
    if (text != NULL) {
        text[strcspn(text, "\n")] = '\0';
        if (numaperf_nodemask_parse(text, &out->nodes) < 0)
            numaperf_nodemask_zero(&out->nodes);
        free(text);
    }
    if (numaperf_nodemask_count(&out->nodes) == 0) {
        (void)numaperf_nodemask_add(&out->nodes, 0); /* in range */
        memset(out->node_of_cpu, 0, sizeof(out->node_of_cpu));
        return;
    }
    for (int node = numaperf_nodemask_next(&out->nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&out->nodes, node)) {
        char path[AUDIT_PATH_MAX];
        numaperf_cpuset_t cpus;
        (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", node);
        text = procfs_read(AT_FDCWD, path);
        if (text == NULL)
            continue;
        text[strcspn(text, "\n")] = '\0';
        if (numaperf_cpuset_parse(text, &cpus) < 0)
            numaperf_cpuset_zero(&cpus);
        free(text);
        for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
             cpu = numaperf_cpuset_next(&cpus, cpu))
            out->node_of_cpu[cpu] = (int16_t)node;
    }
}

/* ---- threads ---- */

/* Field `number` of a stat file, or NULL; the name, which may hold anything, ends at the last ')'.
 */
static const char *audit_stat_field(const char *stat, int number)
{
    const char *at = strrchr(stat, ')');
    for (int field = 2; at != NULL && field < number; field++) {
        at = strchr(at, ' ');
        at = at != NULL ? at + 1 : NULL;
    }
    return at;
}

static int audit_stat_cpu(const char *stat)
{
    const char *field = audit_stat_field(stat, AUDIT_STAT_PROCESSOR);
    if (field == NULL || *field < '0' || *field > '9')
        return -1;
    long cpu = strtol(field, NULL, 10);
    return cpu >= 0 && cpu < NUMAPERF_CPU_MAX ? (int)cpu : -1;
}

static json_t *audit_stat_name(const char *stat)
{
    const char *begin = strchr(stat, '(');
    const char *end = strrchr(stat, ')');
    if (begin == NULL || end == NULL || end <= begin)
        return json_null();
    size_t length = (size_t)(end - begin) - 1;
    char *name = output_alloc(length + 1);
    memcpy(name, begin + 1, length);
    output_make_printable(name);
    json_t *json = json_string(name);
    free(name);
    return json;
}

static json_t *audit_stat_state(const char *stat)
{
    const char *field = audit_stat_field(stat, AUDIT_STAT_STATE);
    if (field == NULL || *field < 'A' || *field > 'z')
        return json_null();
    const char text[2] = {*field, '\0'};
    return json_string(text);
}

/* "pus" and "nodes" of an affinity; null where it cannot be read. */
static void audit_add_affinity(json_t *thread, const struct audit_machine *machine,
                               const char *status)
{
    char *list = procfs_field(status, "Cpus_allowed_list");
    numaperf_cpuset_t cpus;
    bool is_known = list != NULL && numaperf_cpuset_parse(list, &cpus) == 0;
    free(list);
    if (!is_known) {
        json_object_set_new(thread, "affinity", json_null());
        json_object_set_new(thread, "affinity_nodes", json_null());
        return;
    }
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cpus, cpu)) {
        if (machine->node_of_cpu[cpu] >= 0)
            (void)numaperf_nodemask_add(&nodes, machine->node_of_cpu[cpu]); /* in range */
    }
    json_object_set_new(thread, "affinity", procfs_cpuset_json(&cpus));
    json_object_set_new(thread, "affinity_nodes", procfs_nodemask_json(&nodes));
}

/* NULL when the thread has ended. */
static json_t *audit_thread_read(int task_fd, const char *id, const struct audit_machine *machine)
{
    char path[AUDIT_PATH_MAX];
    json_t *thread = NULL;
    (void)snprintf(path, sizeof(path), "%.20s/stat", id);
    char *stat = procfs_read(task_fd, path);
    if (stat == NULL)
        return NULL;
    (void)snprintf(path, sizeof(path), "%.20s/status", id);
    char *status = procfs_read(task_fd, path);
    if (status != NULL) {
        int cpu = audit_stat_cpu(stat);
        int node = cpu >= 0 ? machine->node_of_cpu[cpu] : -1;
        thread = json_pack("{s:I, s:o, s:o, s:o, s:o}", "thread", (json_int_t)strtol(id, NULL, 10),
                           "name", audit_stat_name(stat), "state", audit_stat_state(stat), "pu",
                           cpu >= 0 ? json_integer(cpu) : json_null(), "node",
                           node >= 0 ? json_integer(node) : json_null());
        audit_add_affinity(thread, machine, status);
    }
    free(status);
    free(stat);
    return thread;
}

static int audit_compare_threads(const void *left, const void *right)
{
    json_int_t a = json_integer_value(json_object_get(*(json_t *const *)left, "thread"));
    json_int_t b = json_integer_value(json_object_get(*(json_t *const *)right, "thread"));
    return (a > b) - (a < b);
}

/* The kernel lists threads in no order that means anything. */
static json_t *audit_sorted(json_t *threads)
{
    size_t count = json_array_size(threads);
    json_t **items = output_alloc((count + 1) * sizeof(json_t *));
    for (size_t i = 0; i < count; i++)
        items[i] = json_array_get(threads, i);
    qsort(items, count, sizeof(json_t *), audit_compare_threads);
    json_t *sorted = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append(sorted, items[i]);
    free(items);
    json_decref(threads);
    return sorted;
}

int audit_threads_read(int process_fd, const struct audit_machine *machine, json_t **out_threads)
{
    int task_fd = openat(process_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (task_fd < 0)
        return -errno;
    int list_fd = dup(task_fd); /* closedir() closes it */
    DIR *list = list_fd >= 0 ? fdopendir(list_fd) : NULL;
    if (list == NULL) {
        int rc = -errno;
        if (list_fd >= 0)
            (void)close(list_fd); /* nothing was written */
        (void)close(task_fd);
        return rc;
    }
    json_t *threads = json_array();
    const struct dirent *entry;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread reads this stream. */
    while ((entry = readdir(list)) != NULL) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        json_t *thread = audit_thread_read(task_fd, entry->d_name, machine);
        if (thread != NULL)
            json_array_append_new(threads, thread);
    }
    (void)closedir(list); /* read only */
    (void)close(task_fd);
    *out_threads = audit_sorted(threads);
    return 0;
}

/* ---- pages ---- */

/* One line of numa_maps, taken apart. */
struct audit_mapping {
    const char *kind;
    char policy[64];
    uint64_t page_kib;
};

static json_t *audit_sum_find(json_t *sums, const struct audit_mapping *mapping, int node)
{
    size_t i;
    json_t *sum;
    json_array_foreach(sums, i, sum)
    {
        if (json_integer_value(json_object_get(sum, "node")) == node &&
            strcmp(json_string_value(json_object_get(sum, "kind")), mapping->kind) == 0 &&
            strcmp(json_string_value(json_object_get(sum, "policy")), mapping->policy) == 0)
            return sum;
    }
    sum = json_pack("{s:s, s:s, s:i, s:I}", "kind", mapping->kind, "policy", mapping->policy,
                    "node", node, "bytes", (json_int_t)0);
    json_array_append_new(sums, sum);
    return sum;
}

/* Takes the next word off the line; NULL at its end. */
static char *audit_word(char **line)
{
    *line += strspn(*line, " ");
    char *word = *line;
    size_t length = strcspn(word, " ");
    if (length == 0)
        return NULL;
    *line = word + length;
    if (**line != '\0')
        *(*line)++ = '\0';
    return word;
}

/* "N3=17"; false for anything else. */
static bool audit_node_pages(const char *word, int *out_node, uint64_t *out_pages)
{
    char *end = NULL;
    if (word[0] != 'N' || word[1] < '0' || word[1] > '9')
        return false;
    unsigned long node = strtoul(word + 1, &end, 10);
    if (*end != '=' || end[1] < '0' || end[1] > '9' || node >= NUMAPERF_NODE_MAX)
        return false;
    errno = 0;
    unsigned long long pages = strtoull(end + 1, &end, 10);
    if (*end != '\0' || errno != 0)
        return false;
    *out_node = (int)node;
    *out_pages = pages;
    return true;
}

/* Kind and page size, which follow the counts they belong to: the words are read twice. */
static void audit_mapping_words(struct audit_mapping *mapping, const char *word)
{
    if (strncmp(word, "kernelpagesize_kB=", 18) == 0)
        mapping->page_kib = strtoull(word + 18, NULL, 10);
    else if (strcmp(word, "huge") == 0)
        mapping->kind = "huge";
    else if (strcmp(mapping->kind, "anonymous") != 0)
        return; /* the first word that tells is the one */
    else if (strcmp(word, "heap") == 0)
        mapping->kind = "heap";
    else if (strcmp(word, "stack") == 0)
        mapping->kind = "stack";
    else if (strncmp(word, "file=", 5) == 0)
        mapping->kind = "file";
}

static void audit_line(json_t *sums, char *line)
{
    struct audit_mapping mapping = {.kind = "anonymous"};
    const char *address = audit_word(&line);
    const char *policy = address != NULL ? audit_word(&line) : NULL;
    if (policy == NULL)
        return;
    (void)snprintf(mapping.policy, sizeof(mapping.policy), "%s", policy); /* cut when too long */
    output_make_printable(mapping.policy);
    char *copy = output_copy(line);
    char *rest = copy;
    for (const char *word = audit_word(&rest); word != NULL; word = audit_word(&rest))
        audit_mapping_words(&mapping, word);
    free(copy);
    if (mapping.page_kib == 0 || mapping.page_kib > UINT32_MAX)
        mapping.page_kib = (uint64_t)sysconf(_SC_PAGESIZE) / 1024; /* kernels before 3.10 */
    for (const char *word = audit_word(&line); word != NULL; word = audit_word(&line)) {
        int node = 0;
        uint64_t pages = 0;
        if (!audit_node_pages(word, &node, &pages) || pages > (uint64_t)1 << 40)
            continue;
        json_t *bytes = json_object_get(audit_sum_find(sums, &mapping, node), "bytes");
        json_integer_set(bytes,
                         json_integer_value(bytes) + (json_int_t)(pages * mapping.page_kib * 1024));
    }
}

int audit_pages_read(int process_fd, json_t **out_sums)
{
    char *text = procfs_read(process_fd, "numa_maps");
    if (text == NULL)
        return errno > 0 ? -errno : -EIO;
    json_t *sums = json_array();
    char *line = text;
    while (*line != '\0') {
        size_t length = strcspn(line, "\n");
        char *next = line + length + (line[length] == '\n' ? 1 : 0);
        line[length] = '\0';
        audit_line(sums, line);
        line = next;
    }
    free(text);
    *out_sums = sums;
    return 0;
}
