/* SPDX-License-Identifier: MIT */
/*
 * Echo server: every byte goes back. Shows a listener on every worker and connections that send
 * what they received without copying it: the received buffer is held, and given to the connection
 * to be sent.
 *
 * A peer that does not read is not read from either, so it costs a bounded amount of memory.
 */
#include "server/service.h"

#define HIGH_WATER_BYTES 65536 /* unsent bytes at which reading stops */
#define COPY_BYTES 512         /* fewer than these are copied: that is cheaper than to hold them */

static void echo_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)data; /* no connection has anything of its own */
    numaperf_buffer_t *held = length > COPY_BYTES ? numaperf_conn_hold(conn) : NULL;
    int rc = held != NULL ? numaperf_conn_write_held(conn, held, bytes, length)
                          : numaperf_conn_write(conn, bytes, length);
    if (rc < 0) {
        numaperf_buffer_release(held);
        numaperf_conn_close(conn, rc);
    } else if (rc == 1) {
        numaperf_conn_pause(conn); /* until echo_drained() */
    }
}

static void echo_drained(numaperf_conn_t *conn, void *data)
{
    (void)data;
    numaperf_conn_resume(conn);
}

static int echo_prepare(void *data, const struct server_options *options,
                        numaperf_conn_config_t *conn)
{
    (void)data;
    (void)options;
    conn->callbacks.on_read = echo_read;
    conn->callbacks.on_drain = echo_drained;
    conn->high_water_bytes = HIGH_WATER_BYTES;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct service_app app = {
        .name = "echo_server",
        .default_port = 7777,
        .prepare = echo_prepare,
    };
    return service_main(&app, argc, argv);
}
