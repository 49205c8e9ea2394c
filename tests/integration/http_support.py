# SPDX-License-Identifier: MIT
"""What the tests of http_server and proxy share: answers, backends, a directory to serve."""
import os
import random
import shutil
import subprocess
import tempfile

from examples_support import LIMIT, Client, NotReady, Server, Skip

HOST = b"Host: test\r\n"
_backends = []


def backends():
    """Those this machine has; epoll always."""
    if not _backends:
        _backends.append("epoll")
        try:
            with Server("--backend", "io_uring", "--workers-per-node", "1", program="http_server"):
                _backends.append("io_uring")
        except NotReady as why:
            print("only the epoll backend is tested: %s" % why.errors.strip(), flush=True)
    return _backends


def each_backend(function):
    """A case that runs once on every backend."""
    def case():
        for backend in backends():
            try:
                function(backend)
            except BaseException:
                print("with the %s backend:" % backend, flush=True)
                raise
    case.__doc__ = function.__doc__
    return case


def need(program):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise Skip("%s is not installed" % program)
    return path


def random_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


class Site:
    """A directory of files, and a server for it."""

    def __init__(self, backend, *args, workers=2):
        self.root = tempfile.mkdtemp(prefix="numaperf-http-")
        self.args = ["--root", self.root, "--backend", backend, "--workers-per-node", str(workers),
                     *args]
        self.server = None

    def file(self, name, data):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(data)
        return path

    def __enter__(self):
        self.file("index.html", b"<p>hello</p>\n")
        try:
            self.server = Server(*self.args, program="http_server")
        except BaseException:
            shutil.rmtree(self.root)
            raise
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.server.__exit__(kind, value, trace)
        finally:
            shutil.rmtree(self.root)

    def connect(self, **options):
        return Http(self.server, **options)

    def get(self, path, fields=b"", method=b"GET"):
        with self.connect() as client:
            client.ask(path, fields, method)
            return client.answer(head_only=method == b"HEAD")

    def metrics(self):
        return read_metrics(self.get(b"/metrics").body)


def read_metrics(text):
    rows = {}
    for line in text.decode().splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            rows[name] = float(value)
    return rows


class Answer:
    def __init__(self, status, fields, body):
        self.status = status
        self.fields = fields
        self.body = body


class Http(Client):
    def ask(self, path, fields=b"", method=b"GET"):
        self.send(method + b" " + path + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n")

    def answer(self, head_only=False):
        line = self.line().decode()
        version, status, reason = line.split(" ", 2)
        assert version == "HTTP/1.1" and reason, line
        fields = {}
        while True:
            field = self.line().decode()
            if not field:
                break
            name, value = field.split(":", 1)
            assert name.lower() not in fields, "twice: " + field
            fields[name.lower()] = value.strip()
        status = int(status)
        assert "date" in fields or status < 200, fields
        size = int(fields.get("content-length", "0"))
        if head_only or status == 304:
            size = 0
        parts = [self.buffer]
        have = len(self.buffer)
        while have < size:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise EOFError("the body ended after %d of %d" % (have, size))
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self.buffer = data[size:]
        return Answer(status, fields, data[:size])


def run_client(*command, limit=None, data=None):
    """(exit code, standard output, standard error) of a real client."""
    done = subprocess.run(command, capture_output=True, timeout=limit or LIMIT * 3, check=False,
                          input=data)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")
