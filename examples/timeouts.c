/* SPDX-License-Identifier: MIT */
/*
 * Time limits: a timer of a worker that every request starts again, as a connection's would be, and
 * a task for later that is cancelled because it is not needed any more.
 */
#include <numaperf.h>

#include <stdio.h>
#include <stdlib.h>

#define REQUESTS 5
#define REQUEST_GAP_NS 10000000u /* between two requests */
#define IDLE_LIMIT_NS 50000000u  /* after the last one */
#define WHOLE_LIMIT_NS 3600000000000u

/* All of it is used by one worker alone. */
struct connection {
    numaperf_timer_t idle; /* in our own memory: nothing is allocated for it */
    numaperf_timer_t *whole;
    numaperf_group_t *group;
    int requests;
};

static void idle_for_too_long(numaperf_worker_t *worker, void *arg)
{
    struct connection *connection = arg;
    (void)worker;
    printf("%d requests, then idle: closed\n", connection->requests);
    printf("its limit as a whole was %s\n",
           numaperf_timer_cancel(connection->whole) == 1 ? "not reached" : "reached");
}

static void whole_limit_reached(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    printf("open for an hour\n");
}

/* For this worker alone, and a member of the group that main() waits for. */
static numaperf_spawn_options_t here(numaperf_worker_t *worker, numaperf_group_t *group)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)numaperf_worker_index(worker);
    options.group = group;
    return options;
}

static void request(numaperf_worker_t *worker, void *arg)
{
    struct connection *connection = arg;
    const numaperf_spawn_options_t options = here(worker, connection->group);
    connection->requests++;
    (void)numaperf_timer_restart(&connection->idle); /* was started: cannot fail */
    if (connection->requests < REQUESTS &&
        numaperf_rt_spawn_after(numaperf_worker_rt(worker), &options, REQUEST_GAP_NS, request,
                                connection, NULL) < 0)
        printf("no more requests: %s\n", numaperf_last_error()->reason);
}

static void open_connection(numaperf_worker_t *worker, void *arg)
{
    struct connection *connection = arg;
    const numaperf_spawn_options_t options = here(worker, connection->group);
    if (numaperf_timer_init(worker, &connection->idle, idle_for_too_long, connection) < 0 ||
        numaperf_timer_start(&connection->idle, IDLE_LIMIT_NS) < 0 ||
        numaperf_rt_spawn_after(numaperf_worker_rt(worker), &options, WHOLE_LIMIT_NS,
                                whole_limit_reached, connection, &connection->whole) < 0)
        printf("not connected: %s\n", numaperf_last_error()->reason);
    else
        request(worker, connection);
}

int main(void)
{
    static struct connection connection;
    numaperf_rt_t *rt = NULL;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    if (numaperf_rt_start(NULL, &rt) < 0 || numaperf_group_create(rt, &connection.group) < 0) {
        fprintf(stderr, "start: %s\n", numaperf_last_error()->reason);
        return EXIT_FAILURE;
    }
    options.group = connection.group;
    if (numaperf_rt_spawn_with(rt, &options, open_connection, &connection) == 0)
        printf("%d task was cancelled\n", numaperf_group_wait(connection.group, UINT64_MAX));
    numaperf_rt_destroy(rt);
    return numaperf_group_destroy(connection.group) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
