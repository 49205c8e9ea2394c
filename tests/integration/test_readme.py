#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The README's embedding example compiles without a warning, is as short as it says, and runs."""
import pathlib
import re
import subprocess
import sys
import tempfile

root = pathlib.Path(sys.argv[1])
compiler, link = sys.argv[2], sys.argv[3:]
blocks = re.findall(r"```c\n(.*?)```", (root / "README.md").read_text(), re.S)
assert len(blocks) >= 2, "the README has an embedding example and a region"
program, region = blocks[0], blocks[1]
body = [line for line in program.splitlines() if line.strip()]
assert len(body) <= 32, f"the embedding example has grown to {len(body)} lines"
flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{root}/include"]
with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(folder, "hello.c")
    source.write_text(program)
    subprocess.run([compiler, *flags, str(source), "-o", folder + "/hello", *link], check=True)
    out = subprocess.run([folder + "/hello"], check=True, capture_output=True, text=True).stdout
    print(out, end="")
    assert re.search(r"^hello from node \d+, PU \d+: (strict|best effort|none)", out, re.M), out

    source = pathlib.Path(folder, "region.c")
    source.write_text("#include <numaperf.h>\nint main(void)\n{\n" + region
                      + "numaperf_region_destroy(region);\nreturn rc == 0 ? 0 : 1;\n}\n")
    subprocess.run([compiler, *flags, str(source), "-o", folder + "/region", *link], check=True)
    subprocess.run([folder + "/region"], check=True)
