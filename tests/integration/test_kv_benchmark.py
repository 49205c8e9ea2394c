#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""redis-benchmark and redis-cli drive kv_server in every mode and end without an error."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from examples_support import SLOW, NotReady, Server, Skip, fields, main, wait_until

REQUESTS = int(os.environ.get("NUMAPERF_TEST_REQUESTS", "50000"))
TESTS = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]


def need(program):
    path = shutil.which(program)
    if path is None:
        raise Skip(program + " is not installed (Debian: redis-tools)")
    return path


def target(server):
    if server.address.startswith("/"):
        return ["-s", server.address]
    host, port = server.address.rsplit(":", 1)
    return ["-h", host.strip("[]"), "-p", port]


def benchmark(server, *more):
    command = [need("redis-benchmark"), *target(server), "-t", "ping,set,get,incr,mset", "-c", "50",
               "-n", str(REQUESTS), "-q", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240 * SLOW, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert not re.search(r"error|warning|could not|connection", said, re.I), said[-2000:]
    rates = dict(re.findall(r"(?:^|[\r\n])\s*([A-Z_]+(?: \(10 keys\))?): ([\d.]+) requests per second",
                            said))
    assert sorted(rates) == sorted(TESTS), (sorted(rates), said[-2000:])
    print("    " + ", ".join("%s %s/s" % (name, rates[name]) for name in TESTS), flush=True)


def both(*args):
    """Plain and pipelined, with keys all over the shards, and nothing is missing afterwards."""
    with Server(*args) as server:
        benchmark(server)
        benchmark(server, "-P", "16", "-r", "1000")
        with server.connect() as c:
            wait_until(lambda: c.info()["connected_clients"] == "1", "the benchmark's clients to go")
            info = c.info()
            assert sum(int(fields(v)["protocol_errors"]) for k, v in info.items()
                       if k.endswith("_commands")) == 0
            # Every INCR counted: those without -r and those with it went to different keys.
            total = sum(int(v) for v in c.call("MGET", "counter:__rand_int__", *(
                "counter:%012d" % i for i in range(1000))) if v is not None)
            assert total >= 2 * REQUESTS, (total, REQUESTS)


def case_soft_mode():
    both()


def case_hard_mode_waived():
    try:
        both("--mode", "hard", "--waive-privileges")
    except NotReady as error:
        assert error.code == 1 and "HARD_MODE" in error.errors, error
        raise Skip("hard mode is not possible here: " + error.errors.strip()) from error


def case_two_synthetic_nodes():
    both("--topology", "numa:2 pu:1")


def case_epoll():
    both("--backend", "epoll")


def case_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        with Server("--unix", os.path.join(folder, "s"), "--topology", "numa:2 pu:1") as server:
            benchmark(server, "-P", "16")


def cli(server, *args, text=None):
    command = [need("redis-cli"), *target(server), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * SLOW, input=text,
                          check=False)
    assert done.returncode == 0, done
    return done.stdout.strip().splitlines()


def case_redis_cli_by_script():
    with Server("--topology", "numa:2 pu:1") as server:
        assert cli(server, "ping") == ["PONG"]
        assert cli(server, "set", "greeting", "hello world") == ["OK"]
        assert cli(server, "get", "greeting") == ["hello world"]
        said = cli(server, text='mset a 1 b "two words"\nmget a b none\nincr a\ndbsize\n'
                   'exists a b none\ndel a b\ndbsize\nnonsense\nquit\n')
        assert said == ["OK", "1", "two words", "", "2", "3", "2", "2", "1",
                        "ERR unknown command 'nonsense'"], said
        lines = cli(server, "info")
        assert "# Workers" in lines and any(line.startswith("worker1:node=1") for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
