#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A server replaces itself while clients knock: none is refused, none is cut off.

test_net_restart.py RESTART_SERVER

The clients: threads of this script, one connection a request; wrk, whose connections live long,
and redis-benchmark with one connection a request, where they are installed. RESTART_SERVER starts
its successor with its listening descriptors; see there.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

SLOW = float(os.environ.get("NUMAPERF_TEST_SLOW", "1"))
LIMIT = 60 * SLOW
RESTARTS = 4


class Server:
    """The server, in whichever process it is now."""

    def __init__(self, program, backend):
        self.process = subprocess.Popen([program, backend], stdout=subprocess.PIPE, text=True)
        self.over = []
        self.pid, self.port = self.await_line("ready")

    def await_line(self, wanted):
        while True:
            line = self.process.stdout.readline()
            if not line:
                code = self.process.wait()
                if code == 77:
                    raise SkippedError
                raise AssertionError(f"the server ended with {code}")
            word, pid, number = line.split()
            if word == "over":
                self.over.append(int(number))
            if word == wanted:
                return int(pid), int(number)

    def restart(self):
        os.kill(self.pid, signal.SIGHUP)
        self.pid, port = self.await_line("ready")
        assert port == self.port, (port, self.port)

    def stop(self):
        """The last process; all others have ended by themselves, resetting nobody."""
        while len(self.over) < RESTARTS:
            self.await_line("over")
        os.kill(self.pid, signal.SIGTERM)
        assert self.process.stdout.read() == ""
        assert self.over == [0] * RESTARTS, f"connections that were reset: {self.over}"


class SkippedError(Exception):
    """There is no ring here."""


class Knocker(threading.Thread):
    """Connects, asks, and expects the whole answer, again and again."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.answered, self.failures, self.going = port, 0, [], True

    def knock(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as client:
            client.sendall(b"PING\r\n")
            answer = b""
            while len(answer) < 7:
                piece = client.recv(7 - len(answer))
                if not piece:
                    raise ConnectionError(f"cut off after {answer!r}")
                answer += piece
            assert answer == b"+PONG\r\n", answer
        self.answered += 1

    def run(self):
        while self.going:
            try:
                self.knock()
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))


def restart_under(server, check_going):
    """Restart so many times, each once something was answered since the last one."""
    for _ in range(RESTARTS):
        check_going()
        server.restart()
    check_going()


def with_knockers(program, backend):
    server = Server(program, backend)
    knockers = [Knocker(server.port) for _ in range(4)]
    for knocker in knockers:
        knocker.start()

    def check_going():
        seen = [knocker.answered for knocker in knockers]
        end = time.monotonic() + LIMIT
        while any(k.answered < s + 20 and not k.failures for k, s in zip(knockers, seen)):
            assert time.monotonic() < end, "no answers any more"
            time.sleep(0.01)

    restart_under(server, check_going)
    for knocker in knockers:
        knocker.going = False
        knocker.join(LIMIT)
    failures = [failure for knocker in knockers for failure in knocker.failures]
    assert not failures, failures[:5]
    server.stop()
    print(f"{backend}: {sum(k.answered for k in knockers)} connections, {RESTARTS} restarts")


def with_program(program, backend, command, check):
    if shutil.which(command[0]) is None:
        print(f"{backend}: {command[0]} is not installed: left out")
        return
    server = Server(program, backend)
    client = subprocess.Popen([word.replace("PORT", str(server.port)) for word in command],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def check_going():
        time.sleep(0.4)  # a share of the client's time; nothing depends on how much it did

    restart_under(server, check_going)
    output, _ = client.communicate(timeout=LIMIT * 5)
    check(client.returncode, output)
    server.stop()
    print(f"{backend}: {command[0]} noticed nothing of {RESTARTS} restarts")


def check_wrk(code, output):
    assert code == 0, output
    assert "Socket errors" not in output and "Non-2xx" not in output, output
    assert int(re.search(r"(\d+) requests in", output).group(1)) > 0, output


def check_redis_benchmark(code, output):
    assert code == 0, output
    assert "rror" not in output and "refused" not in output, output
    assert "requests per second" in output, output


def main():
    program = sys.argv[1]
    requests = str(int(12000 / SLOW))
    ran = 0
    for backend in ("ring", "epoll"):
        try:
            with_knockers(program, backend)
            with_program(program, backend,
                         ["wrk", "-t", "1", "-c", "20", "-d", "3", "--timeout", "30",
                          "http://127.0.0.1:PORT/"], check_wrk)
            with_program(program, backend,
                         ["redis-benchmark", "-p", "PORT", "-c", "10", "-n", requests, "-k", "0",
                          "-t", "ping", "-q"], check_redis_benchmark)
            ran += 1
        except SkippedError:
            print(f"{backend}: skipped: io_uring is refused here")
    return 0 if ran > 0 else 77


if __name__ == "__main__":
    sys.exit(main())
