#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each lint rule is fed a tree that is clean and then samples it must find.

usage: selftest.py [unittest arguments]
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SPDX = "/* SPDX-License-Identifier: MIT */\n"
CC = os.environ.get("CC", "cc")

HEADER = SPDX + """#ifndef NUMAPERF_A_H
#define NUMAPERF_A_H
#include <stdint.h>
#define NUMAPERF_API __attribute__((visibility("default")))
#ifdef __cplusplus
extern "C" {
#endif
/**
 * Do it.
 *
 * Units:    bytes.
 * Returns:  0; -EINVAL.
 * Owner:    caller.
 * Threads:  any.
 * Source:   mmap(2).
 */
NUMAPERF_API int numaperf_a(uint64_t length);
#ifdef __cplusplus
}
#endif
#endif
"""
MAP = "NUMAPERF_0.1 {\nglobal:\n    numaperf_a;\nlocal:\n    *;\n};\n"
SOURCE = SPDX + """#include "place/a.h"

#include "base/error.h"

#include <numaperf/a.h>

static int helper(void)
{
    return 0; /* printf and mmap are only words here */
}

int numaperf__a_step(void)
{
    return helper();
}

int numaperf_a(uint64_t length)
{
    return length == 0 ? -1 : numaperf__a_step();
}
"""
CLEAN = {
    "include/numaperf.h": SPDX + "#include <numaperf/a.h>\n",
    "include/numaperf/a.h": HEADER,
    "runtime/numaperf.map": MAP,
    "runtime/place/a.c": SOURCE,
    "runtime/place/a.h": SPDX,
    "runtime/base/error.h": SPDX,
    "examples/one.c": SPDX + "#include <numaperf.h>\n",
    "tests/unit/test_a.c": SPDX + "/* a test */\n",
    "README.md": "nothing\n",
}


def in_room(room, text):
    return {f"runtime/{room}/bad.c": SPDX + text}


def with_doc(old, new):
    return {"include/numaperf/a.h": HEADER.replace(old, new)}


# rule -> [(what is wrong, files that replace or join the clean ones, words of the finding)]
BAD = {
    "rooms": [
        ("a later room", in_room("place", '#include "sched/worker.h"\n'), "comes after"),
        ("the same folder without its room", in_room("place", '#include "a.h"\n'), "place/a.h"),
        ("a room in angle brackets", in_room("io", "#include <place/a.h>\n"), "with quotes"),
        ("cli beside the public headers", in_room("cli", '#include "base/error.h"\n'), "cli/ uses"),
        ("a room that does not exist", in_room("util", "\n"), "no room"),
        ("an example with our insides", {"examples/two.c": '#include "base/error.h"\n'}, "example"),
    ],
    "owners": [
        ("hwloc outside topo", in_room("place", "#include <hwloc.h>\n"), "hwloc"),
        ("hwloc's other headers", in_room("io", "#include <hwloc/linux.h>\n"), "hwloc"),
        ("liburing beside the ring", in_room("io", "#include <liburing.h>\n"), "liburing"),
        ("libuv in sched", in_room("sched", "#include <uv.h>\n"), "libuv"),
        ("libnuma", in_room("place", "#include <numaif.h>\n"), "libnuma"),
        ("affinity in sched", in_room("sched", "int r = sched_setaffinity(0, 0, 0);\n"), "place/"),
        ("affinity by number", in_room("io", "long r = syscall(SYS_mbind, 0);\n"), "SYS_mbind"),
        ("policy in io", in_room("io", "int r = set_mempolicy(0, 0, 0);\n"), "set_mempolicy"),
        ("page query in stat", in_room("stat", "long r = move_pages(0);\n"), "move_pages"),
        ("a mapping in io", in_room("io", "void *p = mmap(0);\n"), "mmap"),
        ("a thread in io", in_room("io", "int r = pthread_create(0, 0, 0, 0);\n"), "threads"),
        ("printing", in_room("sched", 'int r = printf("x");\n'), "terminal"),
        ("printing to stderr", in_room("place", 'int r = fprintf(stderr, "");\n'), "stderr"),
        ("ending the process", in_room("sched", "void f(void) { exit(1); }\n"), "ends"),
        ("aborting", in_room("sched", "void f(void) { abort(); }\n"), "assertion"),
        ("alloca", in_room("place", "void *p = alloca(3);\n"), "alloca"),
        ("a permission without a reason",
         in_room("io", "/* lint-allow owners: */\nvoid *p = mmap(0);\n"), "mmap"),
    ],
    "headers": [
        ("a third party's header", with_doc("#include <stdint.h>", "#include <stdint.h>\n#include <uv.h>"),
         "may not include uv.h"),
        ("what it needs is not included", with_doc("#include <stdint.h>\n", ""), "as c:"),
        ("words of C++", with_doc("uint64_t length", "uint64_t class"), "as c++"),
        ("not in numaperf.h", {"include/numaperf/b.h": SPDX}, "does not include it"),
        ("no include guard", {"include/numaperf/a.h": SPDX + "enum { A };\n"}, "as c:"),
    ],
    "labels": [
        ("no comment", with_doc("/**\n", "/*\n"), "no /** comment"),
        ("no Threads", with_doc(" * Threads:  any.\n", ""), "Threads: is missing"),
        ("an unknown thread word", with_doc("any.", "many."), "not many."),
        ("an empty label", with_doc("  caller.", ""), "says nothing"),
        ("no Returns", with_doc(" * Returns:  0; -EINVAL.\n", ""), "Returns: is missing"),
        ("the wrong order", with_doc(" * Units:    bytes.\n * Returns:  0; -EINVAL.\n",
                                     " * Returns:  0; -EINVAL.\n * Units:    bytes.\n"), "order"),
        ("a label twice", with_doc(" * Owner:    caller.\n", " * Owner:    caller.\n" * 2), "once"),
        ("an unknown label", with_doc("Source:   ", "Sources:  "), "is no label"),
    ],
    "symbols": [
        ("a function the map lacks", {"runtime/numaperf.map": MAP.replace("numaperf_a;", "")}, "missing"),
        ("a symbol no header has", {"runtime/numaperf.map": MAP.replace("numaperf_a;", "numaperf_a;\n numaperf_b;")},
         "no public header"),
        ("a symbol twice", {"runtime/numaperf.map": MAP.replace("numaperf_a;", "numaperf_a; numaperf_a;")}, "twice"),
        ("a pattern in the map", {"runtime/numaperf.map": MAP.replace("numaperf_a;", "numaperf_*;")}, "missing"),
    ],
    "sizes": [
        ("a function of 71 lines", in_room("place", "int f(int a)\n{\n" + "    a++;\n" * 71 + "}\n"), "71 lines"),
        ("a file of 601 lines", {"tests/unit/test_b.c": SPDX + "\n" * 600}, "601 lines"),
    ],
    "names": [
        ("a shared function without its prefix", in_room("io", "int ring_step(void)\n{\n}\n"), "numaperf__ring_step"),
        ("a public name in no header", in_room("io", "int numaperf_step(void)\n{\n}\n"), "neither"),
        ("a static with the prefix", in_room("io", "static int numaperf__step(void)\n{\n}\n"), "no numaperf prefix"),
        ("a head of two lines", in_room("io", "int step(int a,\n         int b)\n{\n}\n"), "numaperf__step"),
        ("no SPDX line", {"runtime/io/bad.c": "int a;\n"}, "SPDX"),
    ],
    "todo": [
        ("work left to do", in_room("io", "/* TO" "DO: later */\n"), "TO" "DO"),
        ("in a script", {"tests/run.sh": "# FIX" "ME\n"}, "FIX" "ME"),
    ],
    "paths": [
        ("a home folder", {"README.md": "cd /ho" "me/someone/src\n"}, "one machine"),
        ("in CMake", {"CMakeLists.txt": 'set(a "/ro' 'ot/src")\n'}, "one machine"),
    ],
}


class Sample:
    """A tree in a temporary folder."""

    def __init__(self, extra):
        self.folder = tempfile.TemporaryDirectory(prefix="numaperf-lint.")
        self.root = self.folder.name
        for path, text in {**CLEAN, **extra}.items():
            full = os.path.join(self.root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def lint(self, rule, *more):
        return run([sys.executable, os.path.join(HERE, "lint.py"), rule, "--root", self.root, *more])


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **more)
    return done.returncode, done.stdout


class LintTest(unittest.TestCase):
    def test_a_clean_tree_has_no_findings(self):
        with Sample({}) as sample:
            for rule in BAD:
                code, out = sample.lint(rule)
                self.assertEqual(code, 0, f"{rule}: {out}")

    def test_every_rule_has_a_bad_sample(self):
        code, out = run([sys.executable, os.path.join(HERE, "lint.py"), "--help"])
        self.assertEqual(code, 0)
        rules = out[out.index("{") + 1:out.index("}")].replace("\n", "").replace(" ", "").split(",")
        self.assertEqual(sorted(rules), sorted(BAD))

    def test_a_reason_allows_a_breach(self):
        text = "/* lint-allow owners: the probe maps one page to ask the kernel. */\nvoid *p = mmap(0);\n"
        with Sample(in_room("io", text)) as sample:
            code, out = sample.lint("owners")
            self.assertEqual(code, 0, out)

    def test_an_empty_tree_is_refused(self):
        with tempfile.TemporaryDirectory() as root:
            code, out = run([sys.executable, os.path.join(HERE, "lint.py"), "todo", "--root", root])
            self.assertEqual(code, 2, out)

    def test_the_library_is_compared_with_the_headers(self):
        with Sample({}) as sample:
            for text, finding in (("int numaperf_a(void) { return 0; }", None),
                                  ("int numaperf_b(void) { return 0; }", "does not export numaperf_a"),
                                  ("int numaperf_a(void) { return 0; }\nint leak;", "exports leak")):
                library = os.path.join(sample.root, "lib.so")
                code, out = run([CC, "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=text)
                self.assertEqual(code, 0, out)
                code, out = sample.lint("symbols", "--library", library)
                if finding is None:
                    self.assertEqual(code, 0, out)
                else:
                    self.assertEqual(code, 1, out)
                    self.assertIn(finding, out)

    def test_the_static_library_has_our_prefix_everywhere(self):
        with Sample({}) as sample:
            for text, finding in (("int numaperf_a, numaperf__b; static int c; int *numaperf__d = &c;", None),
                                  ("int numaperf_a, b;", "defines b,")):
                thing = os.path.join(sample.root, "a.o")
                archive = os.path.join(sample.root, "lib.a")
                code, out = run([CC, "-c", "-x", "c", "-", "-o", thing], input=text)
                self.assertEqual(code, 0, out)
                code, out = run(["ar", "rc", archive, thing])
                self.assertEqual(code, 0, out)
                code, out = sample.lint("symbols", "--library", archive)
                self.assertEqual(code, 0 if finding is None else 1, out)
                self.assertIn(finding or "0 findings", out)

    def test_format_finds_a_bad_file(self):
        for text, clean in (("int a;\n", True), ("int  a ;\n", False)):
            with Sample({"tests/unit/test_f.c": SPDX + text, "runtime/place/a.c": SPDX}) as sample:
                shutil.copy(os.path.join(ROOT, ".clang-format"), sample.root)
                for path in ("include/numaperf/a.h",):
                    os.remove(os.path.join(sample.root, path))
                code, out = run([os.path.join(HERE, "format.sh"), sample.root])
                if code == 77:
                    self.skipTest(out.strip())
                self.assertEqual(code == 0, clean, out)

    def test_tidy_finds_each_family(self):
        bad = {
            None: "int numaperf__a(int b);\nint numaperf__a(int b)\n{\n    return b;\n}\n",
            "bugprone-": "int f(int a);\nint f(int a)\n{\n    if (a) {\n        a++;\n    } else if (a) {\n    }\n"
                         "    return (int)sizeof(sizeof(a));\n}\n",
            "cert-err33-c": "#include <stdio.h>\nvoid f(void);\nvoid f(void)\n{\n    fopen(\"a\", \"r\");\n}\n",
            "clang-analyzer-": "int f(int *a);\nint f(int *a)\n{\n    a = 0;\n    return *a;\n}\n",
            "concurrency-mt-unsafe": "#include <string.h>\nchar *f(void);\nchar *f(void)\n{\n"
                                     "    return strerror(1);\n}\n",
            "readability-function-size": "int f(int a, int b, int c, int d, int e, int g);\n"
                                         "int f(int a, int b, int c, int d, int e, int g)\n{\n"
                                         "    return a + b + c + d + e + g;\n}\n",
            "readability-identifier-naming": "int badName(void);\nint badName(void)\n{\n    return 0;\n}\n",
        }
        for check, text in bad.items():
            with self.subTest(check=check), Sample({"runtime/place/t.c": text}) as sample:
                os.makedirs(os.path.join(sample.root, "tests/lint"), exist_ok=True)
                os.makedirs(os.path.join(sample.root, "build"))
                shutil.copy(os.path.join(HERE, "tidy.sh"), os.path.join(sample.root, "tests/lint"))
                shutil.copy(os.path.join(ROOT, ".clang-tidy"), sample.root)
                entry = {"directory": sample.root, "command": "cc -c runtime/place/t.c",
                         "file": os.path.join(sample.root, "runtime/place/t.c")}
                with open(os.path.join(sample.root, "build/compile_commands.json"), "w",
                          encoding="utf-8") as f:
                    json.dump([entry], f, indent=2)
                code, out = run([os.path.join(sample.root, "tests/lint/tidy.sh"),
                                 os.path.join(sample.root, "build")])
                if code == 77:
                    self.skipTest(out.strip())
                if check is None:
                    self.assertEqual(code, 0, out)
                else:
                    self.assertNotEqual(code, 0, out)
                    self.assertIn(check, out)


def add_bad_samples():
    for rule, samples in BAD.items():
        for what, files, words in samples:
            def test(self, rule=rule, files=files, words=words):
                with Sample(files) as sample:
                    code, out = sample.lint(rule)
                    self.assertEqual(code, 1, out)
                    self.assertIn(words, out)
            setattr(LintTest, f"test_{rule}_finds_{what.replace(' ', '_')}", test)


add_bad_samples()

if __name__ == "__main__":
    unittest.main()
