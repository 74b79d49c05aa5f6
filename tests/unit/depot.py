"""An SFTP server in this process, on the loopback, which fails in the ways that networks do."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_FAILURE

from deployer.fetch import Server

URL = "open@sophgo.com:/LLM/qwen_512.zip"
NAME = "qwen_512.zip"
MIB = 1024 * 1024
CONTENT = random.Random(1).randbytes(3 * MIB + 4711)
KEY = paramiko.ECDSAKey.generate()


class Door(paramiko.ServerInterface):
    """Lets the public account in."""

    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == ("open", "open")
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def get_allowed_auths(self, _username: str) -> str:
        return "password"

    def check_channel_request(self, _kind: str, _number: int) -> int:
        return OPEN_SUCCEEDED


class Handle(paramiko.SFTPHandle):
    """An open file that counts what it gives, and gives up where it was told to."""

    def __init__(self, depot: Depot, connection: int, path: Path) -> None:
        super().__init__()
        self.depot, self.connection, self.path = depot, connection, path
        self.dead = False

    def read(self, offset: int, length: int) -> bytes | int:
        if self.dead:
            return SFTP_FAILURE
        if offset >= self.depot.cuts.get(self.connection, self.depot.cut):
            self.dead = True
            # What has been sent arrives, and then the line is dead. One answer more would undo that.
            transport = self.depot.transports[self.connection]
            transport.sock.shutdown(socket.SHUT_WR)
            transport.join(30)
            return SFTP_FAILURE
        self.depot.on_read(offset)
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(min(length, self.depot.largest))
        self.depot.served.append((self.connection, offset, len(data)))
        return data


class Files(paramiko.SFTPServerInterface):
    """The files below the depot's root."""

    def __init__(self, server: Door, depot: Depot, connection: int) -> None:
        super().__init__(server)
        self.depot, self.connection = depot, connection

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self.place(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def open(self, path: str, _flags: int, _attributes: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        return Handle(self.depot, self.connection, self.place(path))

    def place(self, path: str) -> Path:
        return self.depot.root / self.canonicalize(path).lstrip("/")


class Depot:
    """An SFTP server on the loopback. `served` has (connection, offset, bytes) of each answer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cut = 1 << 62
        self.cuts: dict[int, int] = {}
        self.largest = 1 << 30
        self.on_read: Callable[[int], object] = lambda _offset: None
        self.served: list[tuple[int, int, int]] = []
        self.transports: list[paramiko.Transport] = []
        self.handler: tuple[Any, ...] = (paramiko.SFTPServer, Files)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = Server("127.0.0.1", self.listener.getsockname()[1], "open", "open", 10.0)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(KEY)
            number = len(self.transports)
            self.transports.append(transport)
            kind, *more = self.handler
            arguments = (*more, self, number) if more else ()
            transport.set_subsystem_handler("sftp", kind, *arguments)
            transport.start_server(event=threading.Event(), server=Door())

    def put(self, content: bytes = CONTENT, name: str = NAME, mtime: int = 1_700_000_000) -> Path:
        path = self.root / "LLM" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (mtime, mtime))
        return path

    def bytes_served(self, first: int = 0) -> int:
        """All that was sent, from that connection on."""
        return sum(length for connection, _, length in self.served if connection >= first)

    def close(self) -> None:
        self.listener.close()
        for transport in self.transports:
            transport.close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def config(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entry(**changed: Any) -> dict[str, Any]:
    return {"id": 0, "host": "10.0.0.1", "port": 32022, "user": "open", "pass": "open", "only_open": True} | changed
