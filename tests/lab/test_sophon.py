"""BM1684X on the lab: from bare hosts with 3 and with 8 chips to verified endpoints, terminals and pages.

Engines are the lab's stand-ins with the calls and options of the vendor's; the server in front of LLM-TPU's is ours.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.box import Result, steps
from tests.lab.labbox import LabBox, problem, refusals, statuses
from tests.unit.depot import Depot, config, entry

pytestmark = [pytest.mark.lab, pytest.mark.full]
# Which revision of a source and which wheels each host's operator has brought: no revision has all programs.
INVENTORY = """\
[sophon]
deb ansible_host=192.0.2.31 lab_os=debian11
rpm ansible_host=192.0.2.32 lab_board=sc7-224t
tar ansible_host=192.0.2.33 lab_os=debian12
up ansible_host=192.0.2.41 lab_os=debian11 lab_sources=wheels-upstream
r3 ansible_host=192.0.2.34 lab_os=debian11 lab_sources=llm-tpu-1e8f264
r8 ansible_host=192.0.2.35 lab_board=sc7-224t lab_sources=llm-tpu-1e8f264.zip
n3 ansible_host=192.0.2.36
n8 ansible_host=192.0.2.37 lab_board=sc7-224t
cli ansible_host=192.0.2.40 lab_sources=llm-tpu-c49923f
l3 ansible_host=192.0.2.38 lab_os=debian12
l8 ansible_host=192.0.2.39 lab_board=sc7-224t lab_sources=llama2-tpu-15111ee
[sophon:vars]
lab_accelerator=bm1684x
"""
QWEN, R1, FIRST, LLAMA = "qwen2.5-14b", "deepseek-r1-distill-qwen-14b", "qwen-7b-chat", "llama2-7b"
ZIP = "deepseek-r1-distill-qwen-14b-seq2048-2dev.zip"
OLD, NEW = "0.5.1", "0.5.1-LTS"
HOME = "/var/lib/deployer/home"
STEPS = [
    "archives",
    "sophon_driver",
    "docker_engine",
    "image",
    "programs",
    "artefacts",
    "serving_container",
    "readiness",
]
CLIENTS, SECONDS = 20, 60


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    box = make_lab("sophon", INVENTORY)
    for path in packages(box, "tar").glob("*.deb"):
        path.unlink()
    (packages(box, "r3") / ZIP).unlink()
    sums = packages(box, "r3") / "SHA256SUMS"
    rest = [line for line in sums.read_text().splitlines(keepends=True) if ZIP not in line]
    # A file of its own: the other hosts' is the same one.
    sums.unlink()
    sums.write_text("".join(rest))
    return box


def packages(lab: LabBox, host: str) -> Path:
    return lab.state / "lab" / lab.name / "packages" / host


def up(lab: LabBox, model: str, *words: str, **environment: str) -> Result:
    return lab.run(
        "up", "--inventory", lab.inventory, "--model", model, "--yes", "--json", *words, **environment
    )  # fmt: skip


def ran(result: Result, host: str) -> list[str]:
    return [each["id"] for each in result.json["hosts"][host]["ran"]]


def cards(lab: LabBox, host: str) -> dict[str, Any]:
    document = lab.verb("status", "--json", "-l", host).json["hosts"][host]
    found: dict[str, Any] = document["accelerator"]
    return found


def deployments(lab: LabBox, host: str) -> dict[str, list[int]]:
    document = lab.verb("status", "--json", "-l", host).json["hosts"][host]
    assert all(each["healthy"] for each in document["deployments"]), document["deployments"]
    return {each["deployment"]: each["chips"] for each in document["deployments"]}


def container(lab: LabBox, host: str, deployment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.on(host, "docker", "inspect", f"deployer-{deployment}"))[0]
    return found


def test_wheels_of_the_vendor_s_own_line_are_refused_with_what_they_lack(lab: LabBox) -> None:
    result = lab.verb("check", "-l", "up", "-m", QWEN, "--json")
    assert result.status == 3
    found = refusals(result, "up")["wheels"]["found"]
    for words in ("no wheel of pybind11[global]<3", "no tiktoken", "no sentencepiece"):
        assert words in found


def test_driver_that_is_too_old_for_two_chips_is_refused_after_its_installation(lab: LabBox, tmp_path: Path) -> None:
    for path in packages(lab, "deb").iterdir():
        if NEW not in path.name:
            os.link(path, tmp_path / path.name)
    for path in (lab.state / "lab" / "packages" / f"sophon-{OLD}").glob("sophon-*.deb"):
        os.link(path, tmp_path / path.name)
    (tmp_path / "SHA256SUMS").unlink(missing_ok=True)
    result = up(lab, QWEN, "-l", "deb", "-e", f"deployer_packages_dir={tmp_path}")
    assert result.status != 0
    assert "0.5.1 of 20240408" in result.out
    assert cards(lab, "deb")["state"] == "ok"
    again = up(lab, QWEN, "-l", "deb")
    assert again.status == 3
    refusal = refusals(again, "deb")["driver"]
    assert "0.5.1 of 20240408" in refusal["found"]
    assert "set deployer_driver_version" in refusal["remedy"]


def test_bare_hosts_to_verified_endpoints_in_three_ways(lab: LabBox) -> None:
    result = up(lab, QWEN, "-l", "deb,rpm,tar", "-e", f"deployer_driver_version={NEW}")
    assert result.status == 0, result.out + result.err
    assert statuses(result) == dict.fromkeys(("deb", "rpm", "tar"), "verified")
    assert set(STEPS) - set(ran(result, "rpm")) <= {"docker_engine"}
    for host, chips in (("deb", 3), ("rpm", 8), ("tar", 3)):
        found = cards(lab, host)
        assert (found["state"], len(found["chips"])) == ("ok", chips)
        assert "20241227" in lab.on(host, "cat", "/proc/bmsophon/driver_version")
        assert result.json["hosts"][host]["verdict"]["answers"] == ["/v1/completions", "/v1/chat/completions"]
    facts = container(lab, "rpm", QWEN)["HostConfig"]
    nodes = [each["PathOnHost"] for each in facts["Devices"]]
    # By their numbers on the host, one by one; libraries read-only; files enough for two chips (S0-F08).
    assert nodes == ["/dev/bm-sophon0", "/dev/bm-sophon1", "/dev/bmdev-ctl"]
    assert (facts["Privileged"], facts["ShmSize"]) == (False, 2**30)
    assert "/opt/sophon:/opt/sophon:ro" in facts["Binds"]
    assert facts["Ulimits"] == [{"Name": "nofile", "Soft": 66536, "Hard": 66536}]
    assert lab.on("rpm", "docker", "exec", f"deployer-{QWEN}", "touch", "/opt/sophon/x").find("Read-only") > 0


def test_second_run_changes_nothing_also_after_a_reboot(lab: LabBox) -> None:
    before = container(lab, "rpm", QWEN)["State"]["StartedAt"]
    result = up(lab, QWEN, "-l", "deb,rpm,tar")
    assert [(steps(each), each["changed"]) for each in result.json["hosts"].values()] == [([], False)] * 3
    assert container(lab, "rpm", QWEN)["State"]["StartedAt"] == before
    lab.lab("reboot", "deb", "rpm", "tar")
    result = up(lab, QWEN, "-l", "deb,rpm,tar")
    assert result.status == 0, result.out + result.err
    assert not any(each["changed"] for each in result.json["hosts"].values())


def test_file_of_the_model_that_has_changed_is_not_trusted(lab: LabBox) -> None:
    path = lab.on("tar", "sh", "-c", f"ls {HOME}/{QWEN}-2dev-8192.model/*.bmodel").strip()
    lab.on("tar", "sh", "-c", f"cp -p {path} /root/kept; echo >> {path}")
    result = up(lab, QWEN, "-l", "tar")
    assert result.status == 5, result.out + result.err
    found = problem(result, "tar")
    assert found["step"] == "artefacts"
    assert "is not as it was first seen" in found["message"]
    lab.on("tar", "sh", "-c", f"cp -p /root/kept {path}")
    result = up(lab, QWEN, "-l", "tar")
    assert result.status == 0, result.out + result.err
    assert steps(result.json["hosts"]["tar"]) == []


def test_clients_lose_no_request_but_what_the_queue_refuses(lab: LabBox) -> None:
    """Twenty at once for a minute; each asks again as soon as it has its answer."""
    url = f"http://{lab.hosts['rpm']['address']}:8000/v1/completions"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = json.dumps({"model": QWEN, "prompt": "Hello", "max_tokens": 16}).encode()
    answers: Counter[Any] = Counter()
    end = time.monotonic() + SECONDS

    def client() -> None:
        while time.monotonic() < end:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            try:
                with opener.open(request, timeout=SECONDS) as answer:
                    document = json.load(answer)
                    found: Any = answer.status if document["usage"]["completion_tokens"] > 0 else "no tokens"
            except urllib.error.HTTPError as error:
                found = error.code
            except OSError as error:
                found = repr(error)
            answers[found] += 1

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 429}, answers
    assert answers[200] > CLIENTS
    # With room for two, the others are told so at once, and nobody is lost.
    result = up(lab, QWEN, "-l", "rpm", "-e", json.dumps({"deployer_options": {"queue": 2}}))
    assert result.status == 0, result.out + result.err
    answers.clear()
    end = time.monotonic() + SECONDS / 6
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 429}, answers
    assert up(lab, QWEN, "-l", "rpm").status == 0


def test_model_is_fetched_once_and_then_verified(lab: LabBox, tmp_path: Path) -> None:
    source = (packages(lab, "r8") / ZIP).read_bytes()
    place = tmp_path / "ext_model_information" / "LLM" / "LLM-TPU" / ZIP
    place.parent.mkdir(parents=True)
    place.write_bytes(source)
    depot = Depot(tmp_path)
    servers = {"connect_timeout": 10, "sdk": [entry(host="127.0.0.1", port=depot.server.port)]}
    path = config(tmp_path / "dfss-config.json", servers)
    result = up(lab, R1, "-l", "r3,r8", DEPLOYER_DFSS_CONFIG=str(path))
    depot.close()
    assert result.status == 0, result.out + result.err
    assert statuses(result) == {"r3": "verified", "r8": "verified"}
    assert ran(result, "r3")[:2] == ["fetch", "archives"]
    assert "fetch" not in ran(result, "r8")
    assert (packages(lab, "r3") / f"{ZIP}.sha256").is_file()
    assert deployments(lab, "r3") == {R1: [0, 1]}


@pytest.mark.parametrize(("model", "hosts"), [(FIRST, ("n3", "n8")), (LLAMA, ("l3", "l8"))])
def test_bare_hosts_to_verified_on_one_chip(model: str, hosts: tuple[str, ...], lab: LabBox) -> None:
    result = up(lab, model, "-l", ",".join(hosts))
    assert result.status == 0, result.out + result.err
    assert statuses(result) == dict.fromkeys(hosts, "verified")
    assert [deployments(lab, host) for host in hosts] == [{model: [0]}] * 2
    again = up(lab, model, "-l", ",".join(hosts))
    assert [steps(each) for each in again.json["hosts"].values()] == [[], []]


RUNTIMES: dict[str, tuple[str, str, tuple[str, ...], list[int], str]] = {
    "sophon-demo": (R1, "r8", (), [2, 3], "/v1/chat/completions"),
    "qwen-cli": (FIRST, "cli", (), [0], "terminal"),
    "llama2-cli": (LLAMA, "l8", (), [1], "terminal"),
    "llama2-cli on two chips": (LLAMA, "l8", ("-e", "deployer_tensor_parallel=2"), [2, 3], "terminal"),
    "llama2-web": (LLAMA, "l3", (), [1], "/run/predict"),
}


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_engine_starts_and_is_verified(name: str, lab: LabBox) -> None:
    model, host, words, chips, answer = RUNTIMES[name]
    runtime, deployment = name.split()[0], name.replace(" ", "-")
    words = ("-l", host, "--deployment", deployment, "-e", f"deployer_runtime={runtime}", *words)
    result = up(lab, model, *words)
    assert result.status == 0, result.out + result.err
    verdict = result.json["hosts"][host]["verdict"]
    assert (verdict["ok"], verdict["answers"]) == (True, [answer])
    assert verdict["completion"] or verdict["chat"]
    assert deployments(lab, host)[deployment] == chips
    again = up(lab, model, *words)
    assert (again.status, steps(again.json["hosts"][host])) == (0, [])
    assert again.json["hosts"][host]["verdict"]["ok"] is True


def test_page_is_on_the_loopback_address_and_shared_with_nobody(lab: LabBox) -> None:
    listening = lab.on("l3", "ss", "-ltn")
    assert "127.0.0.1:7860" in listening
    assert "0.0.0.0:7860" not in listening
    assert "No such file" in lab.on("l3", "docker", "exec", "deployer-llama2-web", "ls", "/tmp/lab-shared")
    result = up(lab, LLAMA, "-l", "l3", "--deployment", "llama2-web", "-e", "deployer_runtime=llama2-web",
                "-e", "deployer_listen=0.0.0.0")  # fmt: skip
    assert result.status == 0, result.out + result.err
    assert "0.0.0.0:7860" in lab.on("l3", "ss", "-ltn")


def test_model_that_has_gone_is_said_and_taken_again_when_it_is_back(lab: LabBox) -> None:
    words = ("-l", "cli", "--deployment", "qwen-cli", "-e", "deployer_runtime=qwen-cli")
    path = lab.on("cli", "sh", "-c", f"ls {HOME}/{FIRST}-*.model/*.bmodel").strip()
    lab.on("cli", "mv", path, f"{path}.away")
    result = up(lab, FIRST, *words)
    assert result.status == 3
    assert "0 of *.bmodel" in refusals(result, "cli")["model"]["found"]
    lab.on("cli", "mv", f"{path}.away", path)
    result = up(lab, FIRST, *words)
    assert (result.status, steps(result.json["hosts"]["cli"])) == (0, [])


def test_chip_in_fault_is_not_taken(lab: LabBox) -> None:
    lab.fault("rpm", "chip-fault=2")
    lab.lab("reboot", "rpm")
    result = up(lab, QWEN, "-l", "rpm", "--deployment", "second")
    lab.fault("rpm", "chip-fault", on=False)
    assert result.status == 0, result.out + result.err
    assert deployments(lab, "rpm") == {"second": [3, 4], QWEN: [0, 1]}


def test_dead_chip_leaves_the_driver_alone_and_the_others_serve(lab: LabBox) -> None:
    lab.fault("deb", "chip-lost=1")
    lab.lab("reboot", "deb")
    found = cards(lab, "deb")
    assert found["state"] == "ok"
    assert "2 of 3 chips have a node" in found["problem"]
    result = up(lab, QWEN, "-l", "deb")
    assert result.status == 0, result.out + result.err
    assert "sophon_driver" not in ran(result, "deb")
    assert deployments(lab, "deb") == {QWEN: [0, 2]}
    lab.fault("deb", "chip-lost", on=False)
    lab.lab("reboot", "deb")
    assert up(lab, QWEN, "-l", "deb").status == 0


def test_half_configured_packages_are_finished_by_the_same_command(lab: LabBox) -> None:
    """`dpkg -i` where a dependency is missing ends so, and apt installs nothing else then."""
    assert lab.verb("down", "-l", "deb", "--yes", "--json", "-m", QWEN).status == 0
    debs = sorted(packages(lab, "deb").glob(f"sophon-*_{NEW}_*.deb"))
    for path in debs:
        text = base64.b64encode(path.read_bytes()).decode()
        lab.on("deb", "sh", "-c", f"echo {text} | base64 -d > /root/{path.name}")
    names = "sophon-driver sophon-libsophon-dev sophon-libsophon dkms"
    lab.on("deb", "sh", "-c", f"dpkg --purge {names}; dpkg -i {' '.join(f'/root/{each.name}' for each in debs)}; true")
    assert "iU" in lab.on("deb", "sh", "-c", "dpkg-query -W -f '${db:Status-Abbrev}' sophon-driver")
    plan = lab.verb("plan", "-l", "deb", "-m", QWEN, "--json").json["hosts"]["deb"]
    assert "half-configured" in plan["steps"][0]["reason"]
    result = up(lab, QWEN, "-l", "deb", "-e", f"deployer_driver_version={NEW}")
    assert result.status == 0, result.out + result.err
    assert "system_packages" in ran(result, "deb")
    assert lab.on("deb", "sh", "-c", "apt-get check -qq && readlink /opt/sophon/libsophon-current").strip()


def test_down_leaves_nothing_of_ours(lab: LabBox) -> None:
    for deployment in ("llama2-web", LLAMA):
        result = lab.verb("down", "-l", "l3", "--deployment", deployment, "-m", LLAMA, "--purge", "--yes", "--json")
        assert result.status == 0, result.out + result.err
    assert lab.on("l3", "docker", "ps", "-aq").strip() == ""
    left = lab.on("l3", "sh", "-c", "find /var/lib/deployer /etc/deployer -type f 2> /dev/null")
    assert [line for line in left.splitlines() if not line.endswith("/driver.json")] == []
    assert cards(lab, "l3")["state"] == "ok"
