#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv_server over raw sockets: commands, order across nodes, hostile peers, limits, drain."""
import os
import random
import re
import signal
import socket
import struct
import sys
import threading
import time

from examples_support import (LIMIT, SLOW, Client, ErrorReply, Server, encode, fields, main,
                              seconds, wait_until)

TWO_NODES = ["--topology", "numa:2 pu:1"]
KIB = 1024
BULK_MAX = 512 * KIB


def is_error(reply, start):
    return isinstance(reply, ErrorReply) and reply.startswith(start)


def keys_on_both_shards(client, count=64):
    """Keys enough that each of two shards has some."""
    names = [b"key:%d" % i for i in range(count)]
    for name in names:
        assert client.call("SET", name, b"v-" + name) == "OK"
    info = client.info()
    for shard in ("shard0", "shard1"):
        assert int(fields(info[shard])["keys"]) > 0, "a shard without keys proves nothing"
    return names


def case_every_command_answers():
    for topology in ([], TWO_NODES, ["--topology", "numa:3 pu:2"]):
        with Server(*topology) as server, server.connect() as c:
            assert c.call("PING") == "PONG"
            assert c.call("ping", "hello") == b"hello"
            assert c.call("ECHO", b"\x00\r\n\xff") == b"\x00\r\n\xff"
            assert c.call("GET", "none") is None
            assert c.call("SET", "a", "1") == "OK"
            assert c.call("GET", "a") == b"1"
            assert c.call("SET", "a", b"") == "OK"
            assert c.call("GET", "a") == b""
            assert c.call("SET", b"", b"empty key") == "OK"
            assert c.call("GET", b"") == b"empty key"
            assert c.call("DEL", b"") == 1
            assert c.call("INCR", "n") == 1
            assert c.call("INCR", "n") == 2
            assert c.call("GET", "n") == b"2"
            assert c.call("MSET", "a", "1", "b", "2", "c", "3", "d", "4") == "OK"
            assert c.call("MGET", "a", "none", "d", "b", "a") == [b"1", None, b"4", b"2", b"1"]
            assert c.call("EXISTS", "a", "a", "none", "b") == 3
            assert c.call("DBSIZE") == 5
            assert c.call("DEL", "a", "b", "a", "none") == 2
            assert c.call("DBSIZE") == 3
            assert c.call("EXISTS", "a") == 0
            table = c.call("COMMAND")
            assert {row[0] for row in table} == {
                b"ping", b"echo", b"set", b"get", b"del", b"exists", b"incr", b"mget", b"mset",
                b"dbsize", b"info", b"command", b"config", b"quit"}
            assert all(len(row) == 6 for row in table)
            assert c.call("COMMAND", "COUNT") == len(table)
            assert c.call("COMMAND", "DOCS") == []
            assert c.call("CONFIG", "GET", "save") == [b"save", b""]
            assert c.call("config", "get", "appendonly") == [b"appendonly", b"no"]
            assert c.call("CONFIG", "GET", "nonsense") == []
            assert c.call("QUIT") == "OK"
            assert c.at_end()


def case_wrong_use_is_an_error_and_nothing_more():
    with Server(*TWO_NODES) as server, server.connect() as c:
        for args in (["GET"], ["GET", "a", "b"], ["SET", "a"], ["SET", "a", "b", "c"], ["MSET"],
                     ["MSET", "a"], ["MSET", "a", "b", "c"], ["DEL"], ["EXISTS"], ["INCR"],
                     ["MGET"], ["ECHO"], ["ECHO", "a", "b"], ["PING", "a", "b"], ["DBSIZE", "x"]):
            reply = c.call(*args)
            assert is_error(reply, "ERR wrong number of arguments for '%s'" % args[0].lower()), reply
        assert is_error(c.call("FLUSHALL"), "ERR unknown command 'FLUSHALL'")
        assert is_error(c.call(b"a\r\n+OK\r\n"), "ERR unknown command 'a??+OK??'")
        assert is_error(c.call(b"", "x"), "ERR unknown command ''")
        assert is_error(c.call(b"x" * 1000), "ERR unknown command 'xxx")
        assert is_error(c.call("CONFIG", "SET", "save", "1"), "ERR")
        for bad in ("x", "", " 1", "1 ", "1.5", "+1", "01", "-0", "9223372036854775808",
                    "99999999999999999999999"):
            c.call("SET", "n", bad)
            assert is_error(c.call("INCR", "n"), "ERR value is not an integer"), bad
            assert c.call("GET", "n") == bad.encode()
        c.call("SET", "n", "9223372036854775807")
        assert is_error(c.call("INCR", "n"), "ERR increment or decrement would overflow")
        for start, after in (("-9223372036854775808", -9223372036854775807), ("-1", 0), ("0", 1)):
            c.call("SET", "n", start)
            assert c.call("INCR", "n") == after
        assert c.call("PING") == "PONG"


def case_inline_commands_answer():
    with Server(*TWO_NODES) as server, server.connect() as c:
        c.send(b"PING\r\nPING\n\r\n\n  \t \r\n  set  k   v \r\nGET k\r\n")
        assert [c.reply() for _ in range(4)] == ["PONG", "PONG", "OK", b"v"]
        c.send(b"*0\r\n*-1\r\nPING\r\n")
        assert c.reply() == "PONG"


def conversation():
    """Requests and their replies, with keys on both shards and every kind of answer."""
    talk = [(encode("PING"), "PONG"), (b"PING\r\n", "PONG"), (encode("MSET", "a", "1", "b", "2",
            "c", "3", "d", "4"), "OK"), (encode("MGET", "a", "b", "c", "d", "e"),
            [b"1", b"2", b"3", b"4", None]), (encode("SET", b"\r\n$5\r\n", b"*2\r\n"), "OK"),
            (encode("GET", b"\r\n$5\r\n"), b"*2\r\n"), (encode("ECHO", ""), b""),
            (encode("INCR", "i"), 1), (encode("INCR", "i"), 2),
            (encode("DEL", "a", "b", "c"), 3), (encode("EXISTS", "a", "d"), 1)]
    return b"".join(t[0] for t in talk), [t[1] for t in talk]


def case_a_request_may_be_split_at_every_byte():
    data, expected = conversation()
    with Server(*TWO_NODES) as server:
        for at in range(1, len(data)):
            with server.connect() as c:
                c.call("DEL", "i")
                c.send(data[:at])
                time.sleep(0.002)
                c.send(data[at:])
                got = [c.reply() for _ in expected]
                assert got == expected, (at, got)


def case_a_request_may_come_one_byte_at_a_time():
    data, expected = conversation()
    with Server(*TWO_NODES) as server, server.connect() as c:
        for byte in data:
            c.send(bytes([byte]))
            time.sleep(0.0005)
        assert [c.reply() for _ in expected] == expected


def case_pipelined_answers_keep_their_order_across_nodes():
    with Server(*TWO_NODES) as server:
        with server.connect() as c:
            names = keys_on_both_shards(c)
        rng = random.Random(7)
        for _ in range(4):
            with server.connect() as c:
                batch, expected = [], []
                for number in range(3000):
                    kind = rng.randrange(4)
                    name = rng.choice(names)
                    if kind == 0:
                        batch.append(encode("ECHO", number))
                        expected.append(str(number).encode())
                    elif kind == 1:
                        some = rng.sample(names, 5)
                        batch.append(encode("MGET", *some))
                        expected.append([b"v-" + n for n in some])
                    elif kind == 2:
                        batch.append(encode("EXISTS", name, "none", rng.choice(names)))
                        expected.append(2)
                    else:
                        batch.append(encode("GET", name))
                        expected.append(b"v-" + name)
                sender = threading.Thread(target=c.send, args=(b"".join(batch),))
                sender.start()
                for number, want in enumerate(expected):
                    got = c.reply()
                    assert got == want, (number, got, want)
                sender.join()


def case_a_connection_reads_its_own_writes():
    with Server(*TWO_NODES) as server, server.connect() as c:
        batch, expected = [], []
        for i in range(500):
            name = "own:%d" % (i % 20)
            batch += [encode("SET", name, i), encode("GET", name), encode("INCR", name),
                      encode("DEL", name), encode("GET", name)]
            expected += ["OK", str(i).encode(), i + 1, 1, None]
        c.send(b"".join(batch))
        assert [c.reply() for _ in expected] == expected


def case_increments_of_many_clients_add_up():
    with Server(*TWO_NODES) as server:
        def work():
            with server.connect() as c:
                for _ in range(20):
                    c.send(encode("INCR", "x") * 50 + encode("INCR", "y") * 50)
                    for _ in range(100):
                        assert isinstance(c.reply(), int)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with server.connect() as c:
            assert c.call("MGET", "x", "y") == [b"8000", b"8000"]


def case_the_table_grows_and_keeps_every_key():
    with Server(*TWO_NODES) as server, server.connect() as c:
        count, step = 20000, 500
        for start in range(0, count, step):
            pairs = [x for i in range(start, start + step) for x in ("k%d" % i, "v%d" % i)]
            assert c.call("MSET", *pairs) == "OK"
        assert c.call("DBSIZE") == count
        for start in range(0, count, step):
            got = c.call("MGET", *("k%d" % i for i in range(start, start + step)))
            assert got == [b"v%d" % i for i in range(start, start + step)]
        assert c.call("DEL", *("k%d" % i for i in range(0, 2000))) == 2000
        assert c.call("DBSIZE") == count - 2000
        assert c.call("GET", "k1999") is None and c.call("GET", "k2000") == b"v2000"


def case_large_values_pass_and_one_byte_more_does_not():
    with Server(*TWO_NODES) as server:
        with server.connect() as c:
            data = os.urandom(BULK_MAX)
            for name in ("a", "b", "c", "d"):
                assert c.call("SET", name, data) == "OK"
                assert c.call("GET", name) == data
            assert c.call("MGET", "a", "b", "c", "d") == [data] * 4
            assert is_error(c.call("MGET", *["a"] * 40), "ERR the answer would be too large")
            assert c.call("PING") == "PONG"
            c.send(b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % (BULK_MAX + 1))
            assert is_error(c.reply(), "ERR Protocol error: invalid bulk length")
            assert c.at_end()
        with server.connect() as c:
            half = b"x" * (BULK_MAX - 100)
            c.send(encode("MSET", "a", half, "b", half, "c", "1"))
            assert c.reply() == "OK"
            c.send(b"*4\r\n$4\r\nMSET\r\n" + (b"$%d\r\n%s\r\n" % (len(half), half)) * 2 +
                   b"$1000\r\n")
            assert is_error(c.reply(), "ERR Protocol error: command too large")


HOSTILE = [
    (b"*1\r\n$-1\r\n", "invalid bulk length"), (b"*1\r\n$-2\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
    (b"*1\r\n$18446744073709551615\r\n", "invalid bulk length"),
    (b"*1\r\n$4294967296\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"), (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$04\r\n", "invalid bulk length"), (b"*1\r\n$+4\r\n", "invalid bulk length"),
    (b"*1\r\n$ 4\r\n", "invalid bulk length"), (b"*1\r\n$4 \r\n", "invalid bulk length"),
    (b"*1\r\n$4\nPING\r\n", "invalid bulk length"), (b"*1\r\n$0000000000000", "invalid bulk length"),
    (b"*1\r\n$4\r\nPINGxx", "bulk string without its end"),
    (b"*1\r\n$3\r\nPING\r\n", "bulk string without its end"),
    (b"*-2\r\n", "invalid multibulk length"), (b"*4097\r\n", "invalid multibulk length"),
    (b"*2147483647\r\n", "invalid multibulk length"),
    (b"*4294967297\r\n", "invalid multibulk length"),
    (b"*9223372036854775807\r\n", "invalid multibulk length"), (b"*\r\n", "invalid multibulk"),
    (b"*1a\r\n", "invalid multibulk length"), (b"*1\n", "invalid multibulk length"),
    (b"*11111111111111111", "invalid multibulk length"),
    (b"*1\r\n*1\r\n", "expected '$', got '*'"), (b"*1\r\n:1\r\n", "expected '$', got ':'"),
    (b"*1\r\n+OK\r\n", "expected '$', got '+'"), (b"*1\r\n\x00", "expected '$', got '?'"),
    (b"*1\r\n" * 10000, "expected '$', got '*'"),
    (b"x" * (16 * KIB), "too big inline request"), (b"x" * (1 << 20), "too big inline request"),
    (b"a " * 5000 + b"\r\n", "too many arguments"),
    (b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n", "this is no HTTP server"),
    (b"GET / HTTP/1.1\r\n\r\n" * 0 + b"host: x\r\n", "this is no HTTP server"),
]


def case_hostile_input_is_refused_and_hurts_nobody():
    with Server(*TWO_NODES) as server, server.connect() as bystander:
        for data, words in HOSTILE:
            with server.connect() as c:
                c.send(encode("ECHO", "before") + data)
                assert c.reply() == b"before", data[:40]
                reply = c.reply()
                assert is_error(reply, "ERR Protocol error: " + words), (data[:40], reply)
                assert c.at_end(), data[:40]
            assert bystander.call("PING") == "PONG"
        total = sum(int(fields(v)["protocol_errors"]) for k, v in bystander.info().items()
                    if k.endswith("_commands"))
        assert total == len(HOSTILE), total


def case_nothing_after_a_protocol_error_is_run():
    with Server() as server:
        with server.connect() as c:
            c.send(b"*1\r\n$-5\r\n" + encode("SET", "evil", "1"))
            assert is_error(c.reply(), "ERR Protocol error")
            assert c.at_end()
        with server.connect() as c:
            c.send(encode("QUIT") + encode("SET", "evil", "1"))
            assert c.reply() == "OK" and c.at_end()
        with server.connect() as c:
            assert c.call("GET", "evil") is None


def arena_bytes(client):
    return sum(int(fields(v)["used"]) for k, v in client.info().items() if k.endswith("_arena"))


def case_declared_lengths_take_no_memory():
    with Server(*TWO_NODES, "--arena-mib", "16") as server, server.connect() as watcher:
        clients = []
        before = arena_bytes(watcher)
        for _ in range(100):
            c = server.connect()
            c.send(b"*4096\r\n$%d\r\nx" % BULK_MAX)
            clients.append(c)
        time.sleep(1.1)  # INFO is kept for a second
        used = arena_bytes(watcher) - before
        assert used < 8 << 20, "%d bytes for promises" % used
        for c in clients:
            c.socket.close()
        assert watcher.call("PING") == "PONG"


def memory_kib(server):
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])


def push_without_reading(client, data, limit):
    """How much the server took from a peer that never reads."""
    client.socket.setblocking(False)
    taken, still = 0, 0
    while taken < limit and still < 50:
        try:
            taken += client.socket.send(data[taken % len(data):])
            still = 0
        except BlockingIOError:
            still += 1
            time.sleep(0.01)
        except ConnectionError:
            break
    return taken


def case_a_peer_that_never_reads_is_held_back():
    with Server(*TWO_NODES) as server, server.connect() as other:
        value = b"v" * (64 * KIB)
        name = b"k" * (8 * KIB)  # what the kernel holds are few requests then
        assert other.call("SET", name, value) == "OK"
        stuck = Client(server, receive_buffer=4096)
        request = encode("GET", name)
        taken = push_without_reading(stuck, request, 64 << 20)
        assert taken < 16 << 20, "%d bytes of requests were taken" % taken
        with server.connect() as third:
            start = seconds()
            assert third.call("GET", name) == value
            assert seconds() - start < 5 * SLOW
        used = sum(int(fields(v)["used"]) for k, v in other.info().items() if k.endswith("_arena"))
        assert used < 32 << 20, used
        # Back-pressure, not a kill: once it reads, every answer comes.
        stuck.socket.settimeout(LIMIT)
        for _ in range(taken // len(request)):
            got = stuck.reply()
            assert got == value, repr(got)[:200]
        stuck.socket.close()


def case_half_closed_peers_get_their_answers():
    with Server(*TWO_NODES) as server:
        for _ in range(20):
            with server.connect() as c:
                c.send(encode("SET", "h", "1") + encode("GET", "h") * 200 + b"*1\r\n$4\r\nPI")
                c.socket.shutdown(socket.SHUT_WR)
                assert [c.reply() for _ in range(201)] == ["OK"] + [b"1"] * 200
                assert c.at_end()


def case_resets_in_the_middle_leave_nothing_behind():
    with Server(*TWO_NODES) as server:
        with server.connect() as c:
            keys = keys_on_both_shards(c)
            c.call("SET", "big", b"x" * 100000)
        data = encode("MGET", *keys) * 50 + encode("GET", "big") * 50
        for number in range(100):
            c = server.connect()
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.send(data[:number * len(data) // 100])
            if number % 3 == 0:
                time.sleep(0.001)
            c.socket.close()
        with server.connect() as c:
            wait_until(lambda: c.info()["connected_clients"] == "1", "dead connections to go")
            assert c.call("PING") == "PONG"


def case_the_connection_limit_holds():
    with Server("--topology", "numa:1 pu:1", "--max-connections", "5") as server:
        clients = [server.connect() for _ in range(5)]
        for c in clients:
            assert c.call("PING") == "PONG"
        for _ in range(20):
            with server.connect() as c:
                assert is_error(c.reply(), "ERR max number of clients reached")
                assert c.at_end()
        assert clients[4].call("PING") == "PONG"
        clients[0].socket.close()

        def fits():
            with server.connect() as c:
                try:
                    return c.call("PING") == "PONG"
                except (EOFError, ConnectionError):
                    return False
        wait_until(fits, "the freed place")
        # A burst of peers that are turned away all at once.
        burst = [server.connect() for _ in range(30)]
        refused = sum(1 for c in burst if is_error(read_or_none(c), "ERR max"))
        assert refused >= 29, refused
        for c in burst + clients[1:]:
            c.socket.close()


def read_or_none(client):
    client.socket.settimeout(1)
    try:
        return client.reply()
    except (EOFError, OSError):
        return None


def case_idle_connections_are_closed():
    with Server("--idle-timeout", "1") as server:
        idle, busy = server.connect(), server.connect()
        assert idle.call("PING") == "PONG"
        idle.send(b"*1\r\n$4\r\n")  # half a command is no activity for ever
        end = seconds() + 3
        while seconds() < end:
            assert busy.call("PING") == "PONG"
            time.sleep(0.1)
        assert idle.at_end()
        info = busy.info()
        closed = sum(int(fields(v)["idle_closed"]) for k, v in info.items()
                     if k.endswith("_clients") and k.startswith("worker"))
        assert closed == 1, info


def case_a_full_node_says_so_and_lives_on():
    with Server(*TWO_NODES, "--arena-mib", "8") as server, server.connect() as c:
        value = b"x" * 60000
        replies = [c.call("SET", "fill:%d" % i, value) for i in range(400)]
        stored = [i for i, r in enumerate(replies) if r == "OK"]
        assert 50 < len(stored) < 300, len(stored)
        assert all(is_error(r, "OOM ") for r in replies if r != "OK"), set(map(str, replies))
        for i in stored:
            assert c.call("GET", "fill:%d" % i) == value
        for i in range(400):
            c.call("DEL", "fill:%d" % i)
        assert c.call("DBSIZE") == 0
        assert [c.call("SET", "again:%d" % i, value) for i in range(40)] == ["OK"] * 40


def case_no_memory_for_a_command_is_an_answer():
    """Many peers together ask for more than the arena has: each gets an answer or its end."""
    with Server("--topology", "numa:1 pu:1", "--arena-mib", "6") as server:
        big = encode("ECHO", b"e" * (400 * KIB))
        clients = [server.connect() for _ in range(40)]
        for c in clients:
            c.socket.setblocking(False)
            try:
                c.socket.send(big)
            except BlockingIOError:
                pass
        time.sleep(0.3)
        for c in clients:
            c.socket.close()
        def alive():
            try:
                with server.connect() as c:
                    return c.call("PING") == "PONG"
            except (EOFError, ConnectionError):
                return False
        wait_until(alive, "memory to come back")


def case_a_full_task_queue_loses_no_answer():
    with Server(*TWO_NODES, "--task-limit", "1") as server:
        names = ["key:%d" % i for i in range(64)]

        def work(results):
            with server.connect() as c:
                for _ in range(50):
                    c.send(b"".join(encode("SET", n, "1") + encode("MGET", n, "x") for n in names))
                    for _ in names:
                        first, second = c.reply(), c.reply()
                        assert first == "OK" or is_error(first, "ERR busy"), first
                        assert isinstance(second, list) or is_error(second, "ERR busy"), second
                    results.append(True)
        def seen(kind):
            with server.connect() as c:
                return sum(int(fields(v)[kind]) for k, v in c.info().items() if k.endswith("_operations"))

        # How often a queue of one task is met full is up to chance.
        for _ in range(20):
            results = []
            threads = [threading.Thread(target=work, args=(results,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(results) == 300, "a client did not get all its answers"
            if seen("refused") > 0 and seen("late") > 0:
                return
        raise AssertionError("no batch was refused or none was late: nothing was tested")


def case_info_tells_where_everything_is():
    with Server(*TWO_NODES, "--steal", "local-only") as server, server.connect() as c:
        keys_on_both_shards(c)
        info = c.info()
        assert info["mode"] == "soft" and info["steal_policy"] == "local-only"
        assert info["enforcement"] in ("none", "best effort") and info["enforcement_reason"]
        assert info["nodes"] == "2" and info["workers"] == "2"
        for index in (0, 1):
            worker = fields(info["worker%d" % index])
            assert worker["node"] == str(index) and worker["pu"].isdigit()
            assert worker["backend"] in ("io_uring", "epoll")
            tasks = os.listdir("/proc/%d/task" % server.process.pid)
            assert worker["thread"] in tasks
            assert "stolen_here" in info["worker%d_tasks" % index]
            assert int(fields(info["worker%d_arena" % index])["used"]) > 0
            assert info["worker%d_arena_pages" % index]
        shards = [fields(info["shard%d" % i]) for i in (0, 1)]
        assert sum(int(s["keys"]) for s in shards) == 64
        assert [s["node"] for s in shards] == ["0", "1"]


def case_stop_answers_what_was_received():
    for number in range(15):
        server = Server(*TWO_NODES)
        clients = [server.connect() for _ in range(10)]
        for index, c in enumerate(clients):
            c.send(b"".join(encode("INCR", "s:%d:%d" % (index, i % 7)) for i in range(70)))
        if number % 2:
            time.sleep(0.001 * number)
        assert server.stop(signal.SIGTERM if number % 3 else signal.SIGINT) == 0, server.errors
        for c in clients:
            got = [c.reply() for _ in range(70)]
            assert got == [1 + i // 7 for i in range(70)], got
            assert c.at_end()


def case_stop_is_bounded_by_its_deadline():
    server = Server(*TWO_NODES, "--drain-timeout", "1")
    with server.connect() as c:
        c.call("SET", "big", b"x" * BULK_MAX)
    stuck = Client(server, receive_buffer=4096)
    push_without_reading(stuck, encode("GET", "big") * 100, 1 << 20)
    start = seconds()
    assert server.stop() == 0, server.errors
    assert 0.9 < seconds() - start < 1 + 10 * SLOW
    stuck.socket.close()


def case_a_stop_under_load_ends_cleanly():
    for backend in ("epoll", "auto"):
        server = Server(*TWO_NODES, "--backend", backend)
        stop = threading.Event()

        def work():
            try:
                with server.connect() as c:
                    while not stop.is_set():
                        c.send(b"".join(encode("SET", "l:%d" % i, i) for i in range(32)))
                        for _ in range(32):
                            assert c.reply() == "OK"
            except (EOFError, ConnectionError):
                pass
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        code = server.stop()
        stop.set()
        for thread in threads:
            thread.join()
        assert code == 0, server.errors


def case_an_idle_server_sleeps():
    with Server(*TWO_NODES) as server:
        with server.connect() as c:
            assert c.call("PING") == "PONG"

        def ticks():
            with open("/proc/%d/stat" % server.process.pid, encoding="ascii") as file:
                parts = file.read().rsplit(")", 1)[1].split()
            return int(parts[11]) + int(parts[12])
        time.sleep(0.5)
        before = ticks()
        time.sleep(2)
        assert ticks() - before <= 2 * SLOW, "it works without work"


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
