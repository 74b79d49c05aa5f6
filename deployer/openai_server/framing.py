"""Where a request begins and ends, as RFC 9112 says it. Pure.

What two programs may read in two ways is refused: behind a proxy the second reading is another client's request.
"""

from __future__ import annotations

import http.client
import re
from typing import NamedTuple

from .protocol import RequestError

# The request line and all headers together.
HEAD_LIMIT = 32 * 1024
MOST_DIGITS = 15
REQUEST = re.compile(rb"([A-Z]{1,20}) (?:https?://[^/? ]*)?(/[!-~]*) HTTP/1\.([01])")
# No blank before the colon, no line that goes on in the next, no control character.
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
LENGTH = re.compile(r"[0-9]+")


class Head(NamedTuple):
    """What stands before a body."""

    line: str
    method: str
    path: str
    version: str
    headers: http.client.HTTPMessage

    @property
    def closes(self) -> bool:
        """Whether this is the connection's last request."""
        words = {each.strip().lower() for each in ",".join(self.headers.get_all("Connection") or []).split(",")}
        return "close" in words or (self.version == "HTTP/1.0" and "keep-alive" not in words)


def head(lines: list[bytes]) -> Head:
    """A request's head, from its lines with their ends; RequestError for one that is not by the rules."""
    request, *rest = [_whole(each) for each in lines]
    found = REQUEST.fullmatch(request)
    if not found:
        raise RequestError("the request line is not of HTTP/1.1")
    headers = http.client.HTTPMessage()
    for number, each in enumerate(rest, 1):
        header = HEADER.fullmatch(each)
        if not header:
            raise RequestError(f"header {number} is not a name, a colon and a value")
        name, value = (part.decode("latin-1") for part in header.groups())
        headers[name] = value.rstrip(" \t")
    method, path, minor = (part.decode("ascii") for part in found.groups())
    hosts = len(headers.get_all("Host") or [])
    if hosts > 1 or (minor == "1" and not hosts):
        raise RequestError("the header Host has to be there once")
    return Head(request.decode("latin-1"), method, path, "HTTP/1." + minor, headers)


def _whole(line: bytes) -> bytes:
    """A line without its end, which is CR LF: a bare LF is the end of a line for some and none for others."""
    if not line.endswith(b"\r\n"):
        raise RequestError("each line of a request ends with CR LF")
    return line[:-2]


def length(request: Head) -> int | None:
    """How many bytes the body has, None where nothing says that there is one; RequestError where that is unsure."""
    sizes, codings = (request.headers.get_all(name) or [] for name in ("Content-Length", "Transfer-Encoding"))
    # RFC 9112, 6.1: both are an attempt at smuggling, or a mistake; either way nobody knows where the body ends.
    if codings and (sizes or request.version == "HTTP/1.0"):
        raise RequestError("Transfer-Encoding with Content-Length or under HTTP/1.0: where the body ends is unsure")
    if codings:
        chunked = codings[-1].lower() == "chunked" and len(codings) == 1
        raise RequestError("Content-Length is missing: a body comes in one piece here", 411 if chunked else 501)
    if not sizes:
        return None
    # RFC 9112, 6.3.5: a list of lengths may be refused even where all are the same.
    if len(sizes) > 1 or not LENGTH.fullmatch(sizes[0]):
        raise RequestError("Content-Length has to be one number, of digits alone")
    if len(sizes[0]) > MOST_DIGITS:
        raise RequestError("the body is too large", 413)
    return int(sizes[0])
