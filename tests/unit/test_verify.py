"""The verifying client against a real HTTP server that answers rightly, wrongly, or not at all."""

from __future__ import annotations

import datetime
import gzip
import json
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from deployer import verify
from deployer.cli.parallel import in_parallel
from tests.box import free_port


class Server(ThreadingHTTPServer):
    """Answers each path with what a test says, and remembers what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        usage = {"prompt_tokens": 1, "completion_tokens": 16, "total_tokens": 17}
        base = {"id": "x", "created": 1, "model": "m", "usage": usage}
        text = {"index": 0, "text": "hi", "finish_reason": "length", "logprobs": None}
        said = {"index": 0, "message": {"role": "assistant", "content": "ho"}, "finish_reason": "length"}
        self.answers: dict[str, Any] = {
            "/v1/models": {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]},
            "/v1/completions": {**base, "object": "text_completion", "choices": [text]},
            "/v1/chat/completions": {**base, "object": "chat.completion", "choices": [said]},
        }
        self.status = 200
        self.statuses: dict[str, int] = {}
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.key = ""

    @property
    def endpoint(self) -> str:
        """Its OpenAI base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    """Answers from the server's table."""

    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        self.server.sent.append((self.path, body))
        answer = self.server.answers[self.path]
        status = self.server.statuses.get(self.path, self.server.status)
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            # As vLLM says it.
            status, answer = 401, {"error": "Unauthorized"}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_right_answers_and_what_was_asked(server: Server) -> None:
    verdict = verify.verify_endpoint(server.endpoint, "m")
    assert (verdict.ok, verdict.problem, verdict.completion, verdict.chat, verdict.tokens) == (True, "", "hi", "ho", 32)
    assert [path for path, _ in server.sent] == ["/v1/models", "/v1/completions", "/v1/chat/completions"]
    for _, body in server.sent[1:]:
        assert body["temperature"] == 0
        assert body["model"] == "m"
        assert "seed" not in body  # S3-R34


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_proxy_of_the_operator_s_shell_is_not_used(
    server: Server, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    assert verify.verify_endpoint(server.endpoint, "m").ok


EMPTY: dict[str, Any] = {"choices": [], "usage": {"completion_tokens": 0, "prompt_tokens": 1, "total_tokens": 1}}
WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "another model": ({"/v1/models": {"object": "list", "data": [{"id": "other"}]}}, 200, "names other, not m"),
    "no model": ({"/v1/models": {"object": "list", "data": []}}, 200, "names no model, not m"),
    "no completion": ({"/v1/completions": EMPTY}, 200, "/v1/completions answered without tokens"),
    "no usage": ({"/v1/completions": {"choices": []}}, 200, "/v1/completions answered without tokens"),
    "no chat": ({"/v1/chat/completions": EMPTY}, 200, "/v1/chat/completions answered without tokens"),
    "error": ({}, 500, "HTTP 500"),
    "not found": ({}, 404, "HTTP 404"),
    "no JSON": ({"/v1/models": b"<html>"}, 200, "its answer is no JSON object: '<html>'"),
    "a list": ({"/v1/models": []}, 200, "its answer is no JSON object: '[]'"),
    "nothing": ({"/v1/models": b""}, 200, "its answer is empty"),
    "deep JSON": ({"/v1/models": b"[" * 200_000}, 200, "its answer is no JSON object: '[[["),
    "no list": ({"/v1/models": {"data": {"id": "m"}}}, 200, "/v1/models answers with no list of models"),
    "no data": ({"/v1/models": {}}, 200, "/v1/models answers with no list of models"),
    "a name that is none": ({"/v1/models": {"data": [{"id": 5}]}}, 200, "/v1/models answers with no list of models"),
    "endless names": ({"/v1/models": {"data": [{"id": "m"}] * 65}}, 200, "names 65 models, at most 64 are read"),
    "escapes in a name": ({"/v1/models": {"data": [{"id": "\x1b[2Jx"}]}}, 200, "names \ufffd[2Jx, not m"),
    "choices that are none": ({"/v1/completions": {"choices": 5}}, 200, "/v1/completions answers with no completion"),
    "a text that is none": ({"/v1/completions": {"choices": [{"text": 5}]}}, 200, "answers with no completion"),
    "usage that is none": ({"/v1/completions": {**EMPTY, "usage": [1]}}, 200, "answers with no completion"),
    "no message": ({"/v1/chat/completions": {"choices": [{}]}}, 200, "/v1/chat/completions answers with no completion"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_no_success(name: str, server: Server) -> None:
    answers, status, said = WRONG[name]
    server.answers |= answers
    server.status = status
    verdict = verify.verify_endpoint(server.endpoint, "m")
    assert verdict.ok is False
    assert said in verdict.problem
    assert server.endpoint in verdict.problem
    assert "\n" not in verdict.problem


def said(server: Server, ended: str, text: str, message: str) -> None:
    """What both endpoints answer."""
    contents = {"text": text, "message": {"role": "assistant", "content": message}}
    for path, key in (("/v1/completions", "text"), ("/v1/chat/completions", "message")):
        choice = {**server.answers[path]["choices"][0], key: contents[key], "finish_reason": ended}
        server.answers[path] = {**server.answers[path], "choices": [choice]}


GARBLED: dict[str, tuple[dict[str, Any], str]] = {
    "the chat": ({"text": "hi", "message": "ведь ประ the"}, "garbled: /v1/chat/completions answered 'ведь ประ the'"),
    "the completion": ({"text": "a \ufffd b", "message": "hi"}, "garbled: /v1/completions answered"),
    "an end that is not known": ({"text": "x", "message": "Hi<|im_end|>\n<|im_start|>"}, "the mark <|im_end|>"),
    "no end": ({"text": "x", "message": "Hello " * 30}, "'Hello' again and again"),
}


@pytest.mark.parametrize("name", GARBLED)
def test_garbled_answer_is_no_success_unless_the_weights_are_random(name: str, server: Server) -> None:
    texts, problem = GARBLED[name]
    said(server, "length", **texts)
    verdict = verify.verify_endpoint(server.endpoint, "m")
    assert verdict.ok is False
    assert verdict.problem.startswith(f"{server.endpoint}: garbled: ")
    assert problem in verdict.problem
    assert verify.verify_endpoint(server.endpoint, "m", random_weights=True).ok


def test_greeting_may_be_long_where_it_is_judged(server: Server) -> None:
    said(server, "length", "hi", "Okay, the user said hello. I think that")
    assert verify.verify_endpoint(server.endpoint, "m").ok
    assert [body["max_tokens"] for path, body in server.sent if "completions" in path] == [16, 64]


EITHER: dict[str, tuple[dict[str, int], bool, tuple[str, ...]]] = {
    "both": ({}, True, ("/v1/completions", "/v1/chat/completions")),
    "chat alone": ({"/v1/completions": 404}, True, ("/v1/chat/completions",)),
    "completions alone": ({"/v1/chat/completions": 405}, True, ("/v1/completions",)),
    "none": ({"/v1/completions": 404, "/v1/chat/completions": 404}, False, ()),
    "chat fails": ({"/v1/chat/completions": 500}, False, ()),
    "completions fail": ({"/v1/completions": 400}, False, ()),
}


@pytest.mark.parametrize("name", EITHER)
def test_one_of_the_two_is_enough_where_no_document_says_which(name: str, server: Server) -> None:
    """T1-X50: which one answers is recorded; one that is there and fails is a fault."""
    server.statuses, good, answers = EITHER[name]
    verdict = verify.verify_endpoint(server.endpoint, "m", both=False)
    assert (verdict.ok, verdict.answers) == (good, answers)
    assert verify.verify_endpoint(server.endpoint, "m").ok is (name == "both")


def test_nobody_there() -> None:
    verdict = verify.verify_endpoint(f"http://127.0.0.1:{free_port()}/v1", "m")
    assert verdict.ok is False
    assert "Connection refused" in verdict.problem


def test_cheap_verify_lists_models_or_says_why_not(server: Server) -> None:
    assert verify.list_models(server.endpoint) == verify.Served(names=("m",))
    nobody = verify.list_models(f"http://127.0.0.1:{free_port()}/v1")
    assert (nobody.names, nobody.problem) == ((), "no connection: Connection refused")


MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})
OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = f"{OK}Content-Length: {len(MODELS)}\r\n\r\n{MODELS}".encode()
HTML = b"<html>The plain HTTP request was sent to HTTPS port</html>"
Send = Callable[[socket.socket], None]


def sends(content: bytes, hold: bool = False) -> Send:
    """Say it, and close, or keep the connection."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(content)
        if hold:
            connection.recv(1)

    return answer


def forever(head: bytes, piece: bytes, pause_s: float) -> Send:
    """Say more and more, without an end."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return answer


# What answers; the plain cause; and within how many seconds it must be there, of a limit of one.
STAND_INS: dict[str, tuple[Send, str]] = {
    "a byte at a time": (forever(b"", b"H", 0.1), "no whole answer within 1 s"),
    "a header at a time": (forever(OK.encode(), b"X: y\r\n", 0.1), "no whole answer within 1 s"),
    "a byte of its body at a time": (
        forever(f"{OK}Content-Length: 9999\r\n\r\n".encode(), b" ", 0.1),
        "no whole answer within 1 s",
    ),
    "only 100 Continue": (forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1), "no whole answer within 1 s"),
    "nothing": (sends(b"", hold=True), "no whole answer within 1 s"),
    "a body without an end": (
        forever(f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode(), b"10000\r\n" + b" " * 65536 + b"\r\n", 0),
        "its answer has more than 1,000,000 bytes",
    ),
    "a body of 400 GB, as it says": (
        sends(f"{OK}Content-Length: 400000000000\r\n\r\n".encode(), hold=True),
        "its answer has more than 1,000,000 bytes",
    ),
    "headers without an end": (forever(OK.encode(), b"X: " + b"y" * 60000 + b"\r\n", 0), "its answer has more than"),
    "a line without an end": (forever(b"", b"H" * 65536, 0), "it does not speak HTTP"),
    "a bomb": (
        sends(f"{OK}Content-Encoding: gzip\r\n\r\n".encode() + gzip.compress(b" " * 10_000_000)),
        "its answer is compressed, which nobody asked for",
    ),
    "a stream of events": (
        forever(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n", b"data: {}\n\n", 0.1),
        "it answers with a stream of events, which nobody asked for",
    ),
    "garbage": (sends(b"\x00\xff\x1b[2J SSH-2.0\r\n"), "it does not speak HTTP: "),
    "a chunk of no size": (
        sends(f"{OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode()), "it does not speak HTTP",
    ),
    "a chunk of less than nothing": (
        sends(f"{OK}Transfer-Encoding: chunked\r\n\r\n-5\r\n".encode()), "it does not speak HTTP",
    ),
    "SSH": (sends(b"SSH-2.0-OpenSSH_9.6\r\n"), "it does not speak HTTP: SSH-2.0-OpenSSH_9.6"),
    "it hangs up": (sends(b""), "it closed the connection without an answer"),
    "half of it": (sends(WHOLE[:-5]), "its answer is no JSON object"),
    "JSON that is HTML": (sends(f"{OK}\r\n<html>hello".encode()), "its answer is no JSON object: '<html>hello'"),
    "an alert of TLS": (sends(b"\x15\x03\x01\x00\x02\x02\x46\r\n"), "it speaks TLS"),
    "another way": (
        sends(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/x\x1b[2J\r\nContent-Length: 0\r\n\r\n"),
        "it redirects (HTTP 307) to http://127.0.0.1:1/x\ufffd[2J, which is not followed",
    ),
    "an error that names the model": (
        sends(b'HTTP/1.1 500 X\r\nContent-Type: application/json\r\n\r\n{"error": {"message": "engine of m is dead"}}'),
        "HTTP 500: engine of m is dead",
    ),
    "an error of vLLM's": (sends(b'HTTP/1.1 401 X\r\n\r\n{"error": "Unauthorized"}'), "HTTP 401: it wants an API key"),
    "an error in HTML": (sends(b"HTTP/1.1 400 X\r\n\r\n" + HTML), "HTTP 400: <html>The plain HTTP request was sent to"),
    "an error of many bytes": (forever(b"HTTP/1.1 500 X\r\n\r\n", b"x" * 65536, 0), "its answer has more than"),
}  # fmt: skip


@contextmanager
def stand_in(answer: Send, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers everybody so, its endpoint, and what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), tls.wrap_socket(connection, server_side=True) if tls else connection as spoken:
            # Those who only connect, to try TLS, say something else.
            asked.append(spoken.recv(65536))
            answer(spoken)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERDICT_TIMEOUT_S", "MODELS_TIMEOUT_S", "LIST_TIMEOUT_S"):
        monkeypatch.setattr(verify.endpoint, name, 1.0)


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize("name", STAND_INS)
def test_whatever_answers_is_judged_in_time_with_a_plain_cause(name: str) -> None:
    answer, cause = STAND_INS[name]
    with stand_in(answer) as (endpoint, _):
        begin = time.monotonic()
        verdict, served = verify.verify_endpoint(endpoint, "m"), verify.list_models(endpoint)
        # Each has a second; the rest is this computer's.
        assert time.monotonic() - begin < 4
    assert (verdict.ok, served.names, served.serves("m")) == (False, (), False)
    assert served.problem.startswith(cause)
    assert verdict.problem.startswith(f"{endpoint}: {cause}")
    assert served.problem.isprintable()


@pytest.mark.usefixtures("one_second")
def test_memory_is_bounded_whatever_is_sent() -> None:
    answer, _ = STAND_INS["a body without an end"]
    with stand_in(answer) as (endpoint, _):
        verify.list_models(endpoint)
        tracemalloc.start()
        verify.list_models(endpoint)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000


def test_redirect_is_not_followed(server: Server) -> None:
    """M2: what the other place answers was taken as this endpoint's models."""
    where = f"HTTP/1.1 307 X\r\nLocation: {server.endpoint}/models\r\nContent-Length: 0\r\n\r\n".encode()
    with stand_in(sends(where)) as (endpoint, _):
        assert verify.list_models(endpoint).names == ()
        assert not verify.verify_endpoint(endpoint, "m").ok
    assert server.sent == []


def certificate(directory: Path) -> ssl.SSLContext:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    clear = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)
    (directory / "x.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "x.pem")
    return context


def test_server_of_tls_is_named(tmp_path: Path) -> None:
    with stand_in(sends(WHOLE), certificate(tmp_path)) as (endpoint, _):
        assert verify.list_models(endpoint).problem == verify.wire.NO_TLS


@pytest.mark.usefixtures("one_second")
def test_name_that_nobody_finds_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's look-up has no limit of its own."""
    release = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        release.wait(30)
        raise OSError(0, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    begin = time.monotonic()
    assert (
        verify.list_models("http://engine.example:8000/v1").problem
        == "engine.example has no address: no answer within 1 s"
    )
    assert time.monotonic() - begin < 3
    release.set()


@pytest.mark.usefixtures("one_second")
def test_slow_endpoints_delay_nobody() -> None:
    """M2: with one that sends a byte a second `status` of a fleet waited for ever."""
    slow, _ = STAND_INS["a byte at a time"]
    with stand_in(slow) as (trickle, _), stand_in(sends(WHOLE)) as (good, _):
        verify.prepare()
        begin = time.monotonic()
        found = in_parallel(verify.list_models, [*[trickle] * 250, good])
        assert time.monotonic() - begin < 4
    assert found[-1] == verify.Served(names=("m",))
    assert {each.problem for each in found[:-1]} == {"no whole answer within 1 s"}


def test_names_and_a_problem_cannot_be_mixed_up() -> None:
    """H2: a text that has the model's name in it was taken for a list that has it."""
    with pytest.raises(TypeError):
        assert "m" in verify.Served(problem="the model m is dead")  # type: ignore[operator]
    assert not verify.Served(problem="m").serves("m")
    assert not verify.Served(names=("m",)).serves("")
    with pytest.raises(ValueError, match="names and a problem"):
        verify.Served(names=("m",), problem="dead")


KEY = "a-key-for-tests-0123456789"


def test_key_is_sent_and_whoever_has_none_must_be_refused(server: Server) -> None:
    server.key = KEY
    assert verify.verify_endpoint(server.endpoint, "m", key=KEY).ok
    assert verify.list_models(server.endpoint, KEY).serves("m")
    for key, why in (("", verify.endpoint.WANTS_KEY), ("b" + KEY, verify.endpoint.REFUSES_KEY)):
        assert verify.list_models(server.endpoint, key).problem == f"HTTP 401: {why}"
        problem = verify.verify_endpoint(server.endpoint, "m", key=key).problem
        assert problem == f"{server.endpoint}: HTTP 401: {why}"
        assert KEY not in problem
    server.key = ""
    verdict = verify.verify_endpoint(server.endpoint, "m", key=KEY)
    assert (verdict.ok, verdict.problem) == (False, f"{server.endpoint}: {verify.endpoint.IGNORES_KEY}")
