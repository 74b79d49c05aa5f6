"""What a host with BM1684X chips gets: containers as the documents want them, configurations, scripts that run."""

from __future__ import annotations

import ast
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployer.cli.render import docker_run
from deployer.plan.types import ServingSpec
from tests.unit.test_plan import BASES, converged, make_plan, merge

CONFIG = "/etc/deployer"
R1 = "deepseek-r1-distill-qwen-14b"
HOME = "/var/lib/deployer/home"
BMODEL = f"{HOME}/{R1}-2dev-2048.model/tmp/qwen2_w4bf16_seq2048_bm1684x_20250312_153802.bmodel"
SOURCES = {
    "llama2": {"path": f"{HOME}/Llama2-TPU-main", "archive": "l.tar.gz", "fingerprint": "f-l"},
    "sophon-demo": {"path": f"{HOME}/sophon-demo", "archive": "s.tar.gz", "fingerprint": "f-s"},
    "wheels-sophon-demo": {"path": f"{HOME}/wheels-sophon-demo", "archive": "wheels.tar.gz", "fingerprint": "f-w"},
}


def serving(**settings: Any) -> ServingSpec:
    observation = merge(BASES["sophon_models"], {"unpacked": SOURCES})
    spec = make_plan("sophon_models", settings, observation).spec
    assert spec is not None
    return spec.serving


def test_container_sees_its_chips_and_no_more() -> None:
    container = serving().container
    assert container is not None
    assert container.devices == ("/dev/bm-sophon0", "/dev/bm-sophon1", "/dev/bmdev-ctl")
    assert (container.privileged, container.ulimits, container.shm_size) == (False, ("nofile:66536:66536",), "1024M")
    assert container.volumes[0] == "/opt/sophon:/opt/sophon:ro"
    assert all(volume.endswith(":ro") for volume in container.volumes)
    line = docker_run(container)
    for words in ("--ipc=private", "--shm-size=1024M", "--ulimit=nofile=66536:66536", "--device=/dev/bm-sophon1"):
        assert words in line


def test_our_server_comes_with_its_files() -> None:
    found = serving()
    names = {path.rpartition("/")[2] for path in found.files if "/openai_server/" in path}
    own = Path(__file__).resolve().parents[2] / "deployer" / "openai_server"
    assert names == {path.name for path in own.glob("*.py")}
    for path, text in found.files.items():
        if path.endswith(".py"):
            ast.parse(text)
    assert found.environment["LD_LIBRARY_PATH"] == "/opt/sophon/libsophon-current/lib"
    assert found.environment["PYTHONPATH"].endswith(f":{CONFIG}/{R1}")
    for option in (f"--model={BMODEL}", "--devices=0,1", "--port=8000", f"--served-model-name={R1}"):
        assert option in found.command
    assert not any(word.startswith("--chat-template") for word in found.command)
    assert "--chat-template=chatml" in serving(model="qwen-7b-chat").command


def test_configurations_of_sophon_demo() -> None:
    """S0-R31, S0-R32, S0-R37, S0-X19."""
    found = serving(runtime="sophon-demo")
    api = yaml.safe_load(found.files[f"{CONFIG}/{R1}/api.yaml"])
    tokenizer = f"{HOME}/{R1}-2dev-2048.model/tmp/tokenizer"
    model = {"name": R1, "bmodel_path": BMODEL, "token_path": tokenizer, "dev_id": "0,1", "dev_ids": "0,1"}
    assert api == {"models": [model], "port": 18080}
    mine = yaml.safe_load(found.files[f"{CONFIG}/{R1}/qwen.yaml"])
    assert mine == {"bmodel_path": BMODEL, "token_path": tokenizer, "dev_ids": "0,1"}
    assert (found.both_completions, found.counts_tokens) == (False, False)


def test_page_is_asked_on_its_host() -> None:
    found = serving(model="llama2-7b", runtime="llama2-web")
    assert found.environment["DEPLOYER_PAGE_HOST"] == "127.0.0.1"
    assert (found.endpoint, found.local_url) == ("http://127.0.0.1:7860/", "http://127.0.0.1:7860")
    ast.parse(found.files[f"{CONFIG}/llama2-7b/local_page.py"])
    assert found.container is not None
    assert found.container.stop_signal == "SIGINT"
    everywhere = serving(model="llama2-7b", runtime="llama2-web", listen="0.0.0.0")
    assert everywhere.environment["DEPLOYER_PAGE_HOST"] == "0.0.0.0"
    assert everywhere.endpoint == "http://192.0.2.1:7860/"


@pytest.mark.parametrize(("chips", "program"), [(1, "llama2_single"), (2, "llama2_multi")])
def test_program_of_llama2_sees_its_tokenizer_in_both_places(chips: int, program: str) -> None:
    """S4-R40, S4-X09."""
    found = serving(model="llama2-7b", runtime="llama2-cli", tensor_parallel=chips)
    assert found.command[0].endswith(f"/{program}")
    assert found.command[1:] == ("--model=/model/model.bmodel", f"--dev_id={','.join(map(str, range(chips)))}")
    assert found.container is not None
    assert f"{HOME}/Llama2-TPU-main/src/tokenizer.model:/model/tokenizer.model:ro" in found.container.volumes
    assert found.ask[-1] == "ask"
    assert found.endpoint == ""


def script(place: Path) -> Path:
    """The rendered script of a terminal, with paths of this machine in it and a program that answers once."""
    found = serving(model="llama2-7b", runtime="llama2-cli")
    demo = place / "demo"
    demo.mkdir()
    program = demo / "program"
    program.write_text('#!/bin/sh\nread line; echo "Answer: $line ($LD_LIBRARY_PATH) $*"\n')
    program.chmod(0o755)
    (place / "serve.env").write_text(found.files[f"{CONFIG}/llama2-7b/serve.env"])
    text = found.files[f"{CONFIG}/llama2-7b/serve.sh"]
    for old, new in (
        (f"{CONFIG}/llama2-7b/serve.env", str(place / "serve.env")),
        (f"{HOME}/Llama2-TPU-main/demo", str(demo)),
        (found.command[0], "./program"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = place / "serve.sh"
    path.write_text(text)
    return path


def test_script_of_a_terminal_opens_the_program_when_it_is_asked(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(script(tmp_path)), "ask"], input="Hello\n", capture_output=True, text=True, check=True
    )
    options = shlex.join(["--model=/model/model.bmodel", "--dev_id=0"])
    assert done.stdout == f"Answer: Hello (/opt/sophon/libsophon-current/lib) {options}\n"


def test_script_of_a_terminal_waits_and_ends_at_once_when_it_is_told(tmp_path: Path) -> None:
    process = subprocess.Popen(["/bin/sh", str(script(tmp_path))], start_new_session=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        # It waits as soon as it has its child.
        while not children.read_text().split():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_second_plan_of_what_was_made_is_empty() -> None:
    for settings in ({}, {"build": "2dev-2048"}):
        assert make_plan("sophon_models", settings, converged("sophon_models", settings)).steps == ()
