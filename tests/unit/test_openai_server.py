"""Our own server, run as it runs in the container, over a stand-in with the call signature of LLM-TPU's binding."""

from __future__ import annotations

import ast
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from deployer import verify
from deployer.openai_server.engine import Engine, conversation
from tests.box import free_port
from tests.unit.test_bmodel import made

ROOT = Path(__file__).resolve().parents[2]
BINDING = Path(__file__).parent / "binding"
WAIT_S = 20.0
MODULE = ("-m", "openai_server")


class Server:
    """One server as a process, on a port of its own."""

    def __init__(
        self,
        place: Path,
        facts: dict[str, Any],
        *words: str,
        python: str = sys.executable,
        run: Sequence[str] = MODULE,
        files: int = 0,
    ) -> None:
        self.port = free_port()
        model = place / "x.bmodel"
        model.write_text(json.dumps({"seqlen": 200, **facts}))
        command = [
            python, *run, "--model", str(model), "--config", str(place), "--binding", str(BINDING),
            "--served-model-name", "m", "--port", str(self.port), *words,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'deployer'}:{BINDING}"}
        self.log = place / "log"
        with self.log.open("w") as log:
            if files:
                command = ["prlimit", f"--nofile={files}", *command]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def wait(self, wanted: int = 200) -> dict[str, Any]:
        """Until /health says that."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            try:
                status, document = self.get("/health")
                if status == wanted:
                    return document
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return self.request("GET", path)

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def ask(self, **more: Any) -> tuple[int, dict[str, Any]]:
        return self.request("POST", "/v1/completions", {"model": "m", "prompt": "hello", **more})

    def children(self) -> list[int]:
        """Its processes; the engine's is one of them."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(each) for each in text.split()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=WAIT_S)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server; all are ended."""
    yield from starting(tmp_path)


def starting(place: Path) -> Iterator[Start]:
    made: list[Server] = []

    def run(facts: dict[str, Any], *words: str, ready: bool = True, **more: Any) -> Server:
        server = Server(place, facts, *words, **more)
        made.append(server)
        if ready:
            server.wait()
        return server

    yield run
    for each in made:
        each.close()


def pythons() -> list[str]:
    """The oldest that it is to run on, where this machine has it, and our own."""
    found = [str(path) for path in Path.home().glob(".pyenv/versions/3.8.*/bin/python")]
    found += [path for path in (shutil.which("python3.8"),) if path and "shims" not in path]
    return [*found[:1], sys.executable]


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("module", ["chat", "chat_parallel"])
def test_deployers_own_client_is_content(module: str, python: str, start: Start) -> None:
    server = start({}, "--module", module, "--devices", "0,1", python=python)
    verdict = verify.verify_endpoint(server.base, "m")
    assert verdict.ok, verdict.problem
    assert (verdict.completion, verdict.chat) == ("Hello", "<user>Hello"[: verify.endpoint.MAX_TOKENS])
    assert "Device [ 0 1 ]" in server.log.read_text()


TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "A"},
    {"role": "assistant", "content": "B"},
    {"role": "user", "content": "C"},
]
TEMPLATES = {
    "chatml": (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
        "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama2": "[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B </s><s>[INST] C [/INST]",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_conversation_of_a_tokenizer_without_a_template(template: str) -> None:
    assert conversation(template, TURNS) == TEMPLATES[template]


def test_chatml_has_a_system_s_turn_always() -> None:
    assert conversation("chatml", TURNS[1:2]).startswith("<|im_start|>system\n")


def test_template_that_nobody_knows_is_said() -> None:
    with pytest.raises(ValueError, match="chatman"):
        conversation("chatman", TURNS)


@pytest.mark.parametrize("place", [".", ".."])
def test_binding_of_several_models_is_told_how_many_blocks(place: str, start: Start, tmp_path: Path) -> None:
    config = tmp_path / "tokenizer"
    config.mkdir()
    (config / place / "config.json").write_text('{"num_hidden_layers": 48}')
    server = start({}, "--module", "chat_model", "--config", str(config))
    assert server.ask()[0] == 200


def test_blocks_that_nobody_knows_are_said(start: Start) -> None:
    server = start({}, "--module", "chat_model", ready=False)
    assert server.process.wait(WAIT_S) == 1
    assert "no config.json with num_hidden_layers" in server.log.read_text()


@pytest.mark.parametrize("stream", [True, False])
def test_one_user_s_words_never_reach_the_next(stream: bool, start: Start) -> None:
    server = start({}, "--module", "chat_history")
    assert server.ask(prompt="my secret")[1]["choices"][0]["text"] == "my secret"
    if stream:
        pieces = client(server).completions.create(model="m", prompt="x", stream=True)
        assert "".join(each.choices[0].text for each in pieces) == "x"
    else:
        assert server.ask(prompt="x")[1]["choices"][0]["text"] == "x"


def test_what_was_said_is_forgotten_also_after_a_client_that_left(start: Start) -> None:
    server = start({"delay": 0.05}, "--module", "chat_history")
    body = json.dumps({"model": "m", "prompt": "my secret words", "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as raw:
        raw.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert b"200" in raw.recv(100)
    assert server.ask(prompt="x")[1]["choices"][0]["text"] == "x"


def test_conversation_that_cannot_be_forgotten_is_never_served(start: Start) -> None:
    server = start({}, "--module", "chat_stuck", ready=False)
    assert server.process.wait(WAIT_S) == 1
    assert "user's words would reach the next" in server.log.read_text()


def test_bmodel_with_history_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    server = Server(tmp_path, {}, "--model", str(made(tmp_path / "h.bmodel", {"block_kv_0": [1, 512]})))
    assert server.process.wait(WAIT_S) == 1
    assert "user's words would reach the next" in server.log.read_text()
    assert "loading" not in server.log.read_text()


@pytest.mark.parametrize("longest", [200, 50])
def test_prompt_beyond_what_the_binding_takes_never_reaches_it(longest: int, start: Start) -> None:
    server = start({"longest": longest}, "--module", "chat_history")
    assert server.ask(prompt="y" * min(longest, 100))[0] == 200
    status, document = server.ask(prompt="y" * (longest + 1))
    assert (status, document["error"]["code"]) == (400, "context_length_exceeded")
    assert str(longest) in document["error"]["message"]
    assert server.ask(prompt="y")[0] == 200


def test_tokens_of_the_catalog_end_an_answer_too(start: Start) -> None:
    server = start({"answer": "one|two#three"}, "--stop-tokens", f"{ord('#')},{ord('|')}")
    status, document = server.ask()
    assert (status, document["choices"][0]["text"], document["choices"][0]["finish_reason"]) == (200, "one", "stop")


class Beginning:
    """A tokenizer that puts two tokens before every text, where a template may have written them already."""

    def __call__(self, text: str) -> Any:
        said = text.startswith("[g]")
        self.input_ids = [1, 2, *([1, 2] if said else []), *text[3 if said else 0 :].encode()]
        return self


@pytest.mark.parametrize("text", ["[g]hello", "hello", "[g]", ""])
def test_what_stands_before_every_text_stands_there_once(text: str) -> None:
    engine = Engine.__new__(Engine)
    engine.tokenizer = Beginning()
    assert engine.encode({"prompt": text}) == [1, 2, *text.removeprefix("[g]").encode()]


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base, api_key="none", max_retries=0, timeout=WAIT_S)


def test_answers_are_openai_s(start: Start) -> None:
    server = start({"answer": "Beijing is the capital. And more."})
    whole = client(server).completions.create(model="m", prompt="x", stop=["."])
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("Beijing is the capital", "stop")
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (1, 23)
    said = client(server).chat.completions.create(
        model="m", messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}], max_tokens=7
    )
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("Beijing", "length")
    assert said.usage is not None
    assert said.usage.prompt_tokens == len("<user>hi")
    (model,) = client(server).models.list().data
    assert (model.id, model.to_dict()["max_model_len"]) == ("m", 200)


def test_stream_is_the_same_text_piece_by_piece_with_usage(start: Start) -> None:
    server = start({"answer": "北京是首都 🙂 STOPPED"})
    stream = client(server).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stop="STOP", stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    pieces = list(stream)
    texts = [each.choices[0].delta.content or "" for each in pieces if each.choices]
    assert "".join(texts) == "北京是首都 🙂 "
    assert all("\ufffd" not in text for text in texts)
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == len("北京是首都 🙂 STOP".encode())
    raw = client(server).completions.create(model="m", prompt="x", stream=True, max_tokens=3)
    assert "".join(each.choices[0].text for each in raw) == "北"


STOPS: dict[str, tuple[str, list[str], str]] = {
    "at the beginning": ("STOPx", ["STOP"], ""),
    "begun and not come": ("abSTO", ["STOP"], "abSTO"),
    "begun twice": ("aSTSTOPb", ["STOP"], "aST"),
    "the first of two": ("one two three", ["three", "two"], "one "),
    "across characters": ("甲乙丙", ["乙丙"], "甲"),
    "none": ("plain", [], "plain"),
}


@pytest.mark.parametrize("name", STOPS)
def test_stop_sequences(name: str, start: Start) -> None:
    answer, stop, wanted = STOPS[name]
    server = start({"answer": answer})
    status, document = server.ask(stop=stop)
    assert (status, document["choices"][0]["text"]) == (200, wanted)
    stream = client(server).completions.create(model="m", prompt="x", stop=stop or None, stream=True)
    assert "".join(each.choices[0].text for each in stream) == wanted


def test_sampling_is_the_engine_s_where_it_has_it(start: Start) -> None:
    server = start({"answer": "sampling"}, "--sampling", "sample")
    assert server.ask(temperature=0.5, top_p=0.9)[1]["choices"][0]["text"] == "sample 0.50 0.90"
    assert server.ask(temperature=0)[1]["choices"][0]["text"].startswith("greedy")
    assert server.ask()[1]["choices"][0]["text"].startswith("greedy")


@pytest.mark.parametrize("words", [("--module", "chat_parallel", "--sampling", "sample"), ()])
def test_engine_that_cannot_sample_says_so(words: tuple[str, ...], start: Start) -> None:
    server = start({}, *words)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.request("POST", "/v1/completions", json.dumps({"model": "m", "prompt": "x", "temperature": 0.7}))
    answer = connection.getresponse()
    assert (answer.status, answer.headers["X-Sampling"]) == (200, "greedy only")


WRONG: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 400, "no JSON"),
    "no UTF-8": (b"\xff", 400, "no JSON"),
    "a list": ([], 400, "no JSON object"),
    "another model": ({"model": "x", "prompt": "y"}, 404, "'x' is not served here, 'm' is"),
    "no model": ({"prompt": "y"}, 404, "not served here"),
    "no prompt": ({"model": "m"}, 400, "prompt must be one text"),
    "two prompts": ({"model": "m", "prompt": ["a", "b"]}, 400, "prompt must be one text"),
    "tokens for a prompt": ({"model": "m", "prompt": [1, 2]}, 400, "prompt must be one text"),
    "two answers": ({"model": "m", "prompt": "y", "n": 2}, 400, "only 1 answer"),
    "log probabilities": ({"model": "m", "prompt": "y", "logprobs": 3}, 400, "logprobs is not supported"),
    "tools": ({"model": "m", "prompt": "y", "tools": [{}]}, 400, "tools is not supported"),
    "hot": ({"model": "m", "prompt": "y", "temperature": 3}, 400, "temperature must be a number, 0 to 2"),
    "true": ({"model": "m", "prompt": "y", "temperature": True}, 400, "temperature must be a number"),
    "no tokens": ({"model": "m", "prompt": "y", "max_tokens": 0}, 400, "max_tokens must be a number, at least 1"),
    "half a token": ({"model": "m", "prompt": "y", "max_tokens": 1.5}, 400, "max_tokens must be a number"),
    "five stops": ({"model": "m", "prompt": "y", "stop": list("abcde")}, 400, "up to 4"),
    "a number to stop at": ({"model": "m", "prompt": "y", "stop": [3]}, 400, "stop must be"),
    "longer than the sequence": ({"model": "m", "prompt": "y" * 200}, 400, "the prompt has 200 tokens"),
}


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("echo"), {})
    server.wait()
    yield server
    server.close()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_told_as_openai_tells_them(name: str, echo: Server) -> None:
    body, wanted, said = WRONG[name]
    status, document = echo.request("POST", "/v1/completions", body)
    assert status == wanted
    assert said in document["error"]["message"]
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert echo.ask()[0] == 200


MESSAGES: dict[str, tuple[Any, str]] = {
    "none": (None, "at least one message"),
    "empty": ([], "at least one message"),
    "a text": ("hello", "at least one message"),
    "another role": ([{"role": "robot", "content": "x"}], "messages[0]: role must be one of"),
    "a picture": ([{"role": "user", "content": [{"type": "image_url"}]}], "content must be text"),
    "no content": ([{"role": "user"}], "content must be text"),
    "what the template refuses": ([{"role": "user", "content": "refuse me"}], "takes no such conversation"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_wrong_conversations(name: str, echo: Server) -> None:
    messages, said = MESSAGES[name]
    status, document = echo.request("POST", "/v1/chat/completions", {"model": "m", "messages": messages})
    assert (status, said in document["error"]["message"]) == (400, True), document


def test_other_paths_methods_and_bodies(echo: Server) -> None:
    assert echo.get("/v2")[0] == 404
    assert echo.request("POST", "/v1/embeddings", {})[0] == 404
    with socket.create_connection(("127.0.0.1", echo.port), timeout=WAIT_S) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert b"413" in raw.recv(200)
    with socket.create_connection(("127.0.0.1", echo.port), timeout=WAIT_S) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"411" in raw.recv(200)
    assert echo.ask()[0] == 200


def test_too_long_for_a_stream_is_a_status_and_no_stream(echo: Server) -> None:
    status, document = echo.ask(prompt="y" * 300, stream=True)
    assert (status, document["error"]["code"]) == (400, "context_length_exceeded")


def test_answer_ends_where_the_sequence_does(echo: Server) -> None:
    status, document = echo.ask(prompt="y" * 150, max_tokens=1000)
    assert (status, document["usage"]["completion_tokens"]) == (200, 50)
    assert document["choices"][0]["finish_reason"] == "length"


def test_requests_wait_in_turn_and_beyond_the_queue_are_429(start: Start) -> None:
    server = start({"delay": 0.02}, "--queue", "3")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.ask(prompt="y" * 20), range(12)))
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 4
    refused = next(document for status, document in answers if status == 429)
    assert refused["error"]["type"] == "rate_limit_error"
    assert server.ask()[0] == 200


def test_twenty_clients_lose_nothing_but_what_is_429(start: Start) -> None:
    server = start({"delay": 0.001}, "--queue", "10")
    wrong: list[Any] = []
    counts = {200: 0, 429: 0}
    lock = threading.Lock()

    def one(number: int) -> None:
        for turn in range(15):
            text = f"client {number} turn {turn}"
            status, document = server.ask(prompt=text)
            with lock:
                counts[status] = counts.get(status, 0) + 1
                if status == 200 and document["choices"][0]["text"] != text:
                    wrong.append(document)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))
    assert wrong == []
    assert set(counts) == {200, 429}
    assert sum(counts.values()) == 300
    assert counts[200] > 0


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_makes_room(stream: bool, start: Start) -> None:
    server = start({"answer": "y" * 190, "delay": 0.2})
    body = json.dumps({"model": "m", "prompt": "x", "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as raw:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        while server.get("/health")[1]["requests"] != 1:
            time.sleep(0.02)
    # 190 tokens would take 38 s.
    end = time.monotonic() + WAIT_S
    while server.get("/health")[1]["requests"] != 0:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.ask(max_tokens=1)[0] == 200


def test_client_that_leaves_the_queue_is_never_served(start: Start) -> None:
    server = start({"answer": "y" * 190, "delay": 0.05})
    threading.Thread(target=lambda: server.ask(max_tokens=40), daemon=True).start()
    while server.get("/health")[1]["requests"] != 1:
        time.sleep(0.02)
    body = json.dumps({"model": "m", "prompt": "x"}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as raw:
        raw.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while server.get("/health")[1]["requests"] != 2:
            time.sleep(0.02)
    while server.get("/health")[1]["requests"] != 0:
        time.sleep(0.05)


def test_engine_that_hangs_is_unhealthy_and_takes_nothing_more(start: Start) -> None:
    server = start({"hang_after": 3}, "--stall-s", "4")
    threading.Thread(target=lambda: server.ask(), daemon=True).start()
    document = server.wait(503)
    assert ("it hangs" in document["status"], document["state"]) == (True, "hangs")
    status, refused = server.ask()
    assert (status, "it hangs" in refused["error"]["message"]) == (503, True)
    assert server.get("/v1/models")[0] == 503


def test_engine_that_dies_fails_its_requests_and_ends_the_server(start: Start) -> None:
    server = start({"die_after": 3, "delay": 0.2})
    status, document = server.ask()
    assert (status, "ended with status" in document["error"]["message"]) == (503, True)
    assert server.process.wait(timeout=WAIT_S) == 1


def test_stream_that_breaks_says_so_and_is_not_done(start: Start) -> None:
    server = start({"die_after": 4, "delay": 0.1})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.request("POST", "/v1/completions", json.dumps({"model": "m", "prompt": "hello", "stream": True}))
    text = connection.getresponse().read().decode()
    assert "ended with status" in text
    assert "[DONE]" not in text


def test_while_it_loads_it_is_not_healthy(start: Start) -> None:
    server = start({"load": 3}, ready=False)
    assert server.wait(503)["state"] == "loading"
    assert server.ask()[0] == 503
    server.wait(200)


def test_model_that_cannot_be_loaded_ends_it(start: Start) -> None:
    server = start({"broken": True}, ready=False)
    assert server.process.wait(timeout=WAIT_S) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_at_once_and_leaves_no_process(number: signal.Signals, start: Start) -> None:
    server = start({"answer": "y" * 190, "delay": 0.2})
    threading.Thread(target=lambda: server.ask(), daemon=True).start()
    while server.get("/health")[1]["requests"] != 1:
        time.sleep(0.02)
    children = server.children()
    server.process.send_signal(number)
    assert server.process.wait(timeout=WAIT_S) == 0
    assert children
    end = time.monotonic() + WAIT_S
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_needs_the_standard_library_alone_but_for_the_engine() -> None:
    for path in (ROOT / "deployer" / "openai_server").glob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        names = set()
        for node in tree:
            if isinstance(node, ast.Import):
                names |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).split(".")[0])
        assert names - sys.stdlib_module_names == ({"transformers"} if path.name == "engine.py" else set()), path.name


KEY = "a-key-for-tests-0123456789"
SHOWN: dict[str, tuple[dict[str, str], int, str]] = {
    "the key": ({"Authorization": f"Bearer {KEY}"}, 200, ""),
    "in other letters": ({"authorization": f"bearer {KEY}"}, 200, ""),
    "none": ({}, 401, "an API key is wanted: Authorization: Bearer KEY"),
    "another": ({"Authorization": f"Bearer {KEY}x"}, 401, "the API key is wrong"),
    "a part": ({"Authorization": f"Bearer {KEY[:-1]}"}, 401, "the API key is wrong"),
    "no bearer": ({"Authorization": f"Basic {KEY}"}, 401, "an API key is wanted: Authorization: Bearer KEY"),
    "no letters": ({"Authorization": "Bearer \xff\xfe"}, 401, "the API key is wrong"),
    "an empty one": ({"Authorization": "Bearer "}, 401, "an API key is wanted: Authorization: Bearer KEY"),
}


@pytest.fixture
def locked(start: Start, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a key, which it has from its environment."""
    monkeypatch.setenv("DEPLOYER_API_KEY", KEY)
    return start({})


def test_whoever_has_no_key_gets_health_and_nothing_else(locked: Server) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("POST", "/x"), ("GET", "/healthy")):
        for name, (headers, wanted, why) in SHOWN.items():
            connection = http.client.HTTPConnection("127.0.0.1", locked.port, timeout=WAIT_S)
            body = json.dumps({"model": "m", "prompt": "hello"}).encode() if method == "POST" else None
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            connection.close()
            if wanted == 401:
                error = {"message": why, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
                assert (answer.status, said) == (401, {"error": error}), (path, name)
                assert answer.getheader("WWW-Authenticate") == "Bearer"
            else:
                assert answer.status == (404 if path in ("/x", "/healthy") else 200), (path, name)
    verdict = verify.verify_endpoint(f"http://127.0.0.1:{locked.port}/v1", "m", key=KEY)
    assert verdict.ok, verdict.problem
    assert KEY not in locked.log.read_text()


def test_what_the_engine_starts_does_not_have_the_key(locked: Server) -> None:
    children = psutil.Process(locked.process.pid).children(recursive=True)
    assert children
    assert not any("DEPLOYER_API_KEY" in each.environ() for each in children)
    assert not any(KEY in word for each in (psutil.Process(locked.process.pid), *children) for word in each.cmdline())
