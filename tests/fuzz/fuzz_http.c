/* SPDX-License-Identifier: MIT */
/*
 * What examples/http_server makes of whatever a peer sends: heads, bodies, paths, conditions and
 * ranges, in pieces of any size and without sockets. The first byte chooses the pieces. Asserted:
 * whole input and pieces give the same requests; no path leaves the root or shows what is hidden;
 * a part lies within its file; what is kept is bounded.
 */
#include "../../examples/http_server/condition.h"
#include "../../examples/http_server/limits.h"
#include "../../examples/http_server/path.h"
#include "../../examples/http_server/request.h"

#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                            \
    do {                                                            \
        if (!(condition)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            abort();                                                \
        }                                                           \
    } while (0)

struct outcome {
    uint64_t requests;
    uint64_t body_bytes;
    uint64_t sum; /* of what was understood */
    unsigned status;
};

struct peer {
    struct request_reader reader;
    bool in_body;
    struct outcome outcome;
};

static void mix(struct outcome *outcome, const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        outcome->sum = outcome->sum * 31 + ((const unsigned char *)bytes)[i];
}

static void check_path(struct outcome *outcome, const char *raw, size_t length)
{
    struct path path;
    memset(&path, 0xaa, sizeof(path));
    unsigned status = path_decode(raw, length, &path);
    mix(outcome, &status, sizeof(status));
    if (status != 0) {
        CHECK(status == 400 || status == 404 || status == 414);
        return;
    }
    CHECK(path.length > 0 && path.length < sizeof(path.text));
    CHECK(strlen(path.text) == path.length);
    CHECK(path.text[0] != '/' && path.text[0] != '.');
    CHECK(strstr(path.text, "/.") == NULL && strstr(path.text, "//") == NULL);
    CHECK(path.text[path.length - 1] != '/');
    mix(outcome, path.text, path.length);

    /* Written into a header and read again, it is the same. */
    char encoded[3 * HTTP_PATH_MAX + 2];
    struct path again;
    size_t size = path_encode(&path, encoded, sizeof(encoded));
    CHECK(size < sizeof(encoded) && strlen(encoded) == size);
    CHECK(strpbrk(encoded, "\r\n \"") == NULL);
    CHECK(encoded[0] == '/' && encoded[1] != '/');
    CHECK(path_decode(encoded, size, &again) == 0);
    CHECK(again.length == path.length && memcmp(again.text, path.text, path.length) == 0);
}

static void check_condition(struct outcome *outcome, const struct request *request)
{
    static const uint64_t sizes[] = {0, 1, 500, UINT64_C(1) << 40};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct validator file = {"\"a-b\"", 5, 784111777, sizes[i]};
        struct part part = {0};
        unsigned status = condition_status(request, &file, &part);
        mix(outcome, &status, sizeof(status));
        CHECK(status == 200 || status == 206 || status == 304 || status == 412 || status == 416);
        if (status == 200)
            CHECK(part.offset == 0 && part.length == file.size);
        if (status == 206)
            CHECK(part.length > 0 && part.offset < file.size &&
                  part.length <= file.size - part.offset);
    }
}

static bool within(const struct span *span, const char *bytes, size_t length)
{
    return span->data == NULL || (span->data >= bytes && span->length <= length &&
                                  (size_t)(span->data - bytes) <= length - span->length);
}

static void check_request(struct outcome *outcome, const struct request *request, const char *head,
                          size_t length)
{
    outcome->requests++;
    CHECK(!(request->is_get && request->is_head));
    CHECK(within(&request->target, head, length) && request->target.length > 0);
    for (unsigned i = 0; i < FIELD_COUNT; i++) {
        CHECK(within(&request->fields[i], head, length));
        mix(outcome, request->fields[i].data, request->fields[i].length);
    }
    CHECK(request->fields[FIELD_HOST].data != NULL || request->is_1_0);
    CHECK(request->fields[FIELD_CONTENT_LENGTH].data == NULL ||
          request->fields[FIELD_TRANSFER_ENCODING].data == NULL);
    CHECK(!request->expects_continue || request->has_body);
    const char *path = NULL;
    size_t path_length = path_of_target(request->target.data, request->target.length, &path);
    if (path_length > 0)
        check_path(outcome, path, path_length);
    check_condition(outcome, request);
}

/* One step, as conn.c takes it; how many bytes were used up. */
static size_t step(struct peer *peer, const char *bytes, size_t length)
{
    if (peer->in_body) {
        bool complete = false;
        int taken = request_skip_body(&peer->reader, bytes, length, &complete);
        if (taken < 0) {
            peer->outcome.status = (unsigned)-taken;
            return 0;
        }
        CHECK((size_t)taken <= length && (taken > 0 || complete || length == 0));
        peer->outcome.body_bytes += (uint64_t)taken;
        peer->in_body = !complete;
        if (complete)
            request_begin(&peer->reader);
        return (size_t)taken;
    }
    int head = request_scan(&peer->reader, bytes, length);
    CHECK(head <= (int)HTTP_HEAD_MAX && (head >= 0 || head <= -400));
    CHECK(head != 0 || length <= HTTP_HEAD_MAX);
    struct request request;
    unsigned status = head < 0 ? (unsigned)-head : 0;
    if (head > 0)
        status = request_read_head(&peer->reader, bytes, (size_t)head, &request);
    peer->outcome.status = status;
    if (head <= 0 || status != 0)
        return 0;
    check_request(&peer->outcome, &request, bytes, (size_t)head);
    peer->in_body = request.has_body;
    if (!request.has_body)
        request_begin(&peer->reader);
    return (size_t)head;
}

static struct outcome run(const char *data, size_t size, size_t piece)
{
    struct peer peer = {.in_body = false};
    request_begin(&peer.reader);
    size_t start = 0;
    for (size_t end = 0; end < size && peer.outcome.status == 0;) {
        end = size - end < piece ? size : end + piece;
        /* A copy of exactly the size that has come: the sanitizer sees every byte read beyond. */
        char *copy = malloc(end - start);
        CHECK(copy != NULL);
        memcpy(copy, data + start, end - start);
        size_t used = 0;
        size_t taken = 1;
        while (taken > 0 && start + used < end) {
            taken = step(&peer, copy + used, end - start - used);
            used += taken;
        }
        free(copy);
        start += used;
    }
    return peer.outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    struct outcome whole = run(text, size - 1, size);
    struct outcome pieces = run(text, size - 1, data[0] == 0 ? 1 : data[0]);
    CHECK(whole.requests == pieces.requests);
    CHECK(whole.sum == pieces.sum);
    /* Of a body that is refused, pieces may have been taken before. */
    CHECK(whole.status == pieces.status);
    CHECK(whole.status != 0 || whole.body_bytes == pieces.body_bytes);
    return 0;
}
