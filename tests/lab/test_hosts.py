"""The lab's hosts are what they are said to be: seen from outside, with ssh, sudo, apt and dnf, without deployer."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.box import BIN
from tests.lab.labbox import LabBox

pytestmark = [pytest.mark.lab, pytest.mark.full]
INVENTORY = """\
[deb]
d11 ansible_host=192.0.2.61 lab_os=debian11
d12 ansible_host=192.0.2.62 lab_os=debian
d13 ansible_host=192.0.2.63 lab_os=debian13 lab_host_key=unknown
deb-asks ansible_host=192.0.2.64 lab_os=debian12 lab_login=password
deb-none ansible_host=192.0.2.65 lab_os=debian11 lab_repository=none
deb-far ansible_host=192.0.2.66 lab_os=debian13 lab_repository=unreachable
deb-old ansible_host=192.0.2.67 lab_os=debian11 lab_repository=old
[rpm]
oe ansible_host=192.0.2.71
rpm-asks ansible_host=192.0.2.72 lab_login=password
rpm-none ansible_host=192.0.2.73 lab_repository=none
rpm-far ansible_host=192.0.2.74 lab_repository=unreachable
rpm-old ansible_host=192.0.2.75 lab_repository=old
[all:vars]
ansible_user=ops
ansible_become=true
lab_accelerator=cpu
"""
SYSTEMS = {
    # host: what it is, Python, the kernel it says, its package manager, and the other one
    "d11": ("debian 11", "Python 3.9.", "5.10.0-32-amd64", "apt-get", "dnf"),
    "d12": ("debian 12", "Python 3.11.", "6.1.0-50-amd64", "apt-get", "dnf"),
    "d13": ("debian 13", "Python 3.13.", "6.12.117+deb13-amd64", "apt-get", "dnf"),
    "oe": ("openEuler 22.03", "Python 3.9.", "5.10.0-216.0.0.115.oe2203sp4.x86_64", "dnf", "apt-get"),
}
# A program that says that it ran, as an image: nothing else is in it.
RUN = """
set -e
mkdir -p /tmp/image && cd /tmp/image
echo 'int puts(const char *); int main(void) { puts("it ran"); return 0; }' | gcc -static -x c - -o ran
tar -c ran | docker import - tiny > /dev/null
docker run --rm --privileged --net=host --ipc=host tiny /ran
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    return make_lab("hosts", INVENTORY)


def variables(lab: LabBox, host: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(lab.inventory).read_text())["all"]["hosts"][host]
    return found


def password(lab: LabBox) -> Path:
    return Path(lab.inventory).parent / "password"


@pytest.fixture(scope="module")
def asked(lab: LabBox) -> Path:
    """What types the password for ssh."""
    program = lab.place / "askpass"
    program.write_text(f"#!/bin/sh\ncat '{password(lab)}'\n")
    program.chmod(0o700)
    return program


def ssh(
    lab: LabBox, host: str, command: str, *options: str, said: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command on a host, as an operator runs it who knows the lab's inventory alone."""
    own = variables(lab, host)
    words = ["ssh", "-F", "/dev/null", *own["ansible_ssh_common_args"].split(), "-o", "ConnectTimeout=10", *options]
    if "ansible_ssh_private_key_file" in own:
        words += ["-i", own["ansible_ssh_private_key_file"], "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    return subprocess.run(
        [*words, f"{own['ansible_user']}@{own['ansible_host']}", command], input=said, capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, "SSH_AUTH_SOCK": "", **environment},
    )  # fmt: skip


def typed(lab: LabBox, host: str, command: str, asked: Path, said: str = "") -> subprocess.CompletedProcess[str]:
    """The same, where the login asks for the password."""
    options = ("-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1")
    return ssh(lab, host, command, *options, said=said, SSH_ASKPASS=str(asked), SSH_ASKPASS_REQUIRE="force")


NEW_KEY = ("-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=/dev/null")


def told(lab: LabBox, host: str, command: str) -> str:
    """What a host with a key answers, whether it is known or not."""
    done = ssh(lab, host, command, *(NEW_KEY if host == "d13" else ()))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("host", SYSTEMS)
def test_system(host: str, lab: LabBox) -> None:
    system, python, kernel, manager, other = SYSTEMS[host]
    assert told(lab, host, '. /etc/os-release; echo "$ID $VERSION_ID"') == system
    assert told(lab, host, "python3 --version").startswith(python)
    assert told(lab, host, "uname -r; cat /proc/sys/kernel/osrelease").split() == [kernel, kernel]
    assert f"/{manager}" in told(lab, host, f"command -v {manager}; command -v {other} || true")
    assert f"/{other}" not in told(lab, host, f"command -v {other} || true")
    assert told(lab, host, "sudo -n id -u") == "0"


@pytest.mark.parametrize("host", SYSTEMS)
def test_its_docker_engine_runs_containers(host: str, lab: LabBox) -> None:
    done = ssh(lab, host, "sudo -n sh -s", *(NEW_KEY if host == "d13" else ()), said=RUN)
    assert done.stdout == "it ran\n", done.stdout + done.stderr


@pytest.mark.parametrize("host", SYSTEMS)
def test_its_repository_has_the_headers_of_its_kernel(host: str, lab: LabBox) -> None:
    kernel = SYSTEMS[host][2]
    install = f"apt-get install -y linux-headers-{kernel}"
    if host == "oe":
        install = f"dnf install -y kernel-devel-{kernel} kernel-headers-{kernel} redhat-lsb-core"
    told(lab, host, f"sudo -n {install}")
    assert told(lab, host, f"ls /lib/modules/{kernel}/build/Makefile")
    if host == "oe":
        assert told(lab, host, "rpm -q systemd openeuler-lsb").splitlines()


def test_libncurses5_is_where_its_release_has_it(lab: LabBox) -> None:
    for host in ("d11", "d12"):
        told(lab, host, "sudo -n apt-get install -y libncurses5")
    done = ssh(lab, "d13", "sudo -n apt-get install -y libncurses5", *NEW_KEY)
    assert done.returncode == 100
    assert "Unable to locate package libncurses5" in done.stderr


def test_password_is_kept_from_others_and_told_to_the_operator(lab: LabBox) -> None:
    assert stat.S_IMODE(password(lab).stat().st_mode) == 0o600
    secret = password(lab).read_text().strip()
    assert len(secret) == 16
    assert secret not in Path(lab.inventory).read_text()
    again = lab.lab("up", "--inventory", str(lab.place / "site" / "cluster.ini"))
    assert f"deb-asks, rpm-asks: login and sudo ask for the password {secret}" in again.out
    assert lab.lab("status", "--json").json["password_file"] == str(password(lab))
    assert secret not in subprocess.run(
        [lab.docker, "inspect", "deployer-lab-hosts-deb-asks"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


@pytest.mark.parametrize("host", ["deb-asks", "rpm-asks"])
def test_login_with_a_password(host: str, lab: LabBox, asked: Path) -> None:
    own = variables(lab, host)
    assert "ansible_ssh_private_key_file" not in own
    # Neither a key nor root gets in.
    key = str(Path(lab.inventory).parent / "key")
    refused = ssh(lab, host, "true", "-i", key, "-o", "BatchMode=yes")
    assert "Permission denied (publickey,password)" in refused.stderr
    root = ssh(lab, host, "true", "-l", "root", "-o", "PreferredAuthentications=password", SSH_ASKPASS=str(asked),
               SSH_ASKPASS_REQUIRE="force")  # fmt: skip
    assert root.returncode == 255
    # The password does; a banner comes first, and the shell's own files say something on both channels.
    done = typed(lab, host, "echo hello", asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"[site] environment of {host} loaded", "hello"]
    assert "Authorized users only" in done.stderr
    assert "mesg: ttyname failed" in done.stderr
    assert f"Welcome to {host}" in typed(lab, host, "bash -lc true", asked).stdout


@pytest.mark.parametrize("host", ["deb-asks", "rpm-asks"])
def test_sudo_asks_for_the_password(host: str, lab: LabBox, asked: Path) -> None:
    without = typed(lab, host, "sudo -n id -u", asked)
    assert without.returncode == 1
    assert "a password is required" in without.stderr
    done = typed(lab, host, "sudo -S -p '' id -u", asked, said=password(lab).read_text())
    assert done.stdout.splitlines()[-1] == "0"
    # sudo's lecture.
    assert "Respect the privacy of others" in done.stderr
    wrong = typed(lab, host, "sudo -S -p '' id -u", asked, said="wrong\n")
    assert wrong.returncode == 1


@pytest.mark.parametrize("host", ["deb-asks", "rpm-asks"])
def test_ansible_logs_in_with_the_file(host: str, lab: LabBox) -> None:
    file = str(password(lab))
    done = subprocess.run(
        [str(BIN / "ansible"), "-i", lab.inventory, host, "-m", "command", "-a", "id -u",
         "--connection-password-file", file, "--become-password-file", file],
        env=lab.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == "0"


def test_host_whose_key_nobody_knows(lab: LabBox) -> None:
    done = ssh(lab, "d13", "true")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    assert told(lab, "d13", "true") == ""


REFUSED = {
    # host: what is asked of its package manager, and the manager's own words
    "deb-none": ("apt-get install -y dkms", "Unable to locate package dkms"),
    "deb-far": ("apt-get update", "Temporary failure resolving 'deb.debian.org'"),
    "deb-old": ("apt-get install -y linux-headers-$(uname -r)", "Unable to locate package linux-headers-5.10.0-32"),
    "rpm-none": ("dnf install -y dkms", "There are no enabled repositories in"),
    "rpm-far": ("dnf install -y dkms", "Failed to download metadata for repo 'OS'"),
    "rpm-old": ("dnf install -y kernel-devel-$(uname -r)", "No match for argument: kernel-devel-5.10.0-216"),
}


@pytest.mark.parametrize("host", REFUSED)
def test_packages_that_are_not_to_be_had(host: str, lab: LabBox) -> None:
    command, said = REFUSED[host]
    done = ssh(lab, host, f"sudo -n {command}")
    assert said in done.stdout + done.stderr, done.stdout + done.stderr
    # apt's update ends well all the same.
    assert (done.returncode == 0) is (host == "deb-far")


@pytest.mark.parametrize("host", ["deb-none", "rpm-none", "deb-far", "rpm-far"])
def test_host_without_packages_is_closed_in(host: str, lab: LabBox) -> None:
    assert "default" not in told(lab, host, "ip route")
    assert told(lab, host, "getent hosts deb.debian.org || echo unknown") == "unknown"


def test_repository_of_another_kernel(lab: LabBox) -> None:
    assert "linux-headers-5.10.0-33-amd64" in told(lab, "deb-old", "apt-cache search linux-headers")
    told(lab, "deb-old", "sudo -n apt-get install -y dkms")
    told(lab, "rpm-old", "sudo -n dnf install -y kernel-devel")
    assert told(lab, "rpm-old", "rpm -q kernel-devel").startswith("kernel-devel-5.10.0-999.lab")


def test_fault_host_key_changed(lab: LabBox) -> None:
    lab.fault("d12", "host-key-changed")
    try:
        done = ssh(lab, "d12", "true")
        assert done.returncode == 255
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
        # The lab itself does not make it known.
        lab.lab("up", "--inventory", str(lab.place / "site" / "cluster.ini"))
        assert ssh(lab, "d12", "true").returncode == 255
        lab.lab("reboot", "d12")
        assert ssh(lab, "d12", "true").returncode == 255
    finally:
        lab.fault("d12", "host-key-changed", on=False)
    assert told(lab, "d12", "echo again") == "again"


SUDO = {
    # fault: the words of the shell or of sudo
    "sudo-missing": "sudo: command not found",
    "sudoers-refuses": "ops is not in the sudoers file",
    "sudo-wants-tty": "you must have a tty to run sudo",
}


@pytest.mark.parametrize("name", SUDO)
@pytest.mark.parametrize("host", ["deb-asks", "rpm-asks"])
def test_fault_of_sudo(host: str, name: str, lab: LabBox, asked: Path) -> None:
    lab.fault(host, name)
    try:
        done = typed(lab, host, "sudo -S -p '' id -u", asked, said=password(lab).read_text())
        assert done.returncode != 0
        assert SUDO[name] in done.stderr
    finally:
        lab.fault(host, name, on=False)
    done = typed(lab, host, "sudo -S -p '' id -u", asked, said=password(lab).read_text())
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_fault_dpkg_lock_held(lab: LabBox) -> None:
    lab.fault("d11", "dpkg-lock-held")
    try:
        for _ in range(2):
            done = ssh(lab, "d11", "sudo -n apt-get install -y net-tools")
            assert done.returncode == 100
            assert "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process" in done.stderr
            assert "(unattended-upgr)" in done.stderr
            # It is held after a reboot too.
            lab.lab("reboot", "d11")
    finally:
        lab.fault("d11", "dpkg-lock-held", on=False)
    told(lab, "d11", "sudo -n apt-get install -y net-tools")
    refused = lab.run("lab", "fault", "--name", lab.name, "oe", "dpkg-lock-held")
    assert "Debian hosts" in refused.err
    assert lab.lab("status", "--json").json["hosts"]["oe"]["faults"] == []


def test_fault_profile_floods(lab: LabBox) -> None:
    lab.fault("d11", "profile-floods=2")
    try:
        done = ssh(lab, "d11", "echo answer")
        assert len(done.stdout) == 2 * 2**20 + len("\nanswer\n")
        assert done.stdout.endswith("\nanswer\n")
    finally:
        lab.fault("d11", "profile-floods", on=False)
    assert told(lab, "d11", "echo answer") == "answer"


@pytest.mark.parametrize("host", ["d11", "d13", "oe"])
def test_fault_kernel_updated(host: str, lab: LabBox) -> None:
    kernel = SYSTEMS[host][2]
    lab.fault(host, "kernel-updated")
    try:
        assert told(lab, host, "uname -r") == kernel
        lab.lab("reboot", host)
        after = told(lab, host, "uname -r")
        assert after != kernel
        assert after.split(".")[:2] == kernel.split(".")[:2]
    finally:
        lab.fault(host, "kernel-updated", on=False)
        lab.lab("reboot", host)
    assert told(lab, host, "uname -r") == kernel
