#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The numaperf tool from outside: its words, its JSON, its verdicts, and what it sees.

usage: test_cli.py TOOL WITNESS SOURCE_DIRECTORY [CASE...]
"""
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time

from examples_support import LIMIT, SANITIZER, Skip, run_cases

USER = 65534
TOOL = WITNESS = ""
SOURCE = pathlib.Path()
SECTIONS = ("topology", "capabilities", "affinity", "distances", "devices", "io")
FILTERS = (("mbind",), ("set_mempolicy",), ("get_mempolicy",), ("move_pages",),
           ("sched_setaffinity",), ("sched_getaffinity",), ("io_uring_setup",),
           ("io_uring_register",), ("io_uring_enter",),
           ("io_uring_register,1=17",), ("io_uring_register,1=19",))  # io-wq's affinity, its limits


def run(*command, **how):
    done = subprocess.run(command, stdout=how.pop("stdout", subprocess.PIPE),
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT * 3, check=False, **how)
    assert not SANITIZER.search(done.stderr), done.stderr
    is_text = TOOL in command and "json" not in command
    for line in (done.stdout or "").splitlines() + done.stderr.splitlines() if is_text else []:
        assert len(line) <= 80, "%d columns: %s" % (len(line), line)
        assert line == line.rstrip(), "blanks at the end: %r" % line
    return done


def tool(*args, **how):
    return run(TOOL, *args, **how)


def document(*args, code=0, prefix=(), **how):
    done = run(*prefix, TOOL, *args, "--format", "json", **how)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def ids(text):
    """"0-2,4" as a list."""
    out = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def read(path, otherwise=None):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return otherwise


# ---- words ----

def case_usage_errors_name_the_word_and_exit_2():
    for args, word in ((("frobnicate",), "frobnicate"), (("--frob",), "--frob"),
                       (("info", "nowhere"), "nowhere"), (("info", "all", "all"), "all"),
                       (("info", "--frob"), "--frob"), (("info", "--format"), "--format"),
                       (("info", "--format", "xml"), "xml"), (("doctor", "--mode=firm"), "firm"),
                       (("doctor", "--nodes", "0-"), "0-"), (("doctor", "--nodes", ""), "--nodes"),
                       (("doctor", "--nodes", "4096"), "4096"),
                       (("doctor", "--workers-per-node", "1025"), "1025"),
                       (("doctor", "--workers-per-node", "-1"), "-1"),
                       (("doctor", "--backend", "select"), "select"),
                       (("doctor", "--waive-privileges=yes"), "--waive-privileges"),
                       (("doctor", "extra"), "extra"), (("audit",), "PID"),
                       (("audit", "0"), "0"), (("audit", "12x"), "12x"),
                       (("audit", "99999999999999999999"), "99999999999999999999"),
                       ((), "usage")):
        done = tool(*args)
        assert done.returncode == 2, (args, done)
        assert word in done.stderr and done.stdout == "", (args, done)


def case_help_and_version_go_to_standard_output():
    for args in ((), ("info",), ("doctor",), ("audit",)):
        done = tool(*args, "--help")
        assert done.returncode == 0 and done.stderr == "" and "usage: numaperf" in done.stdout, done
        assert tool(*args, "-h").stdout == done.stdout
    version = re.search(r'VERSION_STRING "(.*)"',
                        (SOURCE / "include/numaperf/version.h").read_text())[1]
    assert tool("--version").stdout == "numaperf %s\n" % version


def case_manual_and_completion_know_every_word_of_the_help():
    manual = (SOURCE / "runtime/cli/numaperf.1").read_text().replace("\\", "")
    completion = (SOURCE / "runtime/cli/numaperf.bash").read_text()
    words = set()
    for command in ("info", "doctor", "audit"):
        words.add(command)
        text = tool(command, "--help").stdout
        words.update(re.findall(r"^  (--[a-z-]+)", text, re.M))
    words.update(re.findall(r"^  ([a-z]+)  ", tool("info", "--help").stdout, re.M))
    assert {"--mode", "--nodes", "topology", "all", "doctor"} <= words, words
    for word in words:
        assert word in manual, word
        assert word in completion, word


def case_completion_offers_what_fits():
    script = ("source %s; COMP_WORDS=(numaperf %s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1));"
              "_numaperf numaperf \"${COMP_WORDS[COMP_CWORD]}\" "
              "\"${COMP_WORDS[COMP_CWORD - 1]}\"; echo \"${COMPREPLY[@]}\"")
    for words, want in (("do", "doctor"), ("info to", "topology"), ("doctor --mode h", "hard"),
                        ("doctor --backend io", "io_uring"), ("info --format = j", "json"),
                        ("audit %d" % os.getpid(), str(os.getpid()))):
        done = run("bash", "-c", script % (SOURCE / "runtime/cli/numaperf.bash", words))
        assert done.returncode == 0 and want in done.stdout.split(), (words, done)


def case_output_that_cannot_be_written_is_exit_1():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = tool("info", stdout=full)
    assert done.returncode == 1 and "No space" in done.stderr, done
    reading, writing = os.pipe()
    os.close(reading)
    done = tool("info", stdout=writing)
    os.close(writing)
    assert done.returncode == 1 and "Broken pipe" in done.stderr, done
    done = run("sh", "-c", '"$0" info >&-', TOOL)
    assert done.returncode == 1 and "standard output" in done.stderr, done


def on_terminal(**env):
    """Standard output of `info` on a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen([TOOL, "info"], stdout=slave, stderr=subprocess.PIPE,
                          env={k: v for k, v in dict(os.environ, **env).items() if v}) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        assert process.wait(LIMIT) == 0
    os.close(master)
    return text


def case_colours_are_for_terminals_without_no_color():
    assert b"\033[" in on_terminal(NO_COLOR="")
    assert b"\033[" not in on_terminal(NO_COLOR="1")
    assert "\033" not in tool("info").stdout


# ---- info ----

def case_info_is_what_the_kernel_says():
    facts = document("info")
    assert facts["schema"] == "numaperf-info" and facts["schema_version"] == 1
    assert set(SECTIONS) <= set(facts), facts.keys()
    assert ids(facts["affinity"]["pus"]) == sorted(os.sched_getaffinity(0))
    assert facts["affinity"]["pu_count"] == len(os.sched_getaffinity(0))
    base = "/sys/devices/system/node/"
    seen = []
    for node in facts["topology"]["nodes"]:
        pus = ids(node["pus"])
        assert node["pu_count"] == len(pus)
        of_node = ids(read(base + "node%d/cpulist" % node["node"], node["pus"]))
        assert set(pus) == set(of_node) & os.sched_getaffinity(0), node
        seen += pus
    assert len(seen) == facts["topology"]["pu_count"] == len(set(seen))
    distances = facts["distances"]
    for node, row in zip(distances["nodes"], distances["distances"]):
        firmware = read(base + "node%d/distance" % node)
        if firmware and len(firmware.split()) == len(row):
            assert row == [int(d) for d in firmware.split()], (node, row)
    caps = facts["capabilities"]
    effective = int(re.search(r"CapEff:\s*(\w+)", read("/proc/self/status"))[1], 16)
    assert caps["cap_sys_admin"] == bool(effective >> 21 & 1)
    assert caps["cap_sys_nice"] == bool(effective >> 23 & 1)
    assert caps["cap_ipc_lock"] == bool(effective >> 14 & 1)
    assert caps["numa_balancing_off"] == (read("/proc/sys/kernel/numa_balancing", "0") == "0")


def case_info_text_holds_the_facts_of_the_json():
    facts, text = document("info"), tool("info").stdout
    for section in SECTIONS:
        assert re.search("^%s$" % section, text, re.M), section
        only = document("info", section)
        assert set(only) - {"schema", "schema_version", "numaperf"} == {section}, only
        assert tool("info", section).stdout.splitlines()[0] == section
    for node in facts["topology"]["nodes"]:
        row = re.search(r"^ *%d  .*$" % node["node"], text, re.M)[0].split()
        assert row[-1] == node["pus"] or node["pus"] == "", (row, node)
        amount, unit = float(row[2]), {"B": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}[row[3]]
        assert abs(amount - node["memory_bytes"] / 1024 ** unit) <= 0.06, (row, node)
    for name, probe in facts["capabilities"]["probes"].items():
        line = re.search(r"^probe: %s +(.*)$" % name, text, re.M)[1]
        assert line.startswith(probe["outcome"]) and (probe["errno"] or "") in line, line
    said = " ".join(text.split())
    for missing in facts["capabilities"]["missing_for_hard_mode"]:
        assert missing in said, missing
    for row in facts["distances"]["distances"]:
        assert re.search(r"^ +\d+ +%s$" % " +".join(str(d) for d in row), text, re.M), row


def case_info_io_is_what_a_worker_has():
    facts = document("info", "io")["io"]
    text = tool("info", "io").stdout
    outcomes = {"ok", "no privilege", "seccomp", "sysctl", "too old", "failed", "not asked"}
    assert len(facts["features"]) == 12 and set(facts["features"].values()) <= outcomes, facts
    # One line each, with the outcome at its end, in the same order.
    lines = text.splitlines()[-12:]
    for line, outcome in zip(lines, facts["features"].values()):
        assert line.endswith(" " + outcome), (line, outcome)
    works = document("info", "capabilities")["capabilities"]["probes"]["io_uring"]["outcome"]
    if works == "ok":
        assert facts["backend"] == "io_uring" and facts["reason"] is None, facts
        assert facts["features"]["ring"] == "ok", facts
    else:
        assert facts["backend"] == "epoll" and facts["reason"], facts
        assert set(facts["features"].values()) == {works}, (facts, works)


def case_info_devices_are_those_of_sys():
    facts = document("info", "devices")["devices"]
    text = tool("info", "devices").stdout
    assert facts["complete"] and "not complete" not in text, facts
    nics = {d["name"]: d for d in facts["devices"] if d["kind"] == "net"}
    assert set(nics) == set(os.listdir("/sys/class/net")) - {"bonding_masters"}, nics
    assert nics["lo"]["virtual"] and nics["lo"]["node"] is None, nics
    for device in facts["devices"]:
        row = re.search(r"^%s +%s .*$" % (device["kind"], re.escape(device["name"])), text, re.M)
        want = ["yes" if device["virtual"] else "no", str(device["rx_queue_count"]),
                str(device["tx_queue_count"]), str(device["block_queue_count"]),
                str(device["irq_count"]), device["nodes"] or "-"]
        assert row[0].split()[2:] == want, (row[0], device)
        node = read("/sys/class/%s/%s/device/numa_node" % (device["kind"], device["name"]), "-1")
        assert node == "-1" or int(node) == device["node"], (node, device)
        for irq in device["irqs"]:
            told = read("/proc/irq/%d/smp_affinity_list" % irq["irq"])
            assert told is None or ids(irq["affinity"]) == ids(told), (told, irq)
            row = re.search(r"^%s +%d .*$" % (re.escape(device["name"]), irq["irq"]), text, re.M)
            assert row[0].endswith(irq["affinity"] or "-"), (row[0], irq)


def case_info_within_fewer_pus_counts_fewer():
    one = min(os.sched_getaffinity(0))
    facts = document("info", preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert facts["topology"]["pu_count"] == 1, facts["topology"]
    assert facts["affinity"]["pus"] == str(one) and facts["affinity"]["current_pu"] == one


# ---- doctor ----

def by_name(report):
    return {line["name"]: line for line in report["requirements"]}


def check_report(report, started):
    """What holds of every report."""
    statuses = [line["status"] for line in report["requirements"]]
    assert report["ready"] == report["trial"]["started"] == started, report
    assert set(statuses) <= {"ok", "note", "missing"}, statuses
    # What is missing keeps it from starting, and something does when it did not.
    assert ("missing" in statuses) == (not started), report
    for line in report["requirements"]:
        assert line["found"] and line["needed"] and line["why"], line
        assert line["status"] != "ok" or not line["fixes"], line


def check_agreement(prefix=(), mode="hard", nodes="", workers="0", backend="auto", waive=True,
                    **how):
    """The tool and a program that starts a runtime with the library say the same."""
    start = run(*prefix, WITNESS, "start", mode, nodes, workers, backend,
                "waive" if waive else "all", **how)
    assert start.returncode in (0, 1), start
    args = ["doctor", "--mode", mode, "--workers-per-node", workers, "--backend", backend]
    args += ["--nodes", nodes] if nodes else []
    args += ["--waive-privileges"] if waive else []
    report = document(*args, code=start.returncode, prefix=prefix, **how)
    check_report(report, start.returncode == 0)
    said = start.stdout.splitlines()
    if start.returncode == 0:
        assert report["trial"]["worker_count"] == int(said[1]), (report, said)
        assert report["trial"]["level"] == said[2], (report["trial"], said)
    else:
        assert [report["trial"]["error"], report["trial"]["operation"]] == said[:2], (report, said)
    return report


def case_doctor_and_library_agree_on_every_configuration():
    node = document("info", "topology")["topology"]["nodes"][0]
    for mode in ("soft", "hard"):
        for backend in ("auto", "epoll", "io_uring"):
            for waive in (False, True):
                check_agreement(mode=mode, backend=backend, waive=waive)
        check_agreement(mode=mode, nodes=str(node["node"]), workers="1")
        too_many = check_agreement(mode=mode, workers=str(node["pu_count"] + 1))
        assert by_name(too_many)["PUs"]["status"] == ("missing" if mode == "hard" else "note")
        absent = check_agreement(mode=mode, nodes="1023")
        assert not absent["ready"] and absent["trial"]["error"] == "NUMAPERF_E_NO_NODE", absent
        assert by_name(absent)["nodes"]["status"] == "missing", absent


def case_doctor_and_library_agree_under_every_filter():
    for calls in FILTERS:
        if "sched_getaffinity" in calls and os.environ.get("NUMAPERF_TEST_SLOW"):
            continue  # a sanitizer needs it itself
        for error in ("EPERM", "ENOSYS"):
            prefix = (WITNESS, "deny", error, *calls, "--")
            for mode in ("soft", "hard"):
                check_agreement(prefix=prefix, mode=mode)
            check_agreement(prefix=prefix, backend="io_uring")


def fixes_of(line):
    return "\n".join(fix["text"] for fix in line["fixes"])


def case_doctor_names_the_calls_that_a_filter_must_allow():
    for call, name, backend in (("mbind", "memory policy", "auto"),
                                ("move_pages", "page query", "auto"),
                                ("sched_setaffinity", "thread affinity", "auto"),
                                ("set_mempolicy", "trial start", "auto"),
                                ("io_uring_setup", "io_uring", "io_uring")):
        prefix = (WITNESS, "deny", "EPERM", call, "--")
        report = document("doctor", "--mode", "hard", "--waive-privileges", "--backend", backend,
                          prefix=prefix, code=1)
        line = by_name(report)[name]
        assert line["status"] == "missing", line
        assert "seccomp" in line["found"] or name == "trial start", line
        assert '"%s"' % call in fixes_of(line) and "SCMP_ACT_ALLOW" in fixes_of(line), line
        assert {"container", "pod", "systemd"} <= {fix["where"] for fix in line["fixes"]}, line
    # auto does without the ring, and says so.
    done = run(WITNESS, "deny", "EPERM", "io_uring_setup", "--", TOOL, "doctor")
    assert done.returncode == 0 and re.search("^note +io_uring", done.stdout, re.M), done.stdout
    assert "waiting in epoll" in " ".join(done.stdout.split()), done.stdout


def case_doctor_says_what_denies_the_auditor_its_first_look():
    if os.environ.get("NUMAPERF_TEST_SLOW"):
        raise Skip("a sanitizer asks the same of every thread that begins")
    prefix = (WITNESS, "deny", "EPERM", "sched_getaffinity,0>0", "--")
    report = check_agreement(prefix=prefix, backend="epoll")
    line = by_name(report)["trial start"]
    assert report["trial"]["operation"] == "audit" and line["status"] == "missing", report
    assert '"sched_getaffinity"' in fixes_of(line), line
    assert check_agreement(prefix=prefix, mode="soft", backend="epoll")["ready"]


class Group:
    """A prefix of commands that run in a cgroup of their own, with these settings."""

    def __init__(self, controller, **settings):
        folder = pathlib.Path("/sys/fs/cgroup")
        if os.geteuid() != 0:
            raise Skip("only root makes cgroups")
        self.is_v1 = (folder / controller / "cgroup.procs").exists()
        self.path = (folder / controller if self.is_v1 else folder) / ("cli-%d" % os.getpid())
        self.settings = settings
        try:
            self.path.mkdir()
        except OSError as error:
            raise Skip("no cgroup can be made: %s" % error)

    def __enter__(self):
        for name, value in self.settings.items():
            names = {"memory": "memory.limit_in_bytes" if self.is_v1 else "memory.max"}
            file = self.path / names.get(name, "cpuset." + name)
            if not file.exists():
                self.path.rmdir()
                raise Skip("%s is not there" % file)
            file.write_text(value)
        return ("sh", "-c", 'echo $$ > "$1" && shift && exec "$@"', "sh",
                str(self.path / "cgroup.procs"))

    def __exit__(self, *_):
        for _ in range(500):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.01)  # who left it a moment ago is still counted
        raise AssertionError("%s cannot be removed" % self.path)


def case_doctor_names_the_cgroup_without_memory():
    if os.environ.get("NUMAPERF_TEST_SLOW"):
        raise Skip("a sanitizer takes memory of its own")
    node = document("info", "topology")["topology"]["nodes"][0]
    with Group("memory", memory=str(4 << 20)) as prefix:
        report = check_agreement(prefix=prefix, workers="1", nodes=str(node["node"]))
    line = by_name(report)["trial start"]
    assert not report["ready"] and report["trial"]["errno"] == "ENOMEM", report
    named = re.search(r"node.*memory cgroup's /sys/fs/cgroup/.*cli-\d+/memory\.", line["why"])
    assert named, line
    assert "MemoryMax=" in fixes_of(line) and "--memory" in fixes_of(line), line


def case_doctor_names_pus_that_the_cpuset_excludes():
    node = document("info", "topology")["topology"]["nodes"][0]
    pus = ids(node["pus"])
    if len(pus) < 2:
        raise Skip("there is only one PU on node %d" % node["node"])
    where = {"nodes": str(node["node"]), "workers": str(len(pus))}
    with Group("cpuset", mems=str(node["node"]), cpus=str(pus[0])) as prefix:
        report = check_agreement(prefix=prefix, **where)
        assert by_name(report)["PUs"]["status"] == "missing", report
        why = by_name(report)["trial start"]["why"]
        assert re.search("excludes PUs .*%d" % pus[-1], why), why
        assert "AllowedCPUs=" in fixes_of(by_name(report)["PUs"]), report
        assert check_agreement(prefix=prefix, mode="soft", **where)["ready"]
        assert check_agreement(prefix=prefix, nodes=str(node["node"]), workers="1")["ready"]


def case_doctor_text_holds_the_facts_of_the_json():
    for prefix, code in (((), 0), ((WITNESS, "deny", "EPERM", "mbind", "--"), 1)):
        args = ("doctor", "--mode", "hard", "--waive-privileges")
        if code == 0:
            args = ("doctor",)
        report = document(*args, code=code, prefix=prefix)
        done = run(*prefix, TOOL, *args)
        assert done.returncode == code, done
        said = " ".join(done.stdout.split())
        for line in report["requirements"]:
            want = "%s %s found %s; needs %s why: %s" % (
                line["status"], line["name"], line["found"], line["needed"], line["why"])
            assert " ".join(want.split()) in said, (want, done.stdout)
            for fix in line["fixes"]:
                for row in fix["text"].splitlines():
                    assert re.search("^ +(%s: )?%s$" % (fix["where"], re.escape(row)),
                                     done.stdout, re.M), (row, done.stdout)
        verdict = "ready: soft mode starts: " if code == 0 else "not ready: hard mode does not start"
        assert verdict in said, done.stdout


def case_doctor_as_an_ordinary_user_needs_the_waiver():
    if os.geteuid() != 0:
        raise Skip("dropping privileges needs root")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        paths = [shutil.copy(path, folder) for path in (TOOL, WITNESS)]
        if run("true", cwd=folder, user=USER, group=USER, extra_groups=[]).returncode != 0:
            raise Skip("the folder for temporary files is not for everybody")
        old = TOOL, WITNESS
        globals().update(TOOL=paths[0], WITNESS=paths[1])
        try:
            user = {"user": USER, "group": USER, "extra_groups": []}
            report = check_agreement(waive=False, **user)
            line = by_name(report)["privileges"]
            assert not report["ready"] and line["status"] == "missing", report
            for word in ("--waive-privileges", "setcap cap_sys_nice,cap_sys_admin+ep",
                         "AmbientCapabilities=", "--cap-add SYS_NICE", "add: [SYS_NICE"):
                assert word in fixes_of(line), (word, line)
            check_agreement(waive=True, **user)
            check_agreement(mode="soft", waive=False, **user)
        finally:
            globals().update(TOOL=old[0], WITNESS=old[1])


class Setting:
    """A prefix of commands that see another value in a file of /proc/sys, and nobody else does."""

    def __init__(self, name, value):
        self.path = "/proc/sys/kernel/" + name
        if os.geteuid() != 0 or not os.path.exists(self.path):
            raise Skip("as root, and with %s, only" % self.path)
        self.file = tempfile.NamedTemporaryFile("w", encoding="ascii")
        self.file.write(value + "\n")
        self.file.flush()

    def __enter__(self):
        mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        prefix = ("unshare", "--mount", "sh", "-c", mount, "sh", self.file.name, self.path)
        if run(*prefix, "true").returncode != 0:
            raise Skip("no mount namespaces here")
        return prefix

    def __exit__(self, *_):
        self.file.close()


def case_doctor_sees_balancing():
    for value in ("0", "1", "2"):
        with Setting("numa_balancing", value) as prefix:
            hard = check_agreement(prefix=prefix)
            soft = check_agreement(prefix=prefix, mode="soft")
        assert hard["ready"] == (value == "0") and soft["ready"], (value, hard)
        for report, status in ((hard, "missing"), (soft, "note")):
            line = by_name(report)["kernel.numa_balancing"]
            assert line["found"] == value and line["needed"] == "0", line
            assert line["status"] == ("ok" if value == "0" else status), line
            if value != "0":
                assert "sysctl -w kernel.numa_balancing=0" in fixes_of(line), line
                assert "/etc/sysctl.d/" in fixes_of(line), line


def case_doctor_tells_a_switched_off_ring_from_a_filter():
    with Setting("io_uring_disabled", "2") as prefix:
        prefix += (WITNESS, "deny", "EPERM", "io_uring_setup", "--")
        report = check_agreement(prefix=prefix, backend="io_uring")
    line = by_name(report)["io_uring"]
    assert not report["ready"] and "sysctl (EPERM)" == line["found"], line
    assert "sysctl -w kernel.io_uring_disabled=0" in fixes_of(line), line
    assert "--backend epoll" in fixes_of(line), line


# ---- audit ----

class Witness:
    """A process to look at, ready when this is entered."""

    def __init__(self, *args):
        self.process = subprocess.Popen([WITNESS, *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def __enter__(self):
        assert self.process.stdout.readline() == b"ready\n"
        return str(self.process.pid)

    def __exit__(self, *_):
        self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0


def case_audit_sees_a_pinned_thread_whatever_its_name():
    cpu = max(os.sched_getaffinity(0))
    with Witness("thread", ") \033[31m\xe9 R 1", str(cpu)) as pid:
        facts = document("audit", pid)
        text = tool("audit", pid).stdout
    assert facts["process"] == int(pid)
    assert len(facts["threads"]) >= 2 and facts["threads"][0]["thread"] == int(pid), facts
    pinned = [t for t in facts["threads"] if t["name"].startswith(") ?[31m")]
    assert len(pinned) == 1 and pinned[0]["affinity"] == str(cpu), facts["threads"]
    assert pinned[0]["pu"] == cpu and re.fullmatch("[RSD]", pinned[0]["state"]), pinned
    node = [n for n in document("info")["topology"]["nodes"] if cpu in ids(n["pus"])][0]["node"]
    assert pinned[0]["node"] == node and pinned[0]["affinity_nodes"] == str(node), pinned
    assert re.search(r"^ *%d  \) \?\[31m.*  %d$" % (pinned[0]["thread"], cpu), text, re.M), text
    assert "\033" not in text, repr(text)


def case_audit_counts_bound_memory_on_its_node():
    nodes = [n["node"] for n in document("info")["topology"]["nodes"] if n["memory_bytes"] > 0]
    for node in nodes:
        with Witness("bind", str(node), "16") as pid:
            facts = document("audit", pid)
            text = tool("audit", pid).stdout
            maps = read("/proc/%s/numa_maps" % pid, "")
        bound = {p["node"]: p["bytes"] for p in facts["policies"]
                 if p["policy"].startswith("bind:%d" % node)}
        assert bound == {node: 16 << 20}, facts["policies"]
        assert "16 MiB  bind:%d" % node in text, text
        total = sum(n["bytes"]["total"] for n in facts["nodes"])
        told = sum(int(pages) * int(re.search(r"kernelpagesize_kB=(\d+)", line)[1]) << 10
                   for line in maps.splitlines() for pages in re.findall(r" N\d+=(\d+)", line))
        assert abs(total - told) <= 64 << 10, (total, told)
        for row in facts["nodes"]:
            kinds = dict(row["bytes"])
            assert kinds.pop("total") == sum(kinds.values()), row
            bar = re.search(r"^node %d +([#.]{40}) +([\d.]+) %%" % row["node"], text, re.M)
            share = row["bytes"]["total"] / total
            assert abs(float(bar[2]) - 100 * share) < 1, (bar, share)
            assert abs(bar[1].count("#") - 40 * share) <= 1, (bar, share)


def case_audit_says_which_process_there_is_not():
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        absent = file.read().strip()
    done = tool("audit", absent)
    assert done.returncode == 1 and done.stdout == "" and absent in done.stderr, done
    assert "no such process" in done.stderr, done
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    done = tool("audit", str(zombie.pid))
    zombie.wait()
    assert done.returncode in (0, 1), done


def case_audit_of_a_process_that_ends_meanwhile():
    for _ in range(20):
        with subprocess.Popen(["sleep", "0.01"]) as process:
            done = tool("audit", str(process.pid), "--format", "json")
        assert done.returncode in (0, 1), done
        assert done.returncode == 1 or json.loads(done.stdout)["threads"], done
        assert done.returncode == 0 or str(process.pid) in done.stderr, done


def case_audit_without_permission_shows_the_threads_and_says_so():
    if os.geteuid() != 0:
        raise Skip("dropping privileges needs root")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = shutil.copy(TOOL, folder)
        done = run(path, "audit", str(os.getpid()), "--format", "json", user=USER, group=USER,
                   extra_groups=[])
    assert done.returncode == 1 and "no permission" in done.stderr, done
    facts = json.loads(done.stdout)
    assert facts["policies"] is None and facts["nodes"][0]["bytes"] is None, facts
    assert os.getpid() in [t["thread"] for t in facts["threads"]], facts


if __name__ == "__main__":
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    TOOL, WITNESS, SOURCE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]).resolve()
    os.environ["TSAN_OPTIONS"] = "%s:suppressions=%s" % (os.environ.get("TSAN_OPTIONS", ""),
                                                         SOURCE / "tests/support/tsan.supp")
    sys.exit(run_cases(sys.modules[__name__], sys.argv[4:]))
