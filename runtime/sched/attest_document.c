/* SPDX-License-Identifier: MIT */
/*
 * The attestation's document: its sections and keys, in their order. attestation.schema.json
 * beside runtime.c describes it for readers: what changes here changes there, and what takes
 * something away or gives it another meaning makes a new version of the schema.
 *
 * Thread rule: any thread. What is read here was written before the workers ran, is atomic, or
 * lasts until destroy.
 */
#include "sched/attest.h"

#include "base/assert.h"
#include "sched/attest_host.h"

#include <numaperf/capabilities.h>

#define ATTEST_SCHEMA "numaperf.attestation.v1"

/* ---- settings ---- */

static json_t *attest_choice(const char *const *names, size_t count, uint32_t value)
{
    NUMAPERF_ASSERT(value < count); /* start has refused what is no choice */
    return json_string(names[value]);
}

#define ATTEST_CHOICE(names, value) attest_choice(names, sizeof(names) / sizeof((names)[0]), value)

static json_t *attest_audit_policy(const numaperf_rt_config_t *config)
{
    static const char *const names[] = {"report", "repair", "stop"};
    return ATTEST_CHOICE(names, config->audit_policy);
}

static json_t *attest_nodes(struct numaperf__attest *attest)
{
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < attest->rt->node_count; i++) {
        json_t *node = json_object();
        numaperf__json_put(&attest->json, node, "node", json_integer(attest->rt->nodes[i].id));
        numaperf__json_put(&attest->json, node, "workers",
                           json_integer(attest->rt->nodes[i].worker_count));
        numaperf__json_append(&attest->json, nodes, node);
    }
    return nodes;
}

static void attest_put_callbacks(struct numaperf__attest *attest, json_t *settings)
{
    const numaperf_rt_config_t *config = &attest->rt->config;
    const struct {
        const char *name;
        bool is_set;
    } callbacks[] = {
        {"on_worker_start", config->on_worker_start != NULL},
        {"on_node_start", config->on_node_start != NULL},
        {"on_node_stop", config->on_node_stop != NULL},
        {"on_worker_stop", config->on_worker_stop != NULL},
        {"on_violation", config->on_violation != NULL},
        {"on_task_cancel", config->on_task_cancel != NULL},
    };
    json_t *section = numaperf__json_section(&attest->json, settings, "callbacks");
    for (size_t i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++)
        numaperf__json_put(&attest->json, section, callbacks[i].name,
                           json_boolean(callbacks[i].is_set));
}

static json_t *attest_limit(uint64_t limit)
{
    return limit == UINT64_MAX ? json_null() : numaperf__json_number(limit);
}

/* 0 leaves it to the loop: null. */
static json_t *attest_default(uint32_t value)
{
    return value != 0 ? json_integer(value) : json_null();
}

static void attest_put_settings(struct numaperf__attest *attest, json_t *root)
{
    static const char *const modes[] = {"soft", "hard"};
    static const char *const steals[] = {"default", "local-only", "local-then-socket-then-remote",
                                         "any"};
    static const char *const huge[] = {"default", "none", "transparent", "2MB", "1GB"};
    static const char *const backends[] = {"auto", "io_uring", "epoll"};
    const numaperf_rt_config_t *config = &attest->rt->config;
    struct numaperf__json *json = &attest->json;
    json_t *settings = numaperf__json_section(json, root, "settings");
    uint32_t audit_ms = numaperf__auditor_interval_ms(config);
    uint32_t workers = config->workers_per_node;
    numaperf__json_put(json, settings, "mode", ATTEST_CHOICE(modes, config->mode));
    numaperf__json_put(json, settings, "waive_privileges",
                       json_boolean((config->flags & NUMAPERF_RT_WAIVE_PRIVILEGES) != 0));
    numaperf__json_put(json, settings, "steal_policy", ATTEST_CHOICE(steals, config->steal_policy));
    numaperf__json_put(json, settings, "workers_per_node", attest_default(workers));
    numaperf__json_put(json, settings, "nodes", attest_nodes(attest));
    numaperf__json_put(json, settings, "topology_lent",
                       json_boolean(attest->rt->own_topology == NULL));
    numaperf__json_put(json, settings, "huge_pages", ATTEST_CHOICE(huge, config->huge_pages));
    numaperf__json_put(json, settings, "io_backend", ATTEST_CHOICE(backends, config->io_backend));
    numaperf__json_put(json, settings, "sqpoll",
                       json_boolean((config->io_flags & NUMAPERF_LOOP_SQPOLL) != 0));
    numaperf__json_put(json, settings, "busy_poll",
                       json_boolean((config->io_flags & NUMAPERF_LOOP_BUSY_POLL) != 0));
    numaperf__json_put(json, settings, "buffer_bytes", attest_default(config->buffer_bytes));
    numaperf__json_put(json, settings, "buffer_count", attest_default(config->buffer_count));
    numaperf__json_put(json, settings, "arena_bytes", numaperf__json_number(config->arena_bytes));
    numaperf__json_put(json, settings, "spin_ns_max", numaperf__json_number(config->spin_ns_max));
    numaperf__json_put(json, settings, "task_limit_per_node",
                       attest_limit(config->task_limit_per_node));
    numaperf__json_put(json, settings, "audit_interval_ms",
                       audit_ms != 0 ? json_integer(audit_ms) : json_null());
    numaperf__json_put(json, settings, "audit_policy", attest_audit_policy(config));
    attest_put_callbacks(attest, settings);
}

static void attest_put_audit(struct numaperf__attest *attest, json_t *root)
{
    const numaperf_rt_t *rt = attest->rt;
    json_t *audit = numaperf__json_section(&attest->json, root, "audit");
    uint32_t audit_ms = numaperf__auditor_interval_ms(&rt->config);
    numaperf__json_put(&attest->json, audit, "on", json_boolean(audit_ms != 0));
    numaperf__json_put(&attest->json, audit, "interval_ms",
                       audit_ms != 0 ? json_integer(audit_ms) : json_null());
    numaperf__json_put(&attest->json, audit, "policy", attest_audit_policy(&rt->config));
    numaperf__json_put(
        &attest->json, audit, "violations",
        numaperf__json_number(atomic_load_explicit(&rt->violation_count, memory_order_relaxed)));
}

/* ---- workers ---- */

static void attest_put_level(struct numaperf__attest *attest, json_t *object, const char *key,
                             const numaperf_enforcement_t *level)
{
    json_t *section = numaperf__json_section(&attest->json, object, key);
    numaperf__json_put(&attest->json, section, "level",
                       json_string(numaperf_enforcement_level_name(level->level)));
    numaperf__json_put(&attest->json, section, "reason",
                       numaperf__json_text(numaperf_enforcement_reason(level)));
}

static json_t *attest_pages(enum numaperf__part part, uint64_t pages)
{
    bool has_pages = part >= NUMAPERF__PART_STACK && part <= NUMAPERF__PART_RING;
    return has_pages ? numaperf__json_number(pages) : json_null();
}

/* Nothing to be said is null. */
static json_t *attest_words(const char *text)
{
    return numaperf__json_text(text[0] != '\0' ? text : NULL);
}

static void attest_put_look(struct numaperf__attest *attest, json_t *object, const char *key,
                            enum numaperf__part part, const struct numaperf__look *look)
{
    struct numaperf__json *json = &attest->json;
    if (look->verdict == NUMAPERF__LOOK_NEVER) {
        numaperf__json_put(json, object, key, json_null());
        return;
    }
    json_t *section = numaperf__json_section(json, object, key);
    const char *verdict = numaperf__verdict_name((enum numaperf__verdict)look->verdict);
    bool unreadable = look->verdict == NUMAPERF__LOOK_UNREADABLE;
    numaperf__json_put(json, section, "verdict", json_string(verdict));
    numaperf__json_put(json, section, "found", attest_words(look->found));
    numaperf__json_put(json, section, "pages", attest_pages(part, look->pages));
    numaperf__json_put(json, section, "pages_home", attest_pages(part, look->pages_home));
    numaperf__json_put(json, section, "pages_absent", attest_pages(part, look->pages_absent));
    numaperf__json_put(json, section, "time", numaperf__json_time(look->time_ns));
    numaperf__json_put(json, section, "errno",
                       unreadable ? json_string(numaperf_err_name(-look->sys_errno)) : json_null());
}

static json_t *attest_part(struct numaperf__attest *attest, uint32_t worker,
                           enum numaperf__part part)
{
    struct numaperf__look first;
    struct numaperf__look last;
    const struct numaperf__look *now = numaperf__attest_look(attest, worker, part);
    /* The last one known may be the auditor's by now; this document shows its own. */
    numaperf__evidence_get(attest->rt->evidence, worker, part, &first, &last);
    const char *asked = now->wanted[0] != '\0' ? now->wanted : first.wanted;
    json_t *object = json_object();
    numaperf__json_put(&attest->json, object, "name", json_string(numaperf__part_name(part)));
    numaperf__json_put(&attest->json, object, "asked", attest_words(asked));
    attest_put_look(attest, object, "at_start", part, &first);
    attest_put_look(attest, object, "last", part, now);
    return object;
}

static void attest_put_arena(struct numaperf__attest *attest, json_t *object,
                             const numaperf_arena_t *arena)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    int rc = numaperf_arena_stats(arena, &stats);
    NUMAPERF_ASSERT(rc == 0); /* there is an arena, and the struct is ours */
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"limit_bytes", stats.limit_bytes},         {"chunk_count", stats.chunk_count},
        {"mapped_bytes", stats.mapped_bytes},       {"used_bytes", stats.used_bytes},
        {"used_bytes_peak", stats.used_bytes_peak}, {"alloc_count", stats.alloc_count},
        {"free_count", stats.free_count},           {"remote_free_count", stats.remote_free_count},
        {"fail_count", stats.fail_count},
    };
    json_t *section = numaperf__json_section(&attest->json, object, "arena");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        numaperf__json_put(&attest->json, section, numbers[i].name,
                           numaperf__json_number(numbers[i].value));
}

/* What of io_uring its loop has, each with the outcome of trying it. */
static void attest_put_features(struct numaperf__attest *attest, json_t *object,
                                const numaperf_loop_features_t *features)
{
    json_t *section = numaperf__json_section(&attest->json, object, "features");
    uint32_t outcome = 0;
    const char *name = NULL;
    for (size_t i = 0; (name = numaperf_loop_feature(features, i, &outcome)) != NULL; i++)
        numaperf__json_put(&attest->json, section, name, json_string(numaperf_probe_name(outcome)));
}

static json_t *attest_worker(struct numaperf__attest *attest, uint32_t index)
{
    const struct numaperf_worker *worker = &attest->rt->workers[index];
    struct numaperf__json *json = &attest->json;
    bool ring = worker->backend == NUMAPERF_IO_URING;
    json_t *object = json_object();
    numaperf__json_put(json, object, "index", json_integer(index));
    numaperf__json_put(json, object, "node", json_integer(worker->node->id));
    numaperf__json_put(json, object, "pu", json_integer(worker->cpu));
    numaperf__json_put(json, object, "pu_shared", json_boolean(worker->cpu_shared));
    numaperf__json_put(json, object, "thread_id", json_integer(worker->thread_id));
    numaperf__json_put(json, object, "backend", json_string(ring ? "io_uring" : "epoll"));
    numaperf__json_put(json, object, "backend_reason",
                       numaperf__json_text(numaperf_worker_backend_reason(worker)));
    attest_put_features(attest, object, &worker->features);
    bool polled = worker->features.sqpoll == NUMAPERF_PROBE_OK;
    numaperf__json_put(json, object, "sqpoll_pu",
                       polled ? json_integer(worker->sqpoll_cpu) : json_null());
    attest_put_level(attest, object, "enforcement", &worker->enforcement);
    json_t *parts = json_array();
    for (uint32_t part = 0; part < NUMAPERF__PART_COUNT; part++)
        numaperf__json_append(json, parts, attest_part(attest, index, (enum numaperf__part)part));
    numaperf__json_put(json, object, "parts", parts);
    attest_put_arena(attest, object, worker->arena);
    return object;
}

/* ---- the whole ---- */

json_t *numaperf__attest_document(struct numaperf__attest *attest)
{
    struct numaperf__json *json = &attest->json;
    json_t *root = json_object();
    numaperf__json_put(json, root, "schema", json_string(ATTEST_SCHEMA));
    numaperf__json_put(json, root, "numaperf", json_string(numaperf_version_string()));
    json_t *times = numaperf__json_section(json, root, "time");
    numaperf__json_put(json, times, "began", numaperf__json_time(attest->began_ns));
    attest_put_level(attest, root, "verdict", &attest->verdict);
    numaperf__attest_host(json, root);
    numaperf__attest_topology(json, root, attest->rt->topology);
    attest_put_settings(attest, root);
    attest_put_audit(attest, root);
    json_t *workers = json_array();
    for (uint32_t i = 0; i < attest->rt->worker_count; i++)
        numaperf__json_append(json, workers, attest_worker(attest, i));
    numaperf__json_put(json, root, "workers", workers);
    numaperf__json_put(json, times, "ended", numaperf__json_time(numaperf__attest_now_ns()));
    return root;
}
