#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""http_server --tls-cert --tls-key, with real clients and with a TLS client whose every byte the
test sends itself. Every case runs on every backend the machine has."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from examples_support import LIMIT, main, wait_until
from http_support import (HOST, Http, Site, each_backend, need, random_bytes, read_metrics,
                          run_client)

_keys = []


def keys():
    """(certificate, key), made once, for localhost and 127.0.0.1."""
    if not _keys:
        directory = tempfile.mkdtemp(prefix="numaperf-tls-")
        names = [os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")]
        subprocess.run([need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                        "-keyout", names[1], "-out", names[0], "-days", "30", "-subj",
                        "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, capture_output=True)
        _keys.extend(names)
    return _keys


def client_context(version=None):
    context = ssl.create_default_context(cafile=keys()[0])
    if version:
        context.minimum_version = version
        context.maximum_version = version
    return context


class TlsSite(Site):
    def __init__(self, backend, *args, **options):
        certificate, key = keys()
        super().__init__(backend, "--tls-cert", certificate, "--tls-key", key, *args, **options)

    def connect(self, context=None, receive_buffer=None, session=None):
        return TlsClient(self.server, context or client_context(), receive_buffer, session)

    def metrics(self):
        with self.connect() as client:
            client.ask(b"/metrics")
            return read_metrics(client.answer().body)

    def wait_metric(self, name, least):
        wait_until(lambda: self.metrics()[name] >= least, "%s reaches %s" % (name, least))


class TlsClient(Http):
    def __init__(self, server, context, receive_buffer=None, session=None):
        super().__init__(server, receive_buffer)
        self.raw = self.socket
        self.socket = context.wrap_socket(self.raw, server_hostname="localhost", session=session,
                                          suppress_ragged_eofs=False)


class ByHand:
    """A TLS client over memory: the test moves the bytes."""

    def __init__(self, site, version=None):
        self.raw = socket.create_connection(site.server.target()[1], timeout=LIMIT)
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context(version).wrap_bio(self.inward, self.outward,
                                                    server_hostname="localhost")

    def send_out(self, one_by_one):
        data = self.outward.read()
        if one_by_one:
            for byte in data:
                self.raw.send(bytes([byte]))
        elif data:
            self.raw.sendall(data)

    def run(self, step, one_by_one=False):
        while True:
            try:
                result = step()
                self.send_out(one_by_one)
                return result
            except ssl.SSLWantReadError:
                self.send_out(one_by_one)
                data = self.raw.recv(65536)
                if data:
                    self.inward.write(data)
                else:
                    self.inward.write_eof()


@each_backend
def case_files_come_over_both_versions(backend):
    with TlsSite(backend) as site:
        data = random_bytes(5000000)
        site.file("large", data)
        site.file("mid", data[:300000])
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(version)
            with site.connect(context) as client:
                for path, size in ((b"/mid", 300000), (b"/large", len(data)), (b"/mid", 300000)):
                    client.ask(path)
                    assert client.answer().body == data[:size], path
                for _ in range(30):
                    client.ask(b"/")
                    assert client.answer().body == b"<p>hello</p>\n"
        assert site.metrics()["tls_handshakes_total"] >= 3


@each_backend
def case_pipelined_requests_are_answered_in_order(backend):
    with TlsSite(backend) as site:
        bodies = [random_bytes(size, size) for size in (1, 9000, 70000, 1500000)]
        for i, body in enumerate(bodies):
            site.file("f%d" % i, body)
        order = [(3 * i) % 4 for i in range(30)]
        with site.connect() as client:
            client.send(b"".join(b"GET /f%d HTTP/1.1\r\n%s\r\n" % (i, HOST) for i in order))
            for i in order:
                assert client.answer().body == bodies[i], i


@each_backend
def case_bytes_may_come_one_by_one(backend):
    with TlsSite(backend) as site:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = ByHand(site, version)
            client.run(client.tls.do_handshake, one_by_one=True)
            client.run(lambda: client.tls.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"), True)
            text = b""
            while b"hello" not in text:
                text += client.run(lambda: client.tls.read(65536))
            client.raw.close()


@each_backend
def case_old_versions_and_other_protocols_are_refused(backend):
    openssl = need("openssl")
    with TlsSite(backend) as site:
        for words in (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-alpn", "h2"]):
            code, out, errors = run_client(openssl, "s_client", "-connect", site.server.address,
                                           *words, data=b"")
            assert code != 0 and b"BEGIN SSL SESSION" not in out, (words, out, errors)
        code, out, _ = run_client(openssl, "s_client", "-connect", site.server.address, "-alpn",
                                  "h2,http/1.1", data=b"")
        assert code == 0 and b"ALPN protocol: http/1.1" in out, out
        assert site.metrics()["tls_failed_total"] >= 2


@each_backend
def case_a_ticket_resumes_a_session(backend):
    openssl = need("openssl")
    with TlsSite(backend) as site, tempfile.TemporaryDirectory() as directory:
        kept = os.path.join(directory, "session")
        for version in ("-tls1_2", "-tls1_3"):
            words = [openssl, "s_client", "-connect", site.server.address, version, "-ign_eof"]
            ask = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
            code, out, errors = run_client(*words, "-sess_out", kept, data=ask)
            assert code == 0 and b"hello" in out and b"\nNew, " in out, (out, errors)
            code, out, errors = run_client(*words, "-sess_in", kept, data=ask)
            assert code == 0 and b"hello" in out and b"\nReused, " in out, (out, errors)
        assert site.metrics()["tls_resumed_total"] >= 2


@each_backend
def case_the_end_of_a_stream_is_told_and_wanted(backend):
    with TlsSite(backend) as site:
        with site.connect() as client:
            client.ask(b"/", b"Connection: close\r\n")
            assert client.answer().status == 200
            # A stream that was cut off would raise: ragged ends are not suppressed.
            assert client.socket.recv(10) == b""
        before = site.metrics()["tls_truncated_total"]
        client = site.connect()
        client.ask(b"/")
        assert client.answer().status == 200
        os.close(client.socket.detach())
        site.wait_metric("tls_truncated_total", before + 1)
        # Whoever says that it ends gets its answers first.
        other = ByHand(site)
        other.run(other.tls.do_handshake)
        other.run(lambda: other.tls.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"))
        try:
            other.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        other.send_out(False)
        text = b""
        while True:
            try:
                piece = other.run(lambda: other.tls.read(65536))
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError, ssl.SSLError):
                break
            if not piece:
                break
            text += piece
        assert b"hello" in text, text
        other.raw.close()


@each_backend
def case_a_handshake_that_is_nonsense_or_slow_ends(backend):
    with TlsSite(backend, "--request-timeout", "1") as site:
        address = site.server.target()[1]
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x00" + b"\xff" * 20000,
                     random_bytes(5000)):
            with socket.create_connection(address, timeout=LIMIT) as peer:
                try:
                    peer.sendall(sent)
                    while peer.recv(65536):
                        pass
                except ConnectionError:
                    pass
        # Nothing, and half of a hello: both end by themselves.
        half = ByHand(site)
        try:
            half.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        half.raw.sendall(half.outward.read()[:100])
        for peer in (half.raw, socket.create_connection(address, timeout=LIMIT)):
            try:
                while peer.recv(65536):
                    pass
            except ConnectionError:
                pass
            peer.close()
        rows = site.metrics()
        assert rows["tls_failed_total"] >= 3, rows
        assert rows["http_request_timeouts_total"] >= 2, rows


@each_backend
def case_renegotiation_is_refused(backend):
    openssl = need("openssl")
    with TlsSite(backend) as site:
        process = subprocess.Popen([openssl, "s_client", "-connect", site.server.address,
                                    "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        text = b""
        while b"Extended master secret" not in text:  # the last line about the session
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece, text
            text += piece
        process.stdin.write(b"R\n")
        process.stdin.flush()
        out, _ = process.communicate(timeout=LIMIT)
        assert re.search(rb"no.renegotiation", out), out


@each_backend
def case_a_slow_reader_gets_every_byte(backend):
    data = random_bytes(4000000)
    with TlsSite(backend, workers=1) as site:
        site.file("large", data)
        site.file("cached", data[:900000])
        with site.connect(receive_buffer=8192) as client:
            sender = threading.Thread(target=client.send, args=(
                b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n" +
                (b"GET /cached HTTP/1.1\r\n" + HOST + b"\r\n") * 8,))
            sender.start()
            sender.join()
            with site.connect() as other:
                for _ in range(5):
                    other.ask(b"/")
                    assert other.answer().status == 200
            assert client.answer().body == data
            for _ in range(8):
                assert client.answer().body == data[:900000]


@each_backend
def case_curl_and_wrk_are_content(backend):
    data = random_bytes(3000000)
    with TlsSite(backend) as site:
        site.file("large", data)
        base = "https://localhost:%s/" % site.server.address.rsplit(":", 1)[1]
        curl = need("curl")
        for words in ([], ["--tls-max", "1.2"]):
            code, out, errors = run_client(curl, "-sS", "-4", "--fail", "--cacert", keys()[0],
                                           *words, base + "large", base + "large")
            assert code == 0 and out == data + data, errors
        if shutil.which("wrk") is None:
            print("wrk is not installed: only curl was tried", flush=True)
            return
        code, out, errors = run_client("wrk", "-t", "1", "-c", "20", "-d", "1s",
                                       "https://%s/" % site.server.address)
        text = out.decode()
        assert code == 0 and "Socket errors" not in text and "Non-2xx" not in text, text + errors


@each_backend
def case_the_kernel_sends_where_it_can(backend):
    """Not a matter of course: with the module it must have taken over, without it must say so."""
    with TlsSite(backend) as site:
        data = random_bytes(900000)
        site.file("f", data)
        with site.connect(client_context(ssl.TLSVersion.TLSv1_3)) as client:
            for _ in range(20):
                client.ask(b"/f")
                assert client.answer().body == data
        rows = site.metrics()
        with open("/proc/sys/net/ipv4/tcp_available_ulp", encoding="ascii") as names:
            there = "tls" in names.read().split()
        if there:
            assert rows["tls_kernel_sending_total"] >= 1, rows
        else:
            assert rows["tls_kernel_sending_total"] == 0, rows
            assert rows["tls_kernel_refused_total"] >= 1, rows
            print("this kernel has no TLS: sending stayed in the program", flush=True)


def cleanup():
    for name in _keys[:1]:
        shutil.rmtree(os.path.dirname(name))


if __name__ == "__main__":
    if shutil.which("openssl") is None:
        print("openssl is not installed: no certificate can be made")
        sys.exit(77)
    try:
        CODE = main(sys.modules[__name__])
    finally:
        cleanup()
    sys.exit(CODE)
