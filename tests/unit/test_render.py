"""What a host gets, really run: values arrive as they were meant, and nothing in them is a command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, plan
from deployer.catalog import Catalog
from deployer.cli.render import docker_run
from deployer.errors import CatalogError
from deployer.observe import Observation, Settings, holder
from deployer.plan import render
from deployer.plan.types import HostSpec
from tests.unit.test_plan import BASES, DEFAULTS, merge

DUMP = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getpid()]))"
HOSTILE = [
    "a b",
    "it's",
    '"quoted"',
    "$HOME",
    "`id`",
    "$(id)",
    "a;b",
    "a&b|c>d",
    "back\\slash",
    "{model}",
    "*",
    "#x",
    "~",
    "",
]


def known(command: tuple[str, ...]) -> Catalog:
    """The catalog, with another program in the engine's place."""
    loaded = catalog.load()
    runtime = loaded.runtimes["vllm-cpu"].model_copy(update={"command": command})
    return Catalog(loaded.accelerators, {**loaded.runtimes, "vllm-cpu": runtime}, loaded.models, loaded.failures)


def spec_of(place: Path, settings: dict[str, Any], loaded: Catalog | None = None) -> HostSpec:
    """The specification of a host whose directories are in `place`."""
    places = {"data": f"{place}/da ta", "config": f"{place}/con'fig"}
    disk = {"free": 10**11, "total": 10**11, "device": 1, "writable": True}
    host = merge(BASES["."], {"places": places, "disks": {places["data"]: disk}})
    wanted = Settings.model_validate({"model": "tiny-qwen2", "connection": "local", **settings})
    loaded = loaded or catalog.load()
    spec = plan.plan_host(loaded, wanted, Observation.model_validate(host), plan.load_templates()).spec
    assert spec is not None
    return spec


def run(spec: HostSpec) -> tuple[list[str], dict[str, str], int]:
    """Write the files and run the script as the host would."""
    Path(spec.serving.state_dir).mkdir(parents=True, exist_ok=True)
    for name, content in spec.serving.files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
        subprocess.run(["/bin/sh", "-n", name], check=True)
    script = ["/bin/sh", spec.serving.script]
    done = subprocess.run(script, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    argv, environment, pid = json.loads(done.stdout)
    return argv, environment, pid


def test_hostile_values_arrive_unchanged(tmp_path: Path) -> None:
    environment = {f"V{number}": value for number, value in enumerate(HOSTILE)}
    options = {f"o{chr(97 + number)}": value for number, value in enumerate(HOSTILE) if value not in ("", "{model}")}
    spec = spec_of(tmp_path, {"environment": environment, "options": options}, known((sys.executable, "-c", DUMP)))
    argv, found, _ = run(spec)
    assert {name: found.get(name, "") for name in environment} == environment
    assert [f"--{name}={value}" for name, value in options.items()] == argv[-len(options) :]
    assert found["DEPLOYER_CONFIG"] == f"{tmp_path}/con'fig/tiny-qwen2"
    assert found["DEPLOYER_DEPLOYMENT"] == "tiny-qwen2"


def test_marks_cannot_be_set_by_a_user(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {"environment": {"DEPLOYER_CONFIG": "/etc"}})
    assert spec.serving.environment["DEPLOYER_CONFIG"] == spec.serving.config_dir


def test_engine_gets_the_catalog_s_options(tmp_path: Path) -> None:
    argv, environment, _ = run(spec_of(tmp_path, {"port": 8123}, known((sys.executable, "-c", DUMP))))
    assert argv == [
        f"--model={tmp_path}/da ta/artefacts/tiny-qwen2",
        "--served-model-name=tiny-qwen2",
        "--host=127.0.0.1",
        "--port=8123",
        "--dtype=float32",
        "--max-model-len=1024",
        "--enforce-eager",
    ]
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_pid_file_means_the_process_that_the_engine_becomes(tmp_path: Path) -> None:
    source = "import json,os,pathlib; s=open('/proc/self/stat').read(); " + DUMP.replace("os.getpid()", "s.split()[21]")
    spec = spec_of(tmp_path, {}, known((sys.executable, "-c", source)))
    _, _, start = run(spec)
    facts = json.loads(Path(spec.serving.pid_file).read_text())
    assert facts["start"] == int(start)
    assert facts["spec"] == spec.serving.spec
    assert holder.start_time(facts["pid"]) is None


def test_missing_environment_file_stops_the_script(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {}, known((sys.executable, "-c", DUMP)))
    run(spec)
    (Path(spec.serving.config_dir) / "serve.env").unlink()
    done = subprocess.run(["/bin/sh", spec.serving.script], capture_output=True, check=False)
    assert done.returncode != 0


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 8001},
        {"listen": "0.0.0.0"},
        {"environment": {"A": "1"}},
        {"options": {"x": 1}},
        {"service_manager": "systemd"},
    ],
)
def test_hash_changes_with_every_setting_and_is_stable_otherwise(settings: dict[str, Any], tmp_path: Path) -> None:
    before = spec_of(tmp_path, {}).serving.spec
    assert before == spec_of(tmp_path, {}).serving.spec
    assert before != spec_of(tmp_path, settings).serving.spec


def test_option_off_is_left_out(tmp_path: Path) -> None:
    assert "--enforce-eager" not in spec_of(tmp_path, {"options": {"enforce-eager": False}}).serving.command


def test_record_says_where_everything_is(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {})
    record = json.loads(spec.serving.record)
    assert sorted(spec.serving.files) == record["files"]
    assert record["random_weights"] is True
    assert "RANDOM WEIGHTS" in spec.serving.files[spec.serving.script]


def test_name_that_means_nothing_is_the_catalog_s_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"\{weigths\} in the catalog means nothing"):
        spec_of(tmp_path, {}, known(("{python}", "{weigths}")))


def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """As `systemd-analyze verify` sees it, where that is installed; the test machine runs no systemd."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine")
    spec = spec_of(tmp_path, {"service_manager": "systemd"})
    ((name, unit),) = [(path, content) for path, content in spec.serving.files.items() if path.endswith(".service")]
    script = Path(spec.serving.script)
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    path = tmp_path / Path(name).name
    path.write_text(unit)
    verify = ["systemd-analyze", "--user", "--man=no", "verify", str(path)]
    environment = dict(os.environ) | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, path.name in done.stderr) == (0, False), done.stderr
    path.write_text(unit.replace("[Service]", "[Service]\nRestart=perhaps"))
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert "perhaps" in done.stderr


def ascend_spec(settings: dict[str, Any]) -> HostSpec:
    wanted = Settings.model_validate(DEFAULTS["ascend"] | settings)
    observation = Observation.model_validate(BASES["ascend"])
    spec = plan.plan_host(catalog.load(), wanted, observation, plan.load_templates()).spec
    assert spec is not None
    return spec


def test_container_is_the_vendor_s_docker_run() -> None:
    """S3-R23, S3-R25 to R28, with the weights mounted (S3-X01) and nothing that is not there (S3-X18)."""
    serving = ascend_spec({"tensor_parallel": 4}).serving
    container = serving.container
    assert container is not None
    assert container.devices == (
        *(f"/dev/davinci{number}" for number in range(4)),
        "/dev/davinci_manager",
        "/dev/devmm_svm",
        "/dev/hisi_hdc",
    )
    assert container.volumes == (
        "/usr/local/Ascend/driver:/usr/local/Ascend/driver:ro",
        "/usr/local/sbin:/usr/local/sbin:ro",
        "/etc/ascend_install.info:/etc/ascend_install.info:ro",
        "/home/ckpt/qwen2.5-14b:/home/ckpt/qwen2.5-14b:ro",
        "/etc/deployer/qwen2.5-14b:/etc/deployer/qwen2.5-14b:ro",
    )
    # H5: the guide has --privileged beside the devices; the public guides of the same driver run without.
    assert (container.privileged, container.security_opts, container.cap_drop) == (False, ("no-new-privileges",), ())
    assert serving.environment["MS_ENABLE_LCCL"] == "off"
    assert serving.environment["HCCL_OP_EXPANSION_MODE"] == "AI_CPU"
    assert serving.environment["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"
    assert serving.command == (
        "vllm-mindspore",
        "serve",
        "/home/ckpt/qwen2.5-14b",
        "--served-model-name",
        "qwen2.5-14b",
        "/home/ckpt/qwen2.5-14b",
        "--host=0.0.0.0",
        "--port=8000",
        "--tensor-parallel-size=4",
        "--dtype=float16",
        "--gpu-memory-utilization=0.5",
        "--max-model-len=8192",
        "--max-num-seqs=256",
        "--block-size=128",
        "--max-num-batched-tokens=4096",
    )


def test_the_guide_s_way_is_one_word() -> None:
    container = ascend_spec({"privileged": True, "cap_drop": ["ALL"]}).serving.container
    assert container is not None
    assert (container.privileged, container.security_opts, container.cap_drop) == (True, (), ())
    command = ascend_spec({"options": {"trust-remote-code": True}}).serving.command
    assert "--trust-remote-code" in command


def test_a_site_can_drop_more() -> None:
    container = ascend_spec({"cap_drop": ["NET_RAW", "CAP_MKNOD", "MKNOD"]}).serving.container
    assert container is not None
    assert container.cap_drop == ("MKNOD", "NET_RAW")
    line = docker_run(container)
    assert "--security-opt=no-new-privileges" in line
    assert "--cap-drop=MKNOD" in line
    assert "--privileged" not in line


def test_what_every_new_container_gets_makes_no_old_one_again() -> None:
    container = ascend_spec({}).serving.container
    assert container is not None
    assert container.identity() == container.model_copy(update={"security_opts": ()}).identity()
    assert container.identity() != container.model_copy(update={"privileged": True}).identity()
    assert container.identity() != container.model_copy(update={"cap_drop": ("ALL",)}).identity()


def test_only_the_tx8_s_engine_is_privileged_and_runs_no_code_of_the_weights() -> None:
    """H5: what the catalog lets a container do, in one place."""
    known = catalog.load()
    assert [name for name, each in known.runtimes.items() if each.privileged] == ["txnn"]
    layers = [each.options for each in known.runtimes.values()]
    layers += [each.options for model in known.models.values() for each in model.accelerators.values()]
    assert not any("trust" in name for layer in layers for name in layer)


@pytest.mark.parametrize(("privileged", "visible"), [(True, "2,3"), (False, "0,1")])
def test_visible_chips_are_counted_as_the_container_sees_them(privileged: bool, visible: str) -> None:
    """S3-X13: with --privileged every device of the host is there, else only those handed in."""
    second = ascend_spec({"replicas": 2, "privileged": privileged}).replicas[1]
    assert second.chips == (2, 3)
    assert second.environment["ASCEND_RT_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(
    ("model", "share"),
    [("qwen2.5-32b", "0.8"), ("qwen3-14b", "0.5"), ("qwen3-8b", "0.3"), ("qwen2.5-7b", "0.3"), ("qwen2.5-3b", "0.3")],
)
def test_memory_utilization_is_the_vendor_s_table(model: str, share: str) -> None:
    """S3-R35."""
    spec = ascend_spec({"model": model})
    assert f"--gpu-memory-utilization={share}" in spec.serving.command


def test_path_is_a_second_name_as_the_guide_s_own_request_has_it() -> None:
    """S3-R31, S3-R33, S3-X11: without the slash that the guide's command has and its request has not."""
    serving = ascend_spec({"weights_dir": "/home/ckpt/qwen2.5-14B/"}).serving
    names = serving.command.index("--served-model-name")
    assert serving.command[2] == "/home/ckpt/qwen2.5-14B/"
    assert serving.command[names + 1 : names + 3] == ("qwen2.5-14b", "/home/ckpt/qwen2.5-14B")
    assert serving.command[names + 3].startswith("--")
    assert serving.served_name == "qwen2.5-14b"
    assert json.loads(serving.record)["settings"]["--served-model-name"] == "qwen2.5-14b /home/ckpt/qwen2.5-14B"


def test_option_with_several_values_is_several_words(tmp_path: Path) -> None:
    options = {"sizes": [1, 2.5, "a b", "{model}"], "none": [""], "last": 1}
    argv, _, _ = run(spec_of(tmp_path, {"options": options}, known((sys.executable, "-c", DUMP))))
    assert argv[-6:] == ["--sizes", "1", "2.5", "a b", "tiny-qwen2", "--last=1"]


def test_script_of_a_container_reads_what_an_interactive_shell_would(tmp_path: Path) -> None:
    """S3-R24: and nothing in those files stops it."""
    spec = ascend_spec({})
    (tmp_path / "profile").write_text("export TOOLKIT=there\nfalse\nunset_variable=$NOT_SET\n")
    (tmp_path / "serve.env").write_text(spec.serving.files[f"{spec.serving.config_dir}/serve.env"])
    text = spec.serving.files[spec.serving.script]
    for old, new in (
        ("/etc/profile", f"{tmp_path}/profile"),
        ("/root/.bashrc", f"{tmp_path}/none"),
        (f"{spec.serving.config_dir}/serve.env", f"{tmp_path}/serve.env"),
        ("exec vllm-mindspore", f"exec {sys.executable} -c '{DUMP}'"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "serve.sh").write_text(text)
    done = subprocess.run(["/bin/bash", str(tmp_path / "serve.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    argv, environment, _ = json.loads(done.stdout)
    assert argv[:2] == ["serve", "/home/ckpt/qwen2.5-14b"]
    assert environment["TOOLKIT"] == "there"
    assert environment["MS_ENABLE_LCCL"] == "off"


HOME = "/var/lib/deployer/home"


def tx8(**settings: Any) -> HostSpec:
    """What a ready TX8 host gets."""
    wanted = Settings.model_validate(DEFAULTS["tx8"] | settings)
    spec = plan.plan_host(catalog.load(), wanted, Observation.model_validate(BASES["tx8"]), plan.load_templates()).spec
    assert spec is not None
    return spec


def test_tx8_server_has_the_guide_s_command_with_every_parameter() -> None:
    """T1-R46, T1-R54; long names where the guide has short ones."""
    assert tx8().serving.command == (
        "python",
        "openai_completion_server.py",
        f"--model={HOME}/DeepSeek-R1-Distill-Qwen-7B",
        "--device=txcpu",
        "--load_format=tx",
        "--num_gpu_blocks_override=512",
        "--block_size=16",
        "--model-dtype=bfloat16",
        f"--case-dir={HOME}/deepseek_7b_bf16_seq8192_c4/chip_out/node_0_0",
        "--port=8000",
        "--card-num=0..3",
        "--max-model-len=8192",
        "--tp-size=4",
    )
    assert [word for word in tx8(replicas=8).serving.command if "card-num" in word or "tp-size" in word] == [
        "--card-num=0..31",
        "--tp-size=4",
    ]
    assert tx8().serving.served_name == f"{HOME}/DeepSeek-R1-Distill-Qwen-7B"
    assert tx8().serving.health_url == "http://127.0.0.1:8000/v1/models"


def test_tx8_container_is_the_guide_s_with_all_of_its_home() -> None:
    """T1-R16, T1-R17, T1-X05; nothing is handed in one by one, since no document names the nodes of this driver."""
    container = tx8().serving.container
    assert container is not None
    assert container.volumes == (
        "/dev:/dev:rw",
        "/tmp:/tmp:rw",
        "/lib/modules:/lib/modules:rw",
        "/sys:/sys:rw",
        f"{HOME}:{HOME}:rw",
        f"{HOME}/miniconda:/opt/miniconda:rw",
        "/etc/deployer/deepseek-r1-distill-qwen-7b:/etc/deployer/deepseek-r1-distill-qwen-7b:ro",
    )
    assert (container.devices, container.privileged, container.stop_signal) == ((), True, "SIGINT")


def test_tx8_environment_is_given_to_the_command_and_written_once_for_people(tmp_path: Path) -> None:
    """T1-R18 to T1-R22, T1-X09 to T1-X12: the rendered script is really run, with paths of this machine in it."""
    serving = tx8().serving
    assert serving.environment == {
        "HOME_PATH": HOME,
        "PATH": "/opt/miniconda/bin:$PATH",
        "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/libffi.so.7",
        "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu:$LD_LIBRARY_PATH",
        "HOME": "/opt/miniconda",
        "DEPLOYER_DEPLOYMENT": "deepseek-r1-distill-qwen-7b",
        "DEPLOYER_CONFIG": "/etc/deployer/deepseek-r1-distill-qwen-7b",
    }
    conda = tmp_path / "conda" / "bin"
    conda.mkdir(parents=True)
    # As conda's own: it reads a variable that is not set.
    (conda / "activate").write_text('test -z "$PS1"; echo "activated $1"\n')
    run_infer = tmp_path / "home/txnn_1.2.1_build0307/script/run_infer"
    run_infer.mkdir(parents=True)
    (tmp_path / "libffi.so.7").write_text("")
    script = serving.files[serving.script].replace("/usr/lib/x86_64-linux-gnu/libffi.so.7", f"{tmp_path}/libffi.so.7")
    script = script.replace("/opt/miniconda/bin/activate", str(conda / "activate")).replace(HOME, f"{tmp_path}/home")
    script = script.replace("/root/.bashrc", f"{tmp_path}/bashrc").replace("exec python", "exec echo run in $PWD:")
    script = script.replace("/etc/deployer/deepseek-r1-distill-qwen-7b/serve.env", "/dev/null")
    for _ in range(2):
        done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"activated tx8_txnn\nrun in {run_infer}: openai_completion_server.py")
    lines = (tmp_path / "bashrc").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0] == 'export PATH="/opt/miniconda/bin:$PATH"'
    assert lines[2].endswith("${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
    (tmp_path / "libffi.so.7").unlink()
    failed = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "libffi.so.7 is not in this image" in failed.stderr


def test_tx8_engine_is_installed_by_the_vendor_s_script_in_its_environment() -> None:
    """T1-R40, T1-X02, T1-X49."""
    conda = tx8().conda
    assert conda is not None
    lines = [line.strip() for line in conda.script.splitlines()]
    assert lines[-3:] == [
        ". /opt/miniconda/bin/activate tx8_txnn",
        f"cd {HOME}/txnn_1.2.1_build0307/script/deploy",
        f"bash install_vllm.sh {HOME} txnn.1.2.1_build0307",
    ]
    subprocess.run(["/bin/bash", "-n", "-c", conda.script], check=True)
    assert conda.environment["LD_PRELOAD"].endswith("libffi.so.7")


TEMPLATES = sorted((Path(__file__).resolve().parents[2] / "templates").glob("*.j2"))
# Lines that are no command and no value: what stands there is for people, and is quoted by nobody.
FOR_PEOPLE = re.compile(r'^(#(?!!)|"""|Description=)')


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_nothing_stands_in_a_comment_as_it_came(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        for value in re.findall(r"\{\{(.*?)\}\}", line) if FOR_PEOPLE.match(line) else ():
            assert re.search(r"\| comment\b", value) or value.strip().startswith('", RANDOM WEIGHTS" if'), line


@pytest.mark.parametrize("value", ["a\nb", "a\rb", 'a"""', "a\\", "a\x1b[2J", "a\u2028b", "$(a)", "`a`", "a'b"])
def test_comment_stays_in_its_line(value: str) -> None:
    shown = render.comment(value)
    assert not re.search(r"[\n\r\x1b\u2028\"'\\$`]", shown)
    assert render.comment("http://[fe80::1%eth0]:8000/v1") == "http://[fe80::1%eth0]:8000/v1"
