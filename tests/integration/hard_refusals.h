/* SPDX-License-Identifier: MIT */
/* The other files of test_hard_refusals; each runs its cases and says how many failed. */
#ifndef TESTS_INTEGRATION_HARD_REFUSALS_H
#define TESTS_INTEGRATION_HARD_REFUSALS_H

int hard_memory_run(void);
int hard_denials_run(void);

#endif
