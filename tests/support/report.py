#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts what test runs did, from CTest's JUnit files.

usage: report.py [--may-skip LABEL]... STAGE=FILE:LABEL[,LABEL...]...
       a FILE of "ok" or "failed" stands for a stage without tests, as a build

A cmocka program counts by its cases, any other test as one. A label that ran nothing is a failure;
one that only skipped is, too, unless it may. Prints failures, then skips with their reasons, and
last "N passed, N failed, N skipped". Exit status: 0 nothing failed.
"""
import argparse
import re
import sys
import xml.etree.ElementTree as tree

CASE = re.compile(r"^\[\s*(RUN|OK|FAILED|SKIPPED)\s*\] (.*)$")


class Counts:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def total(self):
        return self.passed + len(self.failed) + len(self.skipped)


def one_line(lines):
    return " ".join(" ".join(lines).split())[:300]


def cases(name, output):
    """Counts of the cmocka cases in a program's output."""
    counts, said, in_summary, guest = Counts(), [], False, ""
    for line in output.splitlines():
        heading = re.match(r"^==== (.*) as (.*)", line)
        if heading and ": exit status" not in line:
            guest = f"{heading[1]} as {heading[2]}: "
        if line.startswith("[==========]"):
            in_summary = "run." in line
        match = CASE.match(line)
        if match is None or in_summary:
            said.append(line)
            continue
        kind, case = match[1], f"{name}: {guest}{match[2]}"
        if kind == "OK":
            counts.passed += 1
        elif kind == "FAILED":
            counts.failed.append((case, one_line(said)))
        elif kind == "SKIPPED":
            counts.skipped.append((case, one_line(said) or "no reason given"))
        said = []
    return counts


def test(stage, element):
    """Counts of one CTest test."""
    name = f"{stage}: {element.get('name')}"
    output = element.findtext("system-out") or ""
    status = element.get("status")
    counts = cases(name, output)
    lines = [line for line in output.splitlines() if line.strip()]
    mark = element.find("skipped")
    if status == "fail":
        if not counts.failed:
            what = f"failed, crashed or took too long ({float(element.get('time') or 0):.1f} s):"
            counts.failed.append((name, one_line([what] + lines[-3:])))
    elif status != "run" and "SKIP_RETURN_CODE" not in (mark.get("message") if mark is not None else ""):
        counts.failed.append((name, one_line(lines) or "it could not be started"))
    elif status != "run" and counts.total() == 0:
        why = [line for line in lines if re.match(r"SKIP|numa-vm: please", line)] or lines[-1:]
        counts.skipped.append((name, one_line(why) or "no reason given"))
    elif counts.total() == 0:
        counts.passed = 1
    # A guest that skipped a whole program says so in one line.
    for program in re.findall(r"^guest: skipped: (.*)$", output, flags=re.M):
        if status == "run":
            why = re.findall(r"^SKIP:? *(.*)$", output, flags=re.M)
            counts.skipped.append((f"{name}: {program}", one_line(why) or "see its output"))
    return counts


def stage_counts(spec, may_skip):
    stage, rest = spec.split("=", 1)
    path, _, labels = rest.partition(":")
    counts = Counts()
    if path == "ok":
        counts.passed = 1
        return counts
    if path == "failed":
        counts.failed.append((stage, "see above"))
        return counts
    try:
        elements = tree.parse(path).getroot().findall("testcase")
    except (OSError, tree.ParseError) as error:
        counts.failed.append((stage, f"no result: {error}"))
        return counts
    per_label = {label: Counts() for label in labels.split(",")}
    for element in elements:
        label = element.get("name").split(".")[0]
        per_label.setdefault(label, Counts()).add(test(stage, element))
    for label, found in per_label.items():
        counts.add(found)
        did = f"{found.passed} passed, {len(found.failed)} failed, {len(found.skipped)} skipped"
        print(f"{stage + ' ' + label:24}{did}")
        if found.total() == 0:
            counts.failed.append((f"{stage}: {label}", "this label has no tests"))
        elif found.passed == 0 and not found.failed and label not in may_skip:
            counts.failed.append((f"{stage}: {label}", "this label ran nothing"))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--may-skip", action="append", default=[])
    parser.add_argument("--skipped", action="append", default=[], metavar="STAGE=REASON")
    parser.add_argument("stages", nargs="*")
    args = parser.parse_args()
    counts = Counts()
    for spec in args.stages:
        counts.add(stage_counts(spec, args.may_skip))
    for spec in args.skipped:
        counts.skipped.append(tuple(spec.split("=", 1)))
    for title, items in (("Failed", counts.failed), ("Skipped", counts.skipped)):
        if items:
            print(f"\n{title}:")
            for name, why in items:
                print(f"  {name}: {why}")
    print(f"\n{counts.passed} passed, {len(counts.failed)} failed, {len(counts.skipped)} skipped")
    return 1 if counts.failed or counts.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
