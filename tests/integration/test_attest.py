#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An attestation from outside: by its schema, and against /proc of the process it speaks of.

usage: test_attest.py WITNESS SOURCE_DIRECTORY [CASE...]
"""
import copy
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

from examples_support import LIMIT, SANITIZER, Skip, run_cases

USER = 65534
WITNESS = ""
SOURCE = pathlib.Path()
SCHEMA = {}


class Runtime:
    """The witness: a runtime, and documents of it."""

    def __init__(self, mode="soft", audit_ms=0, **how):
        self.process = subprocess.Popen([WITNESS, mode, str(audit_ms)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
        self.pid = self.process.pid

    def ask(self, word):
        """The bytes that come back; None when it could not start or answer."""
        try:
            self.process.stdin.write(word.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        length = self.process.stdout.readline()
        return self.process.stdout.read(int(length)) if length else None

    def attest(self):
        text = self.ask("attest")
        assert text is not None, "no document: " + self.process.stderr.read().decode()
        document = json.loads(text.decode("utf-8"))
        check(document)
        return document

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        errors = self.process.communicate(timeout=LIMIT)[1].decode()
        assert not SANITIZER.search(errors), errors
        assert kind is not None or self.process.returncode == 0, errors


def read(path, otherwise=None):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return otherwise


def field(path, name):
    return re.search(r"^%s:\s*(.*)$" % name, read(path), re.M)[1].strip()


def ids(text):
    """"0-2,4" as a list."""
    out = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def parts(worker):
    return {part["name"]: part for part in worker["parts"]}


# ---- the schema, by what of JSON Schema it uses ----

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool,
         "null": type(None)}


def is_type(value, name):
    # To Python a boolean is a number.
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def errors_of(value, schema, where="$"):
    """What is wrong; a key that the schema does not describe is, too."""
    for word, what in schema.items():
        if word in ("$schema", "title", "description", "$defs"):
            continue
        if word == "$ref":
            yield from errors_of(value, SCHEMA["$defs"][what.rpartition("/")[2]], where)
        elif word == "const":
            if value != what:
                yield "%s: %r is not %r" % (where, value, what)
        elif word == "enum":
            if value not in what:
                yield "%s: %r is none of %r" % (where, value, what)
        elif word == "type":
            if not any(is_type(value, t) for t in (what if isinstance(what, list) else [what])):
                yield "%s: %r is no %s" % (where, value, what)
        elif word == "required":
            for key in what if isinstance(value, dict) else []:
                if key not in value:
                    yield "%s: has no %s" % (where, key)
        elif word == "properties":
            for key in value if isinstance(value, dict) else []:
                if key not in what:
                    yield "%s: %s is not in the schema" % (where, key)
                else:
                    yield from errors_of(value[key], what[key], where + "." + key)
        elif word == "items":
            for index, item in enumerate(value if isinstance(value, list) else []):
                yield from errors_of(item, what, "%s[%d]" % (where, index))
        elif word in ("minItems", "maxItems"):
            sign = 1 if word == "minItems" else -1
            if isinstance(value, list) and sign * len(value) < sign * what:
                yield "%s: %d items" % (where, len(value))
        elif word == "minimum":
            if is_type(value, "integer") and value < what:
                yield "%s: %d is below %d" % (where, value, what)
        elif word == "pattern":
            if isinstance(value, str) and not re.search(what, value):
                yield "%s: %r is not like %s" % (where, value, what)
        else:
            raise AssertionError("the schema uses %s, which this test does not know" % word)


def check(document):
    wrong = list(errors_of(document, SCHEMA))
    assert not wrong, "\n".join(wrong)


def places(value, path=()):
    """The path of every key of every object."""
    if isinstance(value, dict):
        for key in value:
            yield path + (key,)
            yield from places(value[key], path + (key,))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, path + (index,))


def case_the_schema_describes_every_key_and_misses_each_that_is_gone():
    with Runtime() as runtime:
        document = runtime.attest()
    for path in places(document):
        gone = copy.deepcopy(document)
        at = gone
        for key in path[:-1]:
            at = at[key]
        was = at.pop(path[-1])
        assert any(path[-1] in error for error in errors_of(gone, SCHEMA)), path
        at[path[-1]] = [was]  # nothing is a list of itself
        assert list(errors_of(gone, SCHEMA)), path
    unknown = dict(document, surprise=1)
    assert list(errors_of(unknown, SCHEMA)) == ["$: surprise is not in the schema"]
    assert list(errors_of(dict(document, schema="numaperf.attestation.v2"), SCHEMA))


def case_keys_are_in_one_order_and_no_two_alike():
    def ordered(pairs):
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), keys
        return pairs
    with Runtime() as runtime:
        texts = [runtime.ask("attest"), runtime.ask("attest")]
    orders = []
    for text in texts:
        pairs = json.loads(text, object_pairs_hook=ordered)
        orders.append([key for key, _ in pairs])
        lines = text.decode().splitlines()
        assert lines[0] == "{" and lines[-1] == "}" and lines[1].startswith('  "schema": '), lines
        assert all(len(line) - len(line.lstrip()) & 1 == 0 for line in lines)
    assert orders[0] == orders[1] == SCHEMA["required"], orders
    shapes = [re.sub(rb": [^{\[].*", b"", text) for text in texts]
    assert shapes[0] == shapes[1]


def case_the_readme_describes_it():
    readme = (SOURCE / "README.md").read_text()
    section = re.search(r"^## Attestation\n(.*?)^## ", readme, re.M | re.S)
    assert section, "README.md has no section about it"
    for word in SCHEMA["required"] + ["numaperf.attestation.v1", "attestation.schema.json"]:
        assert "`%s`" % word in section[1], word


# ---- against /proc ----

def check_thread(pid, worker):
    task = "/proc/%d/task/%d" % (pid, worker["thread_id"])
    said = parts(worker)
    cpus = ids(field(task + "/status", "Cpus_allowed_list"))
    home = cpus == [worker["pu"]]
    assert said["affinity"]["last"]["verdict"] == ("home" if home else "drifted"), (cpus, worker)
    maps = read(task + "/numa_maps")
    if maps:
        policy = maps.split()[1]
        assert said["memory policy"]["last"]["found"] == policy, (policy, worker)
        assert said["memory policy"]["asked"] == "prefer:%d" % worker["node"]


def bound_pages(pid):
    """Pages in mappings bound to one node, that are there, by node."""
    out = {}
    for line in (read("/proc/%d/numa_maps" % pid) or "").splitlines():
        words = line.split()
        bound = re.fullmatch(r"bind(?:=\w+)?:(\d+)", words[1])
        if bound:
            there = [int(w.partition("=")[2]) for w in words if w.startswith("N%s=" % bound[1])]
            out[int(bound[1])] = out.get(int(bound[1]), 0) + sum(there)
    return out


def check_against_proc(pid, document):
    process = document["process"]
    status = "/proc/%d/status" % pid
    assert document["host"]["kernel"] == os.uname().release
    assert document["host"]["machine"] == os.uname().machine
    assert document["host"]["boot_id"] == read("/proc/sys/kernel/random/boot_id")
    assert process["pid"] == pid
    assert process["uid"] == int(field(status, "Uid").split()[1])
    assert process["capabilities_effective"] == field(status, "CapEff")
    assert process["cap_sys_admin"] == bool(int(field(status, "CapEff"), 16) >> 21 & 1)
    assert process["cap_sys_nice"] == bool(int(field(status, "CapEff"), 16) >> 23 & 1)
    assert process["mems_allowed"] == field(status, "Mems_allowed_list")
    for name in ("numa_balancing", "io_uring_disabled"):
        found = read("/proc/sys/kernel/" + name)
        said = document["kernel"][name]
        wanted = {"value": int(found), "errno": None} if found else {"value": None,
                                                                     "errno": "ENOENT"}
        assert said == wanted, (name, said, found)
    pages = {}
    for worker in document["workers"]:
        check_thread(pid, worker)
        for name in ("stack", "arena", "queues", "ring"):  # a ring may lie in bound memory, too
            last = parts(worker)[name]["last"]
            if last["verdict"] == "home" and "bind" in parts(worker)[name]["asked"]:
                pages[worker["node"]] = pages.get(worker["node"], 0) + last["pages_home"]
    if pages and bound_pages(pid):
        assert pages == bound_pages(pid), (pages, bound_pages(pid))
    names = os.listdir("/proc/%d/task" % pid)
    assert all(str(worker["thread_id"]) in names for worker in document["workers"])


def case_it_says_what_proc_says():
    with Runtime() as runtime:
        check_against_proc(runtime.pid, runtime.attest())
        before = [worker["arena"]["used_bytes"] for worker in runtime.attest()["workers"]]
        assert runtime.ask("grow") is not None
        document = runtime.attest()
        check_against_proc(runtime.pid, document)
        for worker, was in zip(document["workers"], before):
            assert worker["arena"]["used_bytes"] >= was + (5 << 20), worker["arena"]


def case_it_says_what_proc_says_of_an_ordinary_user():
    if os.geteuid() != 0:
        raise Skip("dropping privileges needs root")
    try:
        with Runtime(user=USER, group=USER) as runtime:
            document = runtime.attest()
            check_against_proc(runtime.pid, document)
            assert document["process"]["uid"] == USER
            assert document["process"]["capabilities_effective"] == "0" * 16
    except PermissionError as error:
        raise Skip("the program is closed to other users") from error


def case_the_cpuset_is_the_cgroups():
    with Runtime() as runtime:
        said = runtime.attest()["process"]["cgroup_cpuset"]
        # Never narrower than what the kernel lets the process use.
        if said["cpus_effective"] is None:
            raise Skip("no cpuset where it is looked for")
        status = "/proc/%d/status" % runtime.pid
        assert set(ids(field(status, "Cpus_allowed_list"))) <= set(ids(said["cpus_effective"]))
        assert set(ids(field(status, "Mems_allowed_list"))) == set(ids(said["mems_effective"]))


def moment(text):
    whole, _, fraction = text.rstrip("Z").partition(".")
    parsed = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return parsed.replace(tzinfo=datetime.timezone.utc).timestamp() + int(fraction) / 1e9


def case_times_are_of_now_and_looks_between_them():
    start = datetime.datetime.now(datetime.timezone.utc).timestamp()
    with Runtime() as runtime:
        document = runtime.attest()
        end = datetime.datetime.now(datetime.timezone.utc).timestamp()
    began, ended = (moment(document["time"][key]) for key in ("began", "ended"))
    assert start - 1e-3 <= began <= ended <= end + 1e-3, (start, began, ended, end)
    for worker in document["workers"]:
        for part in worker["parts"]:
            first, last = moment(part["at_start"]["time"]), moment(part["last"]["time"])
            assert start - 1e-3 <= first <= began + 1e-6 <= last + 2e-6, part
            assert last <= ended + 1e-6, part


def case_a_drift_from_outside_is_told_and_counted():
    if len(os.sched_getaffinity(0)) < 2:
        raise Skip("one PU alone: no affinity is wider")
    with Runtime(audit_ms=10) as runtime:
        worker = runtime.attest()["workers"][0]
        os.sched_setaffinity(worker["thread_id"], os.sched_getaffinity(0))
        document = runtime.attest()
        check_against_proc(runtime.pid, document)
        said = parts(document["workers"][0])["affinity"]
        assert said["last"]["verdict"] == "drifted", said
        cpus = field("/proc/%d/task/%d/status" % (runtime.pid, worker["thread_id"]),
                     "Cpus_allowed_list")
        assert cpus in said["last"]["found"], (cpus, said)
        assert said["at_start"] == parts(worker)["affinity"]["at_start"]
        assert said["at_start"]["verdict"] == "home"
        assert document["verdict"]["level"] != "strict"
        assert document["verdict"]["reason"]
        tries = 0
        while runtime.attest()["audit"]["violations"] == 0:
            tries += 1
            assert tries < 100000
        os.sched_setaffinity(worker["thread_id"], {worker["pu"]})
        said = parts(runtime.attest()["workers"][0])["affinity"]
        assert said["last"]["verdict"] == "home", said


def case_hard_mode_is_strict():
    with Runtime(mode="hard") as runtime:
        text = runtime.ask("attest")
        if text is None:
            runtime.process.wait(LIMIT)
            reason = runtime.process.stderr.read().decode()
            raise Skip("no hard mode here: " + reason.strip())
        document = json.loads(text)
        check(document)
        assert document["verdict"] == {"level": "strict", "reason": None}, document["verdict"]
        assert document["audit"]["on"] and document["audit"]["interval_ms"] == 5000
        nodes = []
        for worker in document["workers"]:
            for part in worker["parts"]:
                # The queues of a node are shown with its first worker.
                is_there = part["name"] != "queues" or worker["node"] not in nodes
                assert part["last"]["verdict"] == ("home" if is_there else "no_part"), part
            nodes.append(worker["node"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__)
        sys.exit(2)
    WITNESS, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
    SCHEMA = json.loads((SOURCE / "runtime/attestation.schema.json").read_text())
    sys.exit(run_cases(sys.modules[__name__], sys.argv[3:]))
