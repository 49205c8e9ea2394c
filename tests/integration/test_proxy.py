#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""proxy from outside: bytes, ends, resets and slowness are carried over, both ways. Every case runs
on every backend the machine has; the servers behind it are the test's own."""
import os
import random
import socket
import sys
import tempfile
import threading
import time

from examples_support import LIMIT, Server, main, run, wait_until
from http_support import Site, each_backend, need, random_bytes, run_client

RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, no time


class Proxy:
    """A proxy in front of a listening socket of the test's own."""

    def __init__(self, backend, *args, unix=False):
        self.directory = tempfile.TemporaryDirectory()
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            target = os.path.join(self.directory.name, "up")
            self.listener.bind(target)
        else:
            self.listener = socket.socket()
            self.listener.bind(("127.0.0.1", 0))
            target = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.listener.listen(128)
        self.listener.settimeout(LIMIT)
        words = ["--connect", target, "--backend", backend, "--workers-per-node", "2", *args]
        if unix:
            words += ["--unix", os.path.join(self.directory.name, "down")]
        self.server = Server(*words, program="proxy")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.listener.close()
        try:
            self.server.__exit__(kind, value, trace)
        finally:
            self.directory.cleanup()

    def client(self, receive_buffer=None):
        family, address = self.server.target()
        client = socket.socket(family)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(LIMIT)
        client.connect(address)
        return client

    def pair(self, receive_buffer=None):
        client = self.client(receive_buffer)
        client.sendall(b"?")
        upstream, _ = self.listener.accept()
        upstream.settimeout(LIMIT)
        assert upstream.recv(1) == b"?"
        return client, upstream

    def memory_kib(self):
        with open("/proc/%d/status" % self.server.process.pid, encoding="ascii") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def send_in_pieces(peer, data, seed):
    """Random sizes with random pauses, then the end."""
    pieces = random.Random(seed)
    at = 0
    while at < len(data):
        size = pieces.choice((1, 17, 1000, 65536, 300000))
        peer.sendall(data[at:at + size])
        at += size
        if pieces.random() < 0.05:
            time.sleep(pieces.random() * 0.01)
    peer.shutdown(socket.SHUT_WR)


def receive_in_pieces(peer, seed):
    pieces = random.Random(seed)
    data = []
    while True:
        piece = peer.recv(pieces.choice((1, 100, 5000, 1 << 20)))
        if not piece:
            return b"".join(data)
        data.append(piece)
        if pieces.random() < 0.02:
            time.sleep(pieces.random() * 0.01)


class Receiver(threading.Thread):
    def __init__(self, peer, seed):
        super().__init__(daemon=True)
        self.peer, self.seed, self.data, self.error = peer, seed, None, None
        self.start()

    def run(self):
        try:
            self.data = receive_in_pieces(self.peer, self.seed)
        except OSError as error:
            self.error = error

    def result(self):
        self.join(LIMIT * 3)
        assert self.error is None, self.error
        assert self.data is not None, "the end did not come"
        return self.data


def end_of(peer):
    """How a connection ends: "end", or "reset"."""
    try:
        while peer.recv(65536):
            pass
        return "end"
    except ConnectionError:
        return "reset"


def exchange(proxy, size, seed):
    """Both directions at once, byte for byte."""
    there, back = random_bytes(size, seed), random_bytes(size, seed + 1)
    client, upstream = proxy.pair(receive_buffer=16384 if seed % 2 else None)
    receivers = [Receiver(upstream, seed + 2), Receiver(client, seed + 3)]
    senders = [threading.Thread(target=send_in_pieces, args=args, daemon=True)
               for args in ((client, there, seed + 4), (upstream, back, seed + 5))]
    for sender in senders:
        sender.start()
    assert receivers[0].result() == there, "there, seed %d" % seed
    assert receivers[1].result() == back, "back, seed %d" % seed
    client.close()
    upstream.close()


@each_backend
def case_every_byte_arrives_in_both_directions(backend):
    with Proxy(backend) as proxy:
        for seed in (100, 201, 300):
            exchange(proxy, 4000000, seed)


@each_backend
def case_unix_sockets_are_carried_as_well(backend):
    with Proxy(backend, unix=True) as proxy:
        exchange(proxy, 3000000, 400)


@each_backend
def case_an_end_is_carried_and_the_other_direction_goes_on(backend):
    with Proxy(backend) as proxy:
        client, upstream = proxy.pair()
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert receive_in_pieces(upstream, 1) == b"question"
        data = random_bytes(2000000)
        receiver = Receiver(client, 2)
        upstream.sendall(data)
        upstream.close()
        assert receiver.result() == data
        # The same the other way round.
        client, upstream = proxy.pair()
        upstream.sendall(b"greeting")
        upstream.shutdown(socket.SHUT_WR)
        assert receive_in_pieces(client, 3) == b"greeting"
        receiver = Receiver(upstream, 4)
        client.sendall(data)
        client.close()
        assert receiver.result() == data


@each_backend
def case_a_reset_is_carried(backend):
    with Proxy(backend) as proxy:
        for who in (0, 1):
            sides = proxy.pair()
            sides[who].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sides[who].close()
            assert end_of(sides[1 - who]) == "reset", "of side %d" % who
            sides[1 - who].close()
        # In the midst of a transfer that is stuck.
        client, upstream = proxy.pair(receive_buffer=4096)
        upstream.setblocking(False)
        try:
            while True:
                upstream.send(b"x" * 65536)
        except BlockingIOError:
            pass
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        upstream.settimeout(LIMIT)
        assert end_of(upstream) == "reset"


@each_backend
def case_a_slow_side_stops_the_other_and_memory_is_bounded(backend):
    with Proxy(backend) as proxy:
        client, upstream = proxy.pair(receive_buffer=4096)
        before = proxy.memory_kib()
        upstream.setblocking(False)
        data = random_bytes(1 << 20)
        sent = 0
        quiet = 0
        while quiet < 20:  # nothing more goes in
            try:
                sent += upstream.send(data[sent % len(data):])
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.02)
            assert sent < 200 << 20, "the proxy takes everything"
        assert proxy.memory_kib() - before < 64 * 1024, "it keeps it, too"
        # Then it flows again, and nothing is missing.
        upstream.settimeout(LIMIT)
        upstream.shutdown(socket.SHUT_WR)
        got = receive_in_pieces(client, 7)
        assert len(got) == sent
        assert got == (data * (sent // len(data) + 1))[:sent]


@each_backend
def case_who_cannot_be_reached_is_told(backend):
    gone = socket.socket()
    gone.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % gone.getsockname()[1]
    with Server("--connect", address, "--backend", backend, program="proxy") as server:
        for _ in range(20):
            try:
                client = socket.create_connection(server.target()[1], timeout=LIMIT)
            except ConnectionResetError:
                continue  # it was as quick as that
            try:
                client.sendall(b"hello")
                assert end_of(client) == "reset"
            except ConnectionError:
                pass  # told here, it is not told again
            client.close()
    gone.close()


@each_backend
def case_many_connections_come_and_go(backend):
    with Proxy(backend) as proxy:
        random_order = random.Random(5)
        for _ in range(10):
            pairs = [proxy.pair() for _ in range(30)]
            random_order.shuffle(pairs)
            for i, (client, upstream) in enumerate(pairs):
                client.sendall(b"a" * (i + 1))
                upstream.sendall(b"b" * (i + 1))
            for i, (client, upstream) in enumerate(pairs):
                if i % 3 == 0:
                    client.close()  # with bytes unread: a reset
                    end_of(upstream)
                    upstream.close()
                    continue
                client.shutdown(socket.SHUT_WR)
                upstream.shutdown(socket.SHUT_WR)
                assert receive_in_pieces(upstream, i) == b"a" * (i + 1)
                assert receive_in_pieces(client, i) == b"b" * (i + 1)
                client.close()
                upstream.close()
        fds = "/proc/%d/fd" % proxy.server.process.pid
        idle = proxy.pair()
        few = len(os.listdir(fds))
        wait_until(lambda: len(os.listdir(fds)) <= few, "descriptors do not grow")
        assert few < 100, "descriptors are left: %d" % few
        for side in idle:
            side.close()


@each_backend
def case_a_stop_ends_both_sides(backend):
    proxy = Proxy(backend, "--drain-timeout", "30")
    with proxy:
        client, upstream = proxy.pair()
        proxy.server.process.terminate()
        assert end_of(upstream) == "end"
        upstream.sendall(b"last words")
        upstream.close()
        assert receive_in_pieces(client, 1) == b"last words"
        client.close()


@each_backend
def case_http_goes_through_it(backend):
    curl, wrk = need("curl"), need("wrk")
    data = random_bytes(20000000)
    with Site(backend) as site:
        site.file("large", data)
        with Server("--connect", site.server.address, "--backend", backend,
                    program="proxy") as server:
            base = "http://%s/" % server.address
            code, out, errors = run_client(curl, "-sS", "--fail", base + "large")
            assert code == 0 and out == data, errors
            code, out, errors = run_client(wrk, "-t", "1", "-c", "20", "-d", "1s", base)
            text = out.decode()
            assert code == 0 and "Socket errors" not in text and "Non-2xx" not in text, text


def case_options_are_checked():
    for words, text in (([], "--connect is needed"), (["--connect", "x"], "HOST:PORT"),
                        (["--connect", "a:0"], "port"), (["--connect", "a:70000"], "port"),
                        (["--connect", "::1:80"], "brackets"),
                        (["--connect", "/" + "x" * 200], "too long"),
                        (["--connect-timeout", "0"], "1 to 3600")):
        code, out, errors = run("proxy", *words)
        assert code in (1, 2) and text in errors and not out, (words, code, errors)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
