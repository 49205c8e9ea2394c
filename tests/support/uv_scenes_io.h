/* SPDX-License-Identifier: MIT */
/* Scenes of sockets, files and terminals; for uv_scenes.c alone. */
#ifndef TESTS_SUPPORT_UV_SCENES_IO_H
#define TESTS_SUPPORT_UV_SCENES_IO_H

#include "support/uv_scenes.h"

struct stream_parts {
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream;
        uv_handle_t handle;
    } listener, server, client;
    uv_connect_t connect;
    uv_write_t client_write;
    uv_write_t server_write;
    uv_shutdown_t client_shutdown;
    uv_shutdown_t server_shutdown;
    bool is_pipe;
    size_t server_length;
    size_t client_length;
    char buffer[65536];
    char server_bytes[200000];
    char client_bytes[200000];
};

struct udp_parts {
    uv_udp_t receiver;
    uv_udp_t sender;
    uv_udp_send_t sends[10]; /* the next datagram may be sent before the last one's callback */
    struct sockaddr_in address;
    int count;
    char buffer[64];
};

struct poll_parts {
    uv_poll_t poll;
    atomic_int seen;
    int sent; /* the poking thread's */
};

struct tty_parts {
    uv_tty_t tty;
    char text[64];
    size_t length;
};

struct file_parts {
    uv_fs_t request;
    int fd;
    char text[16];
};

struct watch_parts {
    uv_fs_event_t event;
    uv_fs_poll_t poll;
};

void tcp_scene_start(struct scene_run *run);
void pipe_scene_start(struct scene_run *run);
void udp_scene_start(struct scene_run *run);
void poll_scene_start(struct scene_run *run);
void poll_scene_poke(struct scene_run *run);
void tty_scene_start(struct scene_run *run);
void tty_scene_poke(struct scene_run *run);
void fs_scene_start(struct scene_run *run);
void fs_event_scene_start(struct scene_run *run);
void fs_poll_scene_start(struct scene_run *run);
void watch_scene_poke(struct scene_run *run);

#define SCENES_IO                                                                         \
    {"tcp", tcp_scene_start, NULL, sizeof(struct stream_parts)},                          \
        {"pipe", pipe_scene_start, NULL, sizeof(struct stream_parts)},                    \
        {"udp", udp_scene_start, NULL, sizeof(struct udp_parts)},                         \
        {"poll", poll_scene_start, poll_scene_poke, sizeof(struct poll_parts)},           \
        {"tty", tty_scene_start, tty_scene_poke, sizeof(struct tty_parts)},               \
        {"fs", fs_scene_start, NULL, sizeof(struct file_parts)},                          \
        {"fs_event", fs_event_scene_start, watch_scene_poke, sizeof(struct watch_parts)}, \
    {                                                                                     \
        "fs_poll", fs_poll_scene_start, watch_scene_poke, sizeof(struct watch_parts)      \
    }

#endif
