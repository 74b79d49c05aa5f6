"""The HTTP side: a thread per connection, standard library only."""

from __future__ import annotations

import json
import queue
import select
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import protocol
from .scheduler import FullError, Job, Scheduler, UnwellError

BODY_LIMIT = 16 * 1024 * 1024
LOOK_S = 0.5
CONNECTION_S = 120.0


class GoneError(Exception):
    """Whoever asked has closed the connection."""


class Server(ThreadingHTTPServer):
    """One model behind one port."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], model: str, scheduler: Scheduler) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)
        self.model, self.scheduler, self.created = model, scheduler, int(time.time())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = CONNECTION_S
    # Pieces are small, and each is wanted at once.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Health, and the model."""
        path = self.path.partition("?")[0]
        if path == "/health":
            problem = self.server.scheduler.problem()
            state, depth = self.server.scheduler.state(), self.server.scheduler.depth()
            self._send(503 if problem else 200, {"status": problem or "ok", "state": state, "requests": depth})
        elif path == "/v1/models":
            problem = self.server.scheduler.problem()
            if problem:
                self._fail(protocol.RequestError(problem, 503))
            else:
                context = self.server.scheduler.context
                self._send(200, protocol.models(self.server.model, self.server.created, context))
        else:
            self._fail(protocol.RequestError(f"there is no {path} here", 404))

    def do_POST(self) -> None:
        """A completion."""
        path = self.path.partition("?")[0]
        job: Job | None = None
        try:
            body = self._body()
            chat = _is_chat(path)
            request = protocol.parse(body, self.server.model, chat=chat)
            job = self.server.scheduler.submit(request)
            answer = protocol.Answer(job.number, self.server.model, int(time.time()), chat)
            events = self._events(job)
            (self._stream if request["stream"] else self._whole)(events, answer, request)
        except protocol.RequestError as error:
            self._fail(error)
        except FullError as error:
            self._fail(protocol.RequestError(str(error), 429), {"Retry-After": "1"})
        except UnwellError as error:
            self._fail(protocol.RequestError(str(error), 503))
        except (GoneError, OSError):
            self.close_connection = True
        finally:
            if job is not None:
                self.server.scheduler.cancel(job)

    def _body(self) -> bytes:
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = True
            raise protocol.RequestError("Content-Length is missing", 411) from None
        if not 0 <= size <= BODY_LIMIT:
            self.close_connection = True
            raise protocol.RequestError(f"the body has {size} bytes, at most {BODY_LIMIT} are taken", 413)
        body = self.rfile.read(size)
        if len(body) < size:
            raise GoneError
        return body

    def _events(self, job: Job) -> Iterator[dict[str, Any]]:
        """The job's events, as long as somebody waits for them; an error becomes the status that it means."""
        looked = time.monotonic()
        while True:
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                if self._is_gone():
                    raise GoneError
            try:
                event = job.events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if event["event"] == "error":
                status = {"too_long": 400, "invalid": 400, "unwell": 503}.get(event["kind"], 500)
                code = "context_length_exceeded" if event["kind"] == "too_long" else None
                raise protocol.RequestError(event["message"], status, code=code)
            yield event
            if event["event"] == "end":
                return

    def _is_gone(self) -> bool:
        """Whether the other side has closed; what it may send while it waits is no matter."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def _whole(self, events: Iterator[dict[str, Any]], answer: protocol.Answer, request: dict[str, Any]) -> None:  # noqa: ARG002
        pieces, prompt = [], 0
        for event in events:
            if event["event"] == "begin":
                prompt = event["prompt_tokens"]
            elif event["event"] == "text":
                pieces.append(event["text"])
            else:
                counts = protocol.usage(prompt, event["completion_tokens"])
                self._send(200, answer.whole("".join(pieces), event["reason"], counts), self._told())

    def _stream(self, events: Iterator[dict[str, Any]], answer: protocol.Answer, request: dict[str, Any]) -> None:
        # Nothing is sent before the engine has taken the prompt: until then an error still has a status of its own.
        prompt = next(events)["prompt_tokens"]
        self.send_response(200)
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", **self._told()}
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self._piece(answer.piece(""))
            for event in events:
                if event["event"] == "text":
                    self._piece(answer.piece(event["text"]))
                else:
                    self._piece(answer.piece("", event["reason"]))
                    if request["include_usage"]:
                        self._piece(answer.counts(protocol.usage(prompt, event["completion_tokens"])))
            self._chunk(b"data: [DONE]\n\n")
        except protocol.RequestError as error:
            # The status is said already; the stream says the rest, and is not ended as if all were well.
            self._piece(protocol.error(str(error), error.status))
            self.close_connection = True
        self.wfile.write(b"0\r\n\r\n")

    def _told(self) -> dict[str, str]:
        """Whether temperature and top_p meant anything."""
        return {"X-Sampling": "temperature, top_p" if self.server.scheduler.samples else "greedy only"}

    def _piece(self, document: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8") + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _fail(self, error: protocol.RequestError, headers: dict[str, str] | None = None) -> None:
        self._send(error.status, protocol.error(str(error), error.status, error.param, error.code), headers)

    def _send(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document, ensure_ascii=False).encode("utf-8")
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json; charset=utf-8", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Only what went wrong, and never what was asked."""
        if str(code) >= "500":
            super().log_request(code, size)


def _is_chat(path: str) -> bool:
    """Which of the two completions is asked for; nothing else can be."""
    if path not in ("/v1/completions", "/v1/chat/completions"):
        raise protocol.RequestError(f"there is no {path} here", 404)
    return path == "/v1/chat/completions"
