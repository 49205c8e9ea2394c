/* SPDX-License-Identifier: MIT */
/* Socket addresses to and from text: what is read, what is refused, and that both agree. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_text(const struct sockaddr_storage *address, socklen_t length,
                        const char *wanted)
{
    char text[NUMAPERF__ADDRESS_TEXT_MAX];
    int rc = numaperf__address_format((const struct sockaddr *)address, length, text, sizeof(text));
    assert_string_equal(text, wanted);
    assert_int_equal(rc, (int)strlen(wanted));
}

static void address_texts_of_both_families_come_back_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint16_t port;
        int family;
        const char *wanted;
    } cases[] = {
        {"192.0.2.1", 80, AF_INET, "192.0.2.1:80"},
        {"0.0.0.0", 0, AF_INET, "0.0.0.0:0"},
        {"255.255.255.255", 65535, AF_INET, "255.255.255.255:65535"},
        {"2001:db8::1", 80, AF_INET6, "[2001:db8::1]:80"},
        {"::", 65535, AF_INET6, "[::]:65535"},
        {"::1", 1, AF_INET6, "[::1]:1"},
        {"fe80::1%1", 443, AF_INET6, "[fe80::1%1]:443"},
        {"::ffff:192.0.2.1", 80, AF_INET6, "192.0.2.1:80"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 7, AF_INET6,
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:7"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sockaddr_storage address;
        socklen_t length = 0;
        assert_int_equal(numaperf__address_parse(cases[i].text, cases[i].port, &address, &length),
                         0);
        assert_int_equal(address.ss_family, cases[i].family);
        assert_int_equal(length, cases[i].family == AF_INET ? sizeof(struct sockaddr_in)
                                                            : sizeof(struct sockaddr_in6));
        assert_int_equal(numaperf__address_port((struct sockaddr *)&address), cases[i].port);
        assert_text(&address, length, cases[i].wanted);
    }
}

static void address_that_is_not_numeric_is_refused_and_nothing_written(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "localhost",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1 ",
        "192.0.2.1:80",
        "[::1]",
        "::1%",
        "::1%no-such-interface",
        "::1%0",
        "::1%4294967296",
        "::1%1x",
        ":::",
        "1:2:3:4:5:6:7:8:9",
        "0000000000000000000000000000000000000000000000000000000000000000::1",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sockaddr_storage address, before;
        memset(&address, 0x5a, sizeof(address));
        before = address;
        socklen_t length = 77;
        assert_int_equal(numaperf__address_parse(texts[i], 80, &address, &length), -EINVAL);
        assert_memory_equal(&address, &before, sizeof(address));
        assert_int_equal(length, 77);
    }
}

static void address_scope_is_an_interface_by_name_or_number(void **state)
{
    (void)state;
    char name[IF_NAMESIZE];
    assert_non_null(if_indextoname(1, name)); /* the loopback interface is always the first */
    char text[64];
    (void)snprintf(text, sizeof(text), "fe80::2%%%s", name);
    struct sockaddr_storage address;
    socklen_t length = 0;
    assert_int_equal(numaperf__address_parse(text, 1, &address, &length), 0);
    assert_int_equal(((struct sockaddr_in6 *)&address)->sin6_scope_id, 1);
    /* A number needs no interface of that name, nor one at all. */
    assert_int_equal(numaperf__address_parse("fe80::2%4294967295", 1, &address, &length), 0);
    assert_text(&address, length, "[fe80::2%4294967295]:1");
}

static void address_any_is_the_wildcard_of_its_family(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t length = 0;
    numaperf__address_any(AF_INET, 8080, &address, &length);
    assert_text(&address, length, "0.0.0.0:8080");
    numaperf__address_any(AF_INET6, 8081, &address, &length);
    assert_text(&address, length, "[::]:8081");
    numaperf__address_set_port((struct sockaddr *)&address, 9);
    assert_text(&address, length, "[::]:9");
}

static void address_of_a_path_is_one_that_the_kernel_binds(void **state)
{
    (void)state;
    struct sockaddr_storage address, bound;
    socklen_t length = 0;
    assert_int_equal(numaperf__address_unix("/tmp/a socket", &address, &length), 0);
    assert_int_equal(length, offsetof(struct sockaddr_un, sun_path) + sizeof("/tmp/a socket"));
    assert_text(&address, length, "unix:/tmp/a socket");
    assert_int_equal(numaperf__address_port((struct sockaddr *)&address), 0);

    char name[64];
    (void)snprintf(name, sizeof(name), "@numaperf test_address %p", (void *)name);
    assert_int_equal(numaperf__address_unix(name, &address, &length), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    socklen_t bound_length = sizeof(bound);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &bound_length), 0);
    assert_int_equal(bound_length, length);
    char wanted[80];
    (void)snprintf(wanted, sizeof(wanted), "unix:%s", name);
    assert_text(&bound, bound_length, wanted);
    (void)close(fd);
}

static void address_of_an_unnamed_socket_is_unix_alone(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    assert_int_equal(getpeername(fds[0], (struct sockaddr *)&address, &length), 0);
    assert_text(&address, length, "unix");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void address_names_of_unix_sockets_have_a_longest(void **state)
{
    (void)state;
    enum { ROOM = sizeof(((struct sockaddr_un *)0)->sun_path) };
    char path[ROOM + 2];
    struct sockaddr_storage address;
    socklen_t length = 0;
    memset(path, 'x', sizeof(path));

    path[ROOM - 1] = '\0';
    path[0] = '/';
    assert_int_equal(numaperf__address_unix(path, &address, &length), 0);
    assert_int_equal(length, sizeof(struct sockaddr_un));
    char wanted[ROOM + 16];
    (void)snprintf(wanted, sizeof(wanted), "unix:%s", path);
    assert_text(&address, length, wanted);

    path[ROOM - 1] = 'x';
    path[ROOM] = '\0';
    assert_int_equal(numaperf__address_unix(path, &address, &length), -ENAMETOOLONG);
    path[0] = '@'; /* needs no zero behind it */
    assert_int_equal(numaperf__address_unix(path, &address, &length), 0);
    assert_int_equal(length, sizeof(struct sockaddr_un));
    (void)snprintf(wanted, sizeof(wanted), "unix:%s", path);
    assert_text(&address, length, wanted);

    path[ROOM] = 'x';
    path[ROOM + 1] = '\0';
    assert_int_equal(numaperf__address_unix(path, &address, &length), -ENAMETOOLONG);
    assert_int_equal(numaperf__address_unix("", &address, &length), -EINVAL);
    assert_int_equal(numaperf__address_unix("@", &address, &length), -EINVAL);
}

static void address_zeros_in_an_abstract_name_are_shown(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, "\0a\0b", 4);
    struct sockaddr_storage storage = {0};
    memcpy(&storage, &address, sizeof(address));
    assert_text(&storage, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 4), "unix:@a@b");
}

static void address_text_is_cut_as_snprintf_cuts(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t length = 0;
    assert_int_equal(numaperf__address_parse("192.0.2.1", 80, &address, &length), 0);
    char text[8] = "";
    const struct sockaddr *generic = (const struct sockaddr *)&address;
    assert_int_equal(numaperf__address_format(generic, length, text, sizeof(text)), 12);
    assert_string_equal(text, "192.0.2");
    assert_int_equal(numaperf__address_format(generic, length, NULL, 0), 12);
}

static void address_too_short_for_its_family_is_refused(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t length = 0;
    char text[16] = "as it was";
    const struct sockaddr *generic = (const struct sockaddr *)&address;
    assert_int_equal(numaperf__address_parse("192.0.2.1", 80, &address, &length), 0);
    assert_int_equal(numaperf__address_format(generic, 0, text, sizeof(text)), -EINVAL);
    assert_int_equal(numaperf__address_format(generic, length - 1, text, sizeof(text)), -EINVAL);
    assert_int_equal(numaperf__address_parse("::1", 80, &address, &length), 0);
    assert_int_equal(numaperf__address_format(generic, length - 1, text, sizeof(text)), -EINVAL);
    address.ss_family = AF_NETLINK;
    assert_int_equal(numaperf__address_format(generic, length, text, sizeof(text)), -EAFNOSUPPORT);
    assert_int_equal(numaperf__address_port(generic), 0);
    assert_string_equal(text, "as it was");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address_texts_of_both_families_come_back_the_same),
        cmocka_unit_test(address_that_is_not_numeric_is_refused_and_nothing_written),
        cmocka_unit_test(address_scope_is_an_interface_by_name_or_number),
        cmocka_unit_test(address_any_is_the_wildcard_of_its_family),
        cmocka_unit_test(address_of_a_path_is_one_that_the_kernel_binds),
        cmocka_unit_test(address_of_an_unnamed_socket_is_unix_alone),
        cmocka_unit_test(address_names_of_unix_sockets_have_a_longest),
        cmocka_unit_test(address_zeros_in_an_abstract_name_are_shown),
        cmocka_unit_test(address_text_is_cut_as_snprintf_cuts),
        cmocka_unit_test(address_too_short_for_its_family_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
