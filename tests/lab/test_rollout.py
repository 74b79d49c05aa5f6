"""From bare hosts to verified endpoints with one command, and what comes after; a part that fits `make test`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from deployer.lab.faults import FAULTS
from tests.box import ran, steps
from tests.lab.labbox import MODEL, LabBox, refusals, statuses

pytestmark = pytest.mark.lab
INVENTORY = """\
[ascend]
duo2 ansible_host=192.0.2.1 lab_cards=2 ansible_user=ops ansible_become=true deployer_tensor_parallel=2
duo1 ansible_host=192.0.2.2 lab_cards=1 lab_os=debian11
[ascend:vars]
lab_accelerator=ascend-310p
"""
BARE = ["kernel_headers", "ascend_driver", "reboot", "image", "artefacts", "serving_container", "readiness"]


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    """An openEuler-like host with two cards, reached by sudo, and a Debian-like one with one card and no Docker."""
    lab = make_lab("rollout", INVENTORY)
    lab.fault("duo1", "docker-absent")
    return lab


def host(result: Any, name: str) -> dict[str, Any]:
    return dict(result.json["hosts"][name])


def test_without_consent_to_the_reboot_nothing_is_touched(lab: LabBox) -> None:
    result = lab.run("up", "-i", lab.inventory, "-m", MODEL, "--yes", "--json")
    assert result.status == 3
    assert set(statuses(result).values()) == {"refused"}
    assert "--reboot" in refusals(result, "duo1")["reboot"]["remedy"]
    assert "No such file" in lab.on("duo1", "ls", "/usr/local/Ascend")


def test_bare_hosts_to_verified_endpoints(lab: LabBox) -> None:
    result = lab.up()
    assert result.status == 0, result.err + result.out
    for name, wanted in (("duo2", BARE), ("duo1", [*BARE[:3], "docker_engine", *BARE[3:]])):
        assert steps(host(result, name)) == wanted
        assert ran(host(result, name)) == wanted
        assert host(result, name)["verdict"]["ok"]
        assert lab.ask(name)
    assert "HwHiAiUser" in lab.on("duo1", "id", "HwHiAiUser")
    # S3-R16: driver first, on a fresh host.
    operations = lab.on("duo1", "cat", "/var/log/ascend_seclog/operation.log")
    assert operations.index("--install-for-all") < operations.index("firmware full")


def test_requests_of_the_guide_work_as_they_are_printed(lab: LabBox) -> None:
    """S3-R31, S3-R33: the model is its path; ours is a name."""
    assert lab.ask("duo1", model=f"/home/ckpt/{MODEL}") == lab.ask("duo1")


def test_second_run_changes_nothing(lab: LabBox) -> None:
    before = {name: lab.on(name, "docker", "ps", "-q", "--no-trunc") for name in lab.hosts}
    result = lab.up()
    assert result.status == 0, result.err + result.out
    assert [(steps(each), each["changed"]) for each in result.json["hosts"].values()] == [([], False)] * 2
    assert before == {name: lab.on(name, "docker", "ps", "-q", "--no-trunc") for name in lab.hosts}


def test_status_shows_the_chips(lab: LabBox) -> None:
    document = lab.verb("status", "--json").json["hosts"]["duo2"]
    accelerator = document["accelerator"]
    assert (accelerator["kind"], accelerator["cards"]) == ("ascend-310p", 2)
    assert (accelerator["driver_version"], accelerator["firmware_version"]) == ("24.1.rc3", "7.5.0.1.129")
    assert [(chip["id"], chip["card"], chip["device"], chip["health"]) for chip in accelerator["chips"]] == [
        (0, 1, "/dev/davinci0", "OK"),
        (1, 1, "/dev/davinci1", "OK"),
        (2, 4, "/dev/davinci2", "OK"),
        (3, 4, "/dev/davinci3", "OK"),
    ]
    assert accelerator["chips"][0]["power_w"] is None
    assert accelerator["chips"][0]["memory_used_mib"] > accelerator["chips"][2]["memory_used_mib"]
    serving = document["serving"]
    assert (serving["container"], serving["model"], serving["healthy"]) == (f"deployer-{MODEL}", MODEL, True)
    assert "Application startup complete" in lab.verb("logs", "duo2", "--deployment", MODEL).out


def test_reboot_brings_serving_back_without_any_run(lab: LabBox) -> None:
    lab.lab("reboot", "duo1")
    # The run only waits for what Docker has started.
    result = lab.up()
    assert result.status == 0, result.err + result.out
    assert statuses(result) == {"duo2": "verified", "duo1": "verified"}
    assert not any(each["changed"] for each in result.json["hosts"].values())


def test_second_deployment_takes_a_free_chip_and_a_free_port(lab: LabBox) -> None:
    words = ("--limit", "duo2", "--deployment", "small", "-e", "deployer_tensor_parallel=1")
    result = lab.up(*words, model="qwen2.5-7b")
    assert result.status == 0, result.err + result.out
    assert host(result, "duo2")["endpoint"].endswith(":8001/v1")
    served = lab.verb("status", "--json").json["hosts"]["duo2"]["deployments"]
    assert {each["deployment"]: (each["chips"], each["healthy"]) for each in served} == {
        MODEL: ([0, 1], True),
        "small": ([2], True),
    }
    assert lab.up("--limit", "duo2").json["hosts"]["duo2"]["changed"] is False


def test_down_leaves_the_other_deployment_and_the_driver(lab: LabBox) -> None:
    result = lab.verb("down", "--deployment", "small", "--yes", "--json")
    assert result.status == 0, result.err + result.out
    assert lab.on("duo2", "docker", "ps", "--format", "{{.Names}}").split() == [f"deployer-{MODEL}"]
    assert "24.1.rc3" in lab.on("duo2", "cat", "/usr/local/Ascend/driver/version.info")
    assert lab.ask("duo2")


def test_plain_playbook_finds_nothing_to_do(lab: LabBox) -> None:
    import subprocess

    from tests.box import BIN, ROOT

    line = [str(BIN / "ansible-playbook"), "-i", lab.inventory, str(ROOT / "playbooks/up.yml"), "-e", f"model={MODEL}"]
    done = subprocess.run(line, env=lab.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("changed=0") == 2


NODES = [f"--device=/dev/{name}" for name in ("davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc")]
DRIVER = ["-v", "/usr/local/Ascend/driver:/usr/local/Ascend/driver:ro"]
PUBLISHED = ["-v", "/home/ckpt:/home/ckpt:ro", "-v", "/usr/local/sbin:/usr/local/sbin:ro"]
# Published weights are bfloat16 (S3-R09): an adapted config.json over the one in the directory.
WEIGHTS = [*PUBLISHED, "-v", "/root/adapted.json:/home/ckpt/qwen2.5-7b/config.json:ro"]
HALF = ["--dtype=float16", "--gpu-memory-utilization=0.3"]
REFUSED: dict[str, tuple[list[str], list[str], str]] = {
    # name: how the container is run, options of the server, the vendor's words
    "bfloat16": ([*NODES, *DRIVER, *WEIGHTS], ["--dtype=bfloat16"], "bfloat16 type is not supported"),
    "published bfloat16": ([*NODES, *DRIVER, *PUBLISHED], HALF, "bfloat16 type is not supported"),
    "driver not mounted": ([*NODES, *WEIGHTS], HALF, "libascend_hal.so: cannot open shared object file"),
    "manager device missing": ([NODES[0], *DRIVER, *WEIGHTS], HALF, "ret is -8005"),
    "fewer devices than asked": (
        [NODES[0], *NODES[2:], *DRIVER, *WEIGHTS], [*HALF, "--tensor_parallel_size", "2"], "1 visible devices",
    ),
    "too much memory for small weights": (
        [*NODES, *DRIVER, *WEIGHTS], ["--dtype=float16", "--gpu-memory-utilization=0.5"], "format_cast",
    ),
    "weights not mounted": ([*NODES, *DRIVER], HALF, "No such file or directory"),
    "option that vLLM does not know": (
        [*NODES, *DRIVER, *WEIGHTS, "--ipc=host"], [*HALF, "--no-such-option=1"], "unrecognized arguments",
    ),
}  # fmt: skip


def serve(lab: LabBox, run: list[str], options: list[str]) -> str:
    """The emulated image, run by hand as the guide does; it must end by itself."""
    image = lab.on("duo1", "docker", "images", "-q").split()[0]
    lab.on("duo1", "sh", "-c", "sed s/bfloat16/float16/ /home/ckpt/qwen2.5-7b/config.json > /root/adapted.json")
    words = ["docker", "run", "--rm", "--net=host", *run, image, "vllm-mindspore", "serve", "/home/ckpt/qwen2.5-7b"]
    return lab.on("duo1", "timeout", "120", *words, *options)


def test_image_refuses_a_chip_that_another_container_holds(lab: LabBox) -> None:
    assert lab.ask("duo1")
    assert "because the device is used. ret is -8020" in serve(lab, [*NODES, *DRIVER, *WEIGHTS], HALF)


@pytest.mark.parametrize("name", REFUSED)
def test_image_refuses_what_the_vendor_s_does(name: str, lab: LabBox) -> None:
    run, options, said = REFUSED[name]
    lab.on("duo1", "docker", "stop", f"deployer-{MODEL}")
    assert said in serve(lab, run, options)


def test_host_that_is_down_is_named_and_the_other_is_done(lab: LabBox) -> None:
    lab.fault("duo1", "host-down")
    result = lab.up()
    assert result.status == 4
    assert statuses(result) == {"duo2": "verified", "duo1": "unreachable"}
    lab.fault("duo1", "host-down", on=False)


def test_lab_status_names_faults(lab: LabBox) -> None:
    lab.fault("duo2", "ssh-slow=0.1")
    document = lab.lab("status", "--json").json
    assert document["hosts"]["duo2"]["faults"] == ["ssh-slow"]
    lab.fault("duo2", "ssh-slow", on=False)
    assert json.loads(lab.lab("status", "--json").out)["hosts"]["duo2"]["faults"] == []


def seen(lab: LabBox, way: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """What `check` and `status` make of the hosts, looked at in this process or by ansible-playbook."""
    check = lab.run("check", "-i", lab.inventory, "-m", MODEL, "--json", DEPLOYER_OBSERVE=way)
    status = lab.run("status", "-i", lab.inventory, "--json", DEPLOYER_OBSERVE=way)
    hosts = {name: steady(each) for name, each in status.json["hosts"].items()}
    return check.status, steady(check.json), {"hosts": hosts, "exit_status": status.status}


# They go on while one way looks and then the other.
CHANGING = {
    "age_s",
    "memory_available",
    "free",
    "resident",
    "memory_used_mib",
    "served",
    "restarts",
    "pid",
    "processes",
}


def steady(value: Any) -> Any:
    """A document without what changes by itself from one second to the next."""
    if isinstance(value, dict):
        return {key: steady(each) for key, each in value.items() if key not in CHANGING}
    if isinstance(value, str):
        # Which of the two the kernel says of a host that is down depends on how long it has asked for its address.
        return value.replace("No route to host", "Connection timed out")
    return [steady(each) for each in value] if isinstance(value, list) else value


QUICK = ("smi-8005",)
# What takes Docker away would need all its steps again.
COMPARED = [name for name, fault in FAULTS.items() if name != "docker-absent" and not fault.accelerator]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.full]) for name in COMPARED]
)
def test_fast_way_finds_the_same_as_ansible_playbook(name: str, lab: LabBox) -> None:
    # Whatever the fault before has left behind is over when all serve again.
    assert lab.up().status == 0
    lab.fault("duo1", name)
    try:
        fast, slow = seen(lab, ""), seen(lab, "playbook")
        assert fast[0] == slow[0]
        assert fast[1] == slow[1]
        assert fast[2] == slow[2]
    finally:
        lab.fault("duo1", name, on=False)
