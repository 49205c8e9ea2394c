/* SPDX-License-Identifier: MIT */
/* The cases of test_drift, by file. Each is a cmocka test that runs its scenes in children. */
#ifndef TESTS_INTEGRATION_DRIFT_CASES_H
#define TESTS_INTEGRATION_DRIFT_CASES_H

/* test_drift_cpuset.c: cpusets and PUs that come and go */
void a_cpuset_that_loses_a_pu_is_reported_and_again_when_it_does_so_again(void **state);
void a_cpuset_that_has_grown_back_is_repaired_to_the_pin(void **state);
void a_process_moved_to_a_smaller_cgroup_and_back_is_repaired(void **state);
void a_shrunk_cpuset_stops_the_runtime_where_asked(void **state);
void a_pu_that_goes_offline_is_reported_each_time(void **state);
void a_pu_that_is_back_online_is_repaired_to_the_pin(void **state);

/* test_drift_memory.c: pages, policies, memory nodes, balancing */
void a_memory_policy_that_was_changed_is_put_back(void **state);
void pages_migrated_by_another_process_are_reported_once_a_worker(void **state);
void pages_migrated_by_another_process_are_moved_home(void **state);
void a_few_pages_of_a_stack_moved_away_are_moved_home(void **state);
void a_cpuset_that_loses_a_memory_node_is_reported(void **state);
void a_memory_node_that_is_back_gets_its_pages_back(void **state);
void balancing_switched_on_twice_is_two_episodes(void **state);
void balancing_cannot_be_repaired_and_the_report_says_how(void **state);

#endif
