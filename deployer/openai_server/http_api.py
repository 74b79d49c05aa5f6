"""The HTTP side: a thread per connection, standard library only. Nobody outside makes it wait, or grow, without end."""

from __future__ import annotations

import contextlib
import errno
import hmac
import http.client
import io
import json
import queue
import resource
import select
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, NoReturn

from . import framing, protocol
from .places import Bytes, Places
from .scheduler import FullError, Job, Scheduler, UnwellError
from .wire import Incoming, Outgoing

LOOK_S = 0.5
# A token is 32 bytes of a body at the most, whatever stands around it and however it is written.
TOKEN_BYTES = 32
SMALLEST_LIMIT, LARGEST_LIMIT = 64 * 1024, 16 * 1024 * 1024
# Of all bodies that are here at once, as long as their requests are.
LEAST_BODIES, MOST_BODIES = 32 * 1024 * 1024, 64 * 1024 * 1024
PIECE = 64 * 1024
SEND_BUFFER = 128 * 1024
# A connection may be without a request for so long between two, if nobody else wants its place.
KEEP_S = 60.0
# For the rest of a request that was refused: a connection that is closed before is reset, and the refusal lost.
LINGER_S = 2.0
MOST_REFUSED = 64
# Descriptors that are not clients': the log, the pipe, the engine's libraries.
OWN_FILES = 64
ASIDE_S = 0.1
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class GoneError(Exception):
    """Whoever asked has closed the connection."""


class Limits(NamedTuple):
    """What clients may have."""

    connections: int = 256
    head_s: float = 10.0
    transfer_s: float = 30.0


class Server(ThreadingHTTPServer):
    """One model behind one port."""

    daemon_threads = True
    request_queue_size = 256
    # What clients have to show; empty where nobody is asked.
    key = ""

    def __init__(self, address: tuple[str, int], model: str, scheduler: Scheduler, limits: Limits) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)
        self.model, self.scheduler, self.created, self.limits = model, scheduler, int(time.time()), limits
        # All that wait for the engine have a place, and some that only ask how it is.
        places = max(limits.connections, 2 * (scheduler.room + 1))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files != resource.RLIM_INFINITY:
            places = max(1, min(places, files - OWN_FILES - 2 * MOST_REFUSED))
        self.places = Places(places)
        self.bodies = Bytes(MOST_BODIES)
        # A parsed document may be twenty times its text: one at a time.
        self.parsing = threading.Lock()
        self._refused: deque[tuple[float, socket.socket]] = deque()

    def get_request(self) -> Any:
        """A newcomer; without a descriptor for it, a place is made first."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and not self.places.oust():
                # It goes on waiting in the kernel, and would be offered again at once.
                time.sleep(ASIDE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a newcomer, or 503 where everybody here is being answered."""
        if self.places.take(request):
            super().process_request(request, client_address)
        else:
            self._refuse(request)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        super().shutdown_request(request)
        self.places.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def service_actions(self) -> None:
        """Close refused connections whose clients have had time to read why."""
        while self._refused and (
            len(self._refused) > MOST_REFUSED or time.monotonic() - self._refused[0][0] > LINGER_S
        ):
            self._refused.popleft()[1].close()

    def _refuse(self, request: socket.socket) -> None:
        """Say so, and wait for nothing."""
        body = json.dumps(protocol.error("too many connections", 503)).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        )
        request.setblocking(False)
        with contextlib.suppress(OSError):
            request.send(head.encode() + body)
            request.shutdown(socket.SHUT_WR)
        self._refused.append((time.monotonic(), request))
        self.service_actions()

    def body_limit(self) -> int:
        """The largest body that can be a prompt which the model takes."""
        limit = min(LARGEST_LIMIT, max(SMALLEST_LIMIT, self.scheduler.context * TOKEN_BYTES))
        # Room for one of each request that may wait.
        self.bodies.most = min(MOST_BODIES, max(LEAST_BODIES, (self.scheduler.room + 1) * limit))
        return limit


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = None
    # Pieces are small, and each is wanted at once.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Both directions have deadlines, and a client whose machine has gone is noticed."""
        super().setup()
        # What a client does not take is the kernel's to keep, by itself up to megabytes for each.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            self.connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        limits = self.server.limits
        self.place = self.server.places.of(self.connection)
        self.incoming = Incoming(self.connection, time.monotonic() + limits.head_s)
        self.outgoing = Outgoing(self.connection, limits.transfer_s)
        self.rfile = self.reader = io.BufferedReader(self.incoming)
        self.wfile = self.outgoing
        # A poll knows no highest descriptor, which select does.
        self._poll = select.poll()
        self._poll.register(self.connection, select.POLLRDHUP)
        self._later = False
        self._blank()

    def _blank(self) -> None:
        """Before a request."""
        self.command = self.path = self.requestline = ""
        self.request_version = self.protocol_version
        self.headers = http.client.HTTPMessage()
        # How long the body is said to be, what of it has not been read, and what is counted.
        self._size: int | None = None
        self._unread = self._counted = 0
        self._begun = self._asked = False

    def handle_one_request(self) -> None:
        """One request, or none; where anything was asked, never without an answer."""
        self._blank()
        self.close_connection = True
        try:
            if self._read_head():
                self._method()()
        except protocol.RequestError as error:
            # Where this request ends, and another begins, is not sure.
            self.close_connection = True
            self._fail(error)
            self._linger()
        except (GoneError, OSError):
            self.close_connection = True
        except Exception:
            # A defect of ours.
            self.close_connection = True
            for line in traceback.format_exc().splitlines():
                self.log_error("%s", line)
            self._fail(protocol.RequestError("the server has failed at this request", 500))
        finally:
            self.server.bodies.give_back(self._counted)
            self.server.places.reads(self.place)
        if self._unread:
            self._linger()
        self.incoming.until = time.monotonic() + KEEP_S
        self.outgoing.until = float("inf")

    def _read_head(self) -> bool:
        """Read what stands before the body; whether there was anything."""
        try:
            if not self.reader.peek(1):
                return False
        except OSError:
            return False
        if self._later:
            self.incoming.until = time.monotonic() + self.server.limits.head_s
        self._later = True
        head = framing.head(self._lines())
        self.requestline, self.command, self.path, self.request_version, self.headers = head
        self._size = framing.length(head)
        self._unread = self._size or 0
        self.close_connection = head.closes
        if self._unread and self.command != "POST":
            raise protocol.RequestError(f"{self.command} has no body here")
        return True

    def _lines(self) -> list[bytes]:
        """The head's lines; its end is an empty one."""
        lines: list[bytes] = []
        size = 0
        while True:
            with self._in_time():
                line = self.rfile.readline(framing.HEAD_LIMIT - size + 1)
            size += len(line)
            if size > framing.HEAD_LIMIT:
                raise protocol.RequestError(f"the head has more than {framing.HEAD_LIMIT} bytes", 431)
            if not line.endswith(b"\n"):
                self._ended()
            if line != b"\r\n":
                lines.append(line)
            elif lines:
                return lines

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """Reading of a request that has begun."""
        try:
            yield
        except socket.timeout:
            raise protocol.RequestError("the request has not come in time", 408) from None

    def _ended(self) -> NoReturn:
        """A request that ends before its end: the client has gone, or had to make room."""
        if self.place.ousted:
            raise protocol.RequestError("too many connections", 503)
        raise GoneError

    def _method(self) -> Callable[[], None]:
        """What answers."""
        found = {"GET": self.do_GET, "POST": self.do_POST}.get(self.command)
        if not found:
            raise protocol.RequestError(f"{self.command} is not known here", 501)
        return found

    def _linger(self) -> None:
        """Let the client read why: a connection that is closed while it still sends is reset, and the answer lost."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.incoming.until = time.monotonic() + LINGER_S
            rest = bytearray(PIECE)
            while self.incoming.readinto(rest):
                pass

    def do_GET(self) -> None:
        """Health, and the model."""
        path = self.path.partition("?")[0]
        if not self._is_allowed(path):
            return
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
        if not self._is_allowed(path):
            return
        job: Job | None = None
        try:
            chat = _is_chat(path)
            body = self._body()
            self.server.places.answers(self.place)
            with self.server.parsing:
                request = protocol.parse(body, self.server.model, chat=chat)
            del body
            job = self.place.job = self.server.scheduler.submit(request)
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

    def _is_allowed(self, path: str) -> bool:
        """Whether the client has shown the key, or needs none; if not it is told. Health is everybody's."""
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        shown = key.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        wanted = self.server.key.encode()
        if not wanted or path == "/health" or hmac.compare_digest(shown, wanted):
            return True
        # A body that is not read would be taken for the next request.
        self.close_connection = True
        why = "the API key is wrong" if shown else "an API key is wanted: Authorization: Bearer KEY"
        self._fail(protocol.RequestError(why, 401, code="invalid_api_key"), {"WWW-Authenticate": "Bearer"})
        return False

    def _body(self) -> bytes:
        """All of it, if it is no larger than a prompt can be, and there is room for it."""
        if self._size is None:
            self.close_connection = True
            raise protocol.RequestError("Content-Length is missing", 411)
        if problem := self.server.scheduler.problem():
            raise UnwellError(problem)
        limit = self.server.body_limit()
        if self._size > limit:
            raise protocol.RequestError(f"the body has {self._size} bytes, at most {limit} are taken", 413)
        if self.headers.get("Expect", "").lower() == "100-continue" and self.request_version != "HTTP/1.0":
            self.wfile.write(CONTINUE)
        self.incoming.until = time.monotonic() + self.server.limits.transfer_s
        pieces = []
        while self._unread:
            count = min(PIECE, self._unread)
            if not self.server.bodies.take(count):
                raise UnwellError("too many requests are being read")
            self._counted += count
            with self._in_time():
                piece = self.rfile.read(count)
            if len(piece) < count:
                self._ended()
            self._unread -= count
            pieces.append(piece)
        return b"".join(pieces)

    def _events(self, job: Job) -> Iterator[dict[str, Any]]:
        """The job's events, as long as somebody waits for them; an error becomes the status that it means."""
        looked = time.monotonic()
        while True:
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                self._look()
            try:
                event = job.events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if job.ended is not None:
                # What is left to be taken has a time limit as a whole.
                self.outgoing.until = job.ended + self.server.limits.transfer_s
            if event["event"] == "error":
                status = {"too_long": 400, "invalid": 400, "unwell": 503}.get(event["kind"], 500)
                code = "context_length_exceeded" if event["kind"] == "too_long" else None
                raise protocol.RequestError(event["message"], status, code=code)
            yield event
            if event["event"] == "end":
                return

    def _look(self) -> None:
        """GoneError where the other side has closed; what it may send while it waits is no matter.

        One that has only ended what it has to say waits for its answer. Which of both it is, its machine says when
        something is sent: a part of the answer, or where none has been yet, that the request goes on.
        """
        flags = 0
        for _, flag in self._poll.poll(0):
            flags |= flag
        if flags & GONE:
            raise GoneError
        if flags & select.POLLRDHUP and not (self._begun or self._asked or self.request_version == "HTTP/1.0"):
            self._asked = True
            self.wfile.write(CONTINUE)

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
        self._begun = True
        self.send_response(200)
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", **self._told()}
        if self.request_version == "HTTP/1.0":
            self.close_connection = True
        else:
            headers["Transfer-Encoding"] = "chunked"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
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
        if self.request_version != "HTTP/1.0":
            self.wfile.write(b"0\r\n\r\n")

    def _told(self) -> dict[str, str]:
        """Whether temperature and top_p meant anything."""
        return {"X-Sampling": "temperature, top_p" if self.server.scheduler.samples else "greedy only"}

    def _piece(self, document: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        if self.request_version != "HTTP/1.0":
            content = b"%x\r\n%s\r\n" % (len(content), content)
        self.wfile.write(content)

    def _fail(self, error: protocol.RequestError, headers: dict[str, str] | None = None) -> None:
        self._send(error.status, protocol.error(str(error), error.status, error.param, error.code), headers)

    def _send(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        if self._begun:
            self.close_connection = True
            return
        content = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        self._begun = True
        self.server.places.sends(self.place)
        if self._unread:
            # What follows would be read as another request.
            self.close_connection = True
        headers = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        if self.close_connection:
            headers["Connection"] = "close"
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
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
