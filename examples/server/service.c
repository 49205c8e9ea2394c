/* SPDX-License-Identifier: MIT */
/*
 * Life of an example server. The main thread parses, starts the runtime, listens, prints the ready
 * line and then sleeps in sigwait(): workers block every signal, so it gets them all. Everything
 * else runs on workers.
 *
 * Stop: the listener closes, its connections are told and have the drain time to end, what is left
 * is reset, then the runtime stops.
 *
 * Sockets that a service manager has opened (LISTEN_PID and LISTEN_FDS of sd_listen_fds(3)) are
 * used instead of those that options name.
 */
#include "service.h"

#include "attest_file.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define STOP_TIMEOUT_NS UINT64_C(2000000000)
#define FIRST_PASSED_FD 3
#define PASSED_FDS_MAX 64

struct service {
    const struct service_app *app;
    struct server_options options;
    numaperf_conn_config_t conn;
    numaperf_topology_t *topology; /* NULL: this machine */
    numaperf_rt_t *rt;
    numaperf_listener_t *listener;
    sem_t closed; /* the listener is */
};

/* ---- options ---- */

static void service_help(const struct service_app *app)
{
    printf("\nOf %s alone:\n\n", app->name);
    for (size_t i = 0; i < app->option_count; i++) {
        char left[48];
        (void)snprintf(left, sizeof(left), "%s %s", app->options[i].name, app->options[i].value);
        printf("  %-30s %s\n", left, app->options[i].help);
    }
}

/* Reads argv[i] if it is an own option: how many words it took, 0 it is not, -1 bad. */
static int service_read_own(const struct service_app *app, char **words, const char *program)
{
    const char *equals = strchr(words[0], '=');
    size_t length = equals != NULL ? (size_t)(equals - words[0]) : strlen(words[0]);
    for (size_t i = 0; i < app->option_count; i++) {
        const struct service_option *option = &app->options[i];
        if (strlen(option->name) != length || memcmp(option->name, words[0], length) != 0)
            continue;
        const char *value = equals != NULL ? equals + 1 : words[1];
        if (value == NULL) {
            fprintf(stderr, "%s: %s: needs a value: %s\n", program, option->name, option->value);
            return -1;
        }
        const char *why = option->read(app->data, value);
        if (why != NULL) {
            fprintf(stderr, "%s: %s: \"%s\" %s\n", program, option->name, value, why);
            return -1;
        }
        return equals != NULL ? 1 : 2;
    }
    return 0;
}

/* Takes its own options out of argv and leaves the others to those that all servers have. */
static enum server_options_result service_options(struct service *service, int argc, char **argv)
{
    char **rest = calloc((size_t)argc + 1, sizeof(*rest));
    if (rest == NULL)
        return SERVER_OPTIONS_BAD;
    enum server_options_result result = SERVER_OPTIONS_BAD;
    int count = 0;
    rest[count++] = argv[0];
    for (int i = 1; i < argc;) {
        int taken = service_read_own(service->app, &argv[i], argv[0]);
        if (taken < 0)
            goto free_rest;
        if (taken == 0)
            rest[count++] = argv[i];
        i += taken > 0 ? taken : 1;
    }
    result = server_options_parse(count, rest, service->app->default_port, &service->options);
    if (result == SERVER_OPTIONS_HELP)
        service_help(service->app);

free_rest:
    free(rest);
    return result;
}

/* ---- start ---- */

static int service_load_topology(struct service *service)
{
    const char *text = service->options.topology;
    if (text == NULL)
        return 0;
    size_t length = strlen(text);
    bool xml = access(text, F_OK) == 0 || (length > 4 && strcmp(text + length - 4, ".xml") == 0);
    return xml ? numaperf_topology_from_xml(text, &service->topology)
               : numaperf_topology_from_synthetic(text, &service->topology);
}

static int service_start_rt(struct service *service)
{
    const struct server_options *options = &service->options;
    const struct service_app *app = service->app;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = options->mode;
    config.flags = options->rt_flags;
    config.steal_policy = options->steal_policy;
    config.workers_per_node = options->workers;
    config.io_backend = options->backend;
    config.nodes = options->nodes;
    config.topology = service->topology;
    config.arena_bytes = options->arena_mib << 20;
    config.task_limit_per_node = options->task_limit;
    config.on_worker_start = app->worker_start;
    config.on_node_start = app->node_start;
    config.on_node_stop = app->node_stop;
    config.on_worker_stop = app->worker_stop;
    config.data = app->data;
    return numaperf_rt_start(&config, &service->rt);
}

static void service_complain(const struct service *service, const char *what)
{
    const numaperf_error_t *error = numaperf_last_error();
    fprintf(stderr, "%s: %s: %s: %s: %s\n", service->app->name, what,
            numaperf_err_name(error->code), error->operation, error->reason);
}

/* How many listening sockets were passed to this process. */
static uint32_t service_passed_fds(int fds[PASSED_FDS_MAX])
{
    /* No thread that changes the environment runs. */
    const char *pid = getenv("LISTEN_PID");   /* NOLINT(concurrency-mt-unsafe): as above */
    const char *count = getenv("LISTEN_FDS"); /* NOLINT(concurrency-mt-unsafe): as above */
    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    long wanted = strtol(count, NULL, 10);
    uint32_t n = 0;
    for (; n < PASSED_FDS_MAX && (long)n < wanted; n++)
        fds[n] = FIRST_PASSED_FD + (int)n;
    return n;
}

/* The host as a numeric address, as listening takes it. */
static int service_resolve(const struct service *service, char *out, size_t size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(service->options.host, NULL, &hints, &found);
    if (rc == 0) {
        rc = getnameinfo(found->ai_addr, found->ai_addrlen, out, (socklen_t)size, NULL, 0,
                         NI_NUMERICHOST);
        freeaddrinfo(found);
    }
    if (rc != 0)
        fprintf(stderr, "%s: --listen %s: %s\n", service->app->name, service->options.host,
                gai_strerror(rc));
    return rc == 0 ? 0 : -1;
}

/* A socket that is in the way is replaced when nobody listens on it, another file never. */
static bool service_path_is_taken(const struct service *service)
{
    struct stat found;
    const char *path = service->options.unix_path;
    if (path == NULL || path[0] == '@' || lstat(path, &found) < 0 || S_ISSOCK(found.st_mode))
        return false;
    fprintf(stderr, "%s: cannot listen: %s is there and is not a socket\n", service->app->name,
            path);
    return true;
}

static int service_listen(struct service *service)
{
    numaperf_listen_config_t config = NUMAPERF_LISTEN_CONFIG_INIT;
    char address[NI_MAXHOST] = "";
    int fds[PASSED_FDS_MAX];
    config.fd_count = service_passed_fds(fds);
    config.connections_max = service->options.connections_max + service->app->refusals_max;
    config.conn = &service->conn;
    if (config.fd_count > 0) {
        config.fds = fds;
    } else if (service->options.unix_path != NULL) {
        config.unix_path = service->options.unix_path;
    } else {
        if (service_resolve(service, address, sizeof(address)) < 0)
            return -1;
        config.address = address;
        config.port = service->options.port;
    }
    int rc = numaperf_rt_listen(service->rt, &config, &service->listener);
    if (rc < 0 && (config.unix_path == NULL || !service_path_is_taken(service)))
        service_complain(service, "cannot listen");
    return rc;
}

static void service_say_ready(const struct service *service)
{
    char text[300] = "";
    (void)numaperf_listener_address(service->listener, text, sizeof(text)); /* it is open */
    const char *path = service->options.unix_path;
    const char *address = path != NULL ? path : text;
    if (service->app->listens != NULL)
        service->app->listens(service->app->data, address);
    printf("%s ready on %s\n", service->app->name, address);
    (void)fflush(stdout); /* whoever closed it does not wait for the line */
}

/* ---- stop ---- */

static void service_listener_closed(uint64_t reset_count, void *data)
{
    (void)reset_count; /* the grace was theirs to use */
    sem_post(data);
}

static void service_stop(struct service *service)
{
    uint64_t grace_ns = (uint64_t)service->options.drain_seconds * UINT64_C(1000000000);
    if (service->listener != NULL &&
        numaperf_listener_close(service->listener, grace_ns, service_listener_closed,
                                &service->closed) == 0)
        while (sem_wait(&service->closed) != 0)
            continue;
    (void)numaperf_rt_stop(service->rt, STOP_TIMEOUT_NS); /* destroy waits for what is left */
    numaperf_rt_destroy(service->rt);
}

static int service_attest(struct service *service)
{
    char why[400] = "";
    if (service->options.attest == NULL ||
        attest_file_write(service->rt, service->options.attest, why, sizeof(why)) == 0)
        return 0;
    fprintf(stderr, "%s: --attest: %s\n", service->app->name, why);
    return -1;
}

/* Serves until SIGTERM or SIGINT, which `signals` holds and every thread blocks. */
static int service_run(struct service *service, const sigset_t *signals)
{
    const struct service_app *app = service->app;
    if (service_load_topology(service) < 0) {
        service_complain(service, "--topology");
        return EXIT_FAILURE;
    }
    service->conn.data = app->data;
    service->conn.idle_timeout_ms =
        service->options.idle_seconds > 0 ? service->options.idle_seconds * 1000 : UINT32_MAX;
    if (app->prepare(app->data, &service->options, &service->conn) < 0)
        return EXIT_FAILURE;
    if (service_start_rt(service) < 0) {
        service_complain(service, "cannot start");
        return EXIT_FAILURE;
    }
    if (app->ready != NULL)
        app->ready(app->data, service->rt);
    if (service_listen(service) < 0 || service_attest(service) < 0) {
        service_stop(service);
        return EXIT_FAILURE;
    }
    service_say_ready(service);

    int number = 0;
    while (sigwait(signals, &number) != 0)
        continue;
    service_stop(service);
    return EXIT_SUCCESS;
}

int service_main(const struct service_app *app, int argc, char **argv)
{
    struct service service = {.app = app, .conn = NUMAPERF_CONN_CONFIG_INIT};
    switch (service_options(&service, argc, argv)) {
    case SERVER_OPTIONS_HELP:
        return EXIT_SUCCESS;
    case SERVER_OPTIONS_BAD:
        return EXIT_USAGE;
    case SERVER_OPTIONS_RUN:
        break;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    /* Blocked before any thread exists, so that none is ever killed by them. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of a write, not ours */
    sem_init(&service.closed, 0, 0);

    int code = service_run(&service, &signals);
    numaperf_topology_destroy(service.topology);
    sem_destroy(&service.closed);
    return code;
}
