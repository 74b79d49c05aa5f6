"""TX8 on the lab: from a bare host to a verified endpoint, back after a reboot, jobs, and what is refused and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.box import steps
from tests.lab.labbox import LabBox, problem, refusals, statuses

pytestmark = [pytest.mark.lab, pytest.mark.full]
MODEL = "deepseek-r1-distill-qwen-7b"
HOME = "/var/lib/deployer/home"
WEIGHTS, KCORE = f"{HOME}/DeepSeek-R1-Distill-Qwen-7B", f"{HOME}/deepseek_7b_bf16_seq8192_c4"
CONTAINER = f"deployer-{MODEL}"
INVENTORY = "[tx8]\ntx1 ansible_host=192.0.2.21 lab_accelerator=tx8 lab_os=debian11\n"


@pytest.fixture(scope="module")
def bare(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    return make_lab("tx8", INVENTORY)


@pytest.fixture(scope="module")
def lab(bare: LabBox) -> LabBox:
    """One command, from bare to verified, on the chips 0..3."""
    result = bare.up(model=MODEL)
    assert result.status == 0, result.out + result.err
    host = result.json["hosts"]["tx1"]
    assert host["status"] == "verified"
    assert host["verdict"]["model"] == WEIGHTS
    assert host["verdict"]["answers"] == ["/v1/completions", "/v1/chat/completions"]
    assert [each["id"] for each in host["ran"]] == [
        "archives", "kernel_headers", "tx8_driver", "image", "conda_env", "artefacts", "serving_container", "readiness",
    ]  # fmt: skip
    return bare


def inner(lab: LabBox, *words: str) -> str:
    """The output of a command in the container that serves."""
    return lab.on("tx1", "docker", "exec", CONTAINER, *words)


def chips(lab: LabBox) -> list[int]:
    document = lab.verb("status", "--json").json["hosts"]["tx1"]
    assert document["serving"]["healthy"] is True
    found: list[int] = document["serving"]["chips"]
    return found


def test_model_without_a_kcore_is_refused_with_the_two_ways_out(bare: LabBox) -> None:
    result = bare.verb("check", "--json", "-m", "qwen2.5-14b")
    assert result.status == 3
    refusal = refusals(result, "tx1")["kcore"]
    assert "no kcore of qwen2.5-14b" in refusal["found"]
    assert "deployer_compiled_dir" in refusal["remedy"]
    assert "convert_weight.py, as deepseek_qwen2_14b_bf16 or qwen2_14b_quant" in refusal["remedy"]


def test_bare_host_serves_as_the_guide_has_it(lab: LabBox) -> None:
    assert chips(lab) == [0, 1, 2, 3]
    assert lab.ask("tx1", model=WEIGHTS)
    facts = json.loads(lab.on("tx1", "docker", "inspect", CONTAINER))[0]
    assert (facts["Config"]["StopSignal"], facts["HostConfig"]["NetworkMode"]) == ("SIGINT", "host")
    binds = facts["HostConfig"]["Binds"]
    assert {f"{HOME}:{HOME}:rw", f"{HOME}/miniconda:/opt/miniconda:rw", "/dev:/dev:rw", "/sys:/sys:rw"} <= set(binds)
    # Every program has the environment; the shell's profile has it once, for people.
    environment = inner(lab, "cat", "/proc/1/environ").split("\0")
    assert {"HOME=/opt/miniconda", f"HOME_PATH={HOME}", "CONDA_DEFAULT_ENV=tx8_txnn"} <= set(environment)
    assert inner(lab, "grep", "-c", "LD_PRELOAD", "/root/.bashrc").strip() == "1"
    config = json.loads(lab.on("tx1", "cat", f"{WEIGHTS}/config.json"))
    assert config["param_dir"] == f"{KCORE}/chip_out/node_0_0"
    assert config["tensor_parallel"] == {"use_tp": True, "parallel_size": 4}
    log = lab.on("tx1", "cat", "/var/lib/deployer/tx8_driver.log")
    assert "silicon is ready" in log


def test_second_run_changes_nothing(lab: LabBox) -> None:
    before = lab.on("tx1", "docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", CONTAINER)
    result = lab.up(model=MODEL)
    assert result.status == 0
    host = result.json["hosts"]["tx1"]
    assert (steps(host), host["changed"]) == ([], False)
    assert lab.on("tx1", "docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", CONTAINER) == before


def edited(lab: LabBox, name: str, value: Any) -> None:
    """Set or, with None, remove a key of the weights' config.json, as somebody's editor would."""
    config = json.loads(lab.on("tx1", "cat", f"{WEIGHTS}/config.json"))
    config.pop(name, None)
    if value is not None:
        config[name] = value
    lab.on("tx1", "sh", "-c", f"cat > {WEIGHTS}/config.json <<'E'\n{json.dumps(config)}\nE")


def kcore(lab: LabBox, name: str) -> str:
    """A kcore of that name on the host."""
    place = f"/srv/{name}/node_0_0"
    lab.on("tx1", "sh", "-c", f"mkdir -p {place} && echo '{{}}' > {place}/model_info.json && touch {place}/kcore.bin")
    return place


def environment_away(lab: LabBox) -> None:
    lab.on("tx1", "mv", f"{HOME}/miniconda/envs/tx8_txnn", "/srv/tx8_txnn")


def environment_back(lab: LabBox) -> None:
    lab.on("tx1", "mv", "/srv/tx8_txnn", f"{HOME}/miniconda/envs/tx8_txnn")


Way = Callable[[LabBox], Any]
REFUSED: dict[str, tuple[Way, Way, tuple[str, ...], str, str, str]] = {
    # name: how it comes about, how it is undone, words of the command, check, what is found, what helps
    "missing environment": (
        environment_away, environment_back, (), "conda environment", "tx8_base", "bring the archive",
    ),
    "official config.json": (
        lambda lab: edited(lab, "param_dir", None), lambda lab: edited(lab, "param_dir", f"{KCORE}/chip_out/node_0_0"),
        (), "config.json", "has no param_dir", "keep the official one beside",
    ),
    "kcore of another model": (
        lambda lab: kcore(lab, "llama2_7b_fp16_32b_c4_2"), lambda _: None,
        ("-e", "deployer_compiled_dir=/srv/llama2_7b_fp16_32b_c4_2/node_0_0"), "kcore", "of llama2_7b", "of this model",
    ),
    "half a kcore": (
        lambda lab: lab.on("tx1", "mv", f"{KCORE}/chip_out/node_0_0/model_info.json", "/srv/"),
        lambda lab: lab.on("tx1", "mv", "/srv/model_info.json", f"{KCORE}/chip_out/node_0_0/"),
        (), "kcore", "no model_info.json", "again",
    ),
    "another build": (lambda _: None, lambda _: None, ("-e", "deployer_build=0401"),
        "archive of the engine (txnn)", "build 0307", "deployer_build",
    ),
    "chips that do not fit": (lambda _: None, lambda _: None, ("-e", "deployer_replicas=9"),
        "replicas", "deployer_replicas=9", "inventory",
    ),
    "half a group": (lambda _: None, lambda _: None, ("-e", "deployer_tensor_parallel=2"),
        "tensor parallel", "deployer_tensor_parallel=2", "leave it out",
    ),
    "busy port": (lambda _: None, lambda _: None, ("-e", "deployer_port=22"),
        "port", "port 22 is taken by sshd", "deployer_port",
    ),
    "longer than its kcore": (
        lambda _: None, lambda _: None, ("-e", '{"deployer_options": {"max-model-len": 9000}}'),
        "max-model-len", "9000", "deployer_options",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_changed(name: str, lab: LabBox) -> None:
    make, undo, words, check, found, remedy = REFUSED[name]
    make(lab)
    try:
        result = lab.up(*words, model=MODEL)
        assert result.status == 3, result.out + result.err
        assert result.json["hosts"]["tx1"]["ran"] == []
        refusal = refusals(result, "tx1")[check]
        assert found in refusal["found"], refusal
        assert remedy in refusal["remedy"], refusal
    finally:
        undo(lab)
    assert lab.verb("plan", "--json", "-m", MODEL).json["hosts"]["tx1"]["steps"] == []


@pytest.fixture
def files(lab: LabBox, tmp_path: Path) -> Path:
    """A copy of the directory of packages, to spoil."""
    source = lab.state / "lab" / lab.name / "packages" / "tx1"
    target = tmp_path / "packages"
    shutil.copytree(source, target)
    return target


def elsewhere(lab: LabBox, files: Path) -> Any:
    """`up` of these files into another directory of the host, where nothing is unpacked yet."""
    return lab.up("-e", f"deployer_packages_dir={files}", "-e", "deployer_home_dir=/srv/home", model=MODEL)


@pytest.mark.parametrize(
    "published", [pytest.param(True, id="with its checksum", marks=pytest.mark.full), pytest.param(False, id="without")]
)
def test_truncated_archive_is_told_and_nothing_of_it_stays(published: bool, lab: LabBox, files: Path) -> None:
    archive = files / "DeepSeek-R1-Distill-Qwen-7B.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-5000])
    if not published:
        (files / "SHA256SUMS").unlink()
    result = elsewhere(lab, files)
    assert result.status == 5, result.out + result.err
    found = problem(result, "tx1")
    assert found["step"] == "archives"
    assert "DeepSeek-R1-Distill-Qwen-7B.tar.gz" in found["message"]
    assert found["cause"], found
    assert "copy it again" in found["remedy"], found
    assert lab.on("tx1", "ls", "/srv/home").split() == [
        "deepseek_7b_bf16_seq8192_c4",
        "miniconda",
        "release",
        "txnn_1.2.1_build0307",
    ]
    assert lab.on("tx1", "ls", "/var/lib/deployer/packages").split() == []
    lab.on("tx1", "rm", "-rf", "/srv/home")
    assert lab.ask("tx1", model=WEIGHTS)


def test_archive_with_a_dot_is_the_one_inside(lab: LabBox, files: Path) -> None:
    shutil.unpack_archive(files / "txnn_1.2.1_build0307.tar.gz", files / "x")
    (files / "txnn_1.2.1_build0307.tar.gz").unlink()
    shutil.move(files / "x/txnn_1.2.1_build0307/txnn.1.2.1_build0307.tar.gz", files)
    result = elsewhere(lab, files)
    assert result.status == 3
    refusal = refusals(result, "tx1")["archive of the engine (txnn)"]
    assert "txnn.1.2.1_build0307: the archive that is inside the one wanted" in refusal["found"]


def test_vendor_s_client_asks_the_server(lab: LabBox, tmp_path: Path) -> None:
    result = lab.verb("run", "client", "-m", MODEL, "--max-tokens", "8", "--to", str(tmp_path), "--json")
    assert result.status == 0, result.out + result.err
    assert statuses(result) == {"tx1": "done"}
    assert len(list((tmp_path / "tx1").glob("TX8_online_batchsize_1_*.log"))) == 2


def test_offline_job_takes_a_free_group_and_its_answers_are_fetched(lab: LabBox, tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("Where is Beijing?\n")
    result = lab.verb(
        "run", "offline", "-m", MODEL, "--max-tokens", "8", "--prompts", str(questions), "--to", str(tmp_path), "--json"
    )
    assert result.status == 0, result.out + result.err
    assert "on chips 4..7" in result.json["hosts"]["tx1"]["steps"][0]["reason"]
    (log,) = (tmp_path / "tx1").glob("TX8_offline_func_batchsize_1_*.log")
    assert "Where is Beijing?" in log.read_text()
    assert (tmp_path / "tx1" / "output.log").is_file()
    # Nothing of it stays on the host, and the server is as it was.
    assert lab.on("tx1", "ls", f"{HOME}/.deployer/jobs").split() == []
    assert lab.on("tx1", "docker", "ps", "-a", "--format", "{{.Names}}").split() == [CONTAINER]
    held = lab.verb("run", "offline", "-m", MODEL, "--chips", "0..3", "--json")
    assert held.status == 3
    assert f"chips 0..3 are held by deployment {MODEL}" in refusals(held, "tx1")["chips"]["found"]


def test_one_run_brings_it_back_after_a_reboot(lab: LabBox) -> None:
    lab.lab("reboot", "tx1")
    result = lab.up(model=MODEL)
    assert result.status == 0, result.out + result.err
    assert steps(result.json["hosts"]["tx1"]) == ["tx8_driver", "serving_container", "readiness"]
    assert chips(lab) == [0, 1, 2, 3]


def test_eight_replicas_are_one_server_on_all_chips(lab: LabBox) -> None:
    result = lab.up("-e", "deployer_replicas=8", model=MODEL)
    assert result.status == 0, result.out + result.err
    assert chips(lab) == list(range(32))
    assert result.json["hosts"]["tx1"]["endpoints"] == [f"http://{lab.hosts['tx1']['address']}:8000/v1"]
    again = lab.up("-e", "deployer_replicas=8", model=MODEL)
    assert steps(again.json["hosts"]["tx1"]) == []


def test_eight_batches_offline_once_the_server_is_down(lab: LabBox, tmp_path: Path) -> None:
    words = ("run", "offline", "-m", MODEL, "--batches", "8", "--max-tokens", "8", "--to", str(tmp_path), "--json")
    held = lab.verb(*words)
    assert held.status == 3
    assert "deployer down" in refusals(held, "tx1")["chips"]["remedy"]
    assert lab.verb("down", "-m", MODEL, "--yes").status == 0
    result = lab.verb(*words)
    assert result.status == 0, result.out + result.err
    assert len(list((tmp_path / "tx1").glob("TX8_offline_func_batchsize_8_*.log"))) == 2
    assert lab.up(model=MODEL).status == 0


def test_installer_that_stays_is_left_running_and_told(lab: LabBox) -> None:
    lab.fault("tx1", "installer-stays")
    lab.lab("reboot", "tx1")
    result = lab.up(model=MODEL)
    assert result.status == 0, result.out + result.err
    note = result.json["hosts"]["tx1"]["notes"][-1]
    assert "stays in the foreground" in note
    assert "tx8_driver.log" in note
    assert "install silicon" in lab.on("tx1", "ps", "ax")
    lab.fault("tx1", "installer-stays", on=False)


def test_chip_that_does_not_come_up(lab: LabBox) -> None:
    lab.fault("tx1", "silicon-down")
    lab.lab("reboot", "tx1")
    result = lab.up(model=MODEL)
    assert result.status == 5, result.out + result.err
    found = problem(result, "tx1")
    assert found["step"] == "tx8_driver"
    assert "chip 7 did not answer" in found["tail"]
    assert "installer failed" in found["cause"]
    assert "tsm_smi" in found["remedy"]
    lab.fault("tx1", "silicon-down", on=False)
    assert lab.up(model=MODEL).status == 0


@pytest.mark.parametrize(
    ("fault", "said"), [("smi-unknown", "a layout that is not known"), ("smi-hangs", "within 30 s")]
)
def test_screen_that_cannot_be_read_is_never_no_device(fault: str, said: str, lab: LabBox) -> None:
    """What serves is verified and left alone; anything that has to be done is refused."""
    lab.fault("tx1", fault)
    result = lab.up(model=MODEL)
    other = lab.up("-e", "deployer_replicas=2", model=MODEL)
    lab.fault("tx1", fault, on=False)
    assert result.status == 0, result.out + result.err
    host = result.json["hosts"]["tx1"]
    assert (steps(host), host["changed"]) == ([], False)
    assert any(said in note for note in host["notes"]), host["notes"]
    assert other.status == 3, other.out + other.err
    assert said in refusals(other, "tx1")["cards"]["found"]


def test_down_with_purge_leaves_the_driver_and_nothing_of_ours(lab: LabBox) -> None:
    result = lab.verb("down", "-m", MODEL, "--purge", "--yes")
    assert result.status == 0, result.err
    assert lab.on("tx1", "docker", "ps", "-aq").strip() == ""
    assert lab.on("tx1", "docker", "images", "-q").strip() == ""
    left = lab.on("tx1", "find", "/var/lib/deployer", "-type", "f").split()
    assert {Path(each).name for each in left} <= {"tx8_driver.json", "tx8_driver.json.rc", "tx8_driver.log"}
    assert "TX81" in lab.on("tx1", "tsm_smi")
