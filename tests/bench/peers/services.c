/* SPDX-License-Identifier: MIT */
/*
 * Server programs: those of Debian packages, with plain configurations and without anything on
 * disk, and this project's examples, with one worker and all else at its defaults.
 */
#include "service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A program that is there; the others are in no line, as `missing` says so before. */
static void service_program(struct program_line *line, const char *name)
{
    char path[PATH_MAX];
    program_add(line, "%s", program_find(name, path) ? path : name);
}

/* ---- key-value servers ---- */

/* redis-benchmark is of a package that redis-server needs. */
static const char *redis_missing(void)
{
    char path[PATH_MAX];
    if (!program_find("redis-benchmark", path))
        return "redis-tools is not installed";
    return program_find("redis-server", path) ? NULL : "redis-server is not installed";
}

static void redis_command(const struct bench_service_site *site, struct program_line *line)
{
    service_program(line, "redis-server");
    program_add(line, "--bind");
    program_add(line, "127.0.0.1");
    program_add(line, "--port");
    program_add(line, "%u", site->port);
    program_add(line, "--dir");
    program_add(line, "%s", site->folder);
    program_add(line, "--save");
    program_add(line, "%s", "");
    program_add(line, "--appendonly");
    program_add(line, "no");
}

static const char *memcached_missing(void)
{
    char path[PATH_MAX];
    return program_find("memcached", path) ? NULL : "memcached is not installed";
}

static void memcached_command(const struct bench_service_site *site, struct program_line *line)
{
    service_program(line, "memcached");
    program_add(line, "-l");
    program_add(line, "127.0.0.1");
    program_add(line, "-p");
    program_add(line, "%u", site->port);
    program_add(line, "-t");
    program_add(line, "1");
    if (geteuid() == 0) {
        program_add(line, "-u"); /* it insists on being told */
        program_add(line, "root");
    }
}

static const char *kv_missing(void)
{
    char path[PATH_MAX];
    if (!program_find("redis-benchmark", path))
        return "redis-tools is not installed";
    return program_find(NUMAPERF_BENCH_EXAMPLES "/kv_server", path) ? NULL
                                                                    : "kv_server was not built";
}

/* One worker in all, as it may use one PU; `backend` is its option's value. */
static void example_command(const struct bench_service_site *site, struct program_line *line,
                            const char *name, const char *backend)
{
    program_add(line, NUMAPERF_BENCH_EXAMPLES "/%s", name);
    program_add(line, "--listen");
    program_add(line, "127.0.0.1:%u", site->port);
    program_add(line, "--workers-per-node");
    program_add(line, "1");
    program_add(line, "--backend");
    program_add(line, "%s", backend);
}

static void kv_command(const struct bench_service_site *site, struct program_line *line)
{
    example_command(site, line, "kv_server", "auto");
}

static void kv_epoll_command(const struct bench_service_site *site, struct program_line *line)
{
    example_command(site, line, "kv_server", "epoll");
}

const struct bench_peer bench_redis = {
    .name = "redis-server",
    .missing = redis_missing,
    .ops = &(const struct bench_service){.command = redis_command},
};

const struct bench_peer bench_memcached = {
    .name = "memcached",
    .missing = memcached_missing,
    .ops = &(const struct bench_service){.is_memcached = true, .command = memcached_command},
};

const struct bench_peer bench_kv_server = {
    .name = "numaperf-kv",
    .missing = kv_missing,
    .ops = &(const struct bench_service){.command = kv_command},
};

const struct bench_peer bench_kv_server_epoll = {
    .name = "numaperf-kv-epoll",
    .missing = kv_missing,
    .ops = &(const struct bench_service){.command = kv_epoll_command},
};

/* ---- web servers ---- */

static const char *nginx_missing(void)
{
    char path[PATH_MAX];
    if (!program_find("wrk", path))
        return "wrk is not installed";
    return program_find("nginx", path) ? NULL : "nginx is not installed";
}

static int nginx_configure(const struct bench_service_site *site, const char *cache)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/nginx.conf", site->folder);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    const char *folder = site->folder;
    (void)fprintf(file,
                  "daemon off;\nmaster_process off;\nworker_processes 1;\n"
                  "pid %s/pid;\nerror_log stderr;\n"
                  "events { worker_connections 1024; }\n"
                  "http {\n  access_log off;\n  sendfile on;\n  keepalive_requests 1000000000;\n"
                  "  client_body_temp_path %s/body;\n  proxy_temp_path %s/proxy;\n"
                  "  fastcgi_temp_path %s/fastcgi;\n  uwsgi_temp_path %s/uwsgi;\n"
                  "  scgi_temp_path %s/scgi;\n  %s\n"
                  "  server { listen 127.0.0.1:%u; root %s/pages; }\n}\n",
                  folder, folder, folder, folder, folder, folder, cache, site->port, folder);
    bool bad = ferror(file) != 0;
    return fclose(file) != 0 || bad ? -EIO : 0;
}

static int nginx_prepare(const struct bench_service_site *site)
{
    return nginx_configure(site, "");
}

static int nginx_cached_prepare(const struct bench_service_site *site)
{
    return nginx_configure(site, "open_file_cache max=64;");
}

static void nginx_command(const struct bench_service_site *site, struct program_line *line)
{
    service_program(line, "nginx");
    program_add(line, "-p");
    program_add(line, "%s", site->folder);
    program_add(line, "-e");
    program_add(line, "stderr");
    program_add(line, "-c");
    program_add(line, "%s/nginx.conf", site->folder);
}

static const char *http_missing(void)
{
    char path[PATH_MAX];
    if (!program_find("wrk", path))
        return "wrk is not installed";
    return program_find(NUMAPERF_BENCH_EXAMPLES "/http_server", path) ? NULL
                                                                      : "http_server was not built";
}

static void http_root(const struct bench_service_site *site, struct program_line *line)
{
    program_add(line, "--root");
    program_add(line, "%s/pages", site->folder);
}

static void http_command(const struct bench_service_site *site, struct program_line *line)
{
    example_command(site, line, "http_server", "auto");
    http_root(site, line);
}

static void http_epoll_command(const struct bench_service_site *site, struct program_line *line)
{
    example_command(site, line, "http_server", "epoll");
    http_root(site, line);
}

const struct bench_peer bench_nginx = {
    .name = "nginx",
    .missing = nginx_missing,
    .ops = &(const struct bench_service){.prepare = nginx_prepare, .command = nginx_command},
};

const struct bench_peer bench_nginx_cached = {
    .name = "nginx-cached",
    .missing = nginx_missing,
    .ops = &(const struct bench_service){.prepare = nginx_cached_prepare, .command = nginx_command},
};

const struct bench_peer bench_http_server = {
    .name = "numaperf-http",
    .missing = http_missing,
    .ops = &(const struct bench_service){.command = http_command},
};

const struct bench_peer bench_http_server_epoll = {
    .name = "numaperf-http-epoll",
    .missing = http_missing,
    .ops = &(const struct bench_service){.command = http_epoll_command},
};
