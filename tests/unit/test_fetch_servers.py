"""The vendor's list of servers, and servers that say something odd."""

from __future__ import annotations

import importlib
import stat
import struct
import sys
from pathlib import Path

import paramiko
import pytest

from deployer import fetch
from deployer.fetch import FetchError, Server, available_servers, dfss, servers
from tests.unit.depot import CONTENT, NAME, URL, Depot, config, entry, sha256


class Script(paramiko.SubsystemHandler):
    """Answers the requests one after the other with what it was given."""

    replies: tuple[bytes, ...] = ()

    def start_subsystem(self, _name: str, _transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        for reply in self.replies:
            channel.recv(65536)
            channel.sendall(reply)
        channel.recv(65536)


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


VERSION = packet(2, struct.pack(">I", 3))
OPENED = packet(102, struct.pack(">II", 2, 1) + b"h")


def found(size: int) -> bytes:
    """The answer to the first request: a file of this size."""
    return packet(105, struct.pack(">IIQII", 1, 5, size, stat.S_IFREG | 0o644, 0)[:-4])


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "does not keep to the SFTP protocol"),
        ((struct.pack(">I", 0) + bytes(16),), "does not keep to the SFTP protocol"),
        ((packet(2, struct.pack(">I", 2)),), "does not speak version 3"),
        ((VERSION, packet(105, b"\0")), "does not keep to the SFTP protocol"),
        ((VERSION, packet(105, struct.pack(">I", 77))), "does not keep to the SFTP protocol"),
        ((VERSION, packet(105, struct.pack(">II", 1, 4) + bytes(4))), "does not say how large"),
        ((VERSION, found(1 << 63)), "says that the file has 9223372036854775808 bytes"),
        ((VERSION, packet(101, struct.pack(">III", 1, 4, 7) + b"\x1b[31mNo\n")), r"large the file is: \[31mNo"),
        ((VERSION, packet(101, struct.pack(">II", 1, 4))), "status 4"),
        ((VERSION, found(10), OPENED, packet(103, struct.pack(">II", 3, 11) + bytes(11))), "answered 11 bytes"),
        ((VERSION, found(10), OPENED, packet(101, struct.pack(">II", 3, 1))), "ended the file at 0 of 10"),
    ],
)
def test_server_that_says_something_odd(
    replies: tuple[bytes, ...], said: str, depot: Depot, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dfss, "PAUSES_S", ())
    depot.handler = (type("Scripted", (Script,), {"replies": replies}),)
    with pytest.raises(FetchError, match=said) as caught:
        fetch.fetch(URL, place, [depot.server])
    assert caught.value.message.isprintable()
    assert not (place / NAME).exists()


def test_servers_of_the_vendors_list_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [
        "x",
        entry(host=""),
        entry(port=0),
        entry(port="22"),
        entry(user=""),
        entry(**{"pass": None}),
        entry(port=True),
    ]
    content = {
        "connect_timeout": 60,
        "sdk": [entry(), *odd, entry(host="fe80::1", port=22, user="o")],
        "hdk": [entry()],
    }
    monkeypatch.setenv(servers.VARIABLE, str(config(tmp_path / "mirror.json", content)))
    found = available_servers()
    assert [str(each) for each in found] == ["10.0.0.1:32022", "[fe80::1]:22"]
    assert found[0] == Server("10.0.0.1", 32022, "open", "open", servers.TIMEOUT_S)


@pytest.mark.parametrize(
    ("timeout", "expected"), [(3, 3.0), (0, 20.0), (-1, 20.0), ("5", 20.0), (True, 20.0), (1e999, 20.0), (None, 20.0)]
)
def test_time_limit_of_the_list(
    timeout: object, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path / "mirror.json", {"connect_timeout": timeout, "sdk": [entry()]})
    monkeypatch.setenv(servers.VARIABLE, str(path))
    assert available_servers()[0].timeout_s == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "has no list 'sdk'"),
        ({"sdk": {}}, "has no list 'sdk'"),
        ({"sdk": [entry(host=None)]}, "names no server"),
        (" " * (servers.LIMIT + 1), "is larger than"),
        (None, "cannot be read: No such file"),
    ],
)
def test_list_of_servers_that_makes_no_sense(
    content: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mirror.json"
    if content is not None:
        config(path, content)
    monkeypatch.setenv(servers.VARIABLE, str(path))
    with pytest.raises(FetchError, match=f"mirror.json.*{said}") as caught:
        available_servers()
    assert servers.VARIABLE in caught.value.remedy


def test_list_of_the_installed_package_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(servers.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "dfss", None)
    with pytest.raises(FetchError, match="dfss is not installed") as caught:
        available_servers()
    assert "pip install 'deployer[dfss]'" in caught.value.remedy
    config(tmp_path / "dfss" / "output" / "dfss-config.json", {"sdk": [entry()]})
    (tmp_path / "dfss" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "dfss")
    importlib.invalidate_caches()
    assert [each.host for each in available_servers()] == ["10.0.0.1"]
    monkeypatch.delitem(sys.modules, "dfss")


def test_default_servers_are_those_of_the_list(
    depot: Depot, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.put()
    path = config(tmp_path / "mirror.json", {"sdk": [entry(host="127.0.0.1", port=depot.server.port)]})
    monkeypatch.setenv(servers.VARIABLE, str(path))
    assert fetch.fetch(URL, place).sha256 == sha256(CONTENT)
