"""BM1684X on the lab: its driver by deb, rpm and tar.gz, from a bare host to our own server on two chips of a card.

There are no models for it in the catalog yet: an overlay has one, whose engine is the stand-in of LLM-TPU's binding.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer.lab import docker_engine, images
from tests.box import ROOT, steps
from tests.lab.labbox import LabBox, problem, refusals, statuses

pytestmark = [pytest.mark.lab, pytest.mark.full]
INVENTORY = """\
[sophon]
deb ansible_host=192.0.2.31 lab_os=debian
rpm ansible_host=192.0.2.32 lab_board=sc7-224t
tar ansible_host=192.0.2.33 lab_os=debian
[sophon:vars]
accelerator=bm1684x
deployer_weights_dir=/srv/model
"""
OVERLAY = {
    "accelerators/bm1684x.yml": "name: bm1684x\nhas_roles: true\n",
    "runtimes/own.yml": """\
name: own
title: Our own server
kind: container
version: "1"
images: {x86_64: "lab/own:1"}
command: [python3, -m, openai_server]
options:
  model: "{weights}/x.bmodel"
  config: "{weights}"
  binding: "{weights}"
  devices: "{chips}"
  served-model-name: "{model}"
  host: "{listen}"
  port: "{port}"
environment: {PYTHONPATH: "{weights}"}
start_s: 10
""",
    "models/two.yml": """\
name: two-chips
title: A model on two chips
parameters: 1
weights: {size: 1000000}
accelerators:
  bm1684x: {runtime: own, tensor_parallel: [2, 1], dtype: w4bf16, max_model_len: 2048}
""",
}
MODEL_FILES = (
    "cd /srv/model && echo '{\"seqlen\": 2048}' > x.bmodel && echo {} > config.json && echo {} > tokenizer.json && "
    "printf '\\002\\000\\000\\000\\000\\000\\000\\000{}' > model.safetensors"
)
OLD, NEW = "0.5.1", "0.5.1-LTS"


class Sophon:
    """The lab with the overlay, a model on its hosts, and an image to run it in."""

    def __init__(self, box: LabBox, place: Path) -> None:
        self.box, self.overlay = box, place / "overlay"
        for name, text in OVERLAY.items():
            path = self.overlay / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        client = docker_engine.connect()
        made = client.images.get(images.serving_image(client, platform.machine(), print))
        made.tag("lab/own", "1")
        archive = place / "own.tar"
        subprocess.run([box.docker, "save", "-o", str(archive), "lab/own:1"], check=True)
        for host in box.hosts:
            packages = box.state / "lab" / box.name / "packages" / host
            os.link(archive, packages / "own.tar")
            if host == "tar":
                for path in packages.glob("*.deb"):
                    path.unlink()
            box.on(host, "mkdir", "-p", "/srv/model")
            binding = ROOT / "tests" / "unit" / "binding"
            for source in (ROOT / "deployer" / "openai_server", binding / "chat.py", binding / "transformers.py"):
                target = f"deployer-lab-{box.name}-{host}:/srv/model/"
                subprocess.run([box.docker, "cp", "-q", str(source), target], check=True)
            box.on(host, "sh", "-c", MODEL_FILES)

    def up(self, *words: str) -> Any:
        return self.box.up("--catalog", str(self.overlay), *words, model="two-chips")

    def packages(self, host: str, version: str) -> str:
        """The directory of another driver's packages, with the image's archive."""
        place = self.box.place / f"packages-{host}-{version}"
        place.mkdir()
        source = self.box.state / "lab" / "packages" / f"sophon-{version}"
        for path in [*source.iterdir(), self.box.state / "lab" / self.box.name / "packages" / host / "own.tar"]:
            os.link(path, place / path.name)
        return str(place)


@pytest.fixture(scope="module")
def sophon(make_lab: Callable[[str, str], LabBox], tmp_path_factory: pytest.TempPathFactory) -> Sophon:
    return Sophon(make_lab("sophon", INVENTORY), tmp_path_factory.mktemp("sophon"))


def cards(sophon: Sophon, host: str) -> dict[str, Any]:
    document = sophon.box.verb("status", "--json", "--catalog", str(sophon.overlay), "-l", host).json["hosts"][host]
    found: dict[str, Any] = document["accelerator"]
    return found


def test_driver_that_is_too_old_for_two_chips_is_refused_after_its_installation(sophon: Sophon) -> None:
    result = sophon.up("-l", "deb", "-e", f"deployer_packages_dir={sophon.packages('deb', OLD)}")
    assert result.status != 0
    assert "0.5.1 of 20240408" in result.out
    assert cards(sophon, "deb")["state"] == "ok"
    again = sophon.up("-l", "deb")
    assert again.status == 3
    refusal = refusals(again, "deb")["driver"]
    assert "0.5.1 of 20240408" in refusal["found"]
    assert "set deployer_driver_version" in refusal["remedy"]


def test_bare_hosts_to_verified_endpoints_in_three_ways(sophon: Sophon) -> None:
    result = sophon.up("-e", f"deployer_driver_version={NEW}")
    assert result.status == 0, result.out + result.err
    assert statuses(result) == dict.fromkeys(("deb", "rpm", "tar"), "verified")
    for host, chips in (("deb", 3), ("rpm", 8), ("tar", 3)):
        found = cards(sophon, host)
        assert (found["state"], len(found["chips"])) == ("ok", chips)
        assert "20241227" in sophon.box.on(host, "cat", "/proc/bmsophon/driver_version")


def test_second_run_changes_nothing_also_after_a_reboot(sophon: Sophon) -> None:
    result = sophon.up()
    assert [(steps(each), each["changed"]) for each in result.json["hosts"].values()] == [([], False)] * 3
    sophon.box.lab("reboot", "deb", "rpm", "tar")
    result = sophon.up()
    assert result.status == 0, result.out + result.err
    assert not any(each["changed"] for each in result.json["hosts"].values())


def test_chip_in_fault_is_not_taken(sophon: Sophon) -> None:
    sophon.box.fault("rpm", "chip-fault=2")
    sophon.box.lab("reboot", "rpm")
    result = sophon.up("-l", "rpm", "--deployment", "second")
    sophon.box.fault("rpm", "chip-fault", on=False)
    assert result.status == 0, result.out + result.err
    deployments = sophon.box.verb("status", "--json", "-l", "rpm").json["hosts"]["rpm"]["deployments"]
    assert {each["deployment"]: each["chips"] for each in deployments} == {"second": [3, 4], "two-chips": [0, 1]}


def test_chip_without_a_node_is_no_success_whatever_the_package_manager_says(sophon: Sophon) -> None:
    sophon.box.fault("deb", "chip-lost=1")
    sophon.box.lab("reboot", "deb")
    assert cards(sophon, "deb")["problem"] == "2 of 3 chips have a node"
    result = sophon.up("-l", "deb")
    assert result.status == 5, result.out + result.err
    found = problem(result, "deb")
    assert found["step"] == "sophon_driver"
    assert "2 of 3 chips have a node" in found["message"]
    assert "dmesg" in found["remedy"]
    sophon.box.fault("deb", "chip-lost", on=False)
    sophon.box.lab("reboot", "deb")
    assert sophon.up("-l", "deb").status == 0
