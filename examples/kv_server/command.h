/* SPDX-License-Identifier: MIT */
/* The commands: what each takes, which operations it is made of, how its answer looks. */
#ifndef EXAMPLES_KV_COMMAND_H
#define EXAMPLES_KV_COMMAND_H

#include "output.h"
#include "request.h"

struct kv_worker;

/* Looks the command up and makes its operations, or sets the request's fault. 0; -ENOMEM. */
int command_plan(struct request *request, numaperf_arena_t *arena);

/* The same without memory; false: it is more than one operation. */
bool command_plan_one(struct request *request);

/* Writes the answer; every operation is done. false: no memory for it, nothing was written. */
bool command_answer(struct kv_worker *worker, struct request *request, struct output *output);

/* After this one the connection is closed. */
bool command_is_last(const struct request *request);

#endif
