/* SPDX-License-Identifier: MIT */
/* What a peer may ask for. Every buffer and queue of the server is bounded by one of these. */
#ifndef EXAMPLES_HTTP_LIMITS_H
#define EXAMPLES_HTTP_LIMITS_H

#include <stddef.h>

#define HTTP_LINE_MAX ((size_t)8 * 1024)    /* bytes of a request line: else 414 */
#define HTTP_HEAD_MAX ((size_t)16 * 1024)   /* of line and fields together: else 431 */
#define HTTP_FIELDS_MAX 100u                /* header fields: else 431 */
#define HTTP_BODY_MAX ((size_t)1024 * 1024) /* of a body, which is thrown away: else 413 */
#define HTTP_PATH_MAX ((size_t)1024)        /* of a path, decoded: else 414 */

#define HTTP_ENTRY_MAX ((size_t)1024 * 1024)   /* larger files are not cached but streamed */
#define HTTP_STREAM_BYTES ((size_t)256 * 1024) /* of such a file in memory at a time */
#define HTTP_LOADS_MAX 1024u                   /* files a worker reads at a time: else 503 */
#define HTTP_FRESH_MS 1000u                    /* a file is looked at again after this */

#define HTTP_COPY_MAX ((size_t)8 * 1024) /* bodies up to this are copied, larger ones lent */

#endif
