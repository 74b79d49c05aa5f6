"""An sshd of the tests' own, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.box import free_port

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


@dataclass
class Server:
    """Where it is, and the files with its key as a client knows it (`known`) and with the key that lets one in."""

    place: Path
    port: int

    @property
    def known(self) -> Path:
        return self.place / "known"

    def know(self, public_key: Path) -> None:
        """Let clients of this server know this key of it."""
        self.known.write_text(f"[127.0.0.1]:{self.port} {public_key.read_text()}")


@contextmanager
def sshd(place: Path, *lines: str) -> Iterator[Server]:
    """A server with a key of its own, and these lines in its configuration."""
    if SSHD is None:
        pytest.skip("no sshd on this machine: apt install openssh-server")
    server = Server(place, free_port())
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)
    server.know(place / "host.pub")
    (place / "config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\n"
        f"StrictModes no\nPidFile {place}/pid\nUsePAM no\n" + "".join(f"{line}\n" for line in lines)
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(place / "config")], stderr=(place / "log").open("w"))
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                    break
            time.sleep(0.05)
        assert process.poll() is None, (place / "log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait()
