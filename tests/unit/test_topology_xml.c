/* SPDX-License-Identifier: MIT */
/* Topologies from files and descriptions: fixtures against their text, and strangers' files. */
#include <numaperf/error.h>
#include <numaperf/topology.h>

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURES NUMAPERF_TESTS_DIR "/fixtures/topology/"
#define TEXT_MAX 65536

static char scratch[] = "/tmp/numaperf-topology-XXXXXX";

/* ---- helpers ---- */

static void assert_cpus(const numaperf_cpuset_t *set, const char *list)
{
    char text[1024];
    assert_true(numaperf_cpuset_format(set, text, sizeof(text)) < (int)sizeof(text));
    assert_string_equal(text, list);
}

static void assert_node_cpus(const numaperf_topology_t *topology, int node, const char *list)
{
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_node_cpus(topology, node, &set), 0);
    assert_cpus(&set, list);
}

static void assert_node_cores(const numaperf_topology_t *topology, int node, const char *list)
{
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_node_cores(topology, node, &set), 0);
    assert_cpus(&set, list);
}

static char *summary_of(const numaperf_topology_t *topology)
{
    int length = numaperf_topology_summary(topology, NULL, 0);
    assert_true(length > 0);
    char *text = malloc((size_t)length + 1);
    assert_non_null(text);
    assert_int_equal(numaperf_topology_summary(topology, text, (size_t)length + 1), length);
    assert_int_equal(strlen(text), length);
    return text;
}

static numaperf_topology_t *fixture(const char *name)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), FIXTURES "%s.xml", name);
    numaperf_topology_t *topology = NULL;
    int rc = numaperf_topology_from_xml(path, &topology);
    if (rc < 0)
        print_error("%s\n", numaperf_last_error()->reason);
    assert_int_equal(rc, 0);
    return topology;
}

/* Write a file below the scratch directory, with the directories it needs; its path is static. */
static const char *scratch_write(const char *name, const void *data, size_t size)
{
    static char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", scratch, name);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

/* ---- fixtures ---- */

static void every_fixture_reads_as_the_text_beside_it(void **state)
{
    (void)state;
    static const char *const names[] = {
        "one_node",   "two_nodes",       "asymmetric_four",         "memory_only_node",
        "sparse_ids", "memoryless_node", "memoryless_node_omitted", "cpus_outside_cpuset",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[PATH_MAX];
        char expected[TEXT_MAX] = "";
        (void)snprintf(path, sizeof(path), FIXTURES "%s.txt", names[i]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_true(fread(expected, 1, sizeof(expected) - 1, file) > 0);
        (void)fclose(file);

        numaperf_topology_t *topology = fixture(names[i]);
        char *text = summary_of(topology);
        assert_string_equal(text, expected);
        assert_false(numaperf_topology_is_this_machine(topology));
        free(text);
        numaperf_topology_destroy(topology);
    }
}

static void distances_keep_their_direction(void **state)
{
    (void)state;
    numaperf_topology_t *topology = fixture("asymmetric_four");
    assert_int_equal(numaperf_topology_distance(topology, 0, 3), 32);
    assert_int_equal(numaperf_topology_distance(topology, 3, 0), 33);
    assert_int_equal(numaperf_topology_distance(topology, 1, 2), 22);
    assert_int_equal(numaperf_topology_distance(topology, 2, 1), 25);
    assert_int_equal(numaperf_topology_distance(topology, 2, 2), 10);
    assert_int_equal(numaperf_topology_distance(topology, 0, 4), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_topology_distance(topology, -1, 0), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_topology_node_package(topology, 1), 0);
    assert_int_equal(numaperf_topology_node_package(topology, 2), 1);
    numaperf_topology_destroy(topology);
}

static void a_memory_only_node_has_no_pus_of_its_own(void **state)
{
    (void)state;
    numaperf_topology_t *topology = fixture("memory_only_node");
    assert_int_equal(numaperf_topology_node_count(topology), 3);
    assert_node_cpus(topology, 0, "0-1");
    assert_node_cpus(topology, 2, "");
    assert_node_cores(topology, 2, "");
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 0), 0);
    assert_true(numaperf_topology_node_memory_bytes(topology, 2) > 0);
    assert_int_equal(numaperf_topology_distance(topology, 1, 2), 34);
    numaperf_topology_destroy(topology);
}

static void a_node_missing_between_others_is_no_node(void **state)
{
    (void)state;
    numaperf_topology_t *topology = fixture("sparse_ids");
    assert_int_equal(numaperf_topology_node_count(topology), 2);
    assert_int_equal(numaperf_topology_node_id(topology, 0), 0);
    assert_int_equal(numaperf_topology_node_id(topology, 1), 2);
    assert_int_equal(numaperf_topology_node_id(topology, 2), -EINVAL);
    numaperf_cpuset_t set, before;
    memset(&set, 0xa5, sizeof(set));
    before = set;
    assert_int_equal(numaperf_topology_node_cpus(topology, 1, &set), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_topology_node_cores(topology, 1, &set), NUMAPERF_E_NO_NODE);
    assert_memory_equal(&set, &before, sizeof(set));
    assert_non_null(strstr(numaperf_last_error()->reason, "node 1"));
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 1), 0);
    assert_int_equal(numaperf_topology_node_package(topology, 1), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_topology_distance(topology, 0, 2), 31);
    assert_node_cpus(topology, 2, "2-3");
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_topology_nodes(topology, &nodes), 0);
    assert_int_equal(numaperf_nodemask_count(&nodes), 2);
    assert_true(numaperf_nodemask_contains(&nodes, 2));
    numaperf_topology_destroy(topology);
}

static void pus_outside_the_cpuset_are_not_usable(void **state)
{
    (void)state;
    numaperf_topology_t *topology = fixture("cpus_outside_cpuset");
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_cpus(topology, &set), 0);
    assert_cpus(&set, "1,3-5");
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 0), -EINVAL);
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 8192), -EINVAL);
    assert_int_equal(numaperf_topology_node_of_cpu(topology, -1), -EINVAL);
    /* The core of PU 1 has PU 0 too, which is not usable: the lowest usable one stands for it. */
    assert_node_cores(topology, 0, "1,3");
    assert_node_cores(topology, 1, "4");
    assert_int_equal(numaperf_topology_core_cpus(topology, 5, &set), 0);
    assert_cpus(&set, "4-5");
    assert_int_equal(numaperf_topology_core_cpus(topology, 0, &set), -EINVAL);
    assert_cpus(&set, "4-5");
    assert_int_equal(numaperf_topology_cache_bytes(topology, 0, 1), 0);
    assert_node_cpus(topology, 2, "");
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 2), 0);
    numaperf_topology_destroy(topology);
}

static void a_memoryless_node_keeps_its_pus(void **state)
{
    (void)state;
    static const char *const names[] = {"memoryless_node", "memoryless_node_omitted"};
    for (size_t i = 0; i < 2; i++) {
        numaperf_topology_t *topology = fixture(names[i]);
        assert_int_equal(numaperf_topology_node_count(topology), 3);
        assert_node_cpus(topology, 0, "0");
        assert_node_cpus(topology, 1, "1-2");
        assert_node_cpus(topology, 2, "3");
        assert_int_equal(numaperf_topology_node_memory_bytes(topology, 1), 0);
        assert_int_equal(numaperf_topology_node_package(topology, 1), NUMAPERF_E_UNSUPPORTED);
        assert_int_equal(numaperf_topology_node_package(topology, 2), 3);
        numaperf_topology_destroy(topology);
    }
}

static void assert_usable_nodes(const char *name, const char *wanted)
{
    numaperf_topology_t *topology = fixture(name);
    numaperf_nodemask_t usable;
    char text[64];
    assert_int_equal(numaperf_topology_usable_nodes(topology, &usable), 0);
    assert_true(numaperf_nodemask_format(&usable, text, sizeof(text)) >= 0);
    assert_string_equal(text, wanted);
    numaperf_topology_destroy(topology);
}

static void a_usable_node_has_both_pus_and_memory(void **state)
{
    (void)state;
    assert_usable_nodes("memory_only_node", "0-1");
    assert_usable_nodes("memoryless_node", "0,2");
    assert_usable_nodes("sparse_ids", "0,2");
    assert_usable_nodes("cpus_outside_cpuset", "0-1");
    assert_int_equal(numaperf_topology_usable_nodes(NULL, NULL), -EINVAL);
}

static void caches_and_cores_belong_to_their_pu(void **state)
{
    (void)state;
    numaperf_topology_t *topology = fixture("two_nodes");
    assert_node_cpus(topology, 0, "0-1,4-5");
    assert_node_cores(topology, 0, "0-1");
    assert_int_equal(numaperf_topology_cache_bytes(topology, 6, 1), 32768);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 6, 2), 1048576);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 6, 3), 16777216);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 6, 0), 0);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 6, 4), 0);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 6, UINT_MAX), 0);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 8, 1), 0);
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_core_cpus(topology, 6, &set), 0);
    assert_cpus(&set, "2,6");
    assert_false(numaperf_topology_is_single_node(topology));
    numaperf_topology_destroy(topology);
    topology = fixture("one_node");
    assert_true(numaperf_topology_is_single_node(topology));
    numaperf_topology_destroy(topology);
}

/* ---- text ---- */

static void the_summary_is_written_as_snprintf_does(void **state)
{
    (void)state;
    numaperf_topology_t *topology = fixture("two_nodes");
    char *whole = summary_of(topology);
    int length = (int)strlen(whole);
    for (size_t size = 1; size <= (size_t)length + 1; size++) {
        char buf[1024];
        memset(buf, 'x', sizeof(buf));
        assert_int_equal(numaperf_topology_summary(topology, buf, size), length);
        assert_int_equal(strlen(buf), size - 1);
        assert_memory_equal(buf, whole, size - 1);
        assert_int_equal(buf[size], 'x');
    }
    assert_int_equal(numaperf_topology_summary(topology, NULL, 1), -EINVAL);
    assert_int_equal(numaperf_topology_summary(NULL, NULL, 0), -EINVAL);
    free(whole);
    numaperf_topology_destroy(topology);
}

/* ---- synthetic ---- */

static void a_synthetic_description_makes_nodes_with_memory(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic("numa:2 pu:1", &topology), 0);
    assert_int_equal(numaperf_topology_node_count(topology), 2);
    for (int node = 0; node < 2; node++) {
        assert_node_cpus(topology, node, node == 0 ? "0" : "1");
        assert_node_cores(topology, node, node == 0 ? "0" : "1");
        assert_int_equal(numaperf_topology_node_of_cpu(topology, node), node);
        assert_true(numaperf_topology_node_memory_bytes(topology, node) > 0);
        assert_int_equal(numaperf_topology_distance(topology, node, node), 10);
    }
    assert_int_equal(numaperf_topology_distance(topology, 0, 1), NUMAPERF_E_UNSUPPORTED);
    assert_false(numaperf_topology_is_this_machine(topology));
    numaperf_topology_destroy(topology);
}

static void no_environment_variable_changes_a_description(void **state)
{
    (void)state;
    static const char *const names[] = {"HWLOC_THISSYSTEM", "HWLOC_THISSYSTEM_ALLOWED_RESOURCES",
                                        "HWLOC_SYNTHETIC", "HWLOC_COMPONENTS"};
    static const char *const values[] = {"1", "1", "numa:1 pu:1", "linux,stop"};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(setenv(names[i], values[i], 1), 0);
    numaperf_topology_t *topology = NULL;
    int rc = numaperf_topology_from_synthetic("numa:40 pu:2", &topology);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(unsetenv(names[i]), 0);
    assert_int_equal(rc, 0);
    assert_int_equal(numaperf_topology_node_count(topology), 40);
    assert_node_cpus(topology, 39, "78-79");
    assert_true(numaperf_topology_node_memory_bytes(topology, 39) > 0);
    assert_false(numaperf_topology_is_this_machine(topology));
    numaperf_topology_destroy(topology);
}

static void a_description_that_is_none_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const descriptions[] = {"",
                                               "nonsense",
                                               "numa:",
                                               "numa:2",
                                               "pu:0",
                                               "numa:2 pu:1 x:1",
                                               "numa:x",
                                               "numa:1025 pu:1",
                                               "numa:1 pu:8193",
                                               "pu:1000000000",
                                               "numa:100 core:100 pu:100"};
    for (size_t i = 0; i < sizeof(descriptions) / sizeof(descriptions[0]); i++) {
        numaperf_topology_t *topology = NULL;
        assert_int_equal(numaperf_topology_from_synthetic(descriptions[i], &topology),
                         NUMAPERF_E_TOPOLOGY);
        assert_null(topology);
        assert_int_equal(numaperf_last_error()->code, NUMAPERF_E_TOPOLOGY);
        assert_non_null(strstr(numaperf_last_error()->reason, descriptions[i]));
    }
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic(NULL, &topology), -EINVAL);
    assert_int_equal(numaperf_topology_from_synthetic("pu:1", NULL), -EINVAL);
}

/* ---- files of strangers ---- */

static void assert_refused(const char *path, int code)
{
    numaperf_topology_t *topology = NULL;
    int rc = numaperf_topology_from_xml(path, &topology);
    assert_int_equal(rc, code);
    assert_null(topology);
    assert_int_equal(numaperf_last_error()->code, code);
    assert_non_null(strstr(numaperf_last_error()->reason, path));
}

static void what_is_no_topology_file_is_refused_by_its_path(void **state)
{
    (void)state;
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/absent.xml", scratch);
    assert_refused(path, -ENOENT);
    assert_int_equal(numaperf_last_error()->sys_errno, ENOENT);
    assert_refused(scratch, NUMAPERF_E_TOPOLOGY);
    assert_refused("/dev/zero", NUMAPERF_E_TOPOLOGY);
    (void)snprintf(path, sizeof(path), "%s/fifo", scratch);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(path, NUMAPERF_E_TOPOLOGY);

    assert_refused(scratch_write("empty", "", 0), NUMAPERF_E_TOPOLOGY);
    assert_refused(scratch_write("text", "hello\n", 6), NUMAPERF_E_TOPOLOGY);
    assert_refused(scratch_write("zeros", "<topology\0>", 11), NUMAPERF_E_TOPOLOGY);
    static const char *const texts[] = {
        "<?xml version=\"1.0\"?><html></html>",
        "<topology version=\"2.0\"></topology>",
        "<topology version=\"2.0\"/>",
        "<topology><object type=\"Machine\" os_index=\"0\"/></topology>",
        "<topology version=\"2.0\"><object type=\"PU\" os_index=\"0\"/></topology>",
        "<topology version=\"2.0\"><object type=\"NUMANode\" os_index=\"0\"/></topology>",
        "<topology version=\"2.0\"><object></topology></object>",
        "<topology version=\"2.0\"><!-- no end",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_refused(scratch_write("bad.xml", texts[i], strlen(texts[i])), NUMAPERF_E_TOPOLOGY);
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_xml(NULL, &topology), -EINVAL);
    assert_int_equal(numaperf_topology_from_xml(scratch, NULL), -EINVAL);
}

static void a_huge_file_is_refused_before_it_is_parsed(void **state)
{
    (void)state;
    const char *path = scratch_write("huge.xml", "", 0);
    assert_int_equal(truncate(path, (off_t)1 << 32), 0);
    assert_refused(path, NUMAPERF_E_TOPOLOGY);
    assert_int_equal(numaperf_last_error()->sys_errno, EFBIG);
    assert_int_equal(unlink(path), 0);
}

/* Cut off anywhere it is an error; with any byte changed it is an error or a topology. */
static void a_damaged_file_never_does_harm(void **state)
{
    (void)state;
    static char whole[TEXT_MAX];
    FILE *file = fopen(FIXTURES "memory_only_node.xml", "r");
    assert_non_null(file);
    size_t size = fread(whole, 1, sizeof(whole) - 1, file);
    (void)fclose(file);
    assert_true(size > 1000);
    const char *end = strstr(whole, "</topology>");
    assert_non_null(end);
    size_t tail = (size_t)(end - whole) + strlen("</topology>");
    for (size_t length = 0; length < tail; length += 13)
        assert_refused(scratch_write("cut.xml", whole, length), NUMAPERF_E_TOPOLOGY);
    for (size_t i = 0; i < size; i += 5) {
        char kept = whole[i];
        whole[i] = (char)(kept ^ (1 << i % 7));
        numaperf_topology_t *topology = NULL;
        int rc = numaperf_topology_from_xml(scratch_write("changed.xml", whole, size), &topology);
        assert_true(rc == 0 || rc == NUMAPERF_E_TOPOLOGY);
        assert_true((rc == 0) == (topology != NULL));
        numaperf_topology_destroy(topology);
        whole[i] = kept;
    }
}

static void an_id_out_of_range_in_a_file_is_named(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"<object type=\"PU\" os_index=\"8192\" cpuset=\"0x1\"/>", "8192"},
        {"<object type=\"PU\" os_index=\"4294967295\"/>", "4294967295"},
        {"<object type=\"NUMANode\" os_index=\"1024\"/>", "1024"},
        {"<object type=\"NUMANode\" os_index=\"-1\"/>", "-1"},
        {"<object type=\"NUMANode\" os_index=\"0\"/>", "twice"},
        {"<object type=\"PU\" os_index=\"0\"/>", "PU 0 twice"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024];
        int length = snprintf(text, sizeof(text),
                              "<topology version=\"2.0\"><object type=\"Machine\">"
                              "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0x1\"/>"
                              "<object type=\"PU\" os_index=\"0\"/>%s</object></topology>",
                              rows[i][0]);
        assert_refused(scratch_write("ids.xml", text, (size_t)length), NUMAPERF_E_TOPOLOGY);
        assert_non_null(strstr(numaperf_last_error()->reason, rows[i][1]));
    }
}

/* Two nodes of one PU each, and what the case adds inside the root and after it. */
static numaperf_topology_t *small_file(const char *inside, const char *after)
{
    char text[2048];
    int length = snprintf(text, sizeof(text),
                          "<!-- a comment --><topology version='2.0'><object type='Machine'>"
                          "<object type='NUMANode' os_index='3' cpuset='0x2'/>"
                          "<object type='NUMANode' os_index='4' cpuset='0x1'/>%s"
                          "<object type='PU' os_index='0'/><object type='PU' os_index='1'/>"
                          "</object>%s</topology>",
                          inside, after);
    assert_true(length > 0 && (size_t)length < sizeof(text));
    numaperf_topology_t *topology = NULL;
    assert_int_equal(
        numaperf_topology_from_xml(scratch_write("small.xml", text, (size_t)length), &topology), 0);
    return topology;
}

static void the_distances_of_firmware_win_when_they_are_whole(void **state)
{
    (void)state;
    static const char other[] =
        "<distances2 type='NUMANode' nbobjs='2' kind='6' indexing='os'><indexes>3 4 </indexes>"
        "<u64values>1 2 </u64values><u64values>3 4 </u64values></distances2>";
    static const char firmware[] =
        "<distances2 type='NUMANode' nbobjs='2' kind='5' name='NUMALatency' indexing='os'>"
        "<indexes>4 3 </indexes><u64values>10 21 31 11 </u64values></distances2>";
    static const char cut[] =
        "<distances2 type='NUMANode' nbobjs='2' kind='5' name='NUMALatency' indexing='os'>"
        "<indexes>4 3 </indexes><u64values>10 21 31 </u64values></distances2>";
    static const char bandwidth[] =
        "<distances2 type='NUMANode' nbobjs='2' kind='10' indexing='os'><indexes>3 4 </indexes>"
        "<u64values>1 2 3 4 </u64values></distances2>";
    char both[2048];
    (void)snprintf(both, sizeof(both), "%s%s%s", other, firmware, other);
    numaperf_topology_t *topology = small_file("", both);
    assert_int_equal(numaperf_topology_distance(topology, 4, 3), 21);
    assert_int_equal(numaperf_topology_distance(topology, 3, 4), 31);
    assert_int_equal(numaperf_topology_distance(topology, 3, 3), 11);
    numaperf_topology_destroy(topology);

    topology = small_file("", other);
    assert_int_equal(numaperf_topology_distance(topology, 3, 4), 2);
    assert_int_equal(numaperf_topology_distance(topology, 4, 3), 3);
    numaperf_topology_destroy(topology);

    static const char *const useless[] = {cut, bandwidth};
    for (size_t i = 0; i < 2; i++) {
        topology = small_file("", useless[i]);
        assert_int_equal(numaperf_topology_distance(topology, 3, 4), NUMAPERF_E_UNSUPPORTED);
        assert_int_equal(numaperf_topology_distance(topology, 3, 3), 10);
        numaperf_topology_destroy(topology);
    }
}

static void memory_of_a_device_is_no_pus_own_node(void **state)
{
    (void)state;
    numaperf_topology_t *topology =
        small_file("<object type='NUMANode' os_index='0' cpuset='0x1' local_memory='4096'>"
                   "<info name='DAXDevice' value='dax0.0'/></object>"
                   "<object type='NUMANode' os_index='1' cpuset='0xf...f' local_memory='8192'/>"
                   "<object type='NUMANode' os_index='1023' cpuset='0x00000001,,0x00000002'/>",
                   "");
    assert_int_equal(numaperf_topology_node_count(topology), 5);
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 0), 4);
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 1), 3);
    assert_node_cpus(topology, 0, "");
    assert_node_cpus(topology, 1, "");
    assert_node_cpus(topology, 1023, "");
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 0), 4096);
    numaperf_topology_destroy(topology);
}

static void a_file_of_hwloc_1_is_refused_with_advice(void **state)
{
    (void)state;
    static const char text[] = "<topology><object type='Machine'/></topology>";
    assert_refused(scratch_write("old.xml", text, strlen(text)), NUMAPERF_E_TOPOLOGY);
    assert_non_null(strstr(numaperf_last_error()->reason, "hwloc 2"));
}

/* ---- program ---- */

static int scratch_remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(scratch) == NULL ? -1 : 0;
}

static int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fixture_reads_as_the_text_beside_it),
        cmocka_unit_test(distances_keep_their_direction),
        cmocka_unit_test(a_memory_only_node_has_no_pus_of_its_own),
        cmocka_unit_test(a_node_missing_between_others_is_no_node),
        cmocka_unit_test(pus_outside_the_cpuset_are_not_usable),
        cmocka_unit_test(a_memoryless_node_keeps_its_pus),
        cmocka_unit_test(a_usable_node_has_both_pus_and_memory),
        cmocka_unit_test(caches_and_cores_belong_to_their_pu),
        cmocka_unit_test(the_summary_is_written_as_snprintf_does),
        cmocka_unit_test(a_synthetic_description_makes_nodes_with_memory),
        cmocka_unit_test(no_environment_variable_changes_a_description),
        cmocka_unit_test(a_description_that_is_none_is_refused_by_name),
        cmocka_unit_test(what_is_no_topology_file_is_refused_by_its_path),
        cmocka_unit_test(a_huge_file_is_refused_before_it_is_parsed),
        cmocka_unit_test(a_damaged_file_never_does_harm),
        cmocka_unit_test(an_id_out_of_range_in_a_file_is_named),
        cmocka_unit_test(the_distances_of_firmware_win_when_they_are_whole),
        cmocka_unit_test(memory_of_a_device_is_no_pus_own_node),
        cmocka_unit_test(a_file_of_hwloc_1_is_refused_with_advice),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
