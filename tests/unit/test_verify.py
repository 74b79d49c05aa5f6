"""The verifying client against a real HTTP server that answers rightly, wrongly, or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deployer import verify
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
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.statuses.get(self.path, self.server.status))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
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
    "error": ({}, 500, "Error code: 500"),
    "not found": ({}, 404, "Error code: 404"),
    "no JSON": ({"/v1/models": b"<html>"}, 200, ""),
    "a list": ({"/v1/models": []}, 200, ""),
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
    assert verify.list_models(server.endpoint) == ["m"]
    assert "Connection refused" in verify.list_models(f"http://127.0.0.1:{free_port()}/v1")
