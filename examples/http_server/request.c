/* SPDX-License-Identifier: MIT */
/*
 * Requests. The head is found first: lines that end with CR LF, no folded line, within limits; the
 * engine then gets it whole, so every name and value is one span of it. Two readings of one request
 * are how requests are smuggled: whatever has more than one (both lengths, a length twice, a coding
 * we do not know, a bare LF, a space before a colon) is refused, and the connection ends.
 */
#include "request.h"

#include "limits.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    uint8_t length;
} field_names[FIELD_COUNT] = {
    [FIELD_HOST] = {"host", 4},
    [FIELD_CONTENT_LENGTH] = {"content-length", 14},
    [FIELD_TRANSFER_ENCODING] = {"transfer-encoding", 17},
    [FIELD_EXPECT] = {"expect", 6},
    [FIELD_RANGE] = {"range", 5},
    [FIELD_IF_RANGE] = {"if-range", 8},
    [FIELD_IF_MATCH] = {"if-match", 8},
    [FIELD_IF_NONE_MATCH] = {"if-none-match", 13},
    [FIELD_IF_MODIFIED_SINCE] = {"if-modified-since", 17},
    [FIELD_IF_UNMODIFIED_SINCE] = {"if-unmodified-since", 19},
};

/* ---- the engine ---- */

static struct request_reader *reader_of(request_engine *engine)
{
    return engine->data;
}

static int on_target(request_engine *engine, const char *at, size_t length)
{
    struct request *request = reader_of(engine)->request;
    if (request != NULL)
        request->target = (struct span){at, length};
    return 0;
}

static int on_field(request_engine *engine, const char *at, size_t length)
{
    struct request_reader *reader = reader_of(engine);
    reader->field = FIELD_OTHER;
    for (unsigned i = 0; i < FIELD_COUNT; i++) {
        if (field_names[i].length == length && strncasecmp(field_names[i].name, at, length) == 0)
            reader->field = (enum request_field)i;
    }
    reader->field_counts[reader->field]++;
    return 0;
}

static int on_value(request_engine *engine, const char *at, size_t length)
{
    struct request_reader *reader = reader_of(engine);
    if (reader->request == NULL || reader->field == FIELD_OTHER)
        return 0; /* a trailer, which means nothing here */
    while (length > 0 && (at[length - 1] == ' ' || at[length - 1] == '\t'))
        length--;
    reader->request->fields[reader->field] = (struct span){at, length};
    return 0;
}

#ifdef HTTP_HAVE_LLHTTP

static int on_complete(llhttp_t *engine)
{
    reader_of(engine)->complete = true;
    return HPE_PAUSED; /* what follows is another request */
}

static const llhttp_settings_t *settings(void)
{
    static const llhttp_settings_t these = {.on_url = on_target,
                                            .on_header_field = on_field,
                                            .on_header_value = on_value,
                                            .on_message_complete = on_complete};
    return &these;
}

static void engine_init(struct request_reader *reader)
{
    llhttp_init(&reader->engine, HTTP_REQUEST, settings());
    reader->engine.data = reader;
}

/* How many bytes it took; < 0: it found them wrong. */
static int engine_execute(struct request_reader *reader, const char *bytes, size_t length)
{
    enum llhttp_errno rc = llhttp_execute(&reader->engine, bytes, length);
    if (rc == HPE_OK)
        return (int)length;
    if (rc == HPE_PAUSED || rc == HPE_PAUSED_UPGRADE)
        return (int)(llhttp_get_error_pos(&reader->engine) - bytes);
    return -1;
}

static unsigned engine_method(const request_engine *engine)
{
    return llhttp_get_method((llhttp_t *)(uintptr_t)engine);
}

static bool engine_keep_alive(const request_engine *engine)
{
    return llhttp_should_keep_alive(engine) != 0;
}

#else

static int on_complete(struct http_parser *engine)
{
    reader_of(engine)->complete = true;
    http_parser_pause(engine, 1); /* what follows is another request */
    return 0;
}

static const struct http_parser_settings *settings(void)
{
    static const struct http_parser_settings these = {.on_url = on_target,
                                                      .on_header_field = on_field,
                                                      .on_header_value = on_value,
                                                      .on_message_complete = on_complete};
    return &these;
}

static void engine_init(struct request_reader *reader)
{
    http_parser_init(&reader->engine, HTTP_REQUEST);
    reader->engine.data = reader;
}

/* How many bytes it took; < 0: it found them wrong. */
static int engine_execute(struct request_reader *reader, const char *bytes, size_t length)
{
    size_t taken = http_parser_execute(&reader->engine, settings(), bytes, length);
    enum http_errno code = HTTP_PARSER_ERRNO(&reader->engine);
    if (code != HPE_OK && code != HPE_PAUSED)
        return -1;
    return (int)taken;
}

static unsigned engine_method(const request_engine *engine)
{
    return engine->method;
}

static bool engine_keep_alive(const request_engine *engine)
{
    return http_should_keep_alive(engine) != 0;
}

#endif

/* ---- head ---- */

void request_begin(struct request_reader *reader)
{
    reader->scanned = 0;
    reader->lines = 0;
    reader->body_bytes = 0;
    reader->complete = false;
}

/* A line of a head, without its end: 0, or the status. */
static int scan_line(const struct request_reader *reader, const char *line, size_t length)
{
    if (length == 0 || line[length - 1] != '\r')
        return 400; /* a bare LF */
    if (memchr(line, '\r', length) != line + length - 1 || memchr(line, '\0', length) != NULL)
        return 400;
    if (reader->lines == 0)
        return length > HTTP_LINE_MAX ? 414 : 0;
    if (line[0] == ' ' || line[0] == '\t')
        return 400; /* a folded line */
    /* http-parser takes a space in a name; a proxy before us may not have seen that field. */
    const char *colon = memchr(line, ':', length);
    if (colon == NULL || memchr(line, ' ', (size_t)(colon - line)) != NULL)
        return 400;
    return reader->lines > HTTP_FIELDS_MAX ? 431 : 0;
}

int request_scan(struct request_reader *reader, const char *bytes, size_t length)
{
    while (reader->scanned < length) {
        const char *line = bytes + reader->scanned;
        const char *end = memchr(line, '\n', length - reader->scanned);
        if (end == NULL)
            break;
        size_t line_length = (size_t)(end - line);
        bool empty = line_length == 1 && line[0] == '\r';
        int status = empty ? 0 : scan_line(reader, line, line_length);
        if (status != 0)
            return -status;
        reader->scanned += line_length + 1;
        if (reader->scanned > HTTP_HEAD_MAX)
            return -431;
        if (empty && reader->lines > 0)
            return (int)reader->scanned;
        /* Empty lines before a request are the end of an old client's body: they are passed over.
         */
        reader->lines += empty ? 0 : 1;
    }
    if (reader->lines == 0 && length - reader->scanned > HTTP_LINE_MAX)
        return -414;
    return length > HTTP_HEAD_MAX ? -431 : 0;
}

static bool is_token(const char *text, size_t length)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && (c == '\0' || strchr(marks, c) == NULL))
            return false;
    }
    return length > 0;
}

/* The engine refuses a line for one reason only: here is a better one, if there is. */
static unsigned head_status(const char *head, size_t length)
{
    while (length > 2 && head[0] == '\r') {
        head += 2;
        length -= 2;
    }
    const char *line_end = memchr(head, '\r', length);
    const char *space = memchr(head, ' ', length);
    if (line_end == NULL || space == NULL || space > line_end ||
        !is_token(head, (size_t)(space - head)))
        return 400;
    static const char *const known[] = {"GET",   "HEAD",    "POST",    "PUT",  "DELETE",
                                        "TRACE", "OPTIONS", "CONNECT", "PATCH"};
    bool is_known = false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        is_known |= strlen(known[i]) == (size_t)(space - head) &&
                    memcmp(known[i], head, (size_t)(space - head)) == 0;
    const char *version = memrchr(head, ' ', (size_t)(line_end - head));
    size_t version_length = (size_t)(line_end - version) - 1;
    bool is_version = version_length == 8 && memcmp(version + 1, "HTTP/", 5) == 0;
    if (is_version && version[6] != '1')
        return 505;
    return is_version && !is_known ? 501 : 400;
}

static bool span_is(const struct span *span, const char *text)
{
    return span->length == strlen(text) && strncasecmp(span->data, text, span->length) == 0;
}

static unsigned head_check_length(const struct request_reader *reader, struct request *request)
{
    const struct span *length = &request->fields[FIELD_CONTENT_LENGTH];
    const struct span *coding = &request->fields[FIELD_TRANSFER_ENCODING];
    if (reader->field_counts[FIELD_CONTENT_LENGTH] + reader->field_counts[FIELD_TRANSFER_ENCODING] >
        1)
        return 400;
    if (coding->data != NULL) {
        if (request->is_1_0)
            return 400;
        request->has_body = true;
        return span_is(coding, "chunked") ? 0 : 501;
    }
    if (length->data == NULL)
        return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < length->length; i++) {
        if (length->data[i] < '0' || length->data[i] > '9')
            return 400;
        value = value > HTTP_BODY_MAX ? value : value * 10 + (uint64_t)(length->data[i] - '0');
    }
    request->has_body = value > 0;
    if (length->length == 0)
        return 400;
    return value > HTTP_BODY_MAX ? 413 : 0;
}

static unsigned head_check(const struct request_reader *reader, struct request *request)
{
    uint32_t hosts = reader->field_counts[FIELD_HOST];
    if (hosts > 1 || (hosts == 0 && !request->is_1_0))
        return 400;
    unsigned status = head_check_length(reader, request);
    if (status != 0)
        return status;
    const struct span *expect = &request->fields[FIELD_EXPECT];
    if (expect->data != NULL && !request->is_1_0) {
        if (!span_is(expect, "100-continue"))
            return 417;
        request->expects_continue = request->has_body;
    }
    return 0;
}

unsigned request_read_head(struct request_reader *reader, const char *head, size_t length,
                           struct request *out)
{
    memset(out, 0, sizeof(*out));
    memset(reader->field_counts, 0, sizeof(reader->field_counts));
    engine_init(reader);
    reader->request = out;
    int taken = engine_execute(reader, head, length);
    reader->request = NULL;
    if (taken < 0)
        return head_status(head, length);
    const request_engine *engine = &reader->engine;
    if (engine->http_major != 1)
        return 505;
    /* An end that comes early is one that the engine and the scan do not agree about. */
    if ((size_t)taken != length || out->target.data == NULL || out->target.length == 0)
        return 400;
    out->is_get = engine_method(engine) == HTTP_GET;
    out->is_head = engine_method(engine) == HTTP_HEAD;
    out->is_1_0 = engine->http_minor == 0;
    out->keep_alive = engine_keep_alive(engine);
    unsigned status = head_check(reader, out);
    if (status == 0 && out->has_body == reader->complete)
        return 400; /* the same for where the body ends */
    return status;
}

/* ---- body ---- */

int request_skip_body(struct request_reader *reader, const char *bytes, size_t length,
                      bool *out_complete)
{
    *out_complete = reader->complete;
    if (reader->complete || length == 0)
        return 0;
    int taken = engine_execute(reader, bytes, length);
    if (taken < 0)
        return -400;
    reader->body_bytes += (size_t)taken;
    /* Chunks cost framing: a body of single bytes may be as long on the wire as a large one. */
    if (reader->body_bytes > HTTP_BODY_MAX)
        return -413;
    *out_complete = reader->complete;
    return taken;
}
