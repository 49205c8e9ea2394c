/* SPDX-License-Identifier: MIT */
/*
 * Names to addresses. A request is libuv's from start until its callback, which alone frees it:
 * who does not want the answer lets go of it, and the callback finds nobody to tell. It counts
 * as a handle of the net, so the loop waits for it.
 *
 * Thread rule: the loop's thread; getaddrinfo(3) itself runs in libuv's pool.
 *
 * Source: getaddrinfo(3); RFC 6724 (the resolver's own order); RFC 8305, section 4.
 */
#include "net/resolve.h"

#include "base/assert.h"
#include "net/address.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

struct numaperf__resolve {
    uv_getaddrinfo_t getaddrinfo;
    struct numaperf__net *net;
    numaperf__resolved_fn resolved; /* NULL: abandoned */
    void *data;
    uint16_t port;
};

/* ---- order ---- */

/* The first of `family` from `info` on; NULL when there is none. */
static const struct addrinfo *resolve_next(const struct addrinfo *info, int family)
{
    while (info != NULL && info->ai_family != family)
        info = info->ai_next;
    return info;
}

static void resolve_copy(const struct addrinfo *info, uint16_t port, struct numaperf__target *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(&out->any, info->ai_addr,
           info->ai_addrlen < sizeof(out->v6) ? info->ai_addrlen : sizeof(out->v6));
    out->length = info->ai_family == AF_INET ? sizeof(out->v4) : sizeof(out->v6);
    numaperf__address_set_port(&out->any, port);
}

uint32_t numaperf__resolve_order(const struct addrinfo *list, uint16_t port,
                                 struct numaperf__target *targets, uint32_t max)
{
    const struct addrinfo *v4 = resolve_next(list, AF_INET);
    const struct addrinfo *v6 = resolve_next(list, AF_INET6);
    bool take_v6 = false;
    for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        if (info == v4 || info == v6) {
            take_v6 = info == v6;
            break;
        }
    }
    uint32_t count = 0;
    while (count < max && (v4 != NULL || v6 != NULL)) {
        const struct addrinfo **from = (take_v6 && v6 != NULL) || v4 == NULL ? &v6 : &v4;
        resolve_copy(*from, port, &targets[count]);
        count++;
        *from = resolve_next((*from)->ai_next, (*from)->ai_family);
        take_v6 = !take_v6;
    }
    return count;
}

/* ---- request ---- */

static void resolve_done(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct numaperf__resolve *resolve =
        NUMAPERF_CONTAINER_OF(request, struct numaperf__resolve, getaddrinfo);
    struct numaperf__net *net = resolve->net;
    struct numaperf__target targets[NUMAPERF__RESOLVE_MAX];
    uint32_t count = 0;
    if (status == 0)
        count = numaperf__resolve_order(list, resolve->port, targets, NUMAPERF__RESOLVE_MAX);
    uv_freeaddrinfo(list);
    if (status == 0 && count == 0)
        status = UV_EAI_NODATA;
    if (resolve->resolved != NULL)
        resolve->resolved(status, targets, count, resolve->data);
    NUMAPERF_ASSERT(net->handle_count > 0);
    net->handle_count--;
    numaperf_arena_free(net->arena, resolve);
}

int numaperf__resolve_start(struct numaperf__net *net,
                            const struct numaperf__resolve_request *request,
                            struct numaperf__resolve **out)
{
    struct numaperf__resolve *resolve = numaperf_arena_alloc(net->arena, sizeof(*resolve), 0);
    if (resolve == NULL)
        return -ENOMEM;
    memset(resolve, 0, sizeof(*resolve));
    resolve->net = net;
    resolve->resolved = request->resolved;
    resolve->data = request->data;
    resolve->port = request->port;
    /* Both families whatever this machine has: an address that cannot be reached fails at once,
     * and AI_ADDRCONFIG would hide ::1 where only the loopback speaks IPv6. */
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(numaperf_loop_uv(net->loop), &resolve->getaddrinfo, resolve_done,
                            request->host, NULL, &hints);
    if (rc < 0) {
        numaperf_arena_free(net->arena, resolve);
        return rc;
    }
    net->handle_count++;
    *out = resolve;
    return 0;
}

void numaperf__resolve_abandon(struct numaperf__resolve *resolve)
{
    NUMAPERF_ASSERT(resolve->resolved != NULL);
    resolve->resolved = NULL;
    /* Whether it was still queued or is running does not matter: its callback comes. */
    (void)uv_cancel((uv_req_t *)&resolve->getaddrinfo);
}
