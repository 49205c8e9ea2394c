/* SPDX-License-Identifier: MIT */
#include "support/udp_scene.h"

#include "net/address.h"

#include "support/census.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int descriptors_before;

/* ---- datagrams ---- */

void udp_fill(void *out, size_t length, uint32_t number)
{
    pattern_fill(out, length, number);
    memcpy(out, &number, length < sizeof(number) ? length : sizeof(number));
}

bool udp_check(const void *bytes, size_t length, uint32_t *out_number)
{
    uint32_t number = 0;
    memcpy(&number, bytes, length < sizeof(number) ? length : sizeof(number));
    *out_number = number;
    return length <= sizeof(number) ||
           pattern_matches((const char *)bytes + sizeof(number), length - sizeof(number),
                           number + sizeof(number));
}

void udp_address(const char *address, int port, struct sockaddr_storage *out, uint32_t *out_length)
{
    socklen_t length = 0;
    assert_int_equal(numaperf__address_parse(address, (uint16_t)port, out, &length), 0);
    *out_length = length;
}

/* ---- the socket ---- */

static void udp_note(struct udp_end *end, const numaperf_datagram_t *datagram)
{
    size_t at = 0;
    do {
        size_t left = datagram->length - at;
        size_t length = left < datagram->segment_bytes ? left : datagram->segment_bytes;
        struct udp_told *told = &end->told[end->datagrams % UDP_TOLD_MAX];
        *told = (struct udp_told){.length = length,
                                  .segment_bytes = datagram->segment_bytes,
                                  .truncated = datagram->truncated};
        end->is_wrong |= !udp_check((const char *)datagram->bytes + at, length, &told->number);
        end->datagrams++;
        at += length;
    } while (at < datagram->length);
}

static void udp_on_datagram(numaperf_udp_t *udp, const numaperf_datagram_t *datagram, int status,
                            void *data)
{
    struct udp_end *end = data;
    end->is_late |= end->closes > 0 || (end->udp != NULL && udp != end->udp);
    if (datagram == NULL) {
        end->errors++;
        end->status = status;
        end->is_wrong |= status >= 0;
    } else {
        end->calls++;
        end->is_wrong |= status != 0 || datagram->segment_bytes > datagram->length ||
                         (datagram->length > 0 && datagram->segment_bytes == 0);
        memcpy(&end->from, datagram->from, datagram->from_length);
        end->from_length = datagram->from_length;
        if (!end->is_wrong)
            udp_note(end, datagram);
    }
    if (end->act != NULL)
        end->act(end, datagram, status);
}

static void udp_on_close(numaperf_udp_t *udp, void *data)
{
    struct udp_end *end = data;
    end->is_late |= udp != end->udp;
    end->closes++;
    end->udp = NULL;
}

numaperf_udp_config_t udp_end_config(struct udp_end *end, const char *address)
{
    numaperf_udp_config_t config = NUMAPERF_UDP_CONFIG_INIT;
    config.address = address;
    config.on_datagram = udp_on_datagram;
    config.on_close = udp_on_close;
    config.data = end;
    return config;
}

void udp_end_open_with(struct net_scene *scene, struct udp_end *end,
                       const numaperf_udp_config_t *config)
{
    end->scene = scene;
    assert_int_equal(numaperf_udp_open(scene->loop, config, &end->udp), 0);
    assert_int_equal(end->calls + end->errors, 0);
}

void udp_end_open(struct net_scene *scene, struct udp_end *end, const char *address)
{
    numaperf_udp_config_t config = udp_end_config(end, address);
    udp_end_open_with(scene, end, &config);
}

void udp_end_close(struct udp_end *end)
{
    unsigned closes = end->closes;
    numaperf_udp_close(end->udp);
    assert_int_equal(end->closes, closes);
    NET_UNTIL(end->scene, end->closes == 1);
    net_settle(end->scene);
    assert_int_equal(end->closes, 1);
    assert_false(end->is_late);
    assert_false(end->is_wrong);
}

int udp_end_send(struct udp_end *end, const struct sockaddr_storage *to, size_t length,
                 uint32_t number)
{
    static char bytes[65536];
    udp_fill(bytes, length, number);
    uint32_t to_length =
        to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int rc = numaperf_udp_send(end->udp, (const struct sockaddr *)to, to_length, bytes, length, 0);
    memset(bytes, 0xee, length); /* they are the caller's again */
    return rc;
}

/* ---- the scene ---- */

void udp_scene_begin_with(struct net_scene *scene, void **state, numaperf_loop_config_t *config)
{
    descriptors_before = census_take().descriptors;
    net_scene_open_with(scene, state, config);
}

void udp_scene_begin(struct net_scene *scene, void **state)
{
    udp_scene_begin_with(scene, state, NULL);
}

void udp_scene_end(struct net_scene *scene)
{
    net_scene_close(scene);
    assert_int_equal(census_take().descriptors, descriptors_before);
}

/* ---- the peer ---- */

int udp_peer(const char *address, uint16_t *out_port)
{
    struct sockaddr_storage storage;
    uint32_t length = 0;
    udp_address(address, 0, &storage, &length);
    int fd = socket(storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&storage, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&storage, &length), 0);
    *out_port = numaperf__address_port((struct sockaddr *)&storage);
    return fd;
}

int udp_nobody(uint16_t *out_port)
{
    /* Connected to itself, it takes nothing of others, and its port is nobody else's. */
    int fd = udp_peer("127.0.0.1", out_port);
    struct sockaddr_storage storage;
    socklen_t length = sizeof(storage);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&storage, &length), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&storage, length), 0);
    return fd;
}

void udp_peer_send(const struct udp_end *end, int peer, const char *address, size_t length,
                   uint32_t number)
{
    static char bytes[65536];
    struct sockaddr_storage to;
    uint32_t to_length = 0;
    udp_address(address, numaperf_udp_port(end->udp), &to, &to_length);
    udp_fill(bytes, length, number);
    assert_int_equal(sendto(peer, bytes, length, 0, (struct sockaddr *)&to, to_length),
                     (int)length);
}

void udp_peer_take(int peer, size_t length, uint32_t *number)
{
    static char bytes[65536];
    for (;;) {
        ssize_t n = recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        assert_int_equal(n, (int)length);
        uint32_t found = 0;
        assert_true(udp_check(bytes, length, &found));
        if (length >= sizeof(found))
            assert_int_equal(found, *number);
        (*number)++;
    }
}

/* ---- a network of our own ---- */

int udp_network_enter(int mtu)
{
    int old = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (old < 0)
        return -1;
    if (unshare(CLONE_NEWNET) < 0) {
        (void)close(old);
        return -1;
    }
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_set = ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
    lo.ifr_mtu = mtu;
    if (is_set && mtu != 0)
        is_set = ioctl(fd, SIOCSIFMTU, &lo) == 0;
    (void)close(fd);
    if (is_set)
        return old;
    udp_network_leave(old);
    return -1;
}

void udp_network_leave(int old)
{
    assert_int_equal(setns(old, CLONE_NEWNET), 0);
    (void)close(old);
}
