"""One HTTP exchange with a server that may be anything: in bounded time, with bounded bytes, with nobody else.

`openai` makes the requests and reads the answers; this carries them. What `http.client` reads comes through a stream
that knows one deadline for all of it: a limit for each read is none, since a server may send a byte at a time for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from deployer import jsonfile

ANSWER_BYTES = 1_000_000
PIECE = 65536
TLS_S = 2.0
SHOWN = 200
TOO_LONG = f"its answer has more than {ANSWER_BYTES:,} bytes"
# What a server of TLS begins with: an alert, or a handshake.
TLS_RECORDS = ("\x15\x03", "\x16\x03")
NO_TLS = "it speaks TLS, and deployer asks over plain HTTP: no engine here serves with a certificate of its own"


class WireError(Exception):
    """The exchange did not give an answer that could be one; its text says why, in plain words."""


class Deadline:
    """One moment for everything that is done until then."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; an error where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.late()
        return left

    def late(self) -> WireError:
        """What is said when it has passed."""
        return WireError(f"no whole answer within {self.seconds:g} s")

    def within(self, seconds: float) -> Deadline:
        """The earlier one of this and so many seconds from now."""
        return Deadline(seconds) if seconds < self.left() else self


class Stream(io.RawIOBase):
    """A connection's socket as `http.client` wants one; time and bytes are counted for all that is read of it."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._socket, self._deadline, self._count = connected, deadline, 0

    def sendall(self, content: Any) -> None:
        """Send; a server that reads nothing is not waited for longer either."""
        self._socket.settimeout(self._deadline.left())
        try:
            self._socket.sendall(content)
        except TimeoutError:
            raise self._deadline.late() from None

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """What the answer is read from."""
        return io.BufferedReader(self, PIECE)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there, as long as there is time and the answer is not too long."""
        self._socket.settimeout(self._deadline.left())
        try:
            count = self._socket.recv_into(buffer)
        except TimeoutError:
            raise self._deadline.late() from None
        self._count += count
        # The head counts too: it may be endless as well.
        if self._count > ANSWER_BYTES + PIECE:
            raise WireError(TOO_LONG)
        return count

    def close(self) -> None:
        """Whoever has made the connection closes it: `http.client` closes this before it has read the answer."""


class Transport:
    """A transport for the HTTP client that `openai` brings along: httpx, or httpx2 in later versions."""

    def __init__(self, deadline: Deadline, key: str = "") -> None:
        self.deadline, self.key = deadline, key

    def handle_request(self, request: Any) -> Any:
        """Answer a request; whatever is no whole JSON object under a plain status is a `WireError`."""
        status, content = exchange(
            request.method, str(request.url), request.read(), deadline=self.deadline, key=self.key
        )
        library = sys.modules[type(request).__module__.partition(".")[0]]
        # Of the server's headers nothing is taken along: none may say that it is compressed, or where else to go.
        headers = {"Content-Type": "application/json"}
        return library.Response(status, headers=headers, content=content, request=request)

    def __enter__(self) -> Transport:
        """Nothing is kept open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is kept open."""

    def close(self) -> None:
        """Nothing is kept open."""


def exchange(method: str, url: str, body: bytes = b"", *, deadline: Deadline, key: str = "") -> tuple[int, bytes]:
    """Status and content of one answer; with a good status it is a JSON object."""
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or 80
    if place.scheme != "http":
        raise WireError(f"{url[:SHOWN]} is no address of an endpoint")
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
    if body:
        headers["Content-Type"] = "application/json"
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection(host, port)
    with _connected(host, port, deadline) as connected:
        connection.sock = Stream(connected, deadline)
        try:
            connection.request(method, place.path, body or None, headers)
            with connection.getresponse() as answer:
                if answer.status == 400:
                    # How many a server of TLS answers who asks in clear.
                    _require_no_tls("", host, port, deadline)
                return answer.status, _content(answer)
        except ConnectionError as error:
            _require_no_tls("", host, port, deadline)
            raise WireError("it closed the connection without an answer") from error
        except (http.client.HTTPException, ValueError) as error:
            _require_no_tls(str(error), host, port, deadline)
            raise WireError(f"it does not speak HTTP: {shown(str(error)) or type(error).__name__}") from error
        except OSError as error:
            raise WireError(f"the connection broke: {error.strerror or type(error).__name__}") from error


def _content(answer: http.client.HTTPResponse) -> bytes:
    """The whole answer, if it is one."""
    kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if 300 <= answer.status < 400:
        target = shown(answer.getheader("Location") or "nowhere")
        raise WireError(f"it redirects (HTTP {answer.status}) to {target}, which is not followed")
    if answer.getheader("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise WireError("its answer is compressed, which nobody asked for")
    if kind == "text/event-stream":
        raise WireError("it answers with a stream of events, which nobody asked for")
    if (answer.length or 0) > ANSWER_BYTES:
        raise WireError(TOO_LONG)
    pieces, size = [], 0
    while piece := answer.read(PIECE):
        size += len(piece)
        if size > ANSWER_BYTES:
            raise WireError(TOO_LONG)
        pieces.append(piece)
    content = b"".join(pieces)
    if answer.status == 200:
        _require_object(content)
    return content


def _require_object(content: bytes) -> None:
    try:
        document = jsonfile.load(content.decode("utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        said = shown(content.decode("utf-8", "replace"))
        raise WireError(f"its answer is no JSON object: {said!r}" if said else "its answer is empty")


def _connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to one of the host's addresses."""
    addresses = _addresses(host, port, deadline)
    failed: OSError | None = None
    for number, (family, address) in enumerate(addresses):
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            # One that swallows packets leaves time for the others.
            connected.settimeout(deadline.left() / (len(addresses) - number))
            connected.connect(address)
        except OSError as error:
            failed = error
            connected.close()
        except BaseException:
            connected.close()
            raise
        else:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
    if isinstance(failed, TimeoutError):
        raise WireError(f"no connection within {deadline.seconds:g} s") from failed
    raise WireError(f"no connection: {failed.strerror if failed else 'it has no address'}") from failed


def _addresses(host: str, port: int, deadline: Deadline) -> list[tuple[int, Any]]:
    """What a name means. The system's look-up has no limit that could be set: beyond ours its thread is left behind."""
    found: list[tuple[int, Any]] = []
    problem: list[str] = []

    def look_up() -> None:
        try:
            each = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend([(family, address) for family, _, _, _, address in each])
        except (OSError, UnicodeError) as error:
            problem.append(getattr(error, "strerror", None) or "it is no name")

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if found:
        return found
    why = problem[0] if problem else f"no answer within {deadline.seconds:g} s"
    raise WireError(f"{shown(host)} has no address: {why}")


def _require_no_tls(said: str, host: str, port: int, deadline: Deadline) -> None:
    """Tell a server of TLS from one that is broken: by what it said, or by shaking hands with it."""
    if said.startswith(TLS_RECORDS):
        raise WireError(NO_TLS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent in it: this asks only whether it is TLS at all.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _connected(host, port, deadline.within(TLS_S)) as plain, context.wrap_socket(plain):
            pass
    except (OSError, WireError):
        return
    raise WireError(NO_TLS)


def shown(text: str) -> str:
    """A server's words in one short line, without what could do something to a terminal."""
    line = " ".join(text[: 4 * SHOWN].split())
    clean = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
    return clean[:SHOWN] + ("…" if len(clean) > SHOWN else "")
