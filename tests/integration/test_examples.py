#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every small example runs and says what it shows; options, sockets and life of the servers."""
import json
import os
import re
import signal
import socket
import stat
import sys
import tempfile

from examples_support import (LIMIT, Client, NotReady, Server, Skip, main, run, seconds,
                              wait_until)


def case_spawn_tasks_run_on_their_nodes():
    code, out, errors = run("spawn_tasks", "numa:2 pu:1")
    assert code == 0, errors
    assert "2000 tasks spawned: 2000 ran on their node, 0 elsewhere" in out, out
    assert sorted(re.findall(r"worker \d+: node (\d+)", out)) == ["0", "1"], out
    code, _, errors = run("spawn_tasks", "nonsense:")
    assert code == 1 and "topology" in errors, errors


def case_task_group_is_waited_for_inside_and_outside():
    code, out, errors = run("task_group")
    assert code == 0, errors
    assert "sum of 0 to 639999: 204799680000\n" in out, out
    assert len(re.findall(r"^done, says worker \d+$", out, re.M)) == 1, out


def case_uv_echo_serves_by_plain_libuv_handles():
    with Server("0", program="uv_echo", listen=False) as server:
        clients = [server.connect() for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(b"plain %d\r\n" % number)
        for number, client in enumerate(clients):
            assert client.line() == b"plain %d" % number


def case_timeouts_close_what_is_idle():
    start = seconds()
    code, out, errors = run("timeouts")
    assert code == 0, errors
    assert seconds() - start >= 0.09, out
    assert "5 requests, then idle: closed\nits limit as a whole was not reached\n" in out, out
    assert "1 task was cancelled\n" in out, out


def case_file_copy_copies_every_byte():
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "source")
        target = os.path.join(folder, "target")
        for length in (0, 1, 256 * 1024, 3000000):
            content = os.urandom(length)
            with open(source, "wb") as file:
                file.write(content)
            code, out, errors = run("file_copy", source, target)
            assert code == 0, errors
            assert re.fullmatch(r"%d bytes by (io_uring|the thread pool)\n" % length, out), out
            with open(target, "rb") as file:
                assert file.read() == content, length
        code, _, errors = run("file_copy", os.path.join(folder, "absent"), target)
        assert code == 1 and errors == "source: No such file or directory\n", errors
        code, _, errors = run("file_copy", source, folder)
        assert code == 1 and errors == "target: Is a directory\n", errors
        code, _, errors = run("file_copy", source)
        assert code == 1 and "SOURCE TARGET" in errors, errors


def case_memory_placement_counts_pages_by_node():
    code, out, errors = run("memory_placement")
    if "query" in errors and code != 0:
        raise Skip(errors)
    assert code == 0, errors
    rows = re.findall(r"node (\d+), (.*?): (\d+) pages, (\d+) absent(.*?);", out)
    assert rows and len(rows) % 3 == 0, out
    for node, what, pages, absent, where in rows:
        assert int(pages) == 1024, out
        if what == "untouched":
            assert absent == pages, out
        elif what == "first half touched":
            assert 0 < int(absent) <= 512, out
        else:
            assert absent == "0" and ("1024 on node " + node) in where, out


def case_hard_mode_chooses_by_what_is_there():
    code, out, errors = run("hard_mode")
    assert code == 0, errors
    assert re.search(r"starting in (hard|soft) mode", out), out
    hard = "starting in hard mode" in out
    assert re.search(r"node \d+, PU \d+: strict" if hard else r"node \d+, PU \d+: ", out), out
    code, out, errors = run("hard_mode", env={"REQUIRE_HARD_MODE": "1"})
    if hard:
        assert code == 0, errors
    else:
        assert code == 1 and "missing:\n  " in errors and "starting" not in out, errors


def case_hard_mode_required_names_what_is_missing():
    """Without privileges something is missing for sure."""
    if os.geteuid() != 0:
        raise Skip("dropping privileges needs root")
    command = [os.path.join(Server.programs, "hard_mode")]
    if not os.access(os.path.dirname(command[0]), os.X_OK):
        raise Skip("the build directory is closed to other users")
    import subprocess  # only here
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, user=65534,
                              group=65534, env={"REQUIRE_HARD_MODE": "1"}, check=False)
    except PermissionError as error:
        raise Skip("the program is closed to other users") from error
    assert done.returncode == 1, done
    assert "CAP_SYS_ADMIN" in done.stderr and "CAP_SYS_NICE" in done.stderr, done.stderr


def case_mixed_mode_reports_both():
    code, out, errors = run("mixed_mode")
    assert code == 0, errors
    assert re.search(r"^runtime, soft: (strict|best effort|none)", out, re.M), out
    table = re.search(r"^table, hard first: (strict|best effort|none)", out, re.M)
    assert table, out
    assert (table[1] == "strict") != ("not guaranteed" in out), out
    assert "read 2097152" in out, out


def case_hard_mode_keeps_an_attestation():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "attestation.json")
        code, out, errors = run("hard_mode", "--attest", path)
        assert code == 0, errors
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        assert document["settings"]["mode"] in out, out
        assert os.listdir(folder) == ["attestation.json"]
        code, _, errors = run("hard_mode", "--attest", folder)
        assert code == 1 and folder in errors and os.listdir(folder) == ["attestation.json"]
    for args in (("--attest",), ("path",), ("--prove", "path")):
        code, out, errors = run("hard_mode", *args)
        assert code == 2 and out == "" and "usage" in errors, errors


SERVERS = ["kv_server", "echo_server"]


def ask(server, client):
    """One request that both servers answer."""
    if server.name == "echo_server":
        client.send(b"hello\r\n")
        return client.line() == b"hello"
    return client.call("PING") == "PONG"


def case_bad_options_name_option_and_reason():
    bad = [
        (["--nonsense"], "--nonsense"), (["--listen"], "--listen"), (["--listen", "x"], "--listen"),
        (["--listen", "1.2.3.4:99999"], "--listen"), (["--listen", ":1"], "--listen"),
        (["--listen", "::1:80"], "--listen"), (["--listen", "127.0.0.1:-1"], "--listen"),
        (["--unix", ""], "--unix"), (["--unix", "x" * 200], "--unix"), (["--mode", "firm"], "--mode"),
        (["--waive-privileges=1"], "--waive-privileges"),
        (["--workers-per-node", "-1"], "--workers-per-node"),
        (["--workers-per-node", "1025"], "--workers-per-node"),
        (["--workers-per-node", ""], "--workers-per-node"), (["--nodes", "a"], "--nodes"),
        (["--nodes", ""], "--nodes"), (["--nodes", "4096"], "--nodes"),
        (["--backend", "kqueue"], "--backend"), (["--attest", ""], "--attest"), (["--steal", "all"], "--steal"),
        (["--max-connections", "0"], "--max-connections"), (["word"], "word"),
    ]
    for program in SERVERS:
        for args, name in bad:
            code, out, errors = run(program, *args)
            assert code == 2, (program, args, code, errors)
            assert out == "" and name in errors and errors.count("\n") == 1, (args, errors)
            assert len(errors) > len(program) + len(name) + 8, "no reason: " + errors


def case_help_lists_every_option():
    for program in SERVERS:
        code, out, errors = run(program, "--help")
        assert code == 0 and errors == ""
        for option in ("listen", "unix", "mode", "waive-privileges", "workers-per-node", "nodes",
                       "topology", "attest", "backend", "steal", "help"):
            assert "--" + option in out, option


def case_start_failures_are_explained():
    for program in SERVERS:
        for args, words in [
                (["--listen", "127.0.0.1:0", "--topology", "nonsense:"], "topology"),
                (["--listen", "127.0.0.1:0", "--topology", "/nowhere/at-all.xml"], "topology"),
                (["--listen", "127.0.0.1:0", "--nodes", "1000"], "NO_NODE"),
                (["--listen", "192.0.2.1:0"], "192.0.2.1"),
                (["--listen", "host.invalid:0"], "host.invalid")]:
            code, out, errors = run(program, *args)
            assert code == 1 and out == "" and words in errors, (args, code, errors)


def case_an_attestation_is_there_when_the_server_is_ready():
    for program in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "attestation.json")
            with open(path, "w", encoding="ascii") as file:
                file.write("the last one's")
            with Server("--attest", path, "--workers-per-node", "1", program=program) as server:
                with open(path, encoding="utf-8") as file:
                    document = json.load(file)
                assert document["schema"] == "numaperf.attestation.v1"
                assert document["process"]["pid"] == server.process.pid
                assert document["settings"]["workers_per_node"] == 1
                has_start = document["settings"]["callbacks"]["on_worker_start"]
                assert has_start is (program == "kv_server")
                assert os.listdir(folder) == ["attestation.json"]
            nowhere = os.path.join(folder, "nowhere", "attestation.json")
            socket_path = os.path.join(folder, "socket")
            for bad in (nowhere, folder):
                code, out, errors = run(program, "--unix", socket_path, "--attest", bad)
                assert code == 1 and out == "" and "--attest" in errors and bad in errors, errors
            assert os.listdir(folder) == ["attestation.json"], os.listdir(folder)


def case_a_port_in_use_is_refused():
    for program in SERVERS:
        with Server(program=program) as server:
            code, out, errors = run(program, "--listen", server.address)
            assert code == 1 and out == "" and "in use" in errors, errors


def case_listens_on_ipv6():
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError as error:
        raise Skip("no IPv6 here: %s" % error) from error
    for program in SERVERS:
        with Server("--listen", "[::1]:0", program=program) as server:
            assert server.address.startswith("[::1]:")
            with server.connect() as client:
                assert ask(server, client)


def case_every_worker_accepts_on_one_port():
    with Server("--topology", "numa:2 pu:1") as server:
        clients = [server.connect() for _ in range(64)]
        for client in clients:
            assert client.call("PING") == "PONG"
        info = clients[0].info()
        assert info["connected_clients"] == "64"
        for worker in ("worker0_clients", "worker1_clients"):
            assert "connected=0" not in info[worker], info
        for client in clients:
            client.socket.close()


def case_unix_socket_is_served_and_removed():
    for program in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            with Server("--unix", path, "--topology", "numa:2 pu:1", program=program) as server:
                assert server.address == path
                clients = [server.connect() for _ in range(20)]
                for client in clients:
                    assert ask(server, client)
                for client in clients:
                    client.socket.close()
            assert not os.path.lexists(path), "the socket was left behind"


def case_unix_path_replaces_only_a_socket():
    for program in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            old = socket.socket(socket.AF_UNIX)
            old.bind(path)
            old.close()
            with Server("--unix", path, program=program) as server:
                with server.connect() as client:
                    assert ask(server, client)
            with open(path, "w", encoding="ascii") as file:
                file.write("precious")
            link = os.path.join(folder, "link")
            os.symlink(path, link)
            os.mkdir(os.path.join(folder, "directory"))
            os.mkfifo(os.path.join(folder, "fifo"))
            for name in ("socket", "link", "directory", "fifo"):
                code, out, errors = run(program, "--unix", os.path.join(folder, name))
                assert code == 1 and out == "" and "not a socket" in errors, errors
                assert os.path.lexists(os.path.join(folder, name))
            with open(path, encoding="ascii") as file:
                assert file.read() == "precious"


def case_a_foreign_file_at_the_unix_path_survives_exit():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        with Server("--unix", path):
            assert stat.S_ISSOCK(os.lstat(path).st_mode)
            os.unlink(path)
            with open(path, "w", encoding="ascii") as file:
                file.write("mine")
        assert os.path.isfile(path)


def case_both_signals_stop_with_exit_code_0():
    for program in SERVERS:
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Server("--drain-timeout", "3600", program=program)
            client = server.connect()
            assert ask(server, client)
            # An idle client does not hold the stop up, or this would run into its limit.
            assert server.stop(number) == 0, server.errors
            assert client.at_end()


def case_a_server_that_was_just_busy_stops_every_time():
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(60):
            path = os.path.join(folder, "socket")
            with Server("--unix", path, "--topology", "numa:2 pu:1") as server:
                clients = [server.connect() for _ in range(20)]
                for client in clients:
                    assert ask(server, client)
                for client in clients:
                    client.socket.close()


def case_backends_serve():
    for program in SERVERS:
        with Server("--backend", "epoll", program=program) as server:
            with server.connect() as client:
                assert ask(server, client)
        try:
            with Server("--backend", "io_uring", program=program) as server:
                with server.connect() as client:
                    assert ask(server, client)
        except NotReady as error:
            assert error.code == 1 and "ring" in error.errors, error
            print("io_uring is not possible here: " + error.errors.strip())


def case_steal_policies_and_nodes_serve():
    for policy in ("local-only", "local-then-socket-then-remote", "any"):
        with Server("--steal", policy, "--topology", "numa:3 pu:1", "--nodes", "0,2") as server:
            with server.connect() as client:
                info = client.info()
                assert info["steal_policy"] == policy
                assert info["nodes"] == "2" and "node0" in info and "node2" in info, info


def case_echo_returns_every_byte():
    with Server(program="echo_server") as server:
        with server.connect() as client:
            data = os.urandom(1 << 20)
            got = b""
            client.socket.setblocking(False)
            sent = 0
            end = seconds() + LIMIT
            while len(got) < len(data) and seconds() < end:
                try:
                    sent += client.socket.send(data[sent:sent + 65536]) if sent < len(data) else 0
                except BlockingIOError:
                    pass
                try:
                    got += client.socket.recv(1 << 20)
                except BlockingIOError:
                    pass
            assert got == data


def case_echo_survives_peers_that_never_read():
    with Server(program="echo_server") as server:
        stuck = Client(server, receive_buffer=4096)
        stuck.socket.setblocking(False)
        taken = 0
        try:
            while taken < 64 << 20:
                taken += stuck.socket.send(b"x" * 65536)
        except BlockingIOError:
            pass
        assert taken < 64 << 20, "it takes without end"
        with server.connect() as client:
            assert ask(server, client)
        stuck.socket.close()


def case_echo_answers_what_was_sent_before_the_stop():
    for _ in range(10):
        server = Server("--topology", "numa:2 pu:1", program="echo_server")
        clients = [server.connect() for _ in range(8)]
        for number, client in enumerate(clients):
            client.send(b"last words %d\r\n" % number)
        assert server.stop() == 0, server.errors
        for number, client in enumerate(clients):
            assert client.line() == b"last words %d" % number
            assert client.at_end()


def case_echo_connection_limit_and_idle_time_hold():
    with Server("--max-connections", "2", "--workers-per-node", "1", "--topology", "numa:1 pu:1",
                "--idle-timeout", "1", program="echo_server") as server:
        first, second, third = (server.connect() for _ in range(3))
        assert ask(server, first) and ask(server, second)
        assert third.at_end()
        start = seconds()
        assert first.at_end() and seconds() - start < LIMIT - 1, "the idle connection stayed"
        wait_until(lambda: ask_new(server), "room for another connection")


def ask_new(server):
    try:
        with server.connect() as client:
            return ask(server, client)
    except (EOFError, ConnectionError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
