/* SPDX-License-Identifier: MIT */
/*
 * Live probes: each does its thing once, looks at the effect and undoes it. They say what the
 * kernel answered; capability.c says what that means.
 */
#ifndef NUMAPERF_PLACE_PROBE_H
#define NUMAPERF_PLACE_PROBE_H

/* Each returns 0; -errno of the call that failed; -EIO when the effect is not what was asked. */

/* BIND one fresh page to `node` and read the page's policy back. */
int numaperf__probe_mbind(int node);
/* Ask which node a touched page is on. */
int numaperf__probe_page_query(void);
/* The calling thread to one PU of its affinity and back again, read back both times. */
int numaperf__probe_affinity(void);

/* What a ring did, step by step; 0 or -errno each, and a step after a failed one is not taken. */
struct numaperf__ring_probe {
    int setup;         /* io_uring_setup and the mappings */
    int nop;           /* one NOP through the ring */
    int iowq_register; /* io-wq affinity: the call */
    int iowq_effect;   /* io-wq affinity: a worker's mask, read back */
};
void numaperf__probe_ring(struct numaperf__ring_probe *out_probe);

#endif
