/* SPDX-License-Identifier: MIT */
/*
 * Regions over files: memfd (tmpfs) and huge page memfd, which follow a memory policy, and a file
 * of another file system, whose page cache does not.
 */
#include "support/memory_view.h"

#include <numaperf/error.h>
#include <numaperf/region.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

static numaperf_nodemask_t usable;
static int last_node; /* the usable node with the highest id */

static int memfd_make(unsigned flags, uint64_t length)
{
    int fd = memfd_create("numaperf-test", MFD_CLOEXEC | flags);
    if (fd >= 0)
        assert_int_equal(ftruncate(fd, (off_t)length), 0);
    return fd;
}

static numaperf_region_config_t file_config(int fd, uint32_t mode, uint64_t length)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.flags = NUMAPERF_REGION_HAS_FD;
    config.fd = fd;
    config.mode = mode;
    config.length = length;
    config.policy = NUMAPERF_MEM_BIND;
    config.nodes = numaperf_nodemask_single(last_node);
    return config;
}

static numaperf_region_t *make(const numaperf_region_config_t *config)
{
    numaperf_region_t *region = NULL;
    int rc = numaperf_region_create(config, &region);
    if (rc != 0)
        print_error("create: %s: %s\n", numaperf_err_name(rc), numaperf_last_error()->reason);
    assert_int_equal(rc, 0);
    return region;
}

static void expect_refused(const numaperf_region_config_t *config, int code, const char *word)
{
    numaperf_region_t *region = NULL;
    size_t before = view_maps_count();
    assert_int_equal(numaperf_region_create(config, &region), code);
    assert_null(region);
    if (strstr(numaperf_last_error()->reason, word) == NULL)
        print_error("\"%s\" not in \"%s\"\n", word, numaperf_last_error()->reason);
    assert_non_null(strstr(numaperf_last_error()->reason, word));
    assert_true(view_maps_unchanged(before));
}

static void assert_all_on_last_node(const numaperf_region_t *region)
{
    size_t counts[VIEW_NODES + 1];
    size_t length = numaperf_region_length(region);
    assert_true(view_pages(numaperf_region_data(region), length, counts));
    assert_int_equal(counts[last_node], length / (size_t)sysconf(_SC_PAGESIZE));
}

static void file_of_tmpfs_is_bound_and_strict_and_writes_reach_it(void **state)
{
    (void)state;
    int fd = memfd_make(0, 2 * MIB);
    assert_true(fd >= 0);
    numaperf_region_config_t config = file_config(fd, NUMAPERF_MODE_HARD, 2 * MIB);
    numaperf_region_t *region = make(&config);
    assert_true(numaperf_is_strict(numaperf_region_enforcement(region)));
    assert_all_on_last_node(region);
    ((char *)numaperf_region_data(region))[MIB] = 'w';
    numaperf_region_destroy(region);
    char c = 0;
    assert_int_equal(pread(fd, &c, 1, (off_t)MIB), 1);
    assert_int_equal(c, 'w');

    config.mode = NUMAPERF_MODE_SOFT; /* pages it has are not looked at without a prefault */
    region = make(&config);
    assert_true(numaperf_is_best_effort(numaperf_region_enforcement(region)));
    numaperf_region_destroy(region);
    assert_int_equal(close(fd), 0);
}

static void file_pages_that_were_elsewhere_are_moved(void **state)
{
    (void)state;
    int fd = memfd_make(0, MIB);
    assert_true(fd >= 0);
    int first_node = numaperf_nodemask_next(&usable, -1);
    numaperf_region_config_t config = file_config(fd, NUMAPERF_MODE_HARD, MIB);
    config.nodes = numaperf_nodemask_single(first_node);
    numaperf_region_t *region = make(&config);
    memset(numaperf_region_data(region), 'x', MIB);
    numaperf_region_destroy(region);
    /* The file keeps its pages on the first node; now they are wanted on the last. */
    config.nodes = numaperf_nodemask_single(last_node);
    region = make(&config);
    assert_all_on_last_node(region);
    assert_int_equal(((char *)numaperf_region_data(region))[MIB - 1], 'x');
    numaperf_region_destroy(region);
    assert_int_equal(close(fd), 0);
}

static void file_private_is_copied_and_read_only_is_read(void **state)
{
    (void)state;
    int fd = memfd_make(0, MIB);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "abc", 3, 8192), 3);
    numaperf_region_config_t config = file_config(fd, NUMAPERF_MODE_HARD, MIB - 4096);
    config.offset = 4096;
    config.flags |= NUMAPERF_REGION_PRIVATE;
    numaperf_region_t *region = make(&config);
    assert_true(numaperf_is_strict(numaperf_region_enforcement(region)));
    assert_all_on_last_node(region);
    char *data = numaperf_region_data(region);
    assert_memory_equal(data + 4096, "abc", 3);
    data[4096] = 'X';
    char c = 0;
    assert_int_equal(pread(fd, &c, 1, 8192), 1);
    assert_int_equal(c, 'a');
    numaperf_region_destroy(region);

    config = file_config(fd, NUMAPERF_MODE_HARD, MIB);
    config.flags |= NUMAPERF_REGION_READ_ONLY;
    region = make(&config);
    assert_all_on_last_node(region);
    assert_memory_equal((char *)numaperf_region_data(region) + 8192, "abc", 3);
    char line[64];
    (void)snprintf(line, sizeof(line), "%" PRIxPTR "-", (uintptr_t)numaperf_region_data(region));
    FILE *file = fopen("/proc/self/maps", "re");
    assert_non_null(file);
    char text[512];
    bool found = false;
    while (!found && fgets(text, sizeof(text), file) != NULL)
        found = strncmp(text, line, strlen(line)) == 0;
    assert_int_equal(fclose(file), 0);
    assert_true(found);
    assert_non_null(strstr(text, " r--s "));
    numaperf_region_destroy(region);
    assert_int_equal(close(fd), 0);
}

static void file_mapping_beyond_its_end_is_refused_by_name(void **state)
{
    (void)state;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int fd = memfd_make(0, 2 * page + 10);
    assert_true(fd >= 0);
    numaperf_region_config_t config = file_config(fd, NUMAPERF_MODE_SOFT, 3 * page);
    numaperf_region_t *region = make(&config); /* the rest of the last page may be touched */
    memset(numaperf_region_data(region), 1, 3 * page);
    numaperf_region_destroy(region);
    config.length = 3 * page + 1;
    expect_refused(&config, -EINVAL, "end of the file");
    config.length = page;
    config.offset = 3 * page;
    expect_refused(&config, -EINVAL, "end of the file");
    config.offset = (uint64_t)INT64_MAX / page * page;
    expect_refused(&config, -EINVAL, "end of the file");
    config.offset = 100;
    expect_refused(&config, -EINVAL, "offset");
    assert_int_equal(close(fd), 0);
}

static void file_that_cannot_be_mapped_is_refused_with_its_errno(void **state)
{
    (void)state;
    numaperf_region_config_t config = file_config(-1, NUMAPERF_MODE_SOFT, 4096);
    expect_refused(&config, -EBADF, "fd -1");
    int memfd = memfd_make(0, 4096);
    assert_true(memfd >= 0);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    config.fd = fd;
    expect_refused(&config, -EACCES, "mapped"); /* shared and writable needs a writable file */
    config.flags |= NUMAPERF_REGION_READ_ONLY;
    numaperf_region_destroy(make(&config));
    config.huge_pages = NUMAPERF_HUGE_2MB;
    expect_refused(&config, -EINVAL, "huge_pages");
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(memfd), 0);
}

static void file_in_page_cache_is_best_effort_at_most_and_refused_in_hard_mode(void **state)
{
    (void)state;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct statfs fs;
    assert_int_equal(fstatfs(fd, &fs), 0);
    if (fs.f_type == TMPFS_MAGIC) {
        print_message("skipped: this program lies on tmpfs\n");
        (void)close(fd);
        skip();
    }
    numaperf_region_config_t config = file_config(fd, NUMAPERF_MODE_SOFT, 8192);
    config.flags |= NUMAPERF_REGION_READ_ONLY;
    for (uint32_t prefault = 0; prefault <= NUMAPERF_PREFAULT_TOUCH; prefault++) {
        config.prefault = prefault;
        numaperf_region_t *region = make(&config);
        assert_true(numaperf_is_best_effort(numaperf_region_enforcement(region)));
        assert_memory_equal(numaperf_region_data(region), "\177ELF", 4);
        numaperf_region_destroy(region);
    }
    config.mode = NUMAPERF_MODE_HARD;
    expect_refused(&config, NUMAPERF_E_HARD_MODE, "page cache");
    /* A private writable copy is memory of our own. */
    config.flags = NUMAPERF_REGION_HAS_FD | NUMAPERF_REGION_PRIVATE;
    numaperf_region_t *region = make(&config);
    assert_true(numaperf_is_strict(numaperf_region_enforcement(region)));
    assert_all_on_last_node(region);
    assert_memory_equal(numaperf_region_data(region), "\177ELF", 4);
    numaperf_region_destroy(region);
    assert_int_equal(close(fd), 0);
}

static void file_of_huge_pages_comes_from_the_pool_or_is_refused_without_sigbus(void **state)
{
    (void)state;
    int fd = memfd_make(MFD_HUGETLB | MFD_HUGE_2MB, 4 * MIB);
    if (fd < 0) {
        print_message("skipped: no huge page files here: %s\n", strerror(errno));
        skip();
    }
    numaperf_region_config_t config = file_config(fd, NUMAPERF_MODE_HARD, 4 * MIB - 1);
    if (view_huge_free(last_node) < 2) {
        expect_refused(&config, NUMAPERF_E_HARD_MODE, "huge pages");
        config.mode = NUMAPERF_MODE_SOFT; /* its pages have the file's size, so none can replace */
        expect_refused(&config, -ENOMEM, "huge pages");
        assert_int_equal(close(fd), 0);
        return;
    }
    numaperf_region_t *region = make(&config);
    assert_true(numaperf_is_strict(numaperf_region_enforcement(region)));
    assert_int_equal(numaperf_region_page_size(region), 2 * MIB);
    assert_int_equal(numaperf_region_length(region), 4 * MIB);
    assert_all_on_last_node(region);
    memset(numaperf_region_data(region), 1, 4 * MIB);
    numaperf_region_destroy(region);
    config.length = 2 * MIB;
    config.offset = 4096;
    expect_refused(&config, -EINVAL, "offset");
    config.offset = 0;
    config.huge_pages = NUMAPERF_HUGE_1GB;
    expect_refused(&config, -EINVAL, "huge_pages");
    assert_int_equal(close(fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_of_tmpfs_is_bound_and_strict_and_writes_reach_it),
        cmocka_unit_test(file_pages_that_were_elsewhere_are_moved),
        cmocka_unit_test(file_private_is_copied_and_read_only_is_read),
        cmocka_unit_test(file_mapping_beyond_its_end_is_refused_by_name),
        cmocka_unit_test(file_that_cannot_be_mapped_is_refused_with_its_errno),
        cmocka_unit_test(file_in_page_cache_is_best_effort_at_most_and_refused_in_hard_mode),
        cmocka_unit_test(file_of_huge_pages_comes_from_the_pool_or_is_refused_without_sigbus),
    };
    numaperf_nodemask_t with_memory;
    view_nodes(&with_memory, &usable);
    for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
         node = numaperf_nodemask_next(&usable, node))
        last_node = node;
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
