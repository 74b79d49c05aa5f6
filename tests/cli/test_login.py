"""Logging in, over a real sshd: with a password, and each trouble with its own cause, remedy and status."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.box import BIN, Box, Result
from tests.sshd import Server, sshd

ACCOUNT, PASSWORD = "deployer-ops", "c0rrect horse"
BANNER = "".join(f"line {number} of a banner that lawyers wrote\n" for number in range(20))
WAYS = {"in this process": "", "by ansible-playbook": "playbook"}


@dataclass
class Login:
    """A host that lets an account in by its password, and how to look at it."""

    box: Box
    server: Server
    # A socket's path may have a hundred characters.
    sockets: str

    def inventory(self, **variables: str) -> None:
        """Write it; connections are this test's own, as an open one asks for nothing."""
        words = " ".join(f"{name}='{value}'" for name, value in variables.items())
        self.box.inventory.write_text(
            f"node1 ansible_host=127.0.0.1 ansible_port={self.server.port} ansible_user={ACCOUNT} "
            f"ansible_ssh_common_args='-o UserKnownHostsFile={self.server.known} -o IdentityAgent=none "
            f"-o ControlPath={self.sockets}/%C' {words}\n"
        )

    def plan(self, *words: str, way: str = "", password: str = "") -> Result:
        """`deployer plan`, without a terminal; the password in a file."""
        environment = self.box.environment() | {"DEPLOYER_OBSERVE": way}
        if password:
            (self.box.home / "password").write_text(password)
            environment["ANSIBLE_CONNECTION_PASSWORD_FILE"] = str(self.box.home / "password")
        line = [str(BIN / "deployer"), "plan", "-i", str(self.box.inventory), "-m", "tiny-qwen2", *words]
        done = subprocess.run(
            line, env=environment, cwd=self.box.home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if os.geteuid() != 0 or not shutil.which("useradd"):
        pytest.skip("an account with a password can be made by root only")
    place = tmp_path_factory.mktemp("login")
    (place / "banner").write_text(BANNER)
    home = Path("/tmp") / f"{ACCOUNT}-home"
    subprocess.run(["useradd", "--create-home", "--home-dir", str(home), "--shell", "/bin/bash", ACCOUNT], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{ACCOUNT}:{PASSWORD}", text=True, check=True)
        with sshd(place, "PasswordAuthentication yes", f"Banner {place}/banner") as found:
            yield found
    finally:
        # An open connection's process is the account's.
        subprocess.run(["pkill", "-KILL", "-u", ACCOUNT], check=False)
        subprocess.run(["userdel", "--remove", "--force", ACCOUNT], check=True, capture_output=True)


@pytest.fixture
def login(server: Server, tmp_path: Path) -> Iterator[Login]:
    server.know(server.place / "host.pub")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="c") as sockets:
        yield Login(Box(tmp_path / "home"), server, sockets)


@pytest.mark.parametrize("way", WAYS)
def test_password_of_a_file_logs_in(way: str, login: Login) -> None:
    login.inventory()
    result = login.plan("--json", way=WAYS[way], password=PASSWORD)
    assert result.status == 0, result.err + result.out
    assert result.json["hosts"]["node1"]["steps"]
    assert PASSWORD not in result.out + result.err


@pytest.mark.parametrize("way", WAYS)
def test_password_that_is_asked_for_logs_in(way: str, login: Login) -> None:
    login.inventory()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "deployer"), "plan", "-i", str(login.box.inventory), "-m", "tiny-qwen2", "--json", "-k"],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=login.box.home, start_new_session=True,
        env=login.box.environment() | {"DEPLOYER_OBSERVE": WAYS[way]},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"SSH password:" not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, PASSWORD.encode() + b"\n")
    out, _ = process.communicate()
    assert Result(process.returncode, out.decode(), "").json["hosts"]["node1"]["steps"]
    shown += os.read(ours, 1000)
    assert PASSWORD.encode() not in shown + out


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["", "wr0ng"])
def test_no_or_a_wrong_password(way: str, given: str, login: Login) -> None:
    login.inventory()
    result = login.plan(way=WAYS[way], password=given)
    assert result.status == 4
    assert "cause: the host does not accept this account's key or password" in result.err
    assert "give a password with --ask-pass (-k)" in result.err
    # What ssh said is told, though a long banner came before it.
    assert "Permission denied (publickey,password" in result.err


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["", PASSWORD])
def test_key_that_was_never_seen(way: str, given: str, login: Login) -> None:
    login.inventory()
    login.server.known.write_text("")
    result = login.plan(way=WAYS[way], password=given)
    assert result.status == 4
    assert "cause: the host's SSH key is not known" in result.err
    assert "log in once with ssh" in result.err
    assert login.server.known.read_text() == ""


@pytest.mark.parametrize("given", ["", PASSWORD])
def test_key_that_has_changed(given: str, login: Login) -> None:
    login.inventory()
    login.server.know(login.server.place / "user.pub")
    result = login.plan(password=given)
    assert result.status == 4
    assert "cause: the host shows another SSH key than before" in result.err
    assert "ssh-keygen -R" in result.err
    assert "@@@" not in result.out
    assert "the host shows another SSH key than before" in " ".join(result.out.split())


def test_key_that_has_changed_and_a_password_by_ansible_playbook(login: Login) -> None:
    # Ansible's words for it do not tell which of the two it is.
    login.inventory()
    login.server.know(login.server.place / "user.pub")
    result = login.plan(way="playbook", password=PASSWORD)
    assert result.status == 4
    assert "is not known here, or is another than before" in result.err


@pytest.mark.skipif(shutil.which("sudo") is not None, reason="this machine has sudo")
@pytest.mark.parametrize("way", WAYS)
def test_host_without_sudo(way: str, login: Login) -> None:
    login.inventory(ansible_become="true")
    result = login.plan(way=WAYS[way], password=PASSWORD)
    assert result.status == 4, result.err
    assert "cause: the host has no sudo" in result.err
    assert "ansible_become_method=su" in result.err
