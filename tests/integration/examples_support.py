# SPDX-License-Identifier: MIT
"""What the example tests share: servers as processes, clients as raw sockets, a case runner."""
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import traceback

# Sanitizers and emulated machines are slow: NUMAPERF_TEST_SLOW multiplies every time limit.
SLOW = float(os.environ.get("NUMAPERF_TEST_SLOW", "1"))
LIMIT = 20 * SLOW
# What servers run on, where a case does not say: auto, io_uring or epoll.
BACKEND = os.environ.get("NUMAPERF_TEST_BACKEND", "auto")
SANITIZER = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")


class Skip(Exception):
    """Not possible on this machine; the text says why."""


def seconds():
    return time.monotonic()


def wait_until(condition, what, limit=None):
    end = seconds() + (limit or LIMIT)
    while not condition():
        assert seconds() < end, "waited in vain: " + what
        time.sleep(0.01)


class Server:
    """A server process, from its ready line to its exit code."""
    programs = ""

    def __init__(self, *args, program="kv_server", listen=True):
        self.name = program
        command = [os.path.join(Server.programs, program), *args]
        if listen and not any(a in ("--listen", "--unix") for a in args):
            command += ["--listen", "127.0.0.1:0"]
        if "--backend" not in args:
            command += ["--backend", BACKEND]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = []
        self.errors = ""
        self.address = self.wait_ready()

    def wait_ready(self):
        end = seconds() + LIMIT
        text = b""
        while b"\n" not in text:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - seconds()))
            piece = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not piece:
                self.process.kill()
                errors = self.process.communicate()[1].decode()
                raise NotReady(self.process.returncode, errors)
            text += piece
        line = text.decode()
        assert line.count("\n") == 1, "more than one line: %r" % line
        prefix = self.name + " ready on "
        assert line.startswith(prefix), "not a ready line: %r" % line
        return line[len(prefix):].strip()

    def target(self):
        if self.address.startswith("/"):
            return socket.AF_UNIX, self.address
        host, port = self.address.rsplit(":", 1)
        if host.startswith("["):
            return socket.AF_INET6, (host[1:-1], int(port))
        return socket.AF_INET, (host, int(port))

    def connect(self):
        return Client(self)

    def stop(self, number=signal.SIGTERM):
        """Exit code; a sanitizer's report or words on standard error fail the test."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            out, errors = self.process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("did not stop: " + self.process.communicate()[1].decode())
        self.errors = errors.decode()
        assert not SANITIZER.search(self.errors), self.errors
        assert out == b"", "printed after the ready line: %r" % out
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.process.kill()
            errors = self.process.communicate()[1].decode()
            if errors:
                print("standard error of the server:\n" + errors)
            return
        if self.process.returncode is None:
            code = self.stop()
            assert code == 0, "exit code %d: %s" % (code, self.errors)


class NotReady(Exception):
    def __init__(self, code, errors):
        super().__init__("exit code %s without a ready line: %s" % (code, errors))
        self.code = code
        self.errors = errors


class ErrorReply(str):
    pass


class Client:
    def __init__(self, server, receive_buffer=None):
        family, address = server.target()
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LIMIT)
        self.socket.connect(address)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise EOFError("the server closed; left over: %r" % self.buffer[:200])
        self.buffer += piece

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return ErrorReply(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            while len(self.buffer) < size + 2:
                self.fill()
            data, self.buffer = self.buffer[:size], self.buffer[size:]
            assert self.buffer[:2] == b"\r\n", "bulk without its end"
            self.buffer = self.buffer[2:]
            return data
        assert kind == b"*", "no reply: %r" % line
        return [self.reply() for _ in range(int(rest))] if int(rest) >= 0 else None

    def call(self, *args):
        self.send(encode(*args))
        return self.reply()

    def at_end(self):
        """Whether the server closed, with or without a reset, and sent nothing more."""
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            return True
        assert piece == b"", "more came: %r" % piece[:200]
        return True

    def info(self):
        text = self.call("INFO").decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def encode(*args):
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def fields(text):
    """"a=1,b=2" as a dictionary."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def run(program, *args, env=None, limit=None):
    """(exit code, standard output, standard error) of an example."""
    command = [os.path.join(Server.programs, program), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit or LIMIT * 3,
                          env=dict(os.environ, **(env or {})), check=False)
    assert not SANITIZER.search(done.stderr), done.stderr
    return done.returncode, done.stdout, done.stderr


def run_cases(module, names):
    """Runs the functions called case_*, those of `names` only if there are any. Exit code."""
    failed, skipped, passed = [], [], 0
    for name, function in list(vars(module).items()):
        if not name.startswith("case_") or (names and name[5:] not in names):
            continue
        start = seconds()
        try:
            function()
            passed += 1
            print("[  OK  ] %s (%.1f s)" % (name[5:], seconds() - start), flush=True)
        except Skip as why:
            skipped.append(name)
            print("[ SKIP ] %s: %s" % (name[5:], why), flush=True)
        except Exception:  # pylint: disable=broad-except
            failed.append(name)
            print("[FAILED] %s\n%s" % (name[5:], traceback.format_exc()), flush=True)
    print("%d passed, %d skipped, %d failed" % (passed, len(skipped), len(failed)))
    if failed:
        return 1
    return 77 if passed == 0 else 0


def main(module):
    if len(sys.argv) < 2:
        print("usage: %s DIRECTORY_OF_THE_EXAMPLES [CASE...]" % sys.argv[0], file=sys.stderr)
        return 2
    Server.programs = sys.argv[1]
    return run_cases(module, sys.argv[2:])
