#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""http_server from outside: what it serves, what it refuses, and how it ends. Every case runs on
every backend the machine has."""
import os
import signal
import socket
import sys
import tempfile
import threading
import time

from examples_support import NotReady, Server, main, run, wait_until
from http_support import (HOST, Site, backends, each_backend, need, random_bytes,
                          run_client)


# ---- what is served ----

@each_backend
def case_files_come_with_their_type_and_length(backend):
    with Site(backend) as site:
        site.file("a b.txt", b"text")
        site.file("dir/index.html", b"inside")
        site.file("empty.css", b"")
        for path, kind, body in ((b"/", "text/html; charset=utf-8", b"<p>hello</p>\n"),
                                 (b"/index.html?a=b", "text/html; charset=utf-8",
                                  b"<p>hello</p>\n"),
                                 (b"/a%20b.txt", "text/plain; charset=utf-8", b"text"),
                                 (b"//dir//", "text/html; charset=utf-8", b"inside"),
                                 (b"http://anyone/dir/", "text/html; charset=utf-8", b"inside"),
                                 (b"/empty.css", "text/css; charset=utf-8", b"")):
            for _ in range(3):  # from the disk, from the node's cache, from the worker's table
                answer = site.get(path)
                assert (answer.status, answer.body) == (200, body), (path, answer.status)
                assert answer.fields["content-type"] == kind, answer.fields
                assert answer.fields["content-length"] == str(len(body)), answer.fields
            answer = site.get(path, method=b"HEAD")
            assert answer.status == 200 and answer.body == b"", path
            assert answer.fields["content-length"] == str(len(body)), answer.fields
        answer = site.get(b"/dir?x")
        assert (answer.status, answer.fields["location"]) == (301, "/dir/"), answer.fields
        answer = site.get(b"//dir")
        assert answer.fields["location"] == "/dir/", "a redirect to elsewhere: %r" % answer.fields


@each_backend
def case_nothing_outside_the_root_or_hidden_is_served(backend):
    secret = tempfile.NamedTemporaryFile(prefix="numaperf-secret-")
    secret.write(b"secret")
    secret.flush()
    name = os.path.basename(secret.name).encode()
    with Site(backend) as site:
        site.file(".hidden", b"secret")
        site.file("dir/.git/config", b"secret")
        site.file("real.txt", b"real")
        os.symlink(secret.name, os.path.join(site.root, "out"))
        os.symlink("real.txt", os.path.join(site.root, "in"))
        os.symlink("/tmp", os.path.join(site.root, "tmp"))
        os.mkfifo(os.path.join(site.root, "fifo"))
        os.mkdir(os.path.join(site.root, "bare"))
        for path in (b"/.hidden", b"/dir/.git/config", b"/%2ehidden", b"/../" + name,
                     b"/%2e%2e/" + name, b"/dir/../../" + name, b"/dir%2f..%2f..%2f" + name,
                     b"/dir/%2e%2E/%2e./" + name, b"/out", b"/tmp/" + name, b"/fifo", b"/bare/",
                     b"/absent", b"/real.txt/more", b"/..%5c" + name):
            answer = site.get(path)
            assert answer.status == 404, "%r: %d" % (path, answer.status)
            assert b"secret" not in answer.body, path
        assert site.get(b"/in").body == b"real"
        for path in (b"/%00", b"/real.txt%00", b"/%", b"/%4", b"/%zz", b"/a%0d%0ab"):
            answer = site.get(path)
            assert answer.status == 400, "%r: %d" % (path, answer.status)
        assert site.get(b"/" + b"a" * 2000).status == 414
        assert site.get(b"/" + b"%61" * 2000).status == 414
        assert site.get(b"/" + b"a" * 300).status == 404, "longer than a name can be"


@each_backend
def case_conditions_spare_the_body(backend):
    with Site(backend) as site:
        path = site.file("f", b"0123456789")
        os.utime(path, (784111777, 784111777))
        first = site.get(b"/f")
        etag = first.fields["etag"].encode()
        assert first.fields["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT", first.fields
        later, before = b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:36 GMT"
        for fields, status in ((b"If-None-Match: " + etag, 304),
                               (b"If-None-Match: W/" + etag, 304),
                               (b"If-None-Match: \"x\", " + etag + b" , \"y\"", 304),
                               (b"If-None-Match: *", 304),
                               (b"If-None-Match: \"x\"", 200),
                               (b"If-None-Match: \"x\"\r\nIf-Modified-Since: " + later, 200),
                               (b"If-Modified-Since: " + later, 304),
                               (b"If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT", 304),
                               (b"If-Modified-Since: Sun Nov  6 08:49:37 1994", 304),
                               (b"If-Modified-Since: " + before, 200),
                               (b"If-Modified-Since: yesterday", 200),
                               (b"If-Match: \"x\"", 412),
                               (b"If-Match: W/" + etag, 412),
                               (b"If-Match: " + etag, 200),
                               (b"If-Unmodified-Since: " + before, 412),
                               (b"If-Unmodified-Since: " + later, 200)):
            answer = site.get(b"/f", fields + b"\r\n")
            assert answer.status == status, (fields, answer.status)
            if status == 304:
                assert answer.fields["etag"].encode() == etag, answer.fields


@each_backend
def case_a_range_is_that_part_of_the_file(backend):
    small, large = random_bytes(100000), random_bytes(3000000)
    with Site(backend) as site:
        site.file("small", small)
        site.file("large", large)
        etag = site.get(b"/small").fields["etag"].encode()
        for name, data in ((b"/small", small), (b"/large", large)):
            size = len(data)
            for text, first, last in ((b"0-0", 0, 0), (b"5-", 5, size - 1), (b"-7", size - 7, size - 1),
                                      (b"10-2000000000000000000000", 10, size - 1),
                                      (b"-99999999", 0, size - 1),
                                      (b"70000-99999", 70000, 99999)):
                answer = site.get(name, b"Range: bytes=" + text + b"\r\n")
                assert answer.status == 206, (text, answer.status)
                assert answer.body == data[first:last + 1], text
                assert answer.fields["content-range"] == "bytes %d-%d/%d" % (first, last, size)
            for text in (b"%d-" % size, b"-0"):
                answer = site.get(name, b"Range: bytes=" + text + b"\r\n")
                assert answer.status == 416, (text, answer.status)
                assert answer.fields["content-range"] == "bytes */%d" % size, answer.fields
            for text in (b"bytes=5-4", b"bytes=-", b"bytes=1-2,4-5", b"bytes=a-b", b"items=1-2"):
                answer = site.get(name, b"Range: " + text + b"\r\n")
                assert answer.status == 200 and answer.body == data, text
            assert site.get(name, b"Range: bytes=0-1\r\n", b"HEAD").status == 200
        assert site.get(b"/small", b"Range: bytes=0-1\r\nIf-Range: " + etag + b"\r\n").status == 206
        assert site.get(b"/small", b"Range: bytes=0-1\r\nIf-Range: \"x\"\r\n").status == 200


@each_backend
def case_the_metrics_page_tells_of_all_parts(backend):
    with Site(backend) as site:
        for _ in range(5):
            assert site.get(b"/").status == 200
        rows = site.metrics()
        assert rows["http_requests_total"] == 6, rows
        assert rows['http_answers_total{class="2xx"}'] >= 5, rows
        assert rows["http_cache_loads_total"] == 1, rows
        assert rows["http_cache_bytes"] > 0, rows
        assert any(name.startswith("numaperf_") for name in rows), rows
        assert rows["numaperf_net_accepted_total"] == 6, rows
        answer = site.get(b"/metrics", method=b"HEAD")
        assert answer.status == 200 and int(answer.fields["content-length"]) > 1000


# ---- connections ----

@each_backend
def case_pipelined_requests_are_answered_in_order(backend):
    with Site(backend) as site:
        bodies = [random_bytes(size, size) for size in (1, 100, 9000, 70000, 2000000)]
        for i, body in enumerate(bodies):
            site.file("f%d" % i, body)
        order = [(7 * i) % len(bodies) for i in range(60)]
        ask = b"".join(b"GET /f%d HTTP/1.1\r\n%s\r\n" % (i, HOST) for i in order)
        with site.connect() as client:
            sender = threading.Thread(target=client.send, args=(ask,))
            sender.start()
            for i in order:
                answer = client.answer()
                assert answer.status == 200 and answer.body == bodies[i], i
            sender.join()
            # The same in single bytes, with an empty line or two before.
            for byte in b"\r\n\r\nGET /f1 HTTP/1.1\r\n" + HOST + b"\r\n":
                client.send(bytes([byte]))
            assert client.answer().body == bodies[1]


@each_backend
def case_the_connection_lasts_as_long_as_the_version_says(backend):
    with Site(backend) as site:
        for head, field in ((b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n", "close"),
                            (b"GET / HTTP/1.0\r\n", "close")):
            with site.connect() as client:
                client.send(head + b"\r\n")
                answer = client.answer()
                assert answer.status == 200 and answer.fields["connection"] == field
                assert client.at_end()
        with site.connect() as client:
            for _ in range(3):
                client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                answer = client.answer()
                assert answer.fields["connection"] == "keep-alive", answer.fields
        # Half-closed: what was asked is answered.
        with site.connect() as client:
            client.send(b"GET / HTTP/1.1\r\n%s\r\nGET /absent HTTP/1.1\r\n%s\r\n" % (HOST, HOST))
            client.socket.shutdown(socket.SHUT_WR)
            assert [client.answer().status, client.answer().status] == [200, 404]
            assert client.at_end()


@each_backend
def case_bodies_are_passed_over(backend):
    with Site(backend) as site:
        for body in (b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 0\r\n\r\n",
                     b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\nx\r\n0\r\nT: x\r\n\r\n",
                     b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000000):
            for method in (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS"):
                with site.connect() as client:
                    client.send(method + b" / HTTP/1.1\r\n" + HOST + body)
                    answer = client.answer()
                    assert answer.status == (200 if method == b"GET" else 405), answer.status
                    if method != b"GET":
                        assert answer.fields["allow"] == "GET, HEAD", answer.fields
                    client.ask(b"/")
                    assert client.answer().status == 200, (method, body[:40])
        with site.connect() as client:
            client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n"
                        b"Content-Length: 5\r\n\r\n")
            answer = client.answer()
            assert (answer.status, answer.fields["connection"]) == (405, "close")
            assert client.at_end()


BODY = b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED = (
    # (status, what is sent)
    (400, b"nonsense\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n"),
    (400, b"GET  HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n"),
    (400, b"G\x01T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    # two lengths
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n" + BODY + b"0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n"),
    (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n" + BODY + b"0\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (413, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1048577\r\n\r\n"),
    (413, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999\r\n\r\n"),
    (414, b"GET /" + b"a" * 8300 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    (414, b"GET /" + b"a" * 9000),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 17000 + b"\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 17000),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n"),
    (431, b"\r\n" * 10000),
    (417, b"GET / HTTP/1.1\r\n" + HOST + b"Expect: miracles\r\n\r\n"),
    (501, b"BREW /pot HTTP/1.1\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
)


@each_backend
def case_what_can_be_read_in_two_ways_is_refused(backend):
    """Whatever comes behind a refusal is not taken for a request."""
    smuggled = b"GET /index.html HTTP/1.1\r\n" + HOST + b"\r\n"
    with Site(backend) as site:
        for status, sent in REFUSED:
            for one_by_one in (False, True):
                with site.connect() as client:
                    if one_by_one and len(sent) < 300:
                        for byte in sent:
                            client.send(bytes([byte]))
                    else:
                        client.send(sent + smuggled)
                    answer = client.answer()
                    assert answer.status == status, (sent[:60], answer.status, status)
                    assert answer.fields["connection"] == "close", sent[:60]
                    if client.buffer:
                        raise AssertionError("more: %r after %r" % (client.buffer, sent[:60]))
                    assert client.at_end()
        assert site.get(b"/").status == 200


@each_backend
def case_an_endless_body_ends_the_connection(backend):
    with Site(backend) as site:
        for chunk in (b"1\r\nx\r\n", b"10000\r\n" + b"x" * 0x10000 + b"\r\n"):
            with site.connect() as client:
                client.send(b"POST / HTTP/1.1\r\n" + HOST + BODY)
                assert client.answer().status == 405
                try:
                    for _ in range(64 * 1024 * 1024 // len(chunk) // 256 + 1):
                        client.send(chunk * 256)
                    assert False, "64 MiB were taken"
                except (ConnectionError, socket.timeout):
                    pass
        assert site.get(b"/").status == 200


@each_backend
def case_a_slow_request_is_timed_out(backend):
    with Site(backend, "--request-timeout", "1") as site:
        with site.connect() as silent, site.connect() as slow, site.connect() as body, \
                site.connect() as good:
            good.ask(b"/")
            assert good.answer().status == 200
            slow.send(b"GET / HTTP/1.1\r\n")
            body.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n")
            assert body.answer().status == 405

            def drip():
                try:
                    while True:
                        slow.send(b"A: b\r\n")
                        time.sleep(0.1)
                except (OSError, ValueError):
                    pass

            dripper = threading.Thread(target=drip, daemon=True)
            dripper.start()
            answer = slow.answer()
            assert (answer.status, answer.fields["connection"]) == (408, "close")
            assert silent.at_end()
            assert body.at_end()
            # Idle is not slow: this one has waited as long.
            good.ask(b"/")
            assert good.answer().status == 200
        assert site.metrics()["http_request_timeouts_total"] >= 3


@each_backend
def case_a_slow_reader_gets_every_byte_and_holds_up_nobody(backend):
    data = random_bytes(8000000)
    with Site(backend, workers=1) as site:
        site.file("large", data)
        with site.connect(receive_buffer=8192) as client:
            client.ask(b"/large")
            client.fill()
            for _ in range(10):
                assert site.get(b"/").status == 200
            answer = client.answer()
            assert answer.body == data
            # The same with a file that is cached, many times over: more than may wait.
            site.file("cached", data[:900000])
            client.send((b"GET /cached HTTP/1.1\r\n" + HOST + b"\r\n") * 20)
            time.sleep(0.05)
            assert site.get(b"/").status == 200
            for _ in range(20):
                assert client.answer().body == data[:900000]


@each_backend
def case_a_peer_that_leaves_in_the_midst_costs_nothing(backend):
    data = random_bytes(3000000)
    with Site(backend) as site:
        site.file("large", data)
        site.file("mid", data[:500000])
        for i in range(40):
            client = site.connect(receive_buffer=4096)
            client.send((b"GET /%s HTTP/1.1\r\n" % (b"large" if i % 2 else b"mid") + HOST +
                         b"\r\n") * 3)
            if i % 4 < 2:
                client.fill()
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                     b"\1\0\0\0\0\0\0\0" if i % 3 else b"\0\0\0\0\0\0\0\0")
            client.socket.close()
        wait_until(lambda: site.metrics()["numaperf_net_connections"] == 1,
                   "connections that are gone are forgotten")
        assert site.get(b"/large").body == data


# ---- the cache ----

@each_backend
def case_a_changed_file_is_seen(backend):
    with Site(backend) as site:
        path = site.file("f", b"one")
        assert site.get(b"/f").body == b"one"
        assert site.get(b"/f").body == b"one"
        site.file("other", b"two")
        os.replace(os.path.join(site.root, "other"), path)
        wait_until(lambda: site.get(b"/f").body == b"two", "the new file is served")
        os.unlink(path)
        wait_until(lambda: site.get(b"/f").status == 404, "the file is gone")
        site.file("f", b"three" * 500000)  # too large for the cache now
        wait_until(lambda: site.get(b"/f").body == b"three" * 500000, "a large one is there")
        site.file("f", b"four")
        wait_until(lambda: site.get(b"/f").body == b"four", "a small one again")


@each_backend
def case_the_cache_is_bounded_and_serves_what_it_threw_out(backend):
    files = {b"/f%d" % i: random_bytes(400000, i) for i in range(8)}
    with Site(backend, "--cache-mib", "1") as site:
        for name, data in files.items():
            site.file(name[1:].decode(), data)
        for _ in range(3):
            for name, data in files.items():
                assert site.get(name).body == data, name
        rows = site.metrics()
        nodes = max(1, len([n for n in os.listdir("/sys/devices/system/node")
                            if n.startswith("node")]))
        assert rows["http_cache_bytes"] <= nodes * 1024 * 1024, rows
        assert rows["http_cache_evicted_total"] >= 6, rows
    with Site(backend, "--cache-mib", "0") as site:
        for _ in range(2):
            assert site.get(b"/").status == 200
        rows = site.metrics()
        assert rows["http_cache_bytes"] == 0 and rows["http_cache_loads_total"] == 2, rows


@each_backend
def case_many_who_want_one_file_wait_for_one_load(backend):
    data = random_bytes(1000000)
    with Site(backend, workers=1) as site:
        site.file("f", data)
        clients = [site.connect() for _ in range(50)]
        for client in clients:
            client.ask(b"/f")
        for client in clients:
            assert client.answer().body == data
            client.socket.close()
        assert site.metrics()["http_cache_loads_total"] < 50, "every client had its own load"


@each_backend
def case_a_file_that_shrinks_is_not_passed_off_as_whole(backend):
    with Site(backend) as site:
        path = site.file("large", random_bytes(8000000))
        with site.connect(receive_buffer=4096) as client:
            client.ask(b"/large")
            client.fill()
            os.truncate(path, 100)
            try:
                answer = client.answer()
                raise AssertionError("%d bytes came as if nothing had been" % len(answer.body))
            except (EOFError, ConnectionError):
                pass
        assert len(site.get(b"/large").body) == 100


# ---- life ----

@each_backend
def case_a_stop_answers_what_is_under_way(backend):
    data = random_bytes(8000000)
    site = Site(backend, "--drain-timeout", "30")
    with site:
        site.file("large", data)
        site.file("small", b"x")
        with site.connect() as idle, site.connect(receive_buffer=4096) as busy, \
                site.connect() as half:
            idle.ask(b"/small")
            assert "connection" not in idle.answer().fields
            busy.ask(b"/large")
            busy.fill()
            half.send(b"GET /small HTTP/1.1\r\n")
            wait_until(lambda: site.metrics()["http_streams_total"] >= 1, "the stream began")
            site.server.process.send_signal(signal.SIGTERM)
            assert idle.at_end()
            half.send(HOST + b"\r\n")
            answer = half.answer()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            assert half.at_end()
            assert busy.answer().body == data
            assert busy.at_end()


@each_backend
def case_a_unix_socket_serves_as_well(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        with Site(backend, "--unix", path) as site:
            assert site.server.address == path
            assert site.get(b"/").body == b"<p>hello</p>\n"


def case_options_are_checked():
    for words, text in ((["--root", "/nonexistent"], "/nonexistent"),
                        (["--tls-cert", "x"], "go together"),
                        (["--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], "--tls-cert"),
                        (["--cache-mib", "x"], "not a number"), (["--cache-mib"], "needs a value"),
                        (["--request-timeout", "4000"], "too large"),
                        (["--nonsense"], "no such option")):
        code, out, errors = run("http_server", *words)
        assert code in (1, 2) and text in errors and not out, (words, code, errors)
    code, out, _ = run("http_server", "--help")
    assert code == 0 and "--root" in out and "--listen" in out, out
    with Site(backends()[-1]) as site:
        try:
            Server("--listen", site.server.address, program="http_server")
            raise AssertionError("two servers on one port")
        except NotReady as why:
            assert why.code == 1 and "listen" in why.errors, why.errors


# ---- real clients ----

@each_backend
def case_curl_is_content(backend):
    curl = need("curl")
    with Site(backend) as site:
        data = random_bytes(5000000)
        site.file("large", data)
        base = "http://%s/" % site.server.address
        code, out, errors = run_client(curl, "-sS", "--fail", base + "large")
        assert code == 0 and out == data, errors
        code, out, errors = run_client(curl, "-sS", "--fail", "-r", "100-199", base + "large")
        assert code == 0 and out == data[100:200], errors
        code, out, errors = run_client(curl, "-sS", "--fail", "--http2", base)
        assert code == 0 and out == b"<p>hello</p>\n", errors
        code, out, errors = run_client(curl, "-sS", "-d", "x" * 100000, "-o", "/dev/null", "-w",
                                       "%{http_code}", base)
        assert out == b"405", (out, errors)
        code, out, errors = run_client(curl, "-sS", "-T", "-", "-o", "/dev/null", "-w",
                                       "%{http_code}", base + "x", data=b"x" * 100000)
        assert out == b"405", (out, errors)


@each_backend
def case_wrk_finds_no_error(backend):
    wrk = need("wrk")
    with Site(backend) as site:
        site.file("small", random_bytes(1024))
        code, out, errors = run_client(wrk, "-t", "1", "-c", "50", "-d", "2s",
                                       "http://%s/small" % site.server.address)
        text = out.decode()
        assert code == 0 and "Requests/sec" in text, errors
        assert "Socket errors" not in text and "Non-2xx" not in text, text
        rows = site.metrics()
        assert rows["http_requests_total"] > 50, rows
        assert rows["http_front_hits_total"] > rows["http_requests_total"] * 0.5, rows


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
