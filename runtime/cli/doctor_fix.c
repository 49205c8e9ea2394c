/* SPDX-License-Identifier: MIT */
/*
 * Texts of fixes. NAME is the service's unit, PROGRAM the server's file, IMAGE its container image.
 * Lines are short enough to be shown indented on a terminal of 80 columns, and are never wrapped:
 * they are meant to be copied.
 *
 * Source: sysctl.d(5), setcap(8), systemd.exec(5), systemd.resource-control(5), Docker's "Seccomp
 * security profiles", Kubernetes' "Configure a Security Context".
 */
#include "cli/doctor_fix.h"

#include <stdarg.h>

#define FIX_DROP_IN "/etc/systemd/system/NAME.service.d/numaperf.conf:\n[Service]\n"

static void fix_add(json_t *fixes, const char *where, const char *text)
{
    json_array_append_new(fixes, json_pack("{s:s, s:s}", "where", where, "text", text));
}

void fix_line(json_t *fixes, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    json_t *text = json_vsprintf(format, args);
    va_end(args);
    json_array_append_new(fixes, json_pack("{s:s, s:o}", "where", where, "text", text));
}

void fix_sysctl(json_t *fixes, const char *name, int value)
{
    fix_line(fixes, "command", "sudo sysctl -w %s=%d", name, value);
    fix_line(fixes, "file", "/etc/sysctl.d/90-numaperf.conf:\n%s = %d", name, value);
    fix_add(fixes, "container", "the same, on the host: it is one setting for all containers");
}

void fix_privileges(json_t *fixes)
{
    fix_add(fixes, "without",
            "numaperf doctor --mode hard --waive-privileges\n"
            "config.flags |= NUMAPERF_RT_WAIVE_PRIVILEGES;");
    fix_add(fixes, "command", "sudo setcap cap_sys_nice,cap_sys_admin+ep PROGRAM");
    fix_add(fixes, "systemd", FIX_DROP_IN "AmbientCapabilities=CAP_SYS_NICE CAP_SYS_ADMIN");
    fix_add(fixes, "container", "docker run --cap-add SYS_NICE --cap-add SYS_ADMIN IMAGE");
    fix_add(fixes, "pod",
            "securityContext:\n"
            "  capabilities:\n"
            "    add: [SYS_NICE, SYS_ADMIN]");
}

void fix_seccomp(json_t *fixes, enum fix_calls calls)
{
    static const struct {
        const char *quoted;
        const char *plain;
    } names[] = {
        [FIX_CALLS_MEMORY] = {"\"mbind\", \"set_mempolicy\", \"get_mempolicy\"",
                              "mbind set_mempolicy get_mempolicy"},
        [FIX_CALLS_QUERY] = {"\"move_pages\"", "move_pages"},
        [FIX_CALLS_AFFINITY] = {"\"sched_setaffinity\", \"sched_getaffinity\"",
                                "sched_setaffinity sched_getaffinity"},
        [FIX_CALLS_RING] = {"\"io_uring_setup\", \"io_uring_enter\", \"io_uring_register\"",
                            "io_uring_setup io_uring_enter io_uring_register"},
        [FIX_CALLS_AUDIT] = {"\"sched_getaffinity\", \"get_mempolicy\", \"move_pages\"",
                             "sched_getaffinity get_mempolicy move_pages"},
    };
    fix_line(fixes, "container",
             "docker run --security-opt seccomp=profile.json IMAGE\n"
             "profile.json, in \"syscalls\":\n"
             "{\"action\": \"SCMP_ACT_ALLOW\", \"names\":\n [%s]}",
             names[calls].quoted);
    fix_add(fixes, "pod",
            "securityContext:\n"
            "  seccompProfile: {type: Localhost, localhostProfile: profile.json}");
    fix_line(fixes, "systemd", FIX_DROP_IN "SystemCallFilter=%s", names[calls].plain);
}

void fix_cpuset(json_t *fixes)
{
    fix_add(fixes, "systemd", FIX_DROP_IN "AllowedCPUs=\nAllowedMemoryNodes=\nCPUAffinity=");
    fix_add(fixes, "container", "docker run --cpuset-cpus LIST --cpuset-mems LIST IMAGE");
    fix_add(fixes, "pod",
            "resources: limits equal to requests, whole CPUs; on the node:\n"
            "kubelet --cpu-manager-policy=static");
}

void fix_memory(json_t *fixes)
{
    fix_add(fixes, "command", "free memory on the node: numastat -m");
    fix_add(fixes, "systemd", FIX_DROP_IN "MemoryMax=infinity");
    fix_add(fixes, "container", "docker run --memory BYTES IMAGE");
    fix_add(fixes, "pod", "resources:\n  limits: {memory: BYTES}");
}
