/* SPDX-License-Identifier: MIT */
#include "support/run_scenes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HANDLES_MAX 8

/* ---- a stage with handles that write down what happens to them ---- */

struct actor {
    union {
        uv_handle_t handle;
        uv_timer_t timer;
        uv_idle_t idle;
        uv_prepare_t prepare;
        uv_check_t check;
        uv_async_t async;
        uv_poll_t poll;
        uv_tcp_t tcp;
    } u;
    struct run_stage *stage;
    const char *name;
    int count;
    int last;                            /* count at which it stops itself; 0: never */
    void (*then)(struct actor *actor);   /* in its callback */
    void (*closed)(struct actor *actor); /* in its close callback */
    struct actor *other;
    int fd;
};

__attribute__((format(printf, 2, 3))) static void note(struct run_stage *stage, const char *format,
                                                       ...)
{
    struct run_trace *trace = stage->trace;
    va_list args;
    va_start(args, format);
    int n =
        vsnprintf(trace->text + trace->length, sizeof(trace->text) - trace->length, format, args);
    va_end(args);
    trace->length += (size_t)n;
    if (trace->length >= sizeof(trace->text))
        trace->length = sizeof(trace->text) - 1;
}

static void run(struct run_stage *stage, uv_run_mode mode)
{
    static const char *const names[] = {"default", "once", "nowait"};
    note(stage, "%s:", names[mode]);
    int rc = stage->run(stage, (int)mode);
    int timeout = uv_backend_timeout(stage->uv);
    note(stage, " = %d alive %d timeout %s\n", rc, uv_loop_alive(stage->uv),
         timeout < 0    ? "none"
         : timeout == 0 ? "now"
                        : "some");
}

static void actor_happens(struct actor *actor)
{
    actor->count++;
    note(actor->stage, " %s%d", actor->name, actor->count);
    if (actor->then != NULL)
        actor->then(actor);
}

static void actor_closed(uv_handle_t *handle)
{
    struct actor *actor = handle->data;
    note(actor->stage, " %s-closed", actor->name);
    if (actor->closed != NULL)
        actor->closed(actor);
}

static void actor_close(struct actor *actor)
{
    uv_close(&actor->u.handle, actor_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct actor *actor = timer->data;
    if (actor->count + 1 == actor->last)
        (void)uv_timer_stop(timer);
    actor_happens(actor);
}

static void on_idle(uv_idle_t *idle)
{
    struct actor *actor = idle->data;
    if (actor->count + 1 == actor->last)
        (void)uv_idle_stop(idle);
    actor_happens(actor);
}

static void on_prepare(uv_prepare_t *prepare)
{
    actor_happens(prepare->data);
}

static void on_check(uv_check_t *check)
{
    actor_happens(check->data);
}

static void on_async(uv_async_t *async)
{
    actor_happens(async->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct actor *actor = poll->data;
    char byte = 0;
    note(actor->stage, " [%d %d %zd]", status, events, read(actor->fd, &byte, 1));
    actor_happens(actor);
}

static void actor_init(struct run_stage *stage, struct actor *actor, const char *name)
{
    memset(actor, 0, sizeof(*actor));
    actor->stage = stage;
    actor->name = name;
}

static void timer_init(struct run_stage *stage, struct actor *actor, const char *name)
{
    actor_init(stage, actor, name);
    (void)uv_timer_init(stage->uv, &actor->u.timer);
    actor->u.timer.data = actor;
}

static void timer_start(struct actor *actor, unsigned after_ms, unsigned repeat_ms)
{
    (void)uv_timer_start(&actor->u.timer, on_timer, after_ms, repeat_ms);
}

static void idle_init(struct run_stage *stage, struct actor *actor, const char *name)
{
    actor_init(stage, actor, name);
    (void)uv_idle_init(stage->uv, &actor->u.idle);
    actor->u.idle.data = actor;
}

static void then_stop(struct actor *actor)
{
    uv_stop(actor->stage->uv);
}

static void then_close(struct actor *actor)
{
    actor_close(actor);
}

static void then_close_other(struct actor *actor)
{
    actor_close(actor->other);
}

/* ---- scenes ---- */

static void play_empty(struct run_stage *stage)
{
    run(stage, UV_RUN_NOWAIT);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_DEFAULT);
    uv_stop(stage->uv);
    run(stage, UV_RUN_DEFAULT);
    run(stage, UV_RUN_DEFAULT);
}

static void play_timers(struct run_stage *stage)
{
    struct actor late;
    struct actor early;
    struct actor now;
    timer_init(stage, &late, "late");
    timer_init(stage, &early, "early");
    timer_init(stage, &now, "now");
    uv_update_time(stage->uv);
    timer_start(&late, 40, 0);
    timer_start(&early, 20, 0);
    run(stage, UV_RUN_NOWAIT);
    timer_start(&now, 0, 0);
    run(stage, UV_RUN_NOWAIT);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_ONCE);
    timer_start(&now, 1, 1);
    now.last = 5;
    run(stage, UV_RUN_DEFAULT);
    actor_close(&late);
    actor_close(&early);
    actor_close(&now);
    run(stage, UV_RUN_NOWAIT);
}

static void play_unreferenced(struct run_stage *stage)
{
    struct actor timer;
    timer_init(stage, &timer, "timer");
    timer_start(&timer, 5, 0);
    uv_unref(&timer.u.handle);
    run(stage, UV_RUN_DEFAULT);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_NOWAIT);
    uv_ref(&timer.u.handle);
    run(stage, UV_RUN_DEFAULT);
    uv_unref(&timer.u.handle);
    actor_close(&timer);
    run(stage, UV_RUN_DEFAULT);
}

static void play_stop(struct run_stage *stage)
{
    struct actor timer;
    struct actor idle;
    timer_init(stage, &timer, "timer");
    timer_start(&timer, 3, 3);
    uv_stop(stage->uv);
    run(stage, UV_RUN_DEFAULT);
    uv_stop(stage->uv);
    run(stage, UV_RUN_ONCE);
    uv_stop(stage->uv);
    run(stage, UV_RUN_NOWAIT);
    timer.then = then_stop;
    run(stage, UV_RUN_DEFAULT);
    run(stage, UV_RUN_DEFAULT);
    idle_init(stage, &idle, "idle");
    idle.then = then_stop;
    (void)uv_timer_stop(&timer.u.timer);
    (void)uv_idle_start(&idle.u.idle, on_idle);
    run(stage, UV_RUN_DEFAULT);
    run(stage, UV_RUN_ONCE);
    actor_close(&timer);
    actor_close(&idle);
    timer.closed = then_stop;
    run(stage, UV_RUN_DEFAULT);
    run(stage, UV_RUN_DEFAULT);
}

static void play_idle(struct run_stage *stage)
{
    struct actor idle;
    idle_init(stage, &idle, "idle");
    (void)uv_idle_start(&idle.u.idle, on_idle);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_NOWAIT);
    idle.last = 10;
    run(stage, UV_RUN_DEFAULT);
    actor_close(&idle);
    run(stage, UV_RUN_ONCE);
}

static void play_phases(struct run_stage *stage)
{
    struct actor prepare;
    struct actor check;
    struct actor idle;
    struct actor timer;
    actor_init(stage, &prepare, "prepare");
    (void)uv_prepare_init(stage->uv, &prepare.u.prepare);
    prepare.u.prepare.data = &prepare;
    actor_init(stage, &check, "check");
    (void)uv_check_init(stage->uv, &check.u.check);
    check.u.check.data = &check;
    idle_init(stage, &idle, "idle");
    timer_init(stage, &timer, "timer");
    (void)uv_prepare_start(&prepare.u.prepare, on_prepare);
    (void)uv_check_start(&check.u.check, on_check);
    (void)uv_idle_start(&idle.u.idle, on_idle);
    timer_start(&timer, 0, 0);
    run(stage, UV_RUN_NOWAIT);
    run(stage, UV_RUN_ONCE);
    (void)uv_idle_stop(&idle.u.idle);
    run(stage, UV_RUN_NOWAIT);
    uv_unref(&prepare.u.handle);
    run(stage, UV_RUN_NOWAIT);
    uv_unref(&check.u.handle);
    run(stage, UV_RUN_DEFAULT);
    actor_close(&prepare);
    actor_close(&check);
    actor_close(&idle);
    actor_close(&timer);
    run(stage, UV_RUN_DEFAULT);
}

static void play_closing(struct run_stage *stage)
{
    struct actor a;
    struct actor b;
    timer_init(stage, &a, "a");
    actor_close(&a);
    run(stage, UV_RUN_NOWAIT);
    timer_init(stage, &a, "a");
    timer_init(stage, &b, "b");
    timer_start(&b, 60000, 0);
    a.closed = then_close_other;
    a.other = &b;
    actor_close(&a);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_ONCE);
    timer_init(stage, &a, "a");
    timer_start(&a, 1, 0);
    a.then = then_close;
    run(stage, UV_RUN_DEFAULT);
}

static struct actor reopened;

static void then_reopen(struct actor *actor)
{
    timer_init(actor->stage, &reopened, "reopened");
    reopened.then = then_close;
    timer_start(&reopened, 2, 0);
}

static void play_close_opens(struct run_stage *stage)
{
    struct actor a;
    timer_init(stage, &a, "a");
    a.closed = then_reopen;
    actor_close(&a);
    run(stage, UV_RUN_DEFAULT);
    timer_init(stage, &a, "a");
    a.closed = then_reopen;
    actor_close(&a);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_DEFAULT); /* one of them may have been interrupted: nothing is left open */
}

static void play_async(struct run_stage *stage)
{
    struct actor async;
    actor_init(stage, &async, "async");
    (void)uv_async_init(stage->uv, &async.u.async, on_async);
    async.u.async.data = &async;
    run(stage, UV_RUN_NOWAIT);
    (void)uv_async_send(&async.u.async);
    (void)uv_async_send(&async.u.async);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_NOWAIT);
    (void)uv_async_send(&async.u.async);
    async.then = then_close;
    run(stage, UV_RUN_DEFAULT);
}

static void play_poll(struct run_stage *stage)
{
    struct actor poll;
    int ends[2];
    if (pipe(ends) != 0 || write(ends[1], "ab", 2) != 2)
        return;
    actor_init(stage, &poll, "poll");
    (void)uv_poll_init(stage->uv, &poll.u.poll, ends[0]);
    poll.u.poll.data = &poll;
    poll.fd = ends[0];
    (void)uv_poll_start(&poll.u.poll, UV_READABLE, on_poll);
    run(stage, UV_RUN_NOWAIT);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_NOWAIT);
    (void)uv_poll_stop(&poll.u.poll);
    run(stage, UV_RUN_DEFAULT);
    actor_close(&poll);
    run(stage, UV_RUN_DEFAULT);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void work_runs(uv_work_t *work)
{
    (void)work;
}

static void work_done(uv_work_t *work, int status)
{
    note(work->data, " work %d", status);
}

static void play_work(struct run_stage *stage)
{
    uv_work_t work;
    work.data = stage;
    (void)uv_queue_work(stage->uv, &work, work_runs, work_done);
    run(stage, UV_RUN_DEFAULT);
    (void)uv_queue_work(stage->uv, &work, work_runs, work_done);
    run(stage, UV_RUN_ONCE);
    run(stage, UV_RUN_DEFAULT);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct actor *actor = request->handle->data;
    note(actor->stage, " connect %d", status);
    actor_close(actor);
}

/* Nobody listens there; the error comes in a later iteration, as a pending callback. */
static void play_connect(struct run_stage *stage)
{
    struct actor tcp;
    uv_connect_t request;
    struct sockaddr_in address;
    (void)uv_ip4_addr("127.0.0.1", 1, &address);
    actor_init(stage, &tcp, "tcp");
    (void)uv_tcp_init(stage->uv, &tcp.u.tcp);
    tcp.u.tcp.data = &tcp;
    note(stage, "%d ",
         uv_tcp_connect(&request, &tcp.u.tcp, (struct sockaddr *)&address, on_connect));
    run(stage, UV_RUN_DEFAULT);
}

const struct run_scene run_scenes[] = {
    {"empty", play_empty},
    {"timers", play_timers},
    {"unreferenced", play_unreferenced},
    {"stop", play_stop},
    {"idle", play_idle},
    {"phases", play_phases},
    {"closing", play_closing},
    {"close_opens", play_close_opens},
    {"async", play_async},
    {"poll", play_poll},
    {"work", play_work},
    {"connect", play_connect},
};
const size_t run_scene_count = sizeof(run_scenes) / sizeof(run_scenes[0]);
