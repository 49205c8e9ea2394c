/* SPDX-License-Identifier: MIT */
/* Scenes of handles without a descriptor of the user's, and what all scenes share. */
#include "support/uv_scenes.h"

#include "support/clock.h"
#include "support/uv_scenes_io.h"

#include <fcntl.h>
#include <numaperf/loop.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHILD_EXIT 7

/* ---- what all share ---- */

void scene_failed(struct scene_run *run, const char *what)
{
    const char *none = NULL;
    (void)atomic_compare_exchange_strong(&run->failure, &none, what);
}

static void scene_left(struct scene_run *run)
{
    run->open--;
    if (run->open == 0)
        atomic_store(&run->ended, true);
}

void scene_track(struct scene_run *run, uv_handle_t *handle)
{
    handle->data = run;
    run->open++;
}

static void scene_closed(uv_handle_t *handle)
{
    scene_left(handle->data);
}

void scene_close(uv_handle_t *handle)
{
    uv_close(handle, scene_closed);
}

void scene_request_begins(struct scene_run *run)
{
    run->open++;
}

void scene_request_ends(struct scene_run *run)
{
    scene_left(run);
}

bool scene_run_init(struct scene_run *run, const struct scene *scene)
{
    static atomic_int number;
    memset(run, 0, sizeof(*run));
    run->scene = scene;
    run->fds[0] = -1;
    run->fds[1] = -1;
    (void)snprintf(run->path, sizeof(run->path), "/tmp/numaperf-%d-%d", (int)getpid(), number++);
    run->parts = calloc(1, scene->parts_size);
    return run->parts != NULL;
}

void scene_run_fini(struct scene_run *run)
{
    for (int i = 0; i < 2; i++) {
        if (run->fds[i] >= 0)
            (void)close(run->fds[i]);
    }
    (void)remove(run->path);
    free(run->parts);
}

bool scene_run_watch(struct scene_run *run)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (!atomic_load(&run->ended)) {
        if (atomic_load(&run->ready) && run->scene->poke != NULL)
            run->scene->poke(run);
        if (test_now_ns() > limit_ns)
            return false;
        test_sleep_ms(2);
    }
    return true;
}

uint64_t scene_early_ns_max(void)
{
    struct timespec tick;
    /* An emulated PU stops for longer between reading the time and starting the timer. */
    if (test_is_guest())
        return 40000000;
    (void)clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
    return (uint64_t)tick.tv_nsec + 1000000;
}

/* ---- timer ---- */

struct timer_parts {
    uv_timer_t late;
    uv_timer_t early;
    uv_timer_t now;
    uv_timer_t repeating;
    uv_timer_t moved;
    uint64_t start_ns;
    int order; /* of now, early, late */
    int repeats;
};

static bool timer_took(const struct timer_parts *parts, uint64_t ms)
{
    return uv_hrtime() - parts->start_ns + scene_early_ns_max() >= ms * 1000000;
}

static void timer_now_fired(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    struct timer_parts *parts = run->parts;
    SCENE_SEE(run, parts->order++ == 0);
    scene_close((uv_handle_t *)timer);
}

static void timer_early_fired(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    struct timer_parts *parts = run->parts;
    SCENE_SEE(run, parts->order++ == 1);
    SCENE_SEE(run, timer_took(parts, 10));
    scene_close((uv_handle_t *)timer);
}

static void timer_late_fired(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    struct timer_parts *parts = run->parts;
    SCENE_SEE(run, parts->order++ == 2);
    SCENE_SEE(run, timer_took(parts, 20));
    scene_close((uv_handle_t *)timer);
}

static void timer_repeats(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    struct timer_parts *parts = run->parts;
    parts->repeats++;
    SCENE_SEE(run, timer_took(parts, 3u * (unsigned)parts->repeats));
    if (parts->repeats == 4)
        scene_close((uv_handle_t *)timer);
}

static void timer_moved_fired(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    SCENE_SEE(run, timer_took(run->parts, 30));
    SCENE_SEE(run, !uv_is_active((uv_handle_t *)timer));
    scene_close((uv_handle_t *)timer);
}

static void timer_start(struct scene_run *run)
{
    struct timer_parts *parts = run->parts;
    uv_timer_t *all[] = {&parts->late, &parts->early, &parts->now, &parts->repeating,
                         &parts->moved};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        SCENE_SEE(run, uv_timer_init(run->loop, all[i]) == 0);
        scene_track(run, (uv_handle_t *)all[i]);
    }
    parts->start_ns = uv_hrtime();
    SCENE_SEE(run, uv_timer_start(&parts->late, timer_late_fired, 20, 0) == 0);
    SCENE_SEE(run, uv_timer_start(&parts->early, timer_early_fired, 10, 0) == 0);
    SCENE_SEE(run, uv_timer_start(&parts->now, timer_now_fired, 0, 0) == 0);
    SCENE_SEE(run, uv_timer_start(&parts->repeating, timer_repeats, 3, 3) == 0);
    SCENE_SEE(run, uv_timer_start(&parts->moved, timer_moved_fired, 5, 0) == 0);
    SCENE_SEE(run, uv_timer_start(&parts->moved, timer_moved_fired, 30, 0) == 0);
}

/* ---- idle, prepare, check ---- */

struct phase_parts {
    uv_idle_t idle;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t timer;
    int count;
};

static void idle_runs(uv_idle_t *idle)
{
    struct scene_run *run = idle->data;
    struct phase_parts *parts = run->parts;
    if (++parts->count == 5)
        scene_close((uv_handle_t *)idle);
}

static void idle_start(struct scene_run *run)
{
    struct phase_parts *parts = run->parts;
    SCENE_SEE(run, uv_idle_init(run->loop, &parts->idle) == 0);
    scene_track(run, (uv_handle_t *)&parts->idle);
    SCENE_SEE(run, uv_idle_start(&parts->idle, idle_runs) == 0);
}

/* Started last, with nothing else about: it must run before the loop waits. */
static void prepare_runs(uv_prepare_t *prepare)
{
    scene_close((uv_handle_t *)prepare);
}

static void prepare_start(struct scene_run *run)
{
    struct phase_parts *parts = run->parts;
    SCENE_SEE(run, uv_prepare_init(run->loop, &parts->prepare) == 0);
    scene_track(run, (uv_handle_t *)&parts->prepare);
    SCENE_SEE(run, uv_prepare_start(&parts->prepare, prepare_runs) == 0);
}

static void check_runs(uv_check_t *check)
{
    struct scene_run *run = check->data;
    struct phase_parts *parts = run->parts;
    if (parts->count == 0)
        return; /* of an iteration that something else made */
    scene_close((uv_handle_t *)check);
}

static void check_timer_fired(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    struct phase_parts *parts = run->parts;
    parts->count++;
    scene_close((uv_handle_t *)timer);
}

static void check_start(struct scene_run *run)
{
    struct phase_parts *parts = run->parts;
    SCENE_SEE(run, uv_check_init(run->loop, &parts->check) == 0);
    scene_track(run, (uv_handle_t *)&parts->check);
    SCENE_SEE(run, uv_timer_init(run->loop, &parts->timer) == 0);
    scene_track(run, (uv_handle_t *)&parts->timer);
    SCENE_SEE(run, uv_check_start(&parts->check, check_runs) == 0);
    SCENE_SEE(run, uv_timer_start(&parts->timer, check_timer_fired, 5, 0) == 0);
}

/* ---- async, signal ---- */

struct signal_parts {
    uv_async_t async;
    uv_signal_t signal;
    atomic_int seen;
    int sent; /* the poking thread's */
};

static void async_fired(uv_async_t *async)
{
    struct scene_run *run = async->data;
    struct signal_parts *parts = run->parts;
    if (atomic_fetch_add(&parts->seen, 1) + 1 == 10)
        scene_close((uv_handle_t *)async);
}

static void async_start(struct scene_run *run)
{
    struct signal_parts *parts = run->parts;
    SCENE_SEE(run, uv_async_init(run->loop, &parts->async, async_fired) == 0);
    scene_track(run, (uv_handle_t *)&parts->async);
    atomic_store(&run->ready, true);
}

/* Each only after the one before was seen: every one of them has to wake the loop by itself. */
static void async_poke(struct scene_run *run)
{
    struct signal_parts *parts = run->parts;
    if (parts->sent < 10 && atomic_load(&parts->seen) == parts->sent) {
        parts->sent++;
        (void)uv_async_send(&parts->async);
    }
}

static void signal_seen(uv_signal_t *handle, int number)
{
    struct scene_run *run = handle->data;
    struct signal_parts *parts = run->parts;
    SCENE_SEE(run, number == SIGUSR2);
    if (atomic_fetch_add(&parts->seen, 1) + 1 == 3)
        scene_close((uv_handle_t *)handle);
}

static void signal_start(struct scene_run *run)
{
    struct signal_parts *parts = run->parts;
    SCENE_SEE(run, uv_signal_init(run->loop, &parts->signal) == 0);
    scene_track(run, (uv_handle_t *)&parts->signal);
    SCENE_SEE(run, uv_signal_start(&parts->signal, signal_seen, SIGUSR2) == 0);
    atomic_store(&run->ready, true);
}

/* To the process: workers block signals, so a thread that does not takes it. */
static void signal_poke(struct scene_run *run)
{
    struct signal_parts *parts = run->parts;
    if (parts->sent < 3 && atomic_load(&parts->seen) == parts->sent) {
        parts->sent++;
        (void)kill(getpid(), SIGUSR2);
    }
}

/* ---- process ---- */

struct process_parts {
    uv_process_t process;
    uv_pipe_t out;
    char text[64];
    size_t length;
};

void scene_child_main(int argc, char **argv)
{
    if (argc != 2 || strcmp(argv[1], "--scene-child") != 0)
        return;
    if (write(STDOUT_FILENO, "child", 5) != 5)
        _exit(1);
    _exit(CHILD_EXIT);
}

static void process_exited(uv_process_t *process, int64_t status, int number)
{
    struct scene_run *run = process->data;
    SCENE_SEE(run, status == CHILD_EXIT);
    SCENE_SEE(run, number == 0);
    scene_close((uv_handle_t *)process);
}

static void process_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)size;
    struct scene_run *run = handle->data;
    struct process_parts *parts = run->parts;
    *out =
        uv_buf_init(parts->text + parts->length, (unsigned)(sizeof(parts->text) - parts->length));
}

static void process_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    (void)buffer;
    struct scene_run *run = stream->data;
    struct process_parts *parts = run->parts;
    if (n > 0)
        parts->length += (size_t)n;
    if (n >= 0)
        return;
    SCENE_SEE(run, n == UV_EOF);
    SCENE_SEE(run, parts->length == 5 && memcmp(parts->text, "child", 5) == 0);
    scene_close((uv_handle_t *)stream);
}

static void process_start(struct scene_run *run)
{
    struct process_parts *parts = run->parts;
    char *args[] = {"/proc/self/exe", "--scene-child", NULL};
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE},
                                     {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO}};
    SCENE_SEE(run, uv_pipe_init(run->loop, &parts->out, 0) == 0);
    scene_track(run, (uv_handle_t *)&parts->out);
    stdio[1].data.stream = (uv_stream_t *)&parts->out;
    uv_process_options_t options = {
        .exit_cb = process_exited, .file = args[0], .args = args, .stdio = stdio, .stdio_count = 3};
    int rc = run->spawn_by_library ? numaperf_uv_spawn(run->loop, &parts->process, &options)
                                   : uv_spawn(run->loop, &parts->process, &options);
    scene_track(run, (uv_handle_t *)&parts->process);
    SCENE_SEE(run, rc == 0);
    SCENE_SEE(run, uv_read_start((uv_stream_t *)&parts->out, process_alloc, process_read) == 0);
}

static void process_start_by_library(struct scene_run *run)
{
    run->spawn_by_library = true;
    process_start(run);
}

/* ---- thread pool ---- */

struct work_parts {
    uv_work_t work;
    uv_getaddrinfo_t address;
    uv_getnameinfo_t name;
    uv_random_t random;
    uv_thread_t loop_thread;
    uv_thread_t work_thread;
    unsigned char bytes[64];
};

static void work_runs(uv_work_t *work)
{
    struct scene_run *run = work->data;
    struct work_parts *parts = run->parts;
    parts->work_thread = uv_thread_self();
    test_sleep_ms(5); /* the loop must be asleep by now */
}

static void work_done(uv_work_t *work, int status)
{
    struct scene_run *run = work->data;
    struct work_parts *parts = run->parts;
    uv_thread_t self = uv_thread_self();
    SCENE_SEE(run, status == 0);
    SCENE_SEE(run, uv_thread_equal(&self, &parts->loop_thread));
    SCENE_SEE(run, !uv_thread_equal(&self, &parts->work_thread));
    scene_request_ends(run);
}

static void work_start(struct scene_run *run)
{
    struct work_parts *parts = run->parts;
    scene_request_begins(run);
    parts->work.data = run;
    parts->loop_thread = uv_thread_self();
    SCENE_SEE(run, uv_queue_work(run->loop, &parts->work, work_runs, work_done) == 0);
}

static void name_found(uv_getnameinfo_t *request, int status, const char *host, const char *service)
{
    struct scene_run *run = request->data;
    SCENE_SEE(run, status == 0 && strcmp(host, "127.0.0.1") == 0 && strcmp(service, "80") == 0);
    scene_request_ends(run);
}

static void address_found(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct scene_run *run = request->data;
    struct work_parts *parts = run->parts;
    SCENE_SEE(run, status == 0 && found != NULL && found->ai_family == AF_INET);
    parts->name.data = run;
    scene_request_begins(run);
    if (found != NULL)
        SCENE_SEE(run, uv_getnameinfo(run->loop, &parts->name, name_found, found->ai_addr,
                                      NI_NUMERICHOST | NI_NUMERICSERV) == 0);
    uv_freeaddrinfo(found);
    scene_request_ends(run);
}

static void address_start(struct scene_run *run)
{
    struct work_parts *parts = run->parts;
    const struct addrinfo hints = {.ai_family = AF_INET,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    scene_request_begins(run);
    parts->address.data = run;
    SCENE_SEE(run, uv_getaddrinfo(run->loop, &parts->address, address_found, "127.0.0.1", "80",
                                  &hints) == 0);
}

static void random_found(uv_random_t *request, int status, void *buffer, size_t length)
{
    struct scene_run *run = request->data;
    unsigned char sum = 0;
    for (size_t i = 0; i < length; i++)
        sum |= ((unsigned char *)buffer)[i];
    SCENE_SEE(run, status == 0 && sum != 0);
    scene_request_ends(run);
}

static void random_start(struct scene_run *run)
{
    struct work_parts *parts = run->parts;
    scene_request_begins(run);
    parts->random.data = run;
    SCENE_SEE(run, uv_random(run->loop, &parts->random, parts->bytes, sizeof(parts->bytes), 0,
                             random_found) == 0);
}

const struct scene scenes[] = {
    {"timer", timer_start, NULL, sizeof(struct timer_parts)},
    {"idle", idle_start, NULL, sizeof(struct phase_parts)},
    {"prepare", prepare_start, NULL, sizeof(struct phase_parts)},
    {"check", check_start, NULL, sizeof(struct phase_parts)},
    {"async", async_start, async_poke, sizeof(struct signal_parts)},
    {"signal", signal_start, signal_poke, sizeof(struct signal_parts)},
    {"process", process_start, NULL, sizeof(struct process_parts)},
    {"process_by_library", process_start_by_library, NULL, sizeof(struct process_parts)},
    {"queue_work", work_start, NULL, sizeof(struct work_parts)},
    {"getaddrinfo", address_start, NULL, sizeof(struct work_parts)},
    {"random", random_start, NULL, sizeof(struct work_parts)},
    SCENES_IO,
};
const size_t scene_count = sizeof(scenes) / sizeof(scenes[0]);
