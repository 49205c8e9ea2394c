/* SPDX-License-Identifier: MIT */
/*
 * An attestation against the kernel's own answers: a file of test_attest. Of the library's inside
 * only addresses of memory are taken, to ask the kernel about them past the library.
 */
#ifndef TESTS_INTEGRATION_ATTEST_CHECK_H
#define TESTS_INTEGRATION_ATTEST_CHECK_H

#include <numaperf/runtime.h>

#include <jansson.h>

#define PARTS 7

/* All of a document that is asked for now; nobody may allocate meanwhile. */
void check_document(numaperf_rt_t *rt);

/* The pages of one part of a worker in a document, "stack", "arena", "ring". */
void check_pages(json_t *root, const struct numaperf_worker *worker, const char *part);

#endif
