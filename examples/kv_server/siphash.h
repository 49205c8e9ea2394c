/* SPDX-License-Identifier: MIT */
/*
 * SipHash-1-3: a keyed hash. With a secret random key a peer cannot choose keys that all fall into
 * one bucket or onto one node.
 */
#ifndef EXAMPLES_KV_SIPHASH_H
#define EXAMPLES_KV_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash13(const void *data, size_t length, const uint64_t key[2]);

#endif
