#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks of the source tree that no compiler makes.

usage: lint.py RULE [--root DIR] [--library SO_OR_A]... [--cc CC] [--cxx CXX]

Every rule is a function that yields findings, "path:line: text". Exit status: 0 clean, 1 findings,
2 usage. selftest.py feeds each rule a sample that it must find.

A line may break a rule where the line itself, or the comment right above it, says why:
    lint-allow RULE: reason
"""
import argparse
import os
import re
import subprocess
import sys

ROOMS = ["base", "topo", "place", "data", "stat", "io", "net", "sched"]

# What may be touched in some places only: words or headers, the paths that may, and the reason.
AFFINITY = (r"(?:sched|pthread|pthread_attr)_[sg]etaffinity(?:_np)?|[sg]et_mempolicy(?:_home_node)?"
            r"|mbind|move_pages|migrate_pages|(?:SYS|__NR)_(?:sched_[sg]etaffinity|mbind"
            r"|[sg]et_mempolicy\w*|move_pages|migrate_pages|mmap)|numa_\w+")
OWNED_WORDS = [
    (AFFINITY, ["runtime/place/"], "affinity and memory policy belong to place/"),
    (r"mmap|munmap|mremap", ["runtime/place/"], "mappings belong to place/"),
    (r"pthread_create|thrd_create|uv_thread_create\w*", ["runtime/sched/", "runtime/place/"],
     "threads are made in sched/ (parallel prefault in place/ apart)"),
    (r"f?printf|v(?:f)?printf|f?puts|putchar|perror|stdout|stderr|isatty|tcgetattr",
     ["runtime/cli/", "runtime/base/error.c"], "only cli/ has a terminal"),
    (r"_?exit|quick_exit|_Exit", ["runtime/cli/"], "the library never ends the process"),
    (r"abort", ["runtime/base/error.c"], "only a failed assertion aborts"),
    (r"alloca", [], "alloca is not used"),
]
OWNED_HEADERS = [
    (r"hwloc(?:/.*)?\.h", ["runtime/topo/"], "hwloc belongs to topo/"),
    (r"liburing(?:/.*)?\.h", ["runtime/io/ring_state.h"], "liburing belongs to io/ring*.c"),
    (r"uv(?:/.*)?\.h", ["runtime/io/", "runtime/net/"], "libuv belongs to io/ and net/"),
    (r"numa(?:if)?\.h", [], "libnuma is not used"),
]
# What a public header may include beside <numaperf/...>.
PUBLIC_INCLUDES = {"stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "sys/socket.h", "sys/types.h"}

LABELS = ["Units", "Returns", "Owner", "Threads", "Source"]
THREADS = {"any", "owner", "setup", "signal"}
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600


class Tree:
    """The files of the project; paths are relative to its root."""

    def __init__(self, root):
        self.root = root

    def files(self, pattern, under=("",)):
        try:
            out = subprocess.run(
                ["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"],
                check=True, capture_output=True, text=True).stdout.splitlines()
            if not os.path.exists(os.path.join(self.root, ".git")):
                raise OSError("the repository is another one")
        except (OSError, subprocess.CalledProcessError):
            out = []
            for folder, dirs, names in os.walk(self.root):
                dirs[:] = [d for d in dirs if d not in ("build", ".git")
                           and not os.path.exists(os.path.join(folder, d, "CMakeCache.txt"))]
                out += [os.path.relpath(os.path.join(folder, n), self.root) for n in names]
        return sorted(p for p in set(out) if re.search(pattern, p)
                      and any(p.startswith(u) for u in under)
                      and os.path.isfile(os.path.join(self.root, p)))

    def text(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as f:
            return f.read()

    def allowed(self, path, line, rule):
        """Whether this line, or the comment that ends right above it, allows breaking the rule."""
        lines = self.text(path).splitlines()
        mark = re.compile(r"lint-allow %s: \S.{9,}" % rule)
        first = line - 1
        while first > 0 and re.match(r"\s*(/\*|\*|#)", lines[first - 1]) and \
                not lines[first - 1].lstrip().startswith(("#include", "#define", "#if")):
            first -= 1
        return any(mark.search(text) for text in lines[first:line])


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def code_only(text, strings=True):
    """The text without comments (and string contents), every line where it was."""
    pattern = r"/\*.*?\*/|//[^\n]*"
    literal = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])+'"

    def replace(match):
        if match.group(0)[0] == "/":
            return blank(match)
        return blank(match) if strings else match.group(0)
    return re.sub(literal + "|" + pattern, replace, text, flags=re.S)


def matches(regex, text):
    for number, line in enumerate(text.splitlines(), 1):
        for match in re.finditer(regex, line):
            yield number, match


def includes(tree, path):
    """(line, name, is_quoted) of each #include."""
    text = code_only(tree.text(path), strings=False)
    for number, match in matches(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', text):
        yield number, match[1] or match[2], match[1] is not None


def owned(path, places):
    return any(path == p or (p.endswith("/") and path.startswith(p)) for p in places)


def rule_rooms(tree, _args):
    """A room includes itself and rooms before it; cli/ the public headers alone."""
    for path in tree.files(r"\.[ch]$", ["runtime/"]):
        parts = path.split("/")
        room = parts[1] if len(parts) > 2 else None
        if room is not None and room not in ROOMS + ["cli"]:
            yield f"{path}:1: {room}/ is no room"
            continue
        for line, name, is_quoted in includes(tree, path):
            where = f"{path}:{line}"
            if not is_quoted:
                if re.match(r"(%s|cli)/" % "|".join(ROOMS), name):
                    yield f'{where}: write "{name}", with quotes'
                continue
            target = name.split("/")[0]
            if "/" not in name or target not in ROOMS + ["cli"]:
                yield f'{where}: "{name}": write the room, "{room or "base"}/{name}"'
            elif room == "cli" and target != "cli":
                yield f"{where}: cli/ uses the public headers alone, not {name}"
            elif room != "cli" and target == "cli":
                yield f"{where}: only cli/ includes {name}"
            elif room in ROOMS and ROOMS.index(target) > ROOMS.index(room):
                yield f"{where}: {room}/ may not include {name}: {target}/ comes after it"
    for path in tree.files(r"\.[ch]$", ["examples/"]):
        for line, name, _ in includes(tree, path):
            if name.split("/")[0] in ROOMS:
                yield f"{path}:{line}: an example uses the public headers alone, not {name}"


def rule_owners(tree, _args):
    """Some headers and system calls belong to one room."""
    for path in tree.files(r"\.[ch]$", ["runtime/"]):
        for line, name, _ in includes(tree, path):
            for regex, places, why in OWNED_HEADERS:
                if re.fullmatch(regex, name) and not owned(path, places) and \
                        not tree.allowed(path, line, "owners"):
                    yield f"{path}:{line}: {name}: {why}"
        text = code_only(tree.text(path))
        for regex, places, why in OWNED_WORDS:
            if owned(path, places):
                continue
            for line, match in matches(r"(?<![\w.>])(?<!format\()(?:%s)(?!\w)" % regex, text):
                if not tree.allowed(path, line, "owners"):
                    yield f"{path}:{line}: {match[0]}: {why}"


def public_headers(tree):
    return tree.files(r"^include/.*\.h$")


def rule_headers(tree, args):
    """Each public header compiles alone, twice, as C11 and C++11, and needs no third party's."""
    umbrella = tree.text("include/numaperf.h") if public_headers(tree) else ""
    for path in public_headers(tree):
        name = path[len("include/"):]
        for line, header, is_quoted in includes(tree, path):
            if is_quoted or not (header.startswith("numaperf/") or header in PUBLIC_INCLUDES):
                yield f"{path}:{line}: a public header may not include {header}"
        if name != "numaperf.h" and f"#include <{name}>" not in umbrella:
            yield f"{path}:1: include/numaperf.h does not include it"
        for compiler, language, standard in ((args.cc, "c", "c11"), (args.cxx, "c++", "c++11")):
            # (No -Wshadow: in C++ it minds a function and a struct of one name, which C is full of.)
            source = f"#include <{name}>\n#include <{name}>\nint numaperf_lint_headers;\n"
            run = subprocess.run(
                [compiler, f"-std={standard}", "-x", language, "-fsyntax-only", "-Wall", "-Wextra",
                 "-Wpedantic", "-Wundef", "-Wconversion", "-Werror",
                 "-I", os.path.join(tree.root, "include"), "-"],
                input=source, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                yield f"{path}:1: does not compile alone as {language}:\n{run.stderr}"


def public_functions(tree):
    """(path, line, name, returns, doc or None) of each NUMAPERF_API declaration."""
    for path in public_headers(tree):
        text = tree.text(path)
        bare = code_only(text)
        for match in re.finditer(r"^NUMAPERF_API\b([^;{]*);", bare, flags=re.M):
            name = re.search(r"\b(numaperf_\w+)\s*\(", match[1])
            if name is None:
                continue
            returns = " ".join(match[1][:name.start()].split())
            doc = re.search(r"/\*\*(?:(?!\*/).)*\*/\s*\Z", text[:match.start()], flags=re.S)
            yield path, bare.count("\n", 0, match.start()) + 1, name[1], returns, doc and doc[0]


def rule_labels(tree, _args):
    """Each public function has its labels, in their order."""
    for path, line, name, returns, doc in public_functions(tree):
        where = f"{path}:{line}: {name}"
        if doc is None:
            yield f"{where}: has no /** comment"
            continue
        found = re.findall(r"^ \* ([A-Z][a-z]+):(?:  +(\S+)|[ \t]*$)", doc, flags=re.M)
        names = [label for label, _ in found]
        for label, word in found:
            if label not in LABELS:
                yield f"{where}: {label}: is no label"
            elif not word:
                yield f"{where}: {label}: says nothing"
        known = [label for label in names if label in LABELS]
        if known != sorted(set(known), key=LABELS.index):
            yield f"{where}: labels are {', '.join(LABELS)}, each once and in that order"
        if "Threads" not in names:
            yield f"{where}: Threads: is missing"
        for label, word in found:
            if label == "Threads" and word and word.strip(".,;:") not in THREADS:
                yield f"{where}: Threads: is one of {', '.join(sorted(THREADS))}, not {word}"
        # Where the first sentence says the value, Returns: has nothing to add; but an int may be an
        # error code.
        says = re.search(r"/\*\*\s*\n \* (Whether|How many|How often|What) ", doc)
        if returns == "int" and "Returns" not in names and says is None:
            yield f"{where}: Returns: is missing"


def map_names(tree):
    text = re.sub(r"/\*.*?\*/", "", tree.text("runtime/numaperf.map"), flags=re.S)
    body = re.findall(r"global:(.*?)(?:local:|\})", text, flags=re.S)
    return [name for part in body for name in re.findall(r"([^\s;]+)\s*;", part)]


def rule_symbols(tree, args):
    """The map lists what the headers declare, and the libraries export just that."""
    declared = {f[2] for f in public_functions(tree)}
    listed = map_names(tree)
    where = "runtime/numaperf.map:1"
    for name in sorted(n for n in set(listed) if listed.count(n) > 1):
        yield f"{where}: {name} is listed twice"
    for name in sorted(set(listed) - declared):
        yield f"{where}: {name} is in no public header"
    for name in sorted(declared - set(listed)):
        yield f"{where}: {name} is missing"
    for library in args.library:
        if library.endswith(".a"):
            yield from archive_findings(library, declared)
            continue
        out = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                             capture_output=True, text=True).stdout
        exported = {line.split()[2].split("@")[0] for line in out.splitlines()
                    if len(line.split()) == 3 and line.split()[1] != "A"}
        for name in sorted(exported - declared):
            yield f"{library}: exports {name}, which is in no public header"
        for name in sorted(declared - exported):
            yield f"{library}: does not export {name}"


def archive_findings(library, declared):
    """Every name a program gets with the static library is ours by its prefix."""
    out = subprocess.run(["nm", "-g", "--defined-only", library], check=True, capture_output=True,
                         text=True).stdout
    for line in out.splitlines():
        words = line.split()
        if len(words) == 3 and not words[2].startswith("numaperf__") and words[2] not in declared:
            yield f"{library}: defines {words[2]}, neither public nor numaperf__"


def functions(text):
    """(name, first line, line of {, line of }, head) of each definition; braces at column 0."""
    lines = code_only(text).splitlines()
    for opening, line in enumerate(lines):
        if line.rstrip() != "{":
            continue
        first = opening
        while first > 0 and lines[first - 1].strip() and \
                not re.match(r"[}#]|.*[;}]\s*$", lines[first - 1]):
            first -= 1
        head = " ".join(lines[first:opening])
        bare = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", head)
        name = re.search(r"(\w+)\s*\(", bare)
        closing = next((i for i in range(opening, len(lines)) if lines[i].startswith("}")), None)
        if name is not None and closing is not None:
            yield name[1], first + 1, opening + 1, closing + 1, bare


def rule_sizes(tree, _args):
    """Functions of at most 70 lines, files of at most 600."""
    for path in tree.files(r"\.(c|h|cpp)$"):
        text = tree.text(path)
        count = text.count("\n")
        if count > FILE_LINES_MAX and not tree.allowed(path, 1, "sizes"):
            yield f"{path}:1: {count} lines: look for the second module inside"
        for name, first, opening, closing, _ in functions(text):
            lines = closing - opening - 1
            if lines > FUNCTION_LINES_MAX and not tree.allowed(path, first, "sizes"):
                yield f"{path}:{first}: {name}() has {lines} lines, more than {FUNCTION_LINES_MAX}"


def rule_names(tree, _args):
    """numaperf_x() is public, numaperf__x() shared between files, x() static."""
    public = {f[2] for f in public_functions(tree)}
    for path in tree.files(r"\.c$", ["runtime/"]):
        if path.startswith("runtime/cli/"):
            continue
        for name, line, _, _, head in functions(tree.text(path)):
            where = f"{path}:{line}: {name}()"
            if re.search(r"\bstatic\b", head):
                if name.startswith("numaperf_"):
                    yield f"{where} is static: no numaperf prefix"
            elif not name.startswith("numaperf__") and name not in public:
                yield f"{where} is neither public nor static: numaperf__{name}()"
    for path in tree.files(r"\.[ch]$", ["runtime/", "include/", "examples/"]):
        if not tree.text(path).startswith("/* SPDX-License-Identifier: MIT */\n"):
            yield f"{path}:1: begins with its SPDX line"


def rule_todo(tree, _args):
    """Work left to do has an issue, not a comment."""
    regex = r"\b(TODO|FIXME|XXX|HACK)\b"
    for path in tree.files(r"\.(c|h|cpp|sh|py|cmake|in|txt|map|json)$|/run$"):
        if path.startswith("tests/lint/"):
            continue
        for line, match in matches(regex, tree.text(path)):
            yield f"{path}:{line}: {match[1]}"


def rule_paths(tree, _args):
    """No path of one machine."""
    for path in tree.files(r""):
        if path.startswith("tests/lint/") or "corpus" in path:
            continue
        for line, match in matches(r"(?<![\w.}])/(?:home|root|work|Users|mnt)/[\w.~-]+",
                                   tree.text(path)):
            if not tree.allowed(path, line, "paths"):
                yield f"{path}:{line}: {match[0]} is a path of one machine"


RULES = {name[len("rule_"):]: function for name, function in sorted(globals().items())
         if name.startswith("rule_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule", choices=list(RULES))
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--library", action="append", default=[])
    parser.add_argument("--cc", default=os.environ.get("CC", "cc"))
    parser.add_argument("--cxx", default=os.environ.get("CXX", "c++"))
    args = parser.parse_args()
    tree = Tree(args.root)
    if not tree.files(r"\.[ch]$"):
        print(f"lint: no source files under {args.root}", file=sys.stderr)
        return 2
    findings = list(RULES[args.rule](tree, args))
    for finding in findings:
        print(finding)
    print(f"lint {args.rule}: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
