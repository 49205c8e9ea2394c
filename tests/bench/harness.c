/* SPDX-License-Identifier: MIT */
/*
 * Rounds, isolation, statistics. Each sample runs in a child process: it starts from the same
 * memory as the others, its CPU time is its own, and one that crashes or hangs ends the run with
 * a message instead of a wrong figure. This process never has a second thread, so that its
 * children may start some.
 */
#include "harness.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HARNESS_SAMPLE_MS_MAX 120000 /* a sample that takes longer hangs */
#define HARNESS_STUCK_NS 60000000000u
#define HARNESS_QUIET_NS 180000000000u /* how long a case waits for quiet */
#define HARNESS_LISTEN_NS 200000000u
#define HARNESS_NAP_NS 800000000u

/* ---- clocks ---- */

static uint64_t harness_clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        abort(); /* these clocks always exist */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void)
{
    return harness_clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
    return harness_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t bench_thread_cpu_ns(void)
{
    return harness_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void bench_sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

int bench_pin(int cpu)
{
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    int rc = numaperf_cpuset_add(&cpus, cpu);
    return rc < 0 ? rc : numaperf_set_affinity(&cpus);
}

/* ---- tally ---- */

void bench_tally_add(struct bench_tally *tally)
{
    static _Thread_local _Atomic uint64_t *slot;
    if (slot == NULL) {
        uint32_t at = atomic_fetch_add_explicit(&tally->used, 1, memory_order_relaxed);
        if (at >= BENCH_WORKERS_MAX)
            abort(); /* more threads run tasks than there are workers */
        slot = &tally->slots[at].count;
    }
    uint64_t count = atomic_load_explicit(slot, memory_order_relaxed);
    /* Release pairs with the acquire in bench_tally_sum(): what the task wrote is seen. */
    atomic_store_explicit(slot, count + 1, memory_order_release);
}

uint64_t bench_tally_sum(const struct bench_tally *tally)
{
    uint64_t sum = 0;
    uint32_t used = atomic_load_explicit(&tally->used, memory_order_acquire);
    for (uint32_t i = 0; i < used && i < BENCH_WORKERS_MAX; i++)
        sum += atomic_load_explicit(&tally->slots[i].count, memory_order_acquire);
    return sum;
}

int bench_tally_wait(const struct bench_tally *tally, uint64_t count)
{
    uint64_t seen = 0;
    uint64_t since_ns = bench_now_ns();
    for (;;) {
        uint64_t sum = bench_tally_sum(tally);
        if (sum >= count)
            return sum == count ? 0 : -EPROTO; /* a task ran twice */
        uint64_t now_ns = bench_now_ns();
        if (sum != seen) {
            seen = sum;
            since_ns = now_ns;
        }
        if (now_ns - since_ns > HARNESS_STUCK_NS)
            return -ETIMEDOUT;
        bench_sleep_ns(50000);
    }
}

/* ---- statistics ---- */

static int harness_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between two of them by their distance, as everybody does. */
static double harness_quantile_sorted(const double *values, size_t count, double part)
{
    double at = part * (double)(count - 1);
    size_t below = (size_t)at;
    size_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (values[above] - values[below]) * (at - (double)below);
}

double bench_quantile(double *values, size_t count, double part)
{
    qsort(values, count, sizeof(*values), harness_compare);
    return harness_quantile_sorted(values, count, part);
}

static struct bench_spread harness_spread(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), harness_compare);
    return (struct bench_spread){
        .median = harness_quantile_sorted(values, count, 0.5),
        .low = harness_quantile_sorted(values, count, 0.25),
        .high = harness_quantile_sorted(values, count, 0.75),
        .least = values[0],
        .most = values[count - 1],
    };
}

#define HARNESS_NO_PEER UINT32_MAX

static double *harness_slot(const struct bench_result *result, uint32_t round, uint32_t peer)
{
    return result->values + ((size_t)round * result->peer_count + peer) * result->metric_count;
}

double bench_result_value(const struct bench_result *result, uint32_t round, uint32_t peer,
                          uint32_t metric)
{
    return harness_slot(result, round, peer)[metric];
}

/* `against` may be no peer: then of the values themselves. */
static struct bench_spread harness_collect(const struct bench_result *result, uint32_t peer,
                                           uint32_t against, uint32_t metric)
{
    double *values = calloc(result->round_count, sizeof(*values));
    if (values == NULL)
        abort(); /* a few hundred bytes */
    for (uint32_t i = 0; i < result->round_count; i++) {
        values[i] = bench_result_value(result, i, peer, metric);
        if (against != HARNESS_NO_PEER)
            values[i] /= bench_result_value(result, i, against, metric);
    }
    struct bench_spread spread = harness_spread(values, result->round_count);
    free(values);
    return spread;
}

struct bench_spread bench_result_values(const struct bench_result *result, uint32_t peer,
                                        uint32_t metric)
{
    return harness_collect(result, peer, HARNESS_NO_PEER, metric);
}

struct bench_spread bench_result_ratios(const struct bench_result *result, uint32_t peer,
                                        uint32_t metric)
{
    return harness_collect(result, peer, 0, metric);
}

static uint32_t harness_find(const struct bench_result *result, const struct bench_peer *peer)
{
    for (uint32_t i = 0; i < result->peer_count; i++) {
        if (result->peers[i] == peer)
            return i;
    }
    return HARNESS_NO_PEER;
}

bool bench_result_goal(const struct bench_result *result, const struct bench_goal *goal,
                       struct bench_spread *out)
{
    uint32_t peer = harness_find(result, goal->peer);
    uint32_t against = harness_find(result, goal->against);
    if (peer == HARNESS_NO_PEER || (goal->against != NULL && against == HARNESS_NO_PEER))
        return false;
    *out = harness_collect(result, peer, against, goal->metric);
    return true;
}

bool bench_goal_holds(const struct bench_result *result, const struct bench_goal *goal,
                      double figure, double wanted)
{
    bool is_most = result->bench->metrics[goal->metric].lower_is_better;
    return is_most ? figure <= wanted : figure >= wanted;
}

/* ---- isolation ---- */

struct harness_answer {
    int rc;
    char reason[300];
    struct bench_setup setup;
    double values[BENCH_METRICS_MAX];
};

static void harness_child(const struct bench_run *run, int fd)
{
    struct harness_answer answer = {.setup = *run->setup};
    /* As every server does: a peer that went away is an error of the write. */
    (void)signal(SIGPIPE, SIG_IGN); /* fails for a bad number only */
    if (run->peer == NULL)
        answer.rc = bench_numaperf_layout(&answer.setup);
    else
        answer.rc = run->bench->sample(run, answer.values);
    if (answer.rc < 0) {
        const numaperf_error_t *last = numaperf_last_error();
        bool detail = last->code == answer.rc;
        (void)snprintf(answer.reason, sizeof(answer.reason), "%s%s%s", numaperf_strerror(answer.rc),
                       detail ? ": " : "", detail ? last->reason : "");
    }
    ssize_t n = write(fd, &answer, sizeof(answer)); /* less than a pipe holds: all or nothing */
    exit(n == (ssize_t)sizeof(answer) ? 0 : 1);
}

static int harness_receive(int fd, struct harness_answer *out)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int rc = poll(&ready, 1, HARNESS_SAMPLE_MS_MAX);
    if (rc == 0)
        return -ETIMEDOUT;
    ssize_t n = read(fd, out, sizeof(*out));
    return n == (ssize_t)sizeof(*out) ? out->rc : -EPIPE; /* it died before it could answer */
}

/* Run it in a child; what it said is in `out`, also when that was a failure. */
static int harness_isolate(const struct bench_run *run, struct harness_answer *out)
{
    memset(out, 0, sizeof(*out));
    int ends[2];
    if (pipe(ends) < 0)
        return -errno;
    (void)fflush(NULL); /* else the child would print it once more */
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        harness_child(run, ends[1]);
    }
    (void)close(ends[1]);
    int rc = pid < 0 ? -errno : harness_receive(ends[0], out);
    (void)close(ends[0]);
    if (pid < 0)
        return rc;
    if (rc == -ETIMEDOUT)
        (void)kill(pid, SIGKILL); /* it is ours, and not waited for yet */
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || (rc == 0 && status != 0))
        rc = -EPIPE;
    if (rc < 0 && out->reason[0] == '\0')
        (void)snprintf(out->reason, sizeof(out->reason), "%s (wait status %#x)",
                       rc == -ETIMEDOUT ? "no answer in time" : "the process ended early", status);
    return rc;
}

/* ---- how quiet the machine is ---- */

struct harness_use {
    double busy_s; /* all PUs */
    double total_s;
    double own_s; /* our children's part */
};

static double harness_seconds(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static struct harness_use harness_use(void)
{
    struct harness_use use = {0};
    unsigned long long ticks[8] = {0}; /* user nice system idle iowait irq softirq steal */
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL)
        return use;
    int n = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1],
                   &ticks[2], &ticks[3], &ticks[4], &ticks[5], &ticks[6], &ticks[7]);
    (void)fclose(file); /* was only read */
    double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
    for (int i = 0; n == 8 && i < 8; i++) {
        use.total_s += (double)ticks[i] * tick_s;
        use.busy_s += i == 3 || i == 4 ? 0 : (double)ticks[i] * tick_s;
    }
    struct rusage own;
    if (getrusage(RUSAGE_CHILDREN, &own) == 0)
        use.own_s = harness_seconds(&own.ru_utime) + harness_seconds(&own.ru_stime);
    return use;
}

/* ---- rounds ---- */

static int harness_sample(struct bench_run *run, struct bench_result *result, uint32_t round,
                          uint32_t peer)
{
    run->peer = result->peers[peer];
    struct harness_answer answer;
    int rc = harness_isolate(run, &answer);
    if (rc < 0) {
        (void)fprintf(stderr, "%s, %s: %s\n", run->bench->name, run->peer->name, answer.reason);
        return rc;
    }
    double *values = harness_slot(result, round, peer);
    for (uint32_t i = 0; i < result->metric_count; i++) {
        values[i] = answer.values[i];
        if (isfinite(values[i]) && values[i] > 0)
            continue;
        (void)fprintf(stderr, "%s, %s: %s is %g\n", run->bench->name, run->peer->name,
                      run->bench->metrics[i].name, values[i]);
        return -ERANGE;
    }
    return 0;
}

static int harness_round(struct bench_run *run, struct bench_result *result, uint32_t round)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < result->peer_count; i++) {
        /* Another one goes first each round, and every second round goes backwards. */
        uint32_t step = round % 2 == 0 ? i : result->peer_count - 1 - i;
        rc = harness_sample(run, result, round, (round + step) % result->peer_count);
    }
    return rc;
}

/* What others did while a round was taken is added to `sum`; the part of the machine they took. */
static double harness_add_others(struct harness_use *sum, const struct harness_use *from)
{
    struct harness_use to = harness_use();
    double total = to.total_s - from->total_s;
    double others = to.busy_s - from->busy_s - (to.own_s - from->own_s);
    if (total <= 0 || others < 0)
        return 0;
    sum->total_s += total;
    sum->busy_s += others;
    return 100 * others / total;
}

/* Until others take no more than that of the machine, for a moment at least; or it is too late. */
static void harness_wait_for_quiet(double percent_max, uint64_t limit_ns)
{
    while (percent_max > 0 && bench_now_ns() < limit_ns) {
        struct harness_use before = harness_use();
        struct harness_use unused = {0};
        bench_sleep_ns(HARNESS_LISTEN_NS);
        if (harness_add_others(&unused, &before) <= percent_max)
            return;
        bench_sleep_ns(HARNESS_NAP_NS);
    }
}

static int harness_rounds(struct bench_run *run, const struct bench_options *options,
                          struct bench_result *result)
{
    struct harness_use kept = {0};
    uint64_t limit_ns = bench_now_ns() + HARNESS_QUIET_NS;
    for (uint32_t i = 0; i < result->round_count;) {
        harness_wait_for_quiet(options->others_percent_max, limit_ns);
        struct harness_use before = harness_use();
        struct harness_use with = kept;
        int rc = harness_round(run, result, i);
        if (rc < 0)
            return rc;
        double percent = harness_add_others(&with, &before);
        if (options->others_percent_max > 0 && percent > options->others_percent_max &&
            bench_now_ns() < limit_ns) {
            result->retaken++;
            continue;
        }
        kept = with;
        i++;
    }
    result->others_percent = kept.total_s > 0 ? 100 * kept.busy_s / kept.total_s : 0;
    return 0;
}

const char *bench_peer_absent(const struct bench_peer *peer)
{
    if (peer->absent == NULL && peer->missing != NULL)
        return peer->missing();
    return peer->absent;
}

static void harness_result_init(const struct bench_case *bench, const struct bench_options *options,
                                struct bench_result *out)
{
    *out = (struct bench_result){.bench = bench, .round_count = options->round_count};
    for (uint32_t i = 0; i < BENCH_PEERS_MAX && bench->peers[i] != NULL; i++) {
        if (bench_peer_absent(bench->peers[i]) == NULL)
            out->peers[out->peer_count++] = bench->peers[i];
    }
    while (out->metric_count < BENCH_METRICS_MAX && bench->metrics[out->metric_count].name != NULL)
        out->metric_count++;
    out->setup.node_count = bench->node_count;
    out->setup.workers_per_node = bench->workers_per_node;
}

int bench_case_run(const struct bench_case *bench, const struct bench_options *options,
                   struct bench_result *out)
{
    harness_result_init(bench, options, out);
    if (out->peer_count == 0) {
        (void)snprintf(out->left_out, sizeof(out->left_out), "none of its peers is there");
        return 0;
    }
    size_t count = (size_t)out->round_count * out->peer_count * out->metric_count;
    out->values = calloc(count, sizeof(double));
    if (out->values == NULL)
        return -ENOMEM;

    struct harness_answer layout;
    struct bench_run run = {.bench = bench, .setup = &out->setup, .smoke = options->smoke};
    int rc = harness_isolate(&run, &layout);
    if (rc == NUMAPERF_E_NO_NODE) {
        memcpy(out->left_out, layout.reason, sizeof(out->left_out));
        return 0;
    }
    if (rc < 0) {
        (void)fprintf(stderr, "%s: %s\n", bench->name, layout.reason);
        return rc;
    }
    out->setup = layout.setup;
    return harness_rounds(&run, options, out);
}

void bench_result_fini(struct bench_result *result)
{
    free(result->values);
    result->values = NULL;
}
