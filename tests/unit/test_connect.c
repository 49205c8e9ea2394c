/* SPDX-License-Identifier: MIT */
/*
 * Outgoing connections: the order of addresses, what configs are refused, and what becomes of one
 * when memory, the ring or libuv fail it at each point. That it connects is test_net_connect's.
 */
#include "io/loop.h"
#include "net/conn.h"
#include "net/resolve.h"

#include "support/census.h"
#include "support/connect_scene.h"

#include <numaperf/error.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

/* ---- failures ---- */

static struct {
    unsigned allocs_until;                         /* one fails after so many; 0: none does */
    int submit, poll_init, conn_make, getaddrinfo; /* what these say; 0: they work */
    unsigned cancels;                              /* so many are refused */
} faults;

void *__real_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);
void *__wrap_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);
void *__wrap_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align)
{
    if (faults.allocs_until > 0 && --faults.allocs_until == 0)
        return NULL;
    return __real_numaperf_arena_alloc(arena, size, align);
}

int __real_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    return faults.submit != 0 ? faults.submit : __real_numaperf__loop_submit(loop, op);
}

int __real_numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op);
int __wrap_numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op);
int __wrap_numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op)
{
    if (faults.cancels > 0) {
        faults.cancels--;
        return -EBUSY;
    }
    return __real_numaperf__ring_cancel(ring, op);
}

int __real_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);
int __wrap_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);
int __wrap_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
    return faults.poll_init != 0 ? faults.poll_init : __real_uv_poll_init(loop, poll, fd);
}

int __real_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                          const char *node, const char *service, const struct addrinfo *hints);
int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                          const char *node, const char *service, const struct addrinfo *hints);
int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                          const char *node, const char *service, const struct addrinfo *hints)
{
    return faults.getaddrinfo != 0
               ? faults.getaddrinfo
               : __real_uv_getaddrinfo(loop, request, done, node, service, hints);
}

int __real_numaperf__conn_make(struct numaperf__net *net, int fd,
                               const numaperf_conn_config_t *config,
                               const struct numaperf__conn_origin *origin,
                               struct numaperf_conn **out);
int __wrap_numaperf__conn_make(struct numaperf__net *net, int fd,
                               const numaperf_conn_config_t *config,
                               const struct numaperf__conn_origin *origin,
                               struct numaperf_conn **out);
int __wrap_numaperf__conn_make(struct numaperf__net *net, int fd,
                               const numaperf_conn_config_t *config,
                               const struct numaperf__conn_origin *origin,
                               struct numaperf_conn **out)
{
    return faults.conn_make != 0 ? faults.conn_make
                                 : __real_numaperf__conn_make(net, fd, config, origin, out);
}

/* ---- the order of addresses ---- */

#define LIST_MAX 48

static struct addrinfo list[LIST_MAX];
static struct sockaddr_storage list_addresses[LIST_MAX];

/* "4616": one of IPv4, one of IPv6, ...; '0' is of another family. They are numbered. */
static const struct addrinfo *list_of(const char *families)
{
    memset(list, 0, sizeof(list));
    memset(list_addresses, 0, sizeof(list_addresses));
    size_t count = strlen(families);
    assert_true(count <= LIST_MAX);
    for (size_t i = 0; i < count; i++) {
        int family = families[i] == '4' ? AF_INET : families[i] == '6' ? AF_INET6 : AF_PACKET;
        list_addresses[i].ss_family = (sa_family_t)family;
        if (family == AF_INET)
            ((struct sockaddr_in *)&list_addresses[i])->sin_addr.s_addr = htonl((uint32_t)i);
        else
            ((struct sockaddr_in6 *)&list_addresses[i])->sin6_addr.s6_addr[15] = (uint8_t)i;
        list[i].ai_family = family;
        list[i].ai_addr = (struct sockaddr *)&list_addresses[i];
        list[i].ai_addrlen =
            family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(list_addresses[i]);
        list[i].ai_next = i + 1 < count ? &list[i + 1] : NULL;
    }
    return count > 0 ? list : NULL;
}

static unsigned target_number(const struct numaperf__target *target)
{
    if (target->any.sa_family == AF_INET) {
        assert_int_equal(target->length, sizeof(struct sockaddr_in));
        assert_int_equal(target->v4.sin_port, htons(443));
        return ntohl(target->v4.sin_addr.s_addr);
    }
    assert_int_equal(target->any.sa_family, AF_INET6);
    assert_int_equal(target->length, sizeof(struct sockaddr_in6));
    assert_int_equal(target->v6.sin6_port, htons(443));
    return target->v6.sin6_addr.s6_addr[15];
}

static void connect_addresses_of_both_families_take_turns(void **state)
{
    (void)state;
    static const struct {
        const char *families;
        unsigned wanted[8], count;
    } cases[] = {
        {"", {0}, 0},
        {"4", {0}, 1},
        {"6", {0}, 1},
        {"0", {0}, 0},
        {"444", {0, 1, 2}, 3},
        {"666444", {0, 3, 1, 4, 2, 5}, 6},
        {"444666", {0, 3, 1, 4, 2, 5}, 6},
        {"6644", {0, 2, 1, 3}, 4},
        {"66664", {0, 4, 1, 2, 3}, 5},
        {"46666", {0, 1, 2, 3, 4}, 5},
        {"4466", {0, 2, 1, 3}, 4},
        {"064046", {1, 2, 5, 4}, 4},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct numaperf__target targets[8];
        uint32_t count = numaperf__resolve_order(list_of(cases[i].families), 443, targets, 8);
        assert_int_equal(count, cases[i].count);
        for (uint32_t n = 0; n < count; n++)
            assert_int_equal(target_number(&targets[n]), cases[i].wanted[n]);
    }
}

static void connect_addresses_are_limited_and_both_families_among_them(void **state)
{
    (void)state;
    struct numaperf__target targets[NUMAPERF__RESOLVE_MAX + 1];
    memset(targets, 0x5a, sizeof(targets));
    struct numaperf__target untouched = targets[NUMAPERF__RESOLVE_MAX];
    uint32_t count = numaperf__resolve_order(list_of("666666666666666666666666666644"), 443,
                                             targets, NUMAPERF__RESOLVE_MAX);
    assert_int_equal(count, NUMAPERF__RESOLVE_MAX);
    assert_int_equal(target_number(&targets[1]), 28);
    assert_int_equal(target_number(&targets[3]), 29);
    assert_int_equal(target_number(&targets[15]), 13);
    assert_memory_equal(&targets[NUMAPERF__RESOLVE_MAX], &untouched, sizeof(untouched));
}

/* ---- configs ---- */

static void never_connected(numaperf_conn_t *conn, int status, void *data)
{
    (void)conn;
    (void)status;
    (void)data;
    fail_msg("a call that failed was told");
}

static void refused_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)conn;
    (void)bytes;
    (void)length;
    (void)data;
    fail_msg("nothing was connected");
}

static numaperf_conn_config_t refused_conn = NUMAPERF_CONN_CONFIG_INIT;

static void assert_refused(struct net_scene *scene, const numaperf_connect_config_t *config,
                           int code)
{
    numaperf_connect_t *out = (numaperf_connect_t *)&refused_conn;
    assert_int_equal(numaperf_connect(scene->loop, config, never_connected, NULL, &out), code);
    assert_ptr_equal(out, &refused_conn);
    assert_int_equal(numaperf_last_error()->code, code);
    assert_true(numaperf_last_error()->reason[0] != '\0');
}

static void connect_configs_that_are_refused_leave_nothing(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    refused_conn = (numaperf_conn_config_t)NUMAPERF_CONN_CONFIG_INIT;
    refused_conn.callbacks.on_read = refused_on_read;
    numaperf_connect_config_t good = to_host("127.0.0.1", 80), bad = good;
    good.conn = &refused_conn;
    assert_int_equal(numaperf_connect(NULL, &good, never_connected, NULL, NULL), -EINVAL);
    assert_int_equal(numaperf_connect(scene.loop, &good, NULL, NULL, NULL), -EINVAL);
    assert_refused(&scene, NULL, -EINVAL);
    assert_refused(&scene, &bad, -EINVAL); /* no config of the connection */
    bad = good;
    bad.size = 8;
    assert_refused(&scene, &bad, -EINVAL);
    bad = good;
    bad.flags = 1;
    assert_refused(&scene, &bad, -EINVAL);
    bad = good;
    bad.reserved_2 = 1;
    assert_refused(&scene, &bad, -EINVAL);
    bad = good;
    bad.unix_path = "/tmp/both";
    assert_refused(&scene, &bad, -EINVAL);
    bad.unix_path = NULL;
    bad.host = NULL;
    assert_refused(&scene, &bad, -EINVAL);
    bad.host = "";
    assert_refused(&scene, &bad, -EINVAL);
    bad.host = "127.0.0.1";
    bad.port = 0;
    assert_refused(&scene, &bad, -EINVAL);
    char name[300];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    bad = good;
    bad.host = name;
    assert_refused(&scene, &bad, -ENAMETOOLONG);
    bad.host = NULL;
    bad.unix_path = name;
    assert_refused(&scene, &bad, -ENAMETOOLONG);
    bad.unix_path = "";
    assert_refused(&scene, &bad, -EINVAL);
    numaperf_connect_cancel(NULL);
    connect_scene_end(&scene, NULL);
}

/* ---- failures on the way ---- */

static uint64_t arena_used(const struct net_scene *scene)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(numaperf_loop_arena(scene->loop), &stats), 0);
    return stats.used_bytes;
}

static void connect_that_the_kernel_cannot_take_says_so(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    connect_scene_expect(1);
    struct caller caller = {.scene = &scene};
    /* Each backend has its own way to fail. */
    faults.submit = -EBUSY;
    faults.poll_init = -EPERM;
    caller_run(&caller, &scene, to_host("127.0.0.1", peer.port));
    memset(&faults, 0, sizeof(faults));
    assert_int_equal(caller.status, scene.kind->backend == NUMAPERF_IO_URING ? -EBUSY : -EPERM);
    connect_scene_end(&scene, &caller);
    peer_close(&peer);
}

static void connect_without_memory_for_the_connection_says_so_and_hangs_up(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    connect_scene_expect(1);
    struct caller caller = {.scene = &scene};
    faults.conn_make = -ENOMEM;
    caller_run(&caller, &scene, to_host("127.0.0.1", peer.port));
    memset(&faults, 0, sizeof(faults));
    assert_int_equal(caller.status, -ENOMEM);
    int fd = peer_accept(&peer);
    char byte = 0;
    assert_int_equal(read(fd, &byte, 1), 0);
    (void)close(fd);
    connect_scene_end(&scene, &caller);
    peer_close(&peer);
}

static void connect_whose_name_cannot_be_asked_for_is_refused(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    refused_conn = (numaperf_conn_config_t)NUMAPERF_CONN_CONFIG_INIT;
    refused_conn.callbacks.on_read = refused_on_read;
    numaperf_connect_config_t config = to_host("some.test", 80);
    config.conn = &refused_conn;
    faults.getaddrinfo = UV_ENOMEM;
    assert_refused(&scene, &config, -ENOMEM);
    uint64_t used = arena_used(&scene);
    assert_refused(&scene, &config, -ENOMEM);
    faults.getaddrinfo = 0;
    /* No memory for the connect, and none for the request. */
    for (unsigned n = 1; n <= 2; n++) {
        faults.allocs_until = n;
        assert_refused(&scene, &config, -ENOMEM);
        assert_int_equal(faults.allocs_until, 0);
    }
    assert_true(arena_used(&scene) == used);
    connect_scene_end(&scene, NULL);
}

static void connect_ends_though_the_ring_has_no_room_to_cancel(void **state)
{
    struct net_scene scene;
    struct peer hanging;
    connect_scene_begin(&scene, state);
    peer_listen(&hanging, "127.0.0.1", 0);
    peer_fill(&hanging);
    connect_scene_expect(1 + PEER_FILL_MAX);
    names_answer(0, (const char *const[]){"127.0.0.1", "127.0.0.1", NULL});
    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("hangs.test", hanging.port);
    config.attempt_delay_ms = 1;
    caller_begin(&caller, scene.loop, &config);
    NET_UNTIL(&scene, names_answered() == 1);
    net_settle(&scene);
    faults.cancels = 7;
    numaperf_connect_cancel(caller.connect);
    NET_UNTIL(&scene, caller.calls == 1);
    assert_int_equal(caller.status, -ECANCELED);
    connect_scene_end(&scene, &caller);
    assert_true(faults.cancels == 0 || scene.kind->backend == NUMAPERF_IO_EPOLL);
    faults.cancels = 0;
    peer_close(&hanging);
}

int main(void)
{
    if (names_prepare() != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_addresses_of_both_families_take_turns),
        cmocka_unit_test(connect_addresses_are_limited_and_both_families_among_them),
        NET_BOTH(connect_configs_that_are_refused_leave_nothing),
        NET_BOTH(connect_that_the_kernel_cannot_take_says_so),
        NET_BOTH(connect_without_memory_for_the_connection_says_so_and_hangs_up),
        NET_BOTH(connect_whose_name_cannot_be_asked_for_is_refused),
        NET_BOTH(connect_ends_though_the_ring_has_no_room_to_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
