/* SPDX-License-Identifier: MIT */
/*
 * numaperf doctor: does the runtime start here as configured, and if not, what is missing, why is
 * it needed, and what exactly puts it right. The report is one JSON document; text is drawn from
 * it. Run it the way the server is run: same user, container, unit.
 */
#include "cli/doctor.h"

#include "cli/options.h"
#include "cli/output.h"
#include "cli/procfs.h"

#include <numaperf/cpuset.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCTOR_WORKERS_MAX 1024
#define DOCTOR_INDENT 9u

/* ---- text ---- */

static const char *doctor_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static void doctor_print_fix(const json_t *fix)
{
    printf("%*s%s:", (int)DOCTOR_INDENT, "", doctor_text(fix, "where"));
    const char *text = doctor_text(fix, "text");
    if (strchr(text, '\n') == NULL) {
        printf(" %s\n", text);
        return;
    }
    printf("\n");
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        printf("%*s%.*s\n", (int)DOCTOR_INDENT + 4, "", (int)length, text);
        text += length + (text[length] == '\n' ? 1 : 0);
    }
}

static void doctor_print_requirement(const json_t *requirement)
{
    const char *status = doctor_text(requirement, "status");
    enum output_style style = OUTPUT_BAD;
    if (strcmp(status, "ok") == 0)
        style = OUTPUT_GOOD;
    else if (strcmp(status, "note") == 0)
        style = OUTPUT_MIDDLING;
    char line[256];
    (void)snprintf(line, sizeof(line), "found %s; needs %s", doctor_text(requirement, "found"),
                   doctor_text(requirement, "needed")); /* each of them is short */
    printf("%s%-8s%s %-22s ", output_style(style), status, output_style(OUTPUT_PLAIN),
           doctor_text(requirement, "name"));
    output_wrapped(DOCTOR_INDENT + 23, line);
    printf("%*swhy: ", (int)DOCTOR_INDENT, "");
    output_wrapped(DOCTOR_INDENT + 5, doctor_text(requirement, "why"));
    size_t i;
    json_t *fix;
    json_array_foreach(json_object_get(requirement, "fixes"), i, fix) doctor_print_fix(fix);
}

static void doctor_print_trial(const json_t *report)
{
    const json_t *trial = json_object_get(report, "trial");
    const char *mode = doctor_text(report, "mode");
    char text[768];
    if (!json_is_true(json_object_get(report, "ready"))) {
        const char *error = doctor_text(trial, "errno");
        (void)snprintf(text, sizeof(text), "%s mode does not start (%s%s%s)", mode,
                       doctor_text(trial, "error"), *error != '\0' ? ", " : "", error);
        printf("\n%snot ready:%s ", output_style(OUTPUT_BAD), output_style(OUTPUT_PLAIN));
        output_wrapped(11, text);
        return;
    }
    const char *reason = doctor_text(trial, "backend_reason");
    json_int_t count = json_integer_value(json_object_get(trial, "worker_count"));
    (void)snprintf(text, sizeof(text),
                   "%s mode starts: %lld worker%s on node%s %s, level %s, waiting in %s%s%s", mode,
                   (long long)count, count == 1 ? "" : "s",
                   strpbrk(doctor_text(trial, "nodes"), ",-") != NULL ? "s" : "",
                   doctor_text(trial, "nodes"), doctor_text(trial, "level"),
                   doctor_text(trial, "backend"), *reason != '\0' ? ": " : "", reason);
    printf("\n%sready:%s ", output_style(OUTPUT_GOOD), output_style(OUTPUT_PLAIN));
    output_wrapped(7, text);
}

static void doctor_print(const json_t *report)
{
    size_t i;
    json_t *requirement;
    bool has_fixes = false;
    json_array_foreach(json_object_get(report, "requirements"), i, requirement)
    {
        doctor_print_requirement(requirement);
        has_fixes = has_fixes || json_array_size(json_object_get(requirement, "fixes")) > 0;
    }
    if (has_fixes)
        printf("\nPROGRAM is the server's file, NAME its unit, IMAGE its container image. Each\n"
               "label is one way; \"file\" makes a command last.\n");
    doctor_print_trial(report);
}

/* ---- the command ---- */

static json_t *doctor_report(const numaperf_rt_config_t *config)
{
    static const char *const backends[] = {"auto", "io_uring", "epoll"};
    json_t *report = output_document("numaperf-doctor");
    json_object_set_new(report, "mode",
                        json_string(config->mode == NUMAPERF_MODE_HARD ? "hard" : "soft"));
    json_object_set_new(report, "privileges_waived",
                        json_boolean((config->flags & NUMAPERF_RT_WAIVE_PRIVILEGES) != 0));
    json_object_set_new(report, "backend", json_string(backends[config->io_backend]));
    json_object_set_new(report, "workers_per_node", json_integer(config->workers_per_node));
    json_object_set_new(report, "nodes", procfs_nodemask_json(&config->nodes));
    json_object_set_new(report, "requirements", json_array());
    return report;
}

static int doctor_run(const void *given)
{
    const struct doctor_settings *settings = given;
    const numaperf_rt_config_t defaults = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_config_t config = settings->config;
    config.size = defaults.size;

    json_t *report = doctor_report(&config);
    int code = doctor_check(report, &config);
    if (code == CLI_OK) {
        code = doctor_trial(report, &config) ? CLI_OK : CLI_FAILED;
        if (settings->is_json)
            output_json(report);
        else
            doctor_print(report);
    }
    json_decref(report);
    return code;
}

/* ---- options ---- */

static const char *doctor_read_mode(void *settings, const char *text)
{
    numaperf_rt_config_t *config = &((struct doctor_settings *)settings)->config;
    if (strcmp(text, "soft") != 0 && strcmp(text, "hard") != 0)
        return "is not soft or hard";
    config->mode = text[0] == 'h' ? NUMAPERF_MODE_HARD : NUMAPERF_MODE_SOFT;
    return NULL;
}

static const char *doctor_read_nodes(void *settings, const char *text)
{
    numaperf_nodemask_t nodes;
    if (numaperf_nodemask_parse(text, &nodes) < 0)
        return "is not a list of nodes such as 0-1,3";
    if (numaperf_nodemask_count(&nodes) == 0)
        return "names no node";
    ((struct doctor_settings *)settings)->config.nodes = nodes;
    return NULL;
}

static const char *doctor_read_workers(void *settings, const char *text)
{
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return "is not a number";
    errno = 0;
    unsigned long number = strtoul(text, NULL, 10);
    if (errno != 0 || number > DOCTOR_WORKERS_MAX)
        return "is above 1024";
    ((struct doctor_settings *)settings)->config.workers_per_node = (uint32_t)number;
    return NULL;
}

static const char *doctor_read_backend(void *settings, const char *text)
{
    static const char *const names[] = {"auto", "io_uring", "epoll"};
    static const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_URING, NUMAPERF_IO_EPOLL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            ((struct doctor_settings *)settings)->config.io_backend = backends[i];
            return NULL;
        }
    }
    return "is not auto, io_uring or epoll";
}

static const char *doctor_read_waive(void *settings, const char *text)
{
    (void)text; /* it takes no value */
    ((struct doctor_settings *)settings)->config.flags |= NUMAPERF_RT_WAIVE_PRIVILEGES;
    return NULL;
}

static const char *doctor_read_format(void *settings, const char *text)
{
    return options_read_format(&((struct doctor_settings *)settings)->is_json, text);
}

static const struct option doctor_options[] = {
    {"--mode", "soft|hard", "what is asked for (default: soft)", doctor_read_mode},
    {"--nodes", "LIST", "nodes to use, such as 0-1,3 (default: all usable)", doctor_read_nodes},
    {"--workers-per-node", "N", "at most 1024; 0: one a core (default)", doctor_read_workers},
    {"--backend", "auto|io_uring|epoll", "what workers wait in (default: auto)",
     doctor_read_backend},
    {"--waive-privileges", NULL, "hard mode without CAP_SYS_NICE and CAP_SYS_ADMIN",
     doctor_read_waive},
    OPTIONS_FORMAT(doctor_read_format),
};

const struct command doctor_command = {
    .name = "doctor",
    .summary = "does the runtime start here, and what is missing",
    .about = "Runs every live probe and a trial start of the runtime, and prints for each\n"
             "requirement what was found, what is needed, why, and what puts it right. Run it\n"
             "as the server is run: same user, same container, same unit.\n\n"
             "Exit status: 0 it starts, 1 it does not, 2 usage.\n",
    .options = doctor_options,
    .option_count = sizeof(doctor_options) / sizeof(doctor_options[0]),
    .settings_size = sizeof(struct doctor_settings),
    .run = doctor_run,
};
