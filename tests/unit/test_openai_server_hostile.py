"""Our own server among clients that mean no good, and over an engine that hangs.

Each of these has to leave it bounded, and the others answered. The same for ten minutes: `tests/server_load.py`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployer.openai_server import framing, places, protocol
from deployer.openai_server.http_api import Limits
from deployer.openai_server.http_api import Server as Listening
from deployer.openai_server.scheduler import Scheduler
from tests.server_load import Idle, half_a_body, memory_mib, open_files
from tests.unit.test_openai_server import Server, Start, echo, starting

__all__ = ["echo"]

MIB = 1024 * 1024
# A limit for what never comes, and nothing that is measured.
WAIT_S = 60.0
# Longer than any test waits: a rule that is not the one under test.
NEVER = "600"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    yield from starting(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def enough_files() -> None:
    """A shell's usual limit is 1,024, and this side has as many connections as the other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def until(true: Any, said: Any = lambda: "") -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.02)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def said(raw: socket.socket) -> bytes:
    """All that the server says until it closes; a reset is an end too."""
    found = b""
    try:
        while piece := raw.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def exchange(server: Server, request: bytes) -> bytes:
    with connect(server) as raw:
        raw.sendall(request)
        return said(raw)


BODY = b'{"model":"m","prompt":"x"}'
POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
# A second request, as a front end that counts otherwise would have let it pass.
HIDDEN = b"GET /health HTTP/1.1\r\nHost: hidden\r\nConnection: close\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
SMUGGLED: dict[str, tuple[bytes, int]] = {
    # name: what is sent, the one status that is the answer
    "length and coding": (POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + BODY + HIDDEN, 400),
    "coding and length": (POST + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + HIDDEN, 400),
    "two lengths": (POST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY + HIDDEN, 400),
    "two lengths that are one": (POST + LENGTH * 2 + b"\r\n" + BODY + HIDDEN, 400),
    "a list of lengths": (POST + b"Content-Length: 26, 26\r\n\r\n" + BODY + HIDDEN, 400),
    "length with a sign": (POST + b"Content-Length: +26\r\n\r\n" + BODY + HIDDEN, 400),
    "length below nothing": (POST + b"Content-Length: -26\r\n\r\n" + BODY + HIDDEN, 400),
    "length with an underscore": (POST + b"Content-Length: 2_6\r\n\r\n" + BODY + HIDDEN, 400),
    "length of another base": (POST + b"Content-Length: 0x1a\r\n\r\n" + BODY + HIDDEN, 400),
    "length of other digits": (POST + b"Content-Length: 2\xb2\r\n\r\n" + BODY + HIDDEN, 400),
    "length of nothing": (POST + b"Content-Length:\r\n\r\n" + BODY + HIDDEN, 400),
    "length beyond numbers": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + BODY + HIDDEN, 413),
    "coding alone": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 411),
    "coding that nobody knows": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN, 501),
    "chunked not last": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN, 501),
    "coding of the old version": (
        b"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400,
    ),
    "blank before the colon": (POST + b"Content-Length : 26\r\n\r\n" + BODY + HIDDEN, 400),
    "other blank in a name": (POST + LENGTH + b"Transfer-Encoding\x0b: chunked\r\n\r\n" + BODY + HIDDEN, 400),
    "header that goes on": (POST + LENGTH + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY + HIDDEN, 400),
    "header without a colon": (POST + b"x\r\nTransfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 400),
    "bare line feed": (POST + b"X: y\nTransfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 400),
    "bare return": (POST + b"X: y\rTransfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 400),
    "a zero byte": (POST + b"X: \0\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 400),
    "GET with a body": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, 400),
    "body of an unknown method": (b"PUT /health HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 400),
    "unknown method": (b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, 501),
    "body that nobody reads": (b"POST /v1/x HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 404),
    "no length": (POST + b"\r\n" + HIDDEN, 411),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n" + HIDDEN, 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + HIDDEN, 400),
    "another version": (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n" + HIDDEN, 400),
    "the first version": (b"GET /health\r\n\r\n" + HIDDEN, 400),
    "blanks in the request": (b"GET /health x HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, 400),
    "head without end": (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * framing.HEAD_LIMIT, 431),
    "line without end": (b"GET /" + b"x" * 2 * framing.HEAD_LIMIT, 431),
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_two_may_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(name: str, echo: Server) -> None:
    request, wanted = SMUGGLED[name]
    answer = exchange(echo, request)
    assert statuses(answer) == [wanted], answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert echo.ask()[0] == 200


HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n\r\n"
GOOD: dict[str, tuple[bytes, list[int]]] = {
    "one after the other": (HEALTH + b"\r\n" + POST + LENGTH + b"\r\n" + BODY + HEALTH + CLOSE, [200] * 3),
    "an empty line before": (b"\r\n" + HEALTH + b"Connection: close\r\n\r\n", [200]),
    "the whole address": (b"GET http://x:8000/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [200]),
    "the old version": (b"GET /health HTTP/1.0\r\n\r\n", [200]),
    "no body, and it says so": (HEALTH + b"Content-Length: 0\r\nConnection: close\r\n\r\n", [200]),
    "what a body may be sent": (POST + LENGTH + b"Expect: 100-continue\r\n" + CLOSE + BODY, [100, 200]),
    "nobody waits to send too much": (POST + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", [413]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_is_by_the_rules_is_answered(name: str, echo: Server) -> None:
    request, wanted = GOOD[name]
    assert statuses(exchange(echo, request)) == wanted


def test_stream_of_the_old_version_ends_with_the_connection(echo: Server) -> None:
    body = b'{"model":"m","prompt":"xy","stream":true}'
    answer = exchange(echo, b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert rest.startswith(b"data: {")
    assert rest.endswith(b"data: [DONE]\n\n")


DEEP = b"[" * 30_000
DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "nested": (b'{"model":"m","prompt":' + DEEP, "nested too deeply"),
    "nested in the model": (b'{"model":' + b"[" * 900 + b"]" * 900 + b',"prompt":"x"}', "is not served here"),
    "nested and whole": (b'{"model":"m","prompt":' + DEEP + b"]" * len(DEEP) + b"}", "nested too deeply"),
    "tokens without end": (b'{"model":"m","prompt":"x","max_tokens":1e999}', "is no number"),
    "tokens that are none": (b'{"model":"m","prompt":"x","max_tokens":NaN}', "is no number"),
    "tokens below all": (b'{"model":"m","prompt":"x","max_tokens":-Infinity}', "is no number"),
    "tokens of many digits": (b'{"model":"m","prompt":"x","max_tokens":' + b"9" * 10_000 + b"}", "is no number"),
    "temperature that is none": (b'{"model":"m","prompt":"x","temperature":NaN}', "is no number"),
    "share that is none": (b'{"model":"m","prompt":"x","top_p":NaN}', "is no number"),
    "stream is a text": (b'{"model":"m","prompt":"x","stream":"yes"}', "stream must be true or false"),
    "stream is a number": (b'{"model":"m","prompt":"x","stream":1}', "stream must be true or false"),
    "options are a text": (b'{"model":"m","prompt":"x","stream_options":"x"}', "stream_options must be an object"),
    "usage is a text": (
        b'{"model":"m","prompt":"x","stream_options":{"include_usage":"yes"}}', "include_usage must be true or false",
    ),
    "half a character": (b'{"model":"m","prompt":"\\ud800"}', "surrogates not allowed"),
    "half a character to name": (b'{"model":"\\ud800","prompt":"x"}', "is not served here"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_are_none_are_told_so(name: str, echo: Server) -> None:
    body, wanted = DOCUMENTS[name]
    status, document = echo.request("POST", "/v1/completions", body)
    assert status == (404 if "not served" in wanted else 400)
    assert wanted in document["error"]["message"]
    assert len(document["error"]["message"]) < 300
    assert "Traceback" not in echo.log.read_text()


def test_part_of_a_message_is_a_text_and_not_what_looks_like_one() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": {"a": 1}}]}]})
    with pytest.raises(protocol.RequestError, match="content must be text"):
        protocol.parse(body.encode(), "m", chat=True)


def test_defect_of_ours_is_an_answer_and_a_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Limits()) as (server, port):
        server.model = {1, 2}  # type: ignore[assignment]
        answer = ask_raw(port, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(answer) == [500]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "server_error"
    assert "Traceback" in capsys.readouterr().err


class listening:  # noqa: N801
    """The HTTP side alone, in this process: no engine."""

    def __init__(self, limits: Limits) -> None:
        scheduler = Scheduler({}, 1, 60, 60)
        scheduler._problem = ""
        self.server = Listening(("127.0.0.1", 0), "m", scheduler, limits)

    def __enter__(self) -> tuple[Listening, int]:
        threading.Thread(target=lambda: self.server.serve_forever(0.02), daemon=True).start()
        return self.server, self.server.server_address[1]

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def ask_raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
        raw.sendall(request)
        return said(raw)


# Connections


def test_two_thousand_idle_connections_keep_nobody_out(start: Start) -> None:
    server = start({}, "--head-s", NEVER)
    before = open_files(server.process.pid)
    with Idle(server.port, 2000):
        # Whoever has said nothing for a second gives way.
        until(lambda: answered(server))
        for _ in range(50):
            until(lambda: answered(server))
        assert open_files(server.process.pid) - before <= 256 + places.MOST_LEAVING + 64
        assert threads(server) <= 256 + places.MOST_LEAVING + 16
    until(lambda: open_files(server.process.pid) <= before + 2)
    assert "Traceback" not in server.log.read_text()


def answered(server: Server, **more: Any) -> bool:
    try:
        return server.ask(**more)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def test_few_descriptors_are_enough(start: Start) -> None:
    server = start({}, "--head-s", NEVER, files=220)
    with Idle(server.port, 400):
        for _ in range(5):
            until(lambda: answered(server))
    assert "Too many open files" not in server.log.read_text()


# As if a thousand others had the descriptors below.
MANY_FILES = textwrap.dedent("""
    import os, runpy
    for _ in range(1100):
        os.dup(0)
    runpy.run_module("openai_server", run_name="__main__")
""")


@pytest.mark.parametrize("stream", [True, False])
def test_answer_on_a_high_descriptor_takes_its_time(stream: bool, start: Start) -> None:
    # Longer than the server looks away.
    server = start({"delay": 0.2}, run=("-c", MANY_FILES), files=2000)
    body = json.dumps({"model": "m", "prompt": "hello", "stream": stream}).encode()
    answer = exchange(server, POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert statuses(answer) == [200]
    assert b'"o"' in answer if stream else b'"hello"' in answer
    assert "Traceback" not in server.log.read_text()


def test_where_everybody_is_answered_a_newcomer_is_told_so() -> None:
    with listening(Limits(connections=1)) as (server, port):
        pairs = [socket.socketpair() for _ in range(server.places.most)]
        for ours, _ in pairs:
            assert server.places.take(ours)
            server.places.answers(server.places.of(ours))
        answer = ask_raw(port, HEALTH + b"\r\n")
        assert statuses(answer) == [503]
        assert b"Retry-After: 1" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"] == "too many connections"
        server.places.leave(pairs[0][0])
        assert statuses(ask_raw(port, HEALTH + b"Connection: close\r\n\r\n")) == [200]
        for each in (each for pair in pairs for each in pair):
            each.close()


def test_who_waits_for_the_engine_never_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "GRACE_S", 0)
    held, others = places.Places(3), [socket.socketpair() for _ in range(5)]
    mine = [ours for ours, _ in others]
    assert all(held.take(each) for each in mine[:3])
    held.answers(held.of(mine[0]))
    held.answers(held.of(mine[2]))
    assert held.take(mine[3])
    assert mine[1].recv(1) == b""
    held.answers(held.of(mine[3]))
    assert not held.take(mine[4])
    held.sends(held.of(mine[2]))
    assert held.take(mine[4])
    with pytest.raises(BrokenPipeError):
        mine[2].send(b"x")
    for each in (each for pair in others for each in pair):
        each.close()


def test_newcomers_do_not_chase_each_other_out() -> None:
    held, (one, other) = places.Places(1), socket.socketpair()
    assert held.take(one)
    assert not held.take(other)
    one.close()
    other.close()


SLOW: dict[str, tuple[bytes, bytes]] = {
    # name: what is sent at once, what trickles after it
    "a head": (b"GET /health HTTP/1.1\r\nHost: x\r\nX: ", b"y"),
    "a second head": (HEALTH + b"\r\n" + HEALTH + b"X: ", b"y"),
    "a body": (POST + b"Content-Length: 1000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("name", SLOW)
def test_what_trickles_in_is_waited_for_in_all_and_not_byte_by_byte(name: str, start: Start) -> None:
    begun, more = SLOW[name]
    server = start({}, "--head-s", "3", "--transfer-s", "3")
    with connect(server) as raw:
        raw.sendall(begun)
        raw.settimeout(0.1)
        found, end = b"", time.monotonic() + WAIT_S
        while b" 408 " not in found:
            assert time.monotonic() < end, found
            try:
                raw.sendall(more)
                found += raw.recv(1000)
            except TimeoutError:
                pass
    assert statuses(found) == [*[200] * (name == "a second head"), 408]


def test_connection_that_says_nothing_is_closed_without_a_word(start: Start) -> None:
    server = start({}, "--head-s", "0.5")
    with connect(server) as raw:
        assert said(raw) == b""


# Bodies


def test_body_is_no_larger_than_a_prompt_can_be(start: Start) -> None:
    server = start({"seqlen": 8192})
    size = 16 * MIB - 1
    before = memory_mib(server.process.pid, "VmHWM")

    def one(_: int) -> bytes:
        with connect(server) as raw:
            half_a_body(raw, size)
            return said(raw)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(50)))
    assert {status for each in answers for status in statuses(each)} == {413}
    assert all(b"at most 262144 are taken" in each for each in answers)
    assert memory_mib(server.process.pid, "VmHWM") - before < 32
    assert server.ask()[0] == 200


def test_bodies_of_all_together_are_bounded_where_the_context_is_long(start: Start) -> None:
    server = start({"seqlen": 1_000_000}, "--transfer-s", NEVER)
    before = memory_mib(server.process.pid, "VmHWM")
    held = [connect(server) for _ in range(20)]
    try:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda raw: half_a_body(raw, 16 * MIB - 1), held))
        # 320 MiB have been sent.
        assert server.get("/health")[0] == 200
        assert memory_mib(server.process.pid, "VmHWM") - before < 64 + 32
    finally:
        for raw in held:
            raw.close()
    until(lambda: answered(server))


# Clients that go, and those that do not


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("asks", [b"", b"GET /more"])
def test_client_that_has_no_more_to_say_gets_its_answer(stream: bool, asks: bytes, start: Start) -> None:
    # Longer than the server looks away, before the first token and between two.
    server = start({"delay": 0.7})
    body = json.dumps({"model": "m", "prompt": "hey", "stream": stream}).encode()
    with connect(server) as raw:
        raw.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body + asks)
        raw.shutdown(socket.SHUT_WR)
        answer = said(raw)
    assert [each for each in statuses(answer) if each != 100] == [200]
    assert b"[DONE]" in answer if stream else b'"hey"' in answer


def test_python_s_own_client_takes_the_word_that_its_request_goes_on(start: Start) -> None:
    server = start({"delay": 0.7})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.request("POST", "/v1/completions", BODY)
    connection.sock.shutdown(socket.SHUT_WR)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["choices"][0]["text"]) == (200, "x")
    connection.close()


LONG = {"seqlen": 12_000, "answer": "y" * 9_000}


def reader_that_reads_nothing(server: Server) -> socket.socket:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    body = b'{"model":"m","prompt":"x","stream":true}'
    raw.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return raw


def holds(server: Server, raw: socket.socket) -> bool:
    """Whether the server has this connection open; one that it has closed the kernel keeps for a while, for nobody."""
    wanted = (f"0100007F:{server.port:04X}", f"0100007F:{raw.getsockname()[1]:04X}")
    lines = [each.split() for each in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any((each[1], each[2]) == wanted and each[9] != "0" for each in lines)


def test_reader_that_reads_nothing_is_left(start: Start) -> None:
    server = start(LONG, "--transfer-s", "2")
    with reader_that_reads_nothing(server) as raw:
        until(lambda: server.get("/health")[1]["requests"] == 1)
        assert holds(server, raw)
        until(lambda: not holds(server, raw))
    assert server.get("/health")[1]["requests"] == 0


def test_readers_that_read_nothing_give_way(start: Start) -> None:
    server = start(LONG, "--transfer-s", NEVER, "--queue", "1", "--connections", "4")
    readers = []
    try:
        for _ in range(4):
            readers.append(reader_that_reads_nothing(server))
            # The engine comes to its end with it, and the connection stays: the way to the client is full.
            until(lambda: work(server) == 1)
            until(lambda: work(server) == 0)
        until(lambda: answered(server, max_tokens=1))
        assert sum(holds(server, each) for each in readers) < 4
    finally:
        for each in readers:
            each.close()


def work(server: Server) -> int | None:
    """How many requests wait or run, as soon as there is a place for who asks."""
    try:
        found: int = server.get("/health")[1]["requests"]
    except (OSError, http.client.HTTPException, KeyError):
        return None
    return found


# The engine


def engine(server: Server) -> int:
    """The number of its process."""
    for each in server.children():
        if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text():
            return each
    raise AssertionError(server.children())


def gone(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_engine_that_hangs_fails_everybody_and_ends_the_server(start: Start) -> None:
    server = start({"hang_after": 3}, "--stall-s", "4")
    worker = engine(server)
    with ThreadPoolExecutor(3) as pool:
        # One runs, and two wait.
        answers = [pool.submit(server.ask) for _ in range(3)]
        found = [each.result(WAIT_S) for each in answers]
    assert [status for status, _ in found] == [503] * 3
    assert all("it hangs" in document["error"]["message"] for _, document in found)
    # A status that is not 0: Docker's "unless-stopped" starts the container again, and so would "on-failure".
    assert server.process.wait(timeout=WAIT_S) == 1
    assert gone(worker)
    assert "given up" in server.log.read_text()


def test_engine_that_comes_back_in_time_serves_on(start: Start) -> None:
    server = start({"answer": "y" * 4, "delay": 7}, "--stall-s", "5")
    status, document = server.ask()
    assert (status, "it hangs" in document["error"]["message"]) == (503, True)
    server.wait(200)
    assert server.process.poll() is None


def test_tokens_without_a_text_are_no_hang(start: Start) -> None:
    # All of it may be the beginning of the stop sequence, so nothing is said before the end, for five seconds.
    server = start({"answer": "y" * 50, "delay": 0.1}, "--stall-s", "3")
    status, document = server.ask(stop=["y" * 60])
    assert (status, document["choices"][0]["text"]) == (200, "y" * 50)


def test_model_that_never_loads_ends_the_server(start: Start) -> None:
    server = start({"load": 3600}, "--load-s", "1", ready=False)
    assert server.process.wait(timeout=WAIT_S) == 1
    assert "has not loaded" in server.log.read_text()


def test_engine_that_is_killed_fails_everybody_and_ends_the_server(start: Start) -> None:
    server = start({"answer": "y" * 100, "delay": 0.2})
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(server.ask) for _ in range(2)]
        until(lambda: server.get("/health")[1]["requests"] == 2)
        os.kill(engine(server), signal.SIGKILL)
        found = [each.result(WAIT_S) for each in answers]
    assert [(status, "ended with status" in document["error"]["message"]) for status, document in found] == [
        (503, True)
    ] * 2
    assert server.process.wait(timeout=WAIT_S) == 1


def test_engine_that_does_not_even_read_stops_nobody_else(start: Start) -> None:
    server = start({"seqlen": 1_000_000}, "--stall-s", "3")
    worker = engine(server)
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.ask, prompt="y" * 4 * MIB)
        until(lambda: server.get("/health")[1]["requests"] == 1)
        status, document = answer.result(WAIT_S)
    assert (status, "it hangs" in document["error"]["message"]) == (503, True)
    assert server.process.wait(timeout=WAIT_S) == 1
    assert gone(worker)


# As a process in a driver's call that never comes back: no signal ends it.
IMMORTAL = textwrap.dedent("""
    import multiprocessing.popen_fork, runpy
    multiprocessing.popen_fork.Popen._send_signal = lambda *_: None
    from openai_server import scheduler
    scheduler.JOIN_S = 0.2
    runpy.run_module("openai_server", run_name="__main__")
""")


def test_engine_that_no_signal_ends_does_not_keep_the_server(start: Start) -> None:
    server = start({"hang_after": 1}, "--stall-s", "0.5", run=("-c", IMMORTAL))
    worker = engine(server)
    try:
        assert server.ask()[0] == 503
        assert server.process.wait(timeout=WAIT_S) == 1
        assert "cannot be killed" in server.log.read_text()
        assert not gone(worker)
    finally:
        os.kill(worker, signal.SIGKILL)
