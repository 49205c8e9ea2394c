/* SPDX-License-Identifier: MIT */
/*
 * Whole servers under the clients that people use: redis-benchmark against key-value servers, wrk
 * against web servers; and one more load of our own (echo_client.c), which checks every byte, for
 * servers of different protocols. The server is a process on the first worker's PU, the client on
 * another; what counts is requests for each second of CPU time that the server's process takes,
 * from before the client starts until it has ended.
 *
 * Source: clock_getcpuclockid(3).
 */
#include "service.h"

#include "echo_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SERVICE_CONNECTIONS 50u
#define SERVICE_VALUE_BYTES 64u
#define SERVICE_KEYS 10000u
#define SERVICE_SMOKE_REQUESTS 2000u
#define SERVICE_SMOKE_PARTS 20u
#define SERVICE_LOAD_DEPTH 16u
#define SERVICE_WARM_UP_NS 100000000u
#define SERVICE_MEASURE_NS 500000000u
#define SERVICE_KEY "key:000001"

/* About as many as take a second. */
#define SERVICE_REQUESTS 60000u
#define SERVICE_REQUESTS_PIPELINED 800000u

enum service_load { SERVICE_REDIS = 0, SERVICE_WRK, SERVICE_OWN };

struct service_shape {
    enum service_load load;
    const char *test;  /* of redis-benchmark */
    uint32_t depth;    /* requests in flight on a connection */
    uint32_t requests; /* redis-benchmark takes no time, but a number */
};

enum {
    SERVICE_GET = 0,
    SERVICE_SET,
    SERVICE_GET_P16,
    SERVICE_SET_P16,
    SERVICE_LOAD,
    SERVICE_LOAD_P16,
    SERVICE_FILE
};

static const struct service_shape shapes[] = {
    [SERVICE_GET] = {SERVICE_REDIS, "get", 1, SERVICE_REQUESTS},
    [SERVICE_SET] = {SERVICE_REDIS, "set", 1, SERVICE_REQUESTS},
    [SERVICE_GET_P16] = {SERVICE_REDIS, "get", 16, SERVICE_REQUESTS_PIPELINED},
    [SERVICE_SET_P16] = {SERVICE_REDIS, "set", 16, SERVICE_REQUESTS_PIPELINED},
    [SERVICE_LOAD] = {SERVICE_OWN, NULL, 1, 0},
    [SERVICE_LOAD_P16] = {SERVICE_OWN, NULL, SERVICE_LOAD_DEPTH, 0},
    [SERVICE_FILE] = {SERVICE_WRK, NULL, 1, 0},
};

/* A sample under way. */
struct service_sample {
    const struct bench_run *run;
    const struct service_shape *shape;
    const struct bench_service *service;
    struct bench_service_site site;
    pid_t pid;
    int client_cpu;
};

static int service_cpu_ns(pid_t pid, uint64_t *out_ns)
{
    clockid_t clock;
    struct timespec used;
    int rc = -clock_getcpuclockid(pid, &clock);
    if (rc == 0 && clock_gettime(clock, &used) < 0)
        rc = -errno;
    if (rc == 0)
        *out_ns = (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
    return rc;
}

/* ---- redis-benchmark ---- */

static int service_redis_run(const struct service_sample *sample, const char *test,
                             uint32_t requests, double *out_rate)
{
    char path[PATH_MAX];
    char text[4096];
    struct program_line line = {0};
    program_add(&line, "%s", program_find("redis-benchmark", path) ? path : "redis-benchmark");
    program_add(&line, "-p");
    program_add(&line, "%u", sample->site.port);
    program_add(&line, "-c");
    program_add(&line, "%u", SERVICE_CONNECTIONS);
    program_add(&line, "-n");
    program_add(&line, "%u", requests);
    program_add(&line, "-P");
    program_add(&line, "%u", sample->shape->depth);
    program_add(&line, "-d");
    program_add(&line, "%u", SERVICE_VALUE_BYTES);
    program_add(&line, "-r");
    program_add(&line, "%u", SERVICE_KEYS);
    program_add(&line, "-t");
    program_add(&line, "%s", test);
    program_add(&line, "--csv");
    int rc = program_run(&line, sample->client_cpu, text, sizeof(text));
    if (rc < 0)
        return rc;
    /* "GET","69204.15",... after a line of headings. */
    const char *answer = strstr(text, test[0] == 'g' ? "\"GET\",\"" : "\"SET\",\"");
    if (answer == NULL)
        return -EPROTO;
    *out_rate = strtod(answer + strlen("\"GET\",\""), NULL);
    return 0;
}

static int service_load_redis(const struct service_sample *sample, struct echo_count *out)
{
    uint32_t requests = sample->run->smoke ? SERVICE_SMOKE_REQUESTS : sample->shape->requests;
    double rate = 0;
    /* The keys that will be asked for are there, or most of them; and everything is warm. */
    int rc =
        service_redis_run(sample, "set", sample->run->smoke ? requests : 2 * SERVICE_KEYS, &rate);
    uint64_t start_cpu_ns = 0;
    uint64_t end_cpu_ns = 0;
    if (rc == 0)
        rc = service_cpu_ns(sample->pid, &start_cpu_ns);
    if (rc == 0)
        rc = service_redis_run(sample, sample->shape->test, requests, &rate);
    if (rc == 0)
        rc = service_cpu_ns(sample->pid, &end_cpu_ns);
    if (rc < 0)
        return rc;
    out->requests = requests;
    out->server_cpu_ns = end_cpu_ns - start_cpu_ns;
    out->took_ns = (uint64_t)(requests * 1e9 / rate);
    return 0;
}

/* ---- wrk ---- */

static int service_wrk_run(const struct service_sample *sample, struct echo_count *out)
{
    char path[PATH_MAX];
    char text[4096];
    struct program_line line = {0};
    program_add(&line, "%s", program_find("wrk", path) ? path : "wrk");
    program_add(&line, "-t1");
    program_add(&line, "-c%u", SERVICE_CONNECTIONS);
    program_add(&line, "-d1s");
    program_add(&line, "http://127.0.0.1:%u/" BENCH_SERVICE_PAGE, sample->site.port);
    int rc = program_run(&line, sample->client_cpu, text, sizeof(text));
    if (rc < 0)
        return rc;
    const char *requests = strstr(text, " requests in ");
    const char *rate = strstr(text, "Requests/sec:");
    if (requests == NULL || rate == NULL || strstr(text, "Socket errors") != NULL ||
        strstr(text, "Non-2xx") != NULL) {
        (void)fputs(text, stderr);
        return -EPROTO;
    }
    while (requests > text && requests[-1] >= '0' && requests[-1] <= '9')
        requests--;
    out->requests = strtoull(requests, NULL, 10);
    out->took_ns =
        (uint64_t)((double)out->requests * 1e9 / strtod(rate + strlen("Requests/sec:"), NULL));
    return 0;
}

static int service_load_wrk(const struct service_sample *sample, struct echo_count *out)
{
    uint64_t start_cpu_ns = 0;
    uint64_t end_cpu_ns = 0;
    int rc = service_cpu_ns(sample->pid, &start_cpu_ns);
    if (rc == 0)
        rc = service_wrk_run(sample, out);
    if (rc == 0)
        rc = service_cpu_ns(sample->pid, &end_cpu_ns);
    out->server_cpu_ns = end_cpu_ns - start_cpu_ns;
    return rc;
}

/* ---- our own load ---- */

/* Ask a server once, and wait for an answer of that many bytes. */
static int service_ask(uint16_t port, const char *request, char *answer, size_t answer_bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    ssize_t length = (ssize_t)strlen(request);
    int rc = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        send(fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        rc = -errno;
    ssize_t n = rc == 0 ? recv(fd, answer, answer_bytes, MSG_WAITALL) : 0;
    (void)close(fd);
    return rc == 0 && n != (ssize_t)answer_bytes ? -EPROTO : rc;
}

struct service_words {
    char set[256];
    char set_answer[16];
    char get[64];
    char get_answer[256];
};

static void service_words(bool is_memcached, struct service_words *out)
{
    char value[SERVICE_VALUE_BYTES + 1];
    memset(value, 'x', SERVICE_VALUE_BYTES);
    value[SERVICE_VALUE_BYTES] = '\0';
    if (is_memcached) {
        (void)snprintf(out->set, sizeof(out->set), "set " SERVICE_KEY " 0 0 %u\r\n%s\r\n",
                       SERVICE_VALUE_BYTES, value);
        (void)snprintf(out->set_answer, sizeof(out->set_answer), "STORED\r\n");
        (void)snprintf(out->get, sizeof(out->get), "get " SERVICE_KEY "\r\n");
        (void)snprintf(out->get_answer, sizeof(out->get_answer),
                       "VALUE " SERVICE_KEY " 0 %u\r\n%s\r\nEND\r\n", SERVICE_VALUE_BYTES, value);
        return;
    }
    size_t key_bytes = strlen(SERVICE_KEY);
    (void)snprintf(out->set, sizeof(out->set),
                   "*3\r\n$3\r\nSET\r\n$%zu\r\n" SERVICE_KEY "\r\n$%u\r\n%s\r\n", key_bytes,
                   SERVICE_VALUE_BYTES, value);
    (void)snprintf(out->set_answer, sizeof(out->set_answer), "+OK\r\n");
    (void)snprintf(out->get, sizeof(out->get), "*2\r\n$3\r\nGET\r\n$%zu\r\n" SERVICE_KEY "\r\n",
                   key_bytes);
    (void)snprintf(out->get_answer, sizeof(out->get_answer), "$%u\r\n%s\r\n", SERVICE_VALUE_BYTES,
                   value);
}

static int service_load_own(const struct service_sample *sample, struct echo_count *out)
{
    struct service_words words;
    service_words(sample->service->is_memcached, &words);
    char answer[sizeof(words.set_answer)];
    size_t length = strlen(words.set_answer);
    int rc = service_ask(sample->site.port, words.set, answer, length);
    if (rc < 0 || memcmp(answer, words.set_answer, length) != 0)
        return rc < 0 ? rc : -EPROTO;
    uint64_t parts = sample->run->smoke ? SERVICE_SMOKE_PARTS : 1;
    struct echo_plan plan = {
        .cpu = sample->client_cpu,
        .request = words.get,
        .answer = words.get_answer,
        .request_bytes = (uint32_t)strlen(words.get),
        .answer_bytes = (uint32_t)strlen(words.get_answer),
        .connection_count = SERVICE_CONNECTIONS,
        .depth = sample->shape->depth,
        .warm_up_ns = SERVICE_WARM_UP_NS / parts,
        .measure_ns = SERVICE_MEASURE_NS / parts,
    };
    struct echo_target target = {.pid = sample->pid, .port = sample->site.port};
    struct echo_client client;
    rc = echo_client_start(&plan, &client);
    if (rc < 0)
        return rc;
    rc = echo_client_run(&client, &target, out);
    int end = echo_client_end(&client);
    return rc < 0 ? rc : end;
}

/* ---- sample ---- */

static int service_load(const struct service_sample *sample, double *out_values)
{
    struct echo_count count = {0};
    int rc = sample->shape->load == SERVICE_REDIS ? service_load_redis(sample, &count)
             : sample->shape->load == SERVICE_WRK ? service_load_wrk(sample, &count)
                                                  : service_load_own(sample, &count);
    if (rc < 0)
        return rc;
    double cpu_ns = (double)count.server_cpu_ns;
    double requests = (double)count.requests;
    out_values[0] = requests * 1e9 / cpu_ns;
    out_values[1] = requests * 1e9 / (double)count.took_ns;
    out_values[2] = cpu_ns / requests;
    out_values[3] = 100 * cpu_ns / (double)count.took_ns;
    return 0;
}

/* The page that web servers serve. */
static int service_page(const char *folder)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/pages", folder);
    if (mkdir(path, 0755) < 0)
        return -errno;
    (void)snprintf(path, sizeof(path), "%s/pages/" BENCH_SERVICE_PAGE, folder);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    for (uint32_t i = 0; i < BENCH_SERVICE_PAGE_BYTES; i++)
        (void)fputc('a' + (int)(i % 26), file);
    bool bad = ferror(file) != 0;
    return fclose(file) != 0 || bad ? -EIO : 0;
}

static int service_sample_in(struct service_sample *sample, double *out_values)
{
    int port = program_port();
    if (port < 0)
        return port;
    sample->site.port = (uint16_t)port;
    int rc = service_page(sample->site.folder);
    if (rc == 0 && sample->service->prepare != NULL)
        rc = sample->service->prepare(&sample->site);
    if (rc < 0)
        return rc;
    struct program_line line = {0};
    sample->service->command(&sample->site, &line);
    rc = program_serve(&line, sample->run->setup->cpus[0], sample->site.folder, sample->site.port);
    if (rc < 0)
        return rc;
    sample->pid = rc;
    rc = service_load(sample, out_values);
    program_end(sample->pid);
    return rc;
}

static int service_sample(const struct bench_run *run, double *out_values)
{
    char folder[PATH_MAX / 2];
    int rc = program_folder_make(folder, sizeof(folder));
    if (rc < 0)
        return rc;
    struct service_sample sample = {
        .run = run,
        .shape = &shapes[run->bench->parameter],
        .service = run->peer->ops,
        .site = {.folder = folder},
        .client_cpu = echo_client_cpu(run->setup->cpus[0]),
    };
    rc = service_sample_in(&sample, out_values);
    program_folder_remove(folder);
    return rc;
}

#define SERVICE_METRICS                                                                   \
    {                                                                                     \
        {.name = "requests/CPU-s", .unit = "1/s"}, {.name = "requests/s", .unit = "1/s"}, \
            {.name = "CPU a request", .unit = "ns", .lower_is_better = true},             \
            {.name = "PU taken", .unit = "%", .lower_is_better = true},                   \
    }

#define SERVICE_KV_CASE(suffix, text, shape, least, wanted)                                    \
    {                                                                                          \
        .name = "kv." suffix, .about = (text),                                                 \
        .peers = {&bench_redis, &bench_kv_server, &bench_kv_server_epoll},                     \
        .metrics = SERVICE_METRICS,                                                            \
        .goals = {{.peer = &bench_kv_server,                                                   \
                   .against = &bench_redis,                                                    \
                   .must = (least),                                                            \
                   .aim = (wanted)},                                                           \
                  {.peer = &bench_kv_server,                                                   \
                   .against = &bench_kv_server_epoll,                                          \
                   .must = 1,                                                                  \
                   .aim = 1.1}},                                                               \
        .node_count = 1, .workers_per_node = 1, .parameter = (shape), .sample = service_sample \
    }

#define SERVICE_LOAD_CASE(suffix, text, shape)                                                    \
    {                                                                                             \
        .name = "kv." suffix, .about = (text),                                                    \
        .peers = {&bench_redis, &bench_memcached, &bench_kv_server, &bench_kv_server_epoll},      \
        .metrics = SERVICE_METRICS, .node_count = 1, .workers_per_node = 1, .parameter = (shape), \
        .sample = service_sample                                                                  \
    }

static const struct bench_case kv_cases[] = {
    SERVICE_KV_CASE("get", "redis-benchmark, 50 connections, GET of 64 bytes", SERVICE_GET, 1, 1.2),
    SERVICE_KV_CASE("set", "redis-benchmark, 50 connections, SET of 64 bytes", SERVICE_SET, 1, 1.2),
    SERVICE_KV_CASE("get_p16", "the same GET, 16 in flight", SERVICE_GET_P16, 1, 1.5),
    SERVICE_KV_CASE("set_p16", "the same SET, 16 in flight", SERVICE_SET_P16, 1, 1.5),
    SERVICE_LOAD_CASE("load", "one GET in flight on 50 connections, every answer compared",
                      SERVICE_LOAD),
    SERVICE_LOAD_CASE("load_p16", "the same, 16 in flight on each", SERVICE_LOAD_P16),
};

const struct bench_workload bench_kv = {
    .name = "kv",
    .cases = kv_cases,
    .case_count = sizeof(kv_cases) / sizeof(kv_cases[0]),
};

static const struct bench_case http_cases[] = {
    {
        .name = "http.file",
        .about = "wrk, 50 connections, a file of 512 bytes",
        .peers = {&bench_nginx, &bench_nginx_cached, &bench_http_server, &bench_http_server_epoll},
        .metrics = SERVICE_METRICS,
        .goals =
            {{.peer = &bench_http_server, .against = &bench_nginx, .must = 1, .aim = 1.3},
             {.peer = &bench_http_server, .against = &bench_nginx_cached, .must = 1, .aim = 1.3},
             {.peer = &bench_http_server,
              .against = &bench_http_server_epoll,
              .must = 1,
              .aim = 1.1}},
        .node_count = 1,
        .workers_per_node = 1,
        .parameter = SERVICE_FILE,
        .sample = service_sample,
    },
};

const struct bench_workload bench_http = {
    .name = "http",
    .cases = http_cases,
    .case_count = sizeof(http_cases) / sizeof(http_cases[0]),
};
