"""The same over SSH: an sshd of the tests' own, on loopback, as the account that runs them."""

from __future__ import annotations

import getpass
from collections.abc import Iterator

import pytest

from tests.box import MODEL, Box, free_port, ran, steps
from tests.sshd import sshd

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection variables of a host that is reached through an sshd of our own."""
    place = tmp_path_factory.mktemp("ssh")
    with sshd(place) as server:
        yield (
            f"ansible_host=127.0.0.1 ansible_port={server.port} ansible_user={getpass.getuser()} "
            # A server without root may not hand a terminal to anybody.
            f"ansible_ssh_use_tty=false "
            f"ansible_ssh_private_key_file={place}/user "
            f"ansible_ssh_common_args='-o UserKnownHostsFile={server.known} -o ControlPath={place}/%C'"
        )


def test_up_status_and_down_over_ssh(box: Box, ssh: str) -> None:
    port = free_port()
    # Its home is the account's own: say where the tests' home is. The engine is there already.
    box.inventory.write_text(
        f"remote {ssh} deployer_port={port} deployer_data_dir={box.data} deployer_config_dir={box.config}\n"
    )
    first = box.up("--deployment", "remote")
    assert first.status == 0, first.err + first.out
    assert steps(first.host) == ["serving", "readiness"]
    assert first.host["endpoint"] == f"http://127.0.0.1:{port}/v1"
    assert first.host["status"] == "verified"
    again = box.up("--deployment", "remote")
    assert again.host["changed"] is False
    status = box.run("status", "--deployment", "remote", "--json")
    serving = status.json["hosts"]["remote"]["serving"]
    assert (serving["deployment"], serving["served"], serving["healthy"]) == ("remote", [MODEL], True)
    down = box.run("down", "--deployment", "remote", "--yes", "--json")
    assert down.status == 0, down.err + down.out
    assert ran(down.host) == ["stop", "remove"]
    assert (box.config / MODEL).exists()


def test_loopback_on_a_remote_host_is_refused(box: Box, ssh: str) -> None:
    box.inventory.write_text(f"remote {ssh} deployer_data_dir={box.data} deployer_listen=127.0.0.1 deployer_port=1\n")
    plan = box.run("plan", "--model", MODEL, "--deployment", "remote", "--json")
    assert plan.status == 3
    assert [refusal["check"] for refusal in plan.host["refused"]] == ["listen"]


def test_unknown_host_key_is_told_and_not_accepted(box: Box, ssh: str) -> None:
    # A control path of its own: an open connection would ask for no key.
    box.inventory.write_text(f"remote {ssh.replace('/known', '/none').replace('%C', 'other-%C')}\n")
    result = box.run("plan", "--model", MODEL)
    assert result.status == 4
    assert "cause: the host's SSH key is not known to this account" in result.err
