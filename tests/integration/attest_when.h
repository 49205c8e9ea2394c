/* SPDX-License-Identifier: MIT */
/* When and where an attestation may be asked for: the second file of test_attest. */
#ifndef TESTS_INTEGRATION_ATTEST_WHEN_H
#define TESTS_INTEGRATION_ATTEST_WHEN_H

void bad_arguments_are_refused(void **state);
void it_may_be_asked_for_on_a_worker_at_start_and_in_a_task(void **state);
void it_may_be_asked_for_in_on_violation(void **state);
void it_is_answered_until_the_workers_begin_to_end(void **state);
void looks_at_workers_that_ended_meanwhile_do_not_count(void **state);
void many_may_ask_while_it_is_audited_and_stopped(void **state);
void a_start_that_fails_meanwhile_is_told_or_too_late(void **state);

#endif
