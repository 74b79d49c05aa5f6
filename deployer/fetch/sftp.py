"""Reads a file from an SFTP server (version 3 of the protocol), with many requests on their way at once.

Paramiko brings the encrypted channel alone. The prefetch of its SFTP file is not used: where a server answers with less
than it was asked for, it holds the rest of the file in memory, and it may ask for the same bytes twice.
"""

from __future__ import annotations

import logging
import socket
import stat
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import paramiko

from deployer.fetch.errors import RemoteError, one_line
from deployer.fetch.servers import Server

# What every server must give in one answer, and how much is on its way: 8 MiB are 40 MB/s at 200 ms.
CHUNK = 32768
IN_FLIGHT = 256
# A server that sends nothing for so long has lost the connection.
STALL_S = 60.0
LARGEST_PACKET = 1024 * 1024

_INIT, _VERSION, _OPEN, _CLOSE, _READ, _STAT = 1, 2, 3, 4, 5, 17
_STATUS, _HANDLE, _DATA, _ATTRS = 101, 102, 103, 105
_EOF, _NO_SUCH_FILE, _DENIED = 1, 2, 3

# Paramiko writes a traceback for each server that is no SSH server; the error that arrives here says the same.
_LOG = "deployer.fetch.ssh"
logging.getLogger(_LOG).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Remote:
    """A file on a server: its path there, its size in bytes, and when it was changed, where the server says so."""

    path: str
    size: int
    mtime: int | None


class MissingError(RemoteError):
    """The server is there, and the file is not."""


@contextmanager
def connect(server: Server) -> Iterator[Session]:
    """Log in. The vendor publishes no host keys, so that any is accepted: what is trusted is the file's checksum."""
    try:
        connection = socket.create_connection((server.host, server.port), server.timeout_s)
    except TimeoutError as error:
        raise RemoteError(f"did not answer in {server.timeout_s:g} s") from error
    except (OSError, UnicodeError) as error:
        raise RemoteError(f"cannot be reached: {_said(error)}") from error
    transport = None
    try:
        try:
            transport = paramiko.Transport(connection)
            channel = _login(transport, server)
        except RemoteError:
            raise
        except Exception as error:
            # Paramiko hands on whatever it met in what the server sent.
            raise RemoteError(f"broke off at the login: {_said(error)}") from error
        yield Session(channel)
    finally:
        if transport is not None:
            transport.close()
        connection.close()


def _login(transport: paramiko.Transport, server: Server) -> paramiko.Channel:
    """Not all that Paramiko waits for here has a limit, so the whole of it gets one."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        transport.close()

    transport.set_log_channel(_LOG)
    transport.banner_timeout = transport.auth_timeout = server.timeout_s * 2
    limit = threading.Timer(server.timeout_s, expire)
    limit.daemon = True
    limit.start()
    try:
        transport.start_client(timeout=server.timeout_s * 2)
        try:
            transport.auth_password(server.user, server.password)
        except paramiko.AuthenticationException as error:
            raise RemoteError(f"did not let the account {server.user} in: {one_line(error)}") from error
        transport.set_keepalive(30)
        channel = transport.open_session(window_size=CHUNK * IN_FLIGHT, timeout=server.timeout_s * 2)
        channel.settimeout(STALL_S)
        channel.invoke_subsystem("sftp")
    except Exception as error:
        if expired.is_set():
            raise RemoteError(f"did not answer in {server.timeout_s:g} s") from error
        raise
    finally:
        limit.cancel()
    return channel


def _said(error: Exception) -> str:
    """An error of the connection in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    return one_line(error) or f"closed the connection ({type(error).__name__})"


class Session:
    """A connection that speaks SFTP. Everything that goes wrong in it is a RemoteError."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._number = 0
        self._awaited: set[int] = set()
        self._arrived: dict[int, tuple[int, bytes]] = {}
        self._transmit(_INIT, struct.pack(">I", 3))
        kind, body = self._packet()
        if kind != _VERSION or body[:4] != struct.pack(">I", 3):
            raise RemoteError("does not speak version 3 of SFTP")

    def find(self, path: str) -> Remote:
        """The file of this path, below the directory of the login or below the root."""
        try:
            return self.look(path)
        except MissingError:
            return self.look(f"/{path}")

    def look(self, path: str) -> Remote:
        """The file of exactly this path."""
        answer = self._answer(self._ask(_STAT, _text(path.encode())))
        fields = self._fields(answer, _ATTRS, "does not say how large the file is")
        flags = fields.number(4)
        if not flags & 1:
            raise RemoteError("does not say how large the file is")
        size = fields.number(8)
        if flags & 2:
            fields.number(8)
        mode = fields.number(4) if flags & 4 else stat.S_IFREG
        mtime = fields.number(8) & 0xFFFFFFFF if flags & 8 else None
        # Some servers give the permissions alone, without the kind of file.
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise MissingError("has no file there, but something else")
        if size == 0:
            raise MissingError("has an empty file there")
        if size >= 1 << 62:
            raise RemoteError(f"says that the file has {size} bytes")
        return Remote(path, size, mtime)

    def read(self, remote: Remote, offset: int) -> Iterator[bytes]:
        """The file's bytes from there on, in their order; its size decides how many.

        Where the connection breaks off, what has arrived by then is given out all the same.
        """
        opened = self._ask(_OPEN, _text(remote.path.encode()) + struct.pack(">II", 1, 0))
        handle = _text(self._fields(self._answer(opened), _HANDLE, "opens no file").text())
        pending: deque[tuple[int, int, int]] = deque()
        asked, broken = offset, None
        while pending or asked < remote.size:
            while asked < remote.size and len(pending) < IN_FLIGHT and broken is None:
                length = min(CHUNK, remote.size - asked)
                try:
                    number = self._ask(_READ, handle + struct.pack(">QI", asked, length))
                except RemoteError as error:
                    broken = error
                    break
                pending.append((number, asked, length))
                asked += length
            if broken is not None and not pending:
                raise broken
            number, at, length = pending.popleft()
            data = self._data(number, at, remote)
            if not 0 < len(data) <= length:
                raise RemoteError(f"answered {len(data)} bytes where {length} were asked for")
            if len(data) < length:
                at, length = at + len(data), length - len(data)
                pending.appendleft((self._ask(_READ, handle + struct.pack(">QI", at, length)), at, length))
            yield data
        self._answer(self._ask(_CLOSE, handle))

    def _data(self, number: int, at: int, remote: Remote) -> bytes:
        kind, body = self._answer(number)
        if kind == _STATUS and body[:4] == struct.pack(">I", _EOF):
            raise RemoteError(f"ended the file at {at} of {remote.size} bytes")
        return self._fields((kind, body), _DATA, "sends no data").text()

    def _fields(self, answer: tuple[int, bytes], kind: int, otherwise: str) -> _Fields:
        """The answer's content where it is of that kind; else what the server said instead."""
        if answer[0] == kind:
            return _Fields(answer[1])
        if answer[0] != _STATUS:
            raise RemoteError("does not keep to the SFTP protocol")
        fields = _Fields(answer[1])
        code = fields.number(4)
        if code == _NO_SUCH_FILE:
            raise MissingError("has no such file")
        if code == _DENIED:
            raise MissingError("does not permit to read the file")
        said = one_line(fields.text().decode("utf-8", errors="replace")) if fields.more else ""
        raise RemoteError(f"{otherwise}: {said or f'status {code}'}")

    def _ask(self, kind: int, body: bytes) -> int:
        """Send a request; its number is what the answer to it carries."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._awaited.add(self._number)
        self._transmit(kind, struct.pack(">I", self._number) + body)
        return self._number

    def _answer(self, number: int) -> tuple[int, bytes]:
        """The answer to that request. Others that come before it are kept, and are never more than were asked for."""
        while number not in self._arrived:
            kind, body = self._packet()
            found = _Fields(body).number(4)
            if found not in self._awaited:
                raise RemoteError("does not keep to the SFTP protocol")
            self._awaited.remove(found)
            self._arrived[found] = (kind, body[4:])
        return self._arrived.pop(number)

    def _transmit(self, kind: int, body: bytes) -> None:
        try:
            self._channel.sendall(struct.pack(">IB", len(body) + 1, kind) + body)
        except TimeoutError as error:
            raise RemoteError(f"took nothing for {STALL_S:g} s") from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise RemoteError(f"lost the connection: {_said(error)}") from error

    def _packet(self) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", self._take(4))
        if not 0 < length <= LARGEST_PACKET:
            raise RemoteError("does not keep to the SFTP protocol")
        packet = self._take(length)
        return packet[0], packet[1:]

    def _take(self, length: int) -> bytes:
        while len(self._received) < length:
            try:
                piece = self._channel.recv(max(CHUNK * 2, length))
            except TimeoutError as error:
                raise RemoteError(f"sent nothing for {STALL_S:g} s") from error
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise RemoteError(f"lost the connection: {_said(error)}") from error
            if not piece:
                raise RemoteError("closed the connection")
            self._received += piece
        taken = bytes(self._received[:length])
        del self._received[:length]
        return taken


class _Fields:
    """The numbers and texts of an answer, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def more(self) -> bool:
        return bool(self._content)

    def number(self, size: int) -> int:
        return int.from_bytes(self._cut(size), "big")

    def text(self) -> bytes:
        return self._cut(self.number(4))

    def _cut(self, size: int) -> bytes:
        if len(self._content) < size:
            raise RemoteError("does not keep to the SFTP protocol")
        cut, self._content = self._content[:size], self._content[size:]
        return cut


def _text(content: bytes) -> bytes:
    """A text as the protocol has it: its length first."""
    return struct.pack(">I", len(content)) + content
