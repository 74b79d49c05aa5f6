"""What real hosts are like and a kind lab is not: nothing asserted, all vendors in one inventory, tools that fail while
a host serves, and hosts that lack what they were installed from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.box import steps
from tests.lab.labbox import MODEL, LabBox, refusals, statuses

pytestmark = [pytest.mark.lab, pytest.mark.full]
INVENTORY = """\
[ascend]
duo ansible_host=192.0.2.51 lab_accelerator=ascend-310p lab_os=debian11
[sophon]
bm ansible_host=192.0.2.52 lab_accelerator=bm1684x
[tx8]
tx ansible_host=192.0.2.53 lab_accelerator=tx8
[bare]
none ansible_host=192.0.2.54 lab_accelerator=cpu lab_os=debian13
[first]
login ansible_host=192.0.2.55 lab_accelerator=ascend-310p lab_login=password lab_repository=none
[first:vars]
ansible_user=ops
ansible_become=true
"""
# Host → accelerator that it turns out to have, and the model that the lab's files serve on it.
HOSTS = {
    "duo": ("ascend-310p", MODEL),
    "bm": ("bm1684x", MODEL),
    "tx": ("tx8", "deepseek-r1-distill-qwen-7b"),
}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    return make_lab("mixed", INVENTORY)


def seen(lab: LabBox) -> dict[str, Any]:
    result = lab.verb("status", "--json", "-l", ",".join([*HOSTS, "none"]))
    return dict(result.json["hosts"])


def passwords(lab: LabBox) -> tuple[str, ...]:
    """Words for Ansible that give it the lab's password for login and sudo, from a file."""
    path = str(lab.state / "lab" / lab.name / "password")
    return ("--", "--connection-password-file", path, "--become-password-file", path)


def test_nothing_is_asserted(lab: LabBox) -> None:
    listed = lab.run("status", "-i", lab.inventory, "--json").json["hosts"]
    assert set(listed) == {*HOSTS, "none", "login"}
    text = Path(lab.inventory).read_text(encoding="utf-8")
    assert "accelerator" not in text
    assert "lab_" not in text.replace("deployer-lab", "")


def test_status_of_bare_hosts_names_the_cards_of_each(lab: LabBox) -> None:
    found = seen(lab)
    assert {host: found[host]["accelerator"]["kind"] for host in found} == {
        **{host: kind for host, (kind, _) in HOSTS.items()},
        "none": "cpu",
    }
    assert {found[host]["accelerator"]["state"] for host in HOSTS} <= {"no-driver", "not-started"}


def test_host_without_a_card_is_refused_with_all_that_would_do(lab: LabBox) -> None:
    result = lab.verb("check", "-m", MODEL, "-l", "none", "--json")
    assert result.status == 3
    refusal = refusals(result, "none")["accelerator"]
    assert "none on the PCI bus" in refusal["found"]
    for kind, _ in HOSTS.values():
        assert kind in refusal["wanted"]


def test_first_contact_with_a_password_a_banner_and_a_noisy_profile(lab: LabBox) -> None:
    words = ("status", "-i", lab.inventory, "-l", "login", "--json")
    # Before a connection is kept open that needs no password again.
    without = lab.run(*words)
    assert without.status == 4, without.out + without.err
    found = without.json["hosts"]["login"]["problem"]
    assert "--ask-pass" in found["remedy"], found
    result = lab.run(*words, *passwords(lab))
    assert result.status == 0, result.out + result.err
    assert result.json["hosts"]["login"]["accelerator"]["kind"] == "ascend-310p"


def test_host_without_repositories_is_told_in_the_words_of_its_package_manager(lab: LabBox) -> None:
    words = ("up", "-i", lab.inventory, "-m", MODEL, "-l", "login", "--yes", "--reboot", "--json")
    result = lab.run(*words, *passwords(lab))
    assert result.status == 5, result.out + result.err
    found = result.json["hosts"]["login"]["problem"]
    assert found["step"] in ("kernel_headers", "system_packages", "ascend_driver"), found
    assert "repositor" in found["cause"], found


@pytest.mark.parametrize("host", HOSTS)
def test_bare_host_to_verified_with_its_accelerator_found(host: str, lab: LabBox) -> None:
    _, model = HOSTS[host]
    result = lab.up("-l", host, model=model)
    assert result.status == 0, result.out + result.err
    assert statuses(result) == {host: "verified"}
    again = lab.up("-l", host, model=model)
    assert (again.status, steps(again.json["hosts"][host])) == (0, [])


def test_status_of_the_fleet_is_right_for_each(lab: LabBox) -> None:
    found = seen(lab)
    for host, (kind, model) in HOSTS.items():
        accelerator = found[host]["accelerator"]
        assert (accelerator["kind"], accelerator["state"], accelerator["problem"]) == (kind, "ok", "")
        assert found[host]["serving"]["healthy"] is True
        assert found[host]["serving"]["model"] == model


def untouched(lab: LabBox, host: str) -> dict[str, Any]:
    """`up` of a host that serves: verified, with no step, the same container."""
    _, model = HOSTS[host]
    look = ("docker", "ps", "-q", "--no-trunc")
    before = lab.on(host, *look)
    result = lab.up("-l", host, model=model)
    assert result.status == 0, result.out + result.err
    found: dict[str, Any] = result.json["hosts"][host]
    assert (found["status"], steps(found), found["changed"]) == ("verified", [], False)
    assert lab.on(host, *look) == before != ""
    return found


TOOLS = {
    "smi-hangs": "no answer within",
    "smi-8020": "-8020",
    "smi-8005": "-8005",
    "library-missing=libc_sec.so": "libc_sec.so",
    "library-missing=libascend_hal.so": "libascend_hal.so",
}


@pytest.mark.parametrize("fault", TOOLS)
def test_host_that_serves_is_left_alone_by_a_tool_that_does_not_answer(fault: str, lab: LabBox) -> None:
    lab.fault("duo", fault)
    try:
        notes = " ".join(untouched(lab, "duo")["notes"])
        assert TOOLS[fault] in notes
        state = seen(lab)["duo"]
        assert (state["accelerator"]["kind"], state["serving"]["healthy"]) == ("ascend-310p", True)
        assert state["accelerator"]["state"] in ("silent", "not-started")
        # With consent to reboots too: `up` above has it.
        assert "reboot" not in [
            step["id"] for step in lab.verb("plan", "-m", MODEL, "-l", "duo", "--json").json["hosts"]["duo"]["steps"]
        ]
    finally:
        lab.fault("duo", fault, on=False)


@pytest.mark.parametrize("host", HOSTS)
def test_host_that_serves_needs_nothing_that_it_was_installed_from(host: str, lab: LabBox) -> None:
    faults = ["tar-missing", "packages-gone", *(["kernel-other"] if host == "duo" else [])]
    for fault in faults:
        lab.fault(host, fault)
    try:
        notes = " ".join(untouched(lab, host)["notes"])
        assert "tar: no tar" in notes
        if host == "duo":
            assert "the vendor lists 5.10" in notes
    finally:
        for fault in reversed(faults):
            lab.fault(host, fault, on=False)
