/* SPDX-License-Identifier: MIT */
#include "support/connect_scene.h"

#include "net/address.h"

#include "support/census.h"
#include "support/clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define ADDRESSES_MAX 8

/* ---- the resolver ---- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_held;             /* nobody gets an answer */
    unsigned asked, answered; /* calls */
    int rc;                   /* EAI_* */
    const char *addresses[ADDRESSES_MAX + 1];
} names = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void names_hold(bool is_held)
{
    (void)pthread_mutex_lock(&names.mutex);
    names.is_held = is_held;
    (void)pthread_cond_broadcast(&names.changed);
    (void)pthread_mutex_unlock(&names.mutex);
}

static unsigned names_count(const unsigned *counter)
{
    (void)pthread_mutex_lock(&names.mutex);
    unsigned count = *counter;
    (void)pthread_mutex_unlock(&names.mutex);
    return count;
}

unsigned names_asked(void)
{
    return names_count(&names.asked);
}

unsigned names_answered(void)
{
    return names_count(&names.answered);
}

void names_answer(int rc, const char *const *addresses)
{
    (void)pthread_mutex_lock(&names.mutex);
    memset(names.addresses, 0, sizeof(names.addresses));
    names.rc = rc;
    names.asked = 0;
    names.answered = 0;
    for (size_t i = 0; i < ADDRESSES_MAX && addresses != NULL && addresses[i] != NULL; i++)
        names.addresses[i] = addresses[i];
    (void)pthread_mutex_unlock(&names.mutex);
}

struct entry {
    struct addrinfo info;
    struct sockaddr_storage address;
};

static struct addrinfo *names_list(void)
{
    struct addrinfo *first = NULL;
    struct addrinfo **next = &first;
    for (size_t i = 0; names.addresses[i] != NULL; i++) {
        struct entry *entry = calloc(1, sizeof(*entry));
        if (entry == NULL)
            abort();
        socklen_t length = 0;
        if (numaperf__address_parse(names.addresses[i], 0, &entry->address, &length) < 0)
            abort();
        entry->info.ai_family = entry->address.ss_family;
        entry->info.ai_socktype = SOCK_STREAM;
        entry->info.ai_addr = (struct sockaddr *)&entry->address;
        entry->info.ai_addrlen = length;
        *next = &entry->info;
        next = &entry->info.ai_next;
    }
    return first;
}

/* In the place of the C library's, for libuv too, of names that end in ".test". */
__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **out)
{
    const char *dot = node != NULL ? strrchr(node, '.') : NULL;
    if (dot == NULL || strcmp(dot, ".test") != 0) {
        int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        return real != NULL ? real(node, service, hints, out) : EAI_SYSTEM;
    }
    (void)pthread_mutex_lock(&names.mutex);
    names.asked++;
    while (names.is_held)
        (void)pthread_cond_wait(&names.changed, &names.mutex);
    int rc = names.rc;
    if (rc == 0)
        *out = names_list();
    names.answered++;
    (void)pthread_mutex_unlock(&names.mutex);
    return rc;
}

__attribute__((visibility("default"))) void freeaddrinfo(struct addrinfo *list)
{
    if (list != NULL && list->ai_addr == (struct sockaddr *)&((struct entry *)list)->address) {
        while (list != NULL) {
            struct addrinfo *next = list->ai_next;
            free(list);
            list = next;
        }
        return;
    }
    void (*real)(struct addrinfo *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "freeaddrinfo");
    if (real != NULL)
        real(list);
}

int names_prepare(void)
{
    uv_loop_t loop;
    uv_getaddrinfo_t request;
    if (uv_loop_init(&loop) != 0)
        return -1;
    names_answer(EAI_NONAME, NULL);
    (void)uv_getaddrinfo(&loop, &request, NULL, "warm.test", NULL, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

/* ---- peers ---- */

void peer_close(struct peer *peer)
{
    (void)close(peer->fd);
    for (size_t i = 0; i < PEER_FILL_MAX; i++) {
        if (peer->fillers[i] >= 0)
            (void)close(peer->fillers[i]);
    }
}

bool peer_bind(struct peer *peer, const char *address, uint16_t port)
{
    struct sockaddr_storage storage;
    socklen_t length = 0;
    for (size_t i = 0; i < PEER_FILL_MAX; i++)
        peer->fillers[i] = -1;
    assert_int_equal(numaperf__address_parse(address, port, &storage, &length), 0);
    peer->fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->fd < 0)
        return false;
    if (bind(peer->fd, (struct sockaddr *)&storage, length) < 0) {
        (void)close(peer->fd);
        return false;
    }
    length = sizeof(storage);
    assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&storage, &length), 0);
    peer->port = numaperf__address_port((struct sockaddr *)&storage);
    return true;
}

void peer_listen(struct peer *peer, const char *address, int backlog)
{
    assert_true(peer_bind(peer, address, 0));
    assert_int_equal(listen(peer->fd, backlog), 0);
}

void peer_bind_unix(struct peer *peer, const char *path)
{
    struct sockaddr_storage address;
    socklen_t length = 0;
    for (size_t i = 0; i < PEER_FILL_MAX; i++)
        peer->fillers[i] = -1;
    assert_int_equal(numaperf__address_unix(path, &address, &length), 0);
    peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer->fd, (struct sockaddr *)&address, length), 0);
}

void peer_fill(struct peer *peer)
{
    assert_int_equal(listen(peer->fd, 0), 0);
    struct sockaddr_storage storage;
    socklen_t length = sizeof(storage);
    assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&storage, &length), 0);
    for (size_t i = 0; i < PEER_FILL_MAX; i++) {
        peer->fillers[i] = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(peer->fillers[i] >= 0);
        (void)connect(peer->fillers[i], (struct sockaddr *)&storage, length);
    }
}

void peers_bind(struct peer *first, const char *first_address, struct peer *second,
                const char *second_address)
{
    for (int i = 0; i < 100; i++) {
        assert_true(peer_bind(first, first_address, 0));
        if (peer_bind(second, second_address, first->port))
            return;
        (void)close(first->fd);
    }
    fail_msg("no port is free on both %s and %s", first_address, second_address);
}

int peer_accept(const struct peer *peer)
{
    struct pollfd poll_fd = {.fd = peer->fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 30000), 1);
    int fd = accept4(peer->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* ---- who connects ---- */

static int caller_on_open(numaperf_conn_t *conn, void *data)
{
    struct caller *caller = data;
    (void)conn;
    caller->opens++;
    assert_int_equal(caller->calls, 0);
    if (caller->cancels_in_open)
        numaperf_connect_cancel(caller->connect);
    return caller->open_returns;
}

static void caller_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct caller *caller = data;
    assert_ptr_equal(conn, caller->conn);
    assert_true(pattern_matches(bytes, length, caller->received));
    caller->received += length;
}

static void caller_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    struct caller *caller = data;
    assert_ptr_equal(conn, caller->conn);
    caller->conn = NULL;
    caller->closes++;
    caller->close_reason = reason;
}

static void caller_connected(numaperf_conn_t *conn, int status, void *data)
{
    struct caller *caller = data;
    caller->calls++;
    caller->status = status;
    caller->conn = conn;
    assert_true((conn != NULL) == (status == 0));
    assert_int_equal(caller->opens, conn != NULL ? 1 : 0);
    if (caller->releases_names)
        names_hold(false);
}

static numaperf_conn_config_t caller_conn_config(struct caller *caller)
{
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.callbacks.on_open = caller_on_open;
    config.callbacks.on_read = caller_on_read;
    config.callbacks.on_close = caller_on_close;
    config.data = caller;
    return config;
}

/* Begin; `config` has where to and how long. It never tells anything inside the call. */
void caller_begin(struct caller *caller, numaperf_loop_t *loop, numaperf_connect_config_t *config)
{
    numaperf_conn_config_t conn = caller_conn_config(caller);
    config->conn = &conn;
    int rc = numaperf_connect(loop, config, caller_connected, caller, &caller->connect);
    assert_int_equal(rc, 0);
    assert_non_null(caller->connect);
    assert_int_equal(caller->calls, 0);
    /* Read during the call, and not later. */
    memset(&conn, 0xff, sizeof(conn));
    config->conn = NULL;
}

numaperf_connect_config_t to_host(const char *host, uint16_t port)
{
    numaperf_connect_config_t config = NUMAPERF_CONNECT_CONFIG_INIT;
    config.host = host;
    config.port = port;
    config.timeout_ms = UINT32_MAX;
    return config;
}

numaperf_connect_config_t to_path(const char *path)
{
    numaperf_connect_config_t config = NUMAPERF_CONNECT_CONFIG_INIT;
    config.unix_path = path;
    config.timeout_ms = UINT32_MAX;
    return config;
}

static int descriptors_before;

void connect_scene_begin(struct net_scene *scene, void **state)
{
    descriptors_before = census_take().descriptors;
    names_answer(0, NULL);
    net_scene_open(scene, state);
}

/* Nothing is left: no descriptor, and nothing is told twice. */
void connect_scene_expect(int descriptors)
{
    descriptors_before += descriptors;
}

void connect_scene_end(struct net_scene *scene, const struct caller *caller)
{
    net_settle(scene);
    if (caller != NULL)
        assert_int_equal(caller->calls, 1);
    net_scene_close(scene);
    assert_int_equal(census_take().descriptors, descriptors_before);
}

void caller_run(struct caller *caller, struct net_scene *scene, numaperf_connect_config_t config)
{
    caller_begin(caller, scene->loop, &config);
    NET_UNTIL(scene, caller->calls > 0);
}

void caller_close(struct caller *caller, struct net_scene *scene)
{
    numaperf_conn_close(caller->conn, 0);
    NET_UNTIL(scene, caller->closes == 1);
    assert_int_equal(caller->close_reason, 0);
}

/* Bytes go both ways between a connection and its peer, and the peer is who was meant. */
void caller_talks(struct caller *caller, struct net_scene *scene, int peer_fd)
{
    char out[1000], in[1000];
    pattern_fill(out, sizeof(out), 0);
    assert_int_equal(numaperf_conn_write(caller->conn, out, sizeof(out)), 0);
    assert_int_equal(write(peer_fd, out, sizeof(out)), (int)sizeof(out));
    assert_int_equal(fcntl(peer_fd, F_SETFL, O_NONBLOCK), 0);
    size_t got = 0;
    uint64_t limit_ns = net_limit();
    while (got < sizeof(in) || caller->received < sizeof(out)) {
        ssize_t n = read(peer_fd, in + got, sizeof(in) - got);
        got += n > 0 ? (size_t)n : 0;
        net_turn(scene, limit_ns, "bytes both ways");
    }
    assert_memory_equal(in, out, sizeof(in));
}
