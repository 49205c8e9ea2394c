/* SPDX-License-Identifier: MIT */
/*
 * The trial: the runtime is started as it would be, looked at, and stopped. What the library says
 * then is the verdict, in its own words, so doctor and library cannot disagree. A requirement that
 * the checks found missing, and the start did without, becomes a note.
 */
#include "cli/doctor.h"
#include "cli/doctor_fix.h"
#include "cli/procfs.h"

#include <numaperf/enforce.h>
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char trial_why[] = "pins, memory and rings of every worker, each read back";

/* ---- it started ---- */

static void trial_settle(json_t *report)
{
    size_t i;
    json_t *requirement;
    json_array_foreach(json_object_get(report, "requirements"), i, requirement)
    {
        const char *status = json_string_value(json_object_get(requirement, "status"));
        if (strcmp(status, "missing") == 0)
            json_object_set_new(requirement, "status", json_string("note"));
    }
}

static json_t *trial_facts(const numaperf_rt_t *rt, const numaperf_enforcement_t *level)
{
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    (void)numaperf_rt_nodes(rt, &nodes); /* both are valid */
    size_t count = numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    const numaperf_worker_t *first = numaperf_rt_worker(rt, 0);
    const char *backend =
        numaperf_worker_backend(first) == NUMAPERF_IO_URING ? "io_uring" : "epoll";
    const char *why_not_ring = numaperf_worker_backend_reason(first);
    const char *reason = numaperf_enforcement_reason(level);
    return json_pack(
        "{s:b, s:i, s:o, s:s, s:o, s:s, s:o}", "started", 1, "worker_count", (int)count, "nodes",
        procfs_nodemask_json(&nodes), "level", numaperf_enforcement_level_name(level->level),
        "level_reason", reason != NULL ? json_string(reason) : json_null(), "backend", backend,
        "backend_reason", why_not_ring != NULL ? json_string(why_not_ring) : json_null());
}

static void trial_started(json_t *report, const numaperf_rt_t *rt)
{
    numaperf_enforcement_t level;
    memset(&level, 0, sizeof(level));
    (void)numaperf_rt_enforcement(rt, &level); /* both are valid */
    trial_settle(report);
    char found[64];
    (void)snprintf(found, sizeof(found), "started, %s",
                   numaperf_enforcement_level_name(level.level));
    (void)doctor_add(report, &(struct doctor_line){
                                 .name = "trial start",
                                 .status = numaperf_is_strict(&level) ? DOCTOR_OK : DOCTOR_NOTE,
                                 .found = found,
                                 .needed = "starts",
                                 .why = numaperf_is_strict(&level) ? trial_why : level.reason,
                             });
    json_object_set_new(report, "trial", trial_facts(rt, &level));
}

/* ---- it was refused ---- */

/* What to do about a refusal, by what was being done; the reason itself says the rest. */
static void trial_fix(json_t *fixes, const numaperf_error_t *error)
{
    static const struct {
        const char *operation; /* or the beginning of several */
        enum fix_calls calls;
    } by_call[] = {
        {"mbind", FIX_CALLS_MEMORY},
        {"set_mempolicy", FIX_CALLS_MEMORY},
        {"get_mempolicy", FIX_CALLS_MEMORY},
        {"region", FIX_CALLS_MEMORY},
        {"move_pages", FIX_CALLS_QUERY},
        {"stack", FIX_CALLS_QUERY},
        {"ring", FIX_CALLS_QUERY},
        {"audit", FIX_CALLS_AUDIT},
        {"pin", FIX_CALLS_AFFINITY},
        {"sched_setaffinity", FIX_CALLS_AFFINITY},
        {"io_uring", FIX_CALLS_RING},
        {"io-wq", FIX_CALLS_RING},
        {"loop", FIX_CALLS_RING},
    };
    bool is_denied =
        error->sys_errno == EPERM || error->sys_errno == EACCES || error->sys_errno == ENOSYS;
    enum fix_calls calls = FIX_CALLS_COUNT;
    for (size_t i = 0; i < sizeof(by_call) / sizeof(by_call[0]); i++) {
        const char *operation = by_call[i].operation;
        if (strncmp(error->operation, operation, strlen(operation)) == 0)
            calls = by_call[i].calls;
    }
    if (is_denied && calls != FIX_CALLS_COUNT)
        fix_seccomp(fixes, calls);
    if (error->sys_errno == ENOMEM)
        fix_memory(fixes);
    else if (!is_denied && (calls == FIX_CALLS_AFFINITY || strcmp(error->operation, "io-wq") == 0))
        fix_cpuset(fixes); /* the kernel refuses PUs that are outside of it */
    if (calls == FIX_CALLS_RING)
        fix_line(fixes, "without", "numaperf doctor --backend epoll");
}

static void trial_refused(json_t *report, const numaperf_error_t *error)
{
    char why[sizeof(error->operation) + sizeof(error->reason) + 4];
    /* Some reasons begin with the operation themselves. */
    bool names_it = strncmp(error->reason, error->operation, strlen(error->operation)) == 0;
    (void)snprintf(why, sizeof(why), "%s%s%s", names_it ? "" : error->operation,
                   names_it ? "" : ": ", error->reason); /* it fits */
    json_t *fixes = doctor_add(report, &(struct doctor_line){
                                           .name = "trial start",
                                           .status = DOCTOR_MISSING,
                                           .found = "refused",
                                           .needed = "starts",
                                           .why = why,
                                       });
    trial_fix(fixes, error);
    json_object_set_new(report, "trial",
                        json_pack("{s:b, s:s, s:s, s:s, s:o}", "started", 0, "error",
                                  numaperf_err_name(error->code), "operation", error->operation,
                                  "reason", error->reason, "errno",
                                  error->sys_errno != 0
                                      ? json_string(numaperf_err_name(-error->sys_errno))
                                      : json_null()));
}

bool doctor_trial(json_t *report, const numaperf_rt_config_t *config)
{
    numaperf_rt_t *rt = NULL;
    bool is_started = numaperf_rt_start(config, &rt) == 0;
    if (is_started) {
        trial_started(report, rt);
        (void)numaperf_rt_stop(rt, UINT64_MAX); /* nothing runs on it */
        numaperf_rt_destroy(rt);
    } else {
        const numaperf_error_t error = *numaperf_last_error();
        trial_refused(report, &error);
    }
    json_object_set_new(report, "ready", json_boolean(is_started));
    return is_started;
}
