"""The whole fleet: every fault gives its cause, its remedy and its exit status, harms no other host, and once it is
lifted the same command completes. Takes longer than `make test` may: `make test-lab`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.box import steps
from tests.lab.labbox import MODEL, LabBox, problem, refusals, statuses

pytestmark = [pytest.mark.lab, pytest.mark.full]
INVENTORY = """\
[ascend]
node1 ansible_host=192.0.2.1 lab_cards=2 deployer_tensor_parallel=2
node2 ansible_host=192.0.2.2 lab_cards=2
node3 ansible_host=192.0.2.3 lab_os=debian11
node4 ansible_host=192.0.2.4 lab_os=debian11
[ascend:vars]
lab_accelerator=ascend-310p
"""
# host → (fault, status, where it is told: `refused` check or failed step, what is told, what helps)
Expected = dict[str, tuple[str, str, str, str, str]]
HOSTS = ("node1", "node2", "node3", "node4")
# Faults of bare hosts, one on a host; the others, node4 at least, are well.
ROUNDS: dict[str, tuple[int, Expected]] = {
    "tools": (
        5,
        {
            "node1": ("tar-missing", "refused", "tar", "no tar", "package manager"),
            "node2": (
                "headers-missing", "failed", "kernel_headers", "repositories do not have the headers",
                "repository of that kernel",
            ),
            "node3": ("dkms-failing", "failed", "ascend_driver", "did not compile", "ascend_install.log"),
        },
    ),
    "packages": (
        5,
        {
            "node1": (
                "headers-of-another-kernel", "failed", "kernel_headers", "repositories do not have the headers",
                "newest installed kernel",
            ),
            "node2": ("image-truncated", "refused", "image archive", "truncated", "copy it again"),
            "node3": ("installer-killed", "failed", "ascend_driver", "something killed it", "same command again"),
        },
    ),
    "files": (
        5,
        {
            "node1": ("weights-corrupt", "failed", "artefacts", "not the one that was published", "copy it again"),
            "node2": ("root-disk-full", "refused", "disk", "free for", "free some space"),
            "node3": ("reboot-never-back", "unreachable", "reboot", "did not come back from its reboot", "console"),
        },
    ),
    "others": (
        4,
        {
            "node1": ("port-taken", "refused", "port", "port 8000 is taken by python3", "deployer_port"),
            "node2": ("host-down", "unreachable", "observe", "nothing answers", "host is up"),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDS)
def test_faults_of_bare_hosts(name: str, make_lab: Callable[[str, str], LabBox]) -> None:
    status, expected = ROUNDS[name]
    lab = make_lab(f"bare-{name}", INVENTORY)
    try:
        for host, (fault, *_) in expected.items():
            lab.fault(host, fault)
        result = lab.up()
        assert result.status == status, result.out + result.err
        found = statuses(result)
        assert found == dict.fromkeys(HOSTS, "verified") | {host: each[1] for host, each in expected.items()}, (
            result.out
        )
        assert lab.ask("node4")
        for host, (fault, outcome, where, cause, remedy) in expected.items():
            told(result, host, fault, outcome, where, cause, remedy)
            lab.fault(host, fault, on=False)
        result = lab.up()
        assert result.status == 0, result.out + result.err
        assert set(statuses(result).values()) == {"verified"}
        assert result.json["hosts"]["node4"]["changed"] is False
        again = lab.up()
        assert [steps(each) for each in again.json["hosts"].values()] == [[]] * 4
    finally:
        lab.close()


def told(result: Any, host: str, fault: str, outcome: str, where: str, cause: str, remedy: str) -> None:
    """Cause and remedy stand where a person and a machine find them."""
    if outcome == "refused":
        refusal = refusals(result, host)[where]
        assert cause in refusal["found"], (fault, refusal)
        assert remedy in refusal["remedy"], (fault, refusal)
    else:
        found = problem(result, host)
        assert found["step"] == where, (fault, found)
        assert cause in found["cause"], (fault, found)
        assert remedy in found["remedy"], (fault, found)


@pytest.fixture(scope="module")
def fleet(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    """Four hosts from bare to verified with one command: two cards each under openEuler, one each Debian-like."""
    lab = make_lab("fleet", INVENTORY)
    result = lab.up()
    assert result.status == 0, result.out + result.err
    assert set(statuses(result).values()) == {"verified"}
    return lab


def test_fleet_second_run_changes_nothing(fleet: LabBox) -> None:
    result = fleet.up()
    assert result.status == 0
    assert [(steps(each), each["changed"]) for each in result.json["hosts"].values()] == [([], False)] * 4


def test_fourteen_billion_take_four_chips_where_there_are_four(fleet: LabBox) -> None:
    """S3-R28, S3-R06: and two where there are no more, or where somebody asks for two."""
    chips = {host: served(fleet, host)[0]["chips"] for host in HOSTS}
    assert chips == {"node1": [0, 1], "node2": [0, 1, 2, 3], "node3": [0, 1], "node4": [0, 1]}


def test_fleet_serves_again_after_a_reboot_of_all(fleet: LabBox) -> None:
    fleet.lab("reboot", "node1", "node2", "node3", "node4")
    result = fleet.up()
    assert result.status == 0, result.out + result.err
    assert not any(each["changed"] for each in result.json["hosts"].values())


def test_auto_fills_free_chips_and_leaves_a_foreign_container_alone(fleet: LabBox) -> None:
    # Chips 0 and 1 serve already; somebody takes chip 3.
    fleet.fault("node1", "chip-held=3")
    result = fleet.up("--limit", "node1", "-e", "deployer_replicas=auto")
    assert result.status == 0, result.out + result.err
    assert steps(result.json["hosts"]["node1"]) == []
    fleet.fault("node1", "chip-held=3", on=False)
    result = fleet.up("--limit", "node1", "-e", "deployer_replicas=auto")
    assert result.status == 0, result.out + result.err
    assert [each.rpartition(":")[2] for each in result.json["hosts"]["node1"]["endpoints"]] == ["8000/v1", "8001/v1"]
    assert fleet.ask("node1", 8001)
    result = fleet.up("--limit", "node1")
    assert result.status == 0, result.out + result.err
    assert fleet.on("node1", "docker", "ps", "--format", "{{.Names}}").split() == [f"deployer-{MODEL}"]


def test_chip_in_alarm_is_refused_on_the_only_card(fleet: LabBox) -> None:
    fleet.verb("down", "--deployment", MODEL, "--limit", "node3", "--yes")
    fleet.fault("node3", "chip-alarm=1")
    result = fleet.up()
    assert result.status == 3
    assert "chip 1 is in Alarm" in refusals(result, "node3")["chips"]["found"]
    assert [status for host, status in statuses(result).items() if host != "node3"] == ["verified"] * 3
    accelerator = fleet.verb("status", "--json").json["hosts"]["node3"]["accelerator"]
    assert [chip["health"] for chip in accelerator["chips"]] == ["OK", "Alarm"]
    fleet.fault("node3", "chip-alarm=1", on=False)
    assert fleet.up().status == 0


def test_chip_of_a_foreign_container_is_left_alone(fleet: LabBox) -> None:
    fleet.verb("down", "--deployment", MODEL, "--limit", "node3,node1", "--yes")
    fleet.fault("node3", "chip-held=0")
    fleet.fault("node1", "chip-held=0")
    result = fleet.up()
    assert result.status == 3
    assert "chip 0 is held by container foreign" in refusals(result, "node3")["chips"]["found"]
    # The host with two cards takes the other one.
    assert statuses(result)["node1"] == "verified"
    assert "foreign" in fleet.on("node3", "docker", "ps")
    chips = {each["deployment"]: each["chips"] for each in served(fleet, "node1")}
    assert chips == {MODEL: [2, 3]}
    fleet.fault("node3", "chip-held=0", on=False)
    fleet.fault("node1", "chip-held=0", on=False)
    result = fleet.up()
    assert result.status == 0, result.out + result.err
    # An allotment is kept once it is made.
    assert {each["deployment"]: each["chips"] for each in served(fleet, "node1")} == {MODEL: [2, 3]}


def served(lab: LabBox, host: str) -> list[dict[str, Any]]:
    """The deployments of a host."""
    return list(lab.verb("status", "--json").json["hosts"][host]["deployments"])


def test_devices_that_do_not_start(fleet: LabBox) -> None:
    fleet.fault("node4", "smi-8005")
    result = fleet.up()
    # deployer has rebooted this host after its installation: another reboot would change nothing.
    assert result.status == 3
    devices = refusals(result, "node4")["devices"]
    assert "-8005" in devices["found"]
    assert "dmesg" in devices["remedy"]
    fleet.fault("node4", "smi-8005", on=False)
    assert fleet.up().status == 0


def test_docker_engine_down_is_started_again(fleet: LabBox) -> None:
    fleet.fault("node2", "docker-down")
    plan = fleet.verb("plan", "--model", MODEL, "--json").json["hosts"]["node2"]
    assert plan["steps"][0]["id"] == "docker_engine"
    result = fleet.up()
    assert result.status == 0, result.out + result.err
    assert set(statuses(result).values()) == {"verified"}
    fleet.fault("node2", "docker-down", on=False)


def test_account_that_was_deleted_is_made_again(fleet: LabBox) -> None:
    fleet.fault("node2", "user-missing")
    result = fleet.up()
    assert result.status == 0, result.out + result.err
    assert "HwHiAiUser is missing → create it" in result.json["hosts"]["node2"]["steps"][0]["reason"]
    assert "HwHiAiUser" in fleet.on("node2", "id", "HwHiAiUser")
    fleet.fault("node2", "user-missing", on=False)


def test_slow_ssh_takes_longer_and_completes(fleet: LabBox) -> None:
    fleet.fault("node1", "ssh-slow=0.3")
    result = fleet.up("-e", "deployer_restart=true", "--limit", "node1")
    assert result.status == 0, result.out + result.err
    fleet.fault("node1", "ssh-slow", on=False)


def test_upgrade_goes_firmware_first(fleet: LabBox) -> None:
    packages = fleet.state / "lab" / "packages" / "25.2.0"
    words = ("--limit", "node4", "-e", "deployer_driver_version=25.2.0", "-e", f"deployer_packages_dir={packages}")
    result = fleet.up(*words)
    assert result.status == 0, result.out + result.err
    operations = fleet.on("node4", "cat", "/var/log/ascend_seclog/operation.log").splitlines()
    assert ["firmware" in line for line in operations[-2:]] == [True, False]
    accelerator = fleet.verb("status", "--json").json["hosts"]["node4"]["accelerator"]
    assert (accelerator["driver_version"], accelerator["firmware_version"]) == ("25.2.0", "7.7.0.6.236")
    # The other hosts keep theirs, and this one is right as it is.
    assert [steps(each) for each in fleet.up().json["hosts"].values()] == [[]] * 4
