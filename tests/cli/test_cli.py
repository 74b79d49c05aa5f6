"""Wrong input at the command line: one clear line, the right exit status, and no host touched."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.box import free_port

BIN = Path(sys.executable).parent
LOCAL = f"localhost ansible_connection=local deployer_port={free_port()}\n"


def deployer(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, in a home of its own, without a terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_", "DEPLOYER_"))}
    return subprocess.run(
        [str(BIN / "deployer"), *words],
        env=kept | {"HOME": str(home)} | environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an inventory of this machine."""
    (tmp_path / "hosts.ini").write_text(LOCAL)
    return tmp_path


UP = ["up", "-i", "hosts.ini", "-m", "tiny-qwen2", "--yes"]
WRONG: dict[str, tuple[dict[str, str], list[str], list[str]]] = {
    # name: files, command line, parts of what is said
    "unknown model": (
        {},
        ["up", "-i", "hosts.ini", "-m", "tiny-qwn", "--yes"],
        ["unknown model 'tiny-qwn'", "tiny-qwen2?"],
    ),
    "no model": ({}, ["up", "-i", "hosts.ini", "--yes"], ["which model?", "deployer models"]),
    "no inventory": ({}, ["up", "-m", "tiny-qwen2", "--yes"], ["--inventory"]),
    "inventory missing": ({}, ["up", "-i", "none.ini", "-m", "tiny-qwen2"], ["none.ini does not exist"]),
    "inventory empty": ({"e.ini": ""}, ["plan", "-i", "e.ini", "-m", "tiny-qwen2"], ["e.ini: the inventory is empty"]),
    "inventory without hosts": ({"e.ini": "[gpu]\n"}, ["plan", "-i", "e.ini", "-m", "tiny-qwen2"], ["no hosts"]),
    "inventory unparsable": ({"b.ini": "[a\nx=\n"}, ["plan", "-i", "b.ini", "-m", "tiny-qwen2"], ["b.ini: line 1: "]),
    "host twice": (
        {"t.ini": "[a]\nx ansible_host=10.0.0.1\n[b]\nx ansible_host=10.0.0.2\n"},
        ["plan", "-i", "t.ini", "-m", "tiny-qwen2"],
        ["host x is there under different addresses: 10.0.0.1, 10.0.0.2"],
    ),
    "limit empty": ({}, [*UP, "--limit", ""], ["--limit is empty"]),
    "limit blank": ({}, [*UP, "--limit", " "], ["--limit is empty"]),
    "limit matches nothing": ({}, [*UP, "--limit", "nobody"], ["'nobody' matches no host", "localhost"]),
    "overlay wrong": (
        {"catalog/models/tiny.yml": "name: tiny-qwen2\nwieghts: 3\n"},
        UP,
        ["catalog/models/tiny.yml:2: wieghts: unknown field"],
    ),
    "catalog directory missing": ({}, [*UP, "--catalog", "none"], ["catalog directory none does not exist"]),
    "variable wrong": ({}, [*UP, "-e", "deployer_port=0"], ["deployer_port='0'"]),
    "variable hostile": ({}, [*UP, "-e", "deployer_data_dir='/tmp/x; touch y'"], ["deployer_data_dir"]),
    "option unknown": ({}, [*UP, "--foo"], ["--foo"]),
    "argument unknown": ({}, [*UP, "foo"], ["foo"]),
    "Ansible's option unknown": ({}, [*UP, "--", "--foo"], ["unrecognized arguments: --foo"]),
    "verb unknown": ({}, ["upp"], ["upp"]),
    "host unknown": ({}, ["logs", "-i", "hosts.ini", "nobody"], ["no host 'nobody'", "localhost"]),
    "nobody to ask": ({}, UP[:-1], ["no terminal to ask on", "--yes"]),
    "nothing to restart": ({}, ["restart", "-i", "hosts.ini", "--yes"], ["nothing is deployed"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_clear_line_and_status_2(name: str, home: Path) -> None:
    files, words, parts = WRONG[name]
    for path, content in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    done = deployer(home, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / ".local/share").exists()
    assert not (home / "y").exists()


def test_errors_are_json_under_json(home: Path) -> None:
    done = deployer(home, "up", "-i", "hosts.ini", "-m", "nope", "--json")
    document = json.loads(done.stdout)
    assert document["exit_status"] == done.returncode == 2
    assert "unknown model" in document["error"]["message"]


def test_unwritable_state_directory(home: Path) -> None:
    (home / "file").write_text("")
    done = deployer(home, *UP, DEPLOYER_STATE_DIR=str(home / "file" / "state"))
    assert done.returncode == 2
    assert "state directory cannot be written" in done.stderr
    assert "DEPLOYER_STATE_DIR" in done.stderr


def test_missing_ansible_playbook(home: Path) -> None:
    """The package without Ansible's program beside it, as a broken installation leaves it."""
    program = home / "bin" / "python"
    program.parent.mkdir()
    program.symlink_to(Path(sys.executable).resolve())
    packages = next(Path(sys.executable).parent.parent.glob("lib/python3*/site-packages"))
    paths = f"{packages}{os.pathsep}{Path(__file__).resolve().parents[2]}"
    done = subprocess.run(
        [str(program), "-m", "deployer", *UP],
        env={"HOME": str(home), "PATH": str(program.parent), "PYTHONPATH": paths},
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "ansible-playbook is not installed" in done.stderr


@pytest.mark.parametrize(
    ("check", "variables", "found"),
    [
        ("weights", {"deployer_weights_dir": "{home}/none"}, "does not exist"),
        ("weights", {"deployer_weights_dir": "{home}/bad"}, "config.json is no JSON"),
        ("accelerator", {"accelerator": "ascend-310p"}, "none on the PCI bus"),
        ("python", {"deployer_python": "/nowhere/python3"}, "nothing that runs at /nowhere/python3"),
    ],
)
def test_preflight_refuses_with_status_3(check: str, variables: dict[str, str], found: str, home: Path) -> None:
    (home / "bad").mkdir()
    (home / "bad" / "config.json").write_text("{")
    values = {name: value.replace("{home}", str(home)) for name, value in variables.items()}
    done = deployer(home, *UP, "--json", "-e", json.dumps(values))
    document = json.loads(done.stdout)
    assert done.returncode == document["exit_status"] == 3, done.stdout
    refusals = [each for each in document["hosts"]["localhost"]["refused"] if each["check"] == check]
    assert any(found in each["found"] for each in refusals), refusals
    assert all(each["remedy"] and each["wanted"] for each in refusals)
    assert document["hosts"]["localhost"]["status"] == "refused"
    assert not (home / ".local/share").exists()


def test_plan_document_is_the_documented_one(home: Path) -> None:
    done = deployer(home, "plan", "-i", "hosts.ini", "-m", "tiny-qwen2", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert (document["deployment"], document["model"]) == ("tiny-qwen2", "tiny-qwen2")
    host = document["hosts"]["localhost"]
    assert set(host) == {"accelerator", "steps", "refused", "notes", "access"}
    assert host["notes"] == ["random weights: its answers are noise"]
    assert [step["id"] for step in host["steps"]] == ["engine", "artefacts", "serving", "readiness"]
    assert all(set(s) == {"id", "reason", "interrupts_serving", "reboots", "estimate_s"} for s in host["steps"])


def test_builds_of_a_model_are_shown_with_what_they_take(home: Path) -> None:
    shown = deployer(home, "models", "deepseek-r1-distill-qwen-32b").stdout
    assert "on bm1684x, with deployer_runtime llm-tpu or sophon-demo:" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if "dev-" in line}
    assert "10558 measured    yes   your own compilation" in rows["2dev-1024"]
    assert "no " in rows["1dev-1024"]
    document = json.loads(deployer(home, "models", "deepseek-r1-distill-qwen-32b", "--json").stdout)
    builds = {each["name"]: each for each in document["models"][0]["accelerators"]["bm1684x"]["builds"]}
    assert builds["4dev-2048"]["problem"] == ""
    assert "S0-F06" in builds["1dev-1024"]["problem"]
    unknown = deployer(home, "models", "nope")
    assert (unknown.returncode, "unknown model 'nope'" in unknown.stderr) == (2, True)


def test_no_colour_and_no_progress_table_without_a_terminal(home: Path) -> None:
    done = deployer(home, "plan", "-i", "hosts.ini", "-m", "tiny-qwen2")
    assert "localhost: random weights: its answers are noise" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "Looking at the hosts" in done.stderr
    assert "Looking" not in done.stdout


def at_question(home: Path, answer: bytes) -> tuple[int, bytes]:
    """Run `up` on a terminal of its own, type the answer at the question; the exit status and all that was shown."""
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_", "DEPLOYER_"))}
    process = subprocess.Popen(
        ["setsid", "--ctty", str(BIN / "deployer"), *UP[:-1]],
        env=kept | {"HOME": str(home), "TERM": "xterm"},
        cwd=home,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        # A background job of a shell ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(follower)
    said = b""
    try:
        while more := os.read(leader, 4096):
            said += more
            if said.endswith(b"[y/N]: "):
                os.write(leader, answer)
    except OSError:
        pass  # the other side has closed the terminal
    os.close(leader)
    return process.wait(), said


def test_question_on_a_terminal_is_one_and_defaults_to_no(home: Path) -> None:
    status, said = at_question(home, b"\n")
    assert status == 0
    assert said.count(b"[y/N]") == 1
    assert b"Nothing was changed" in said
    assert not (home / ".local/share").exists()


def test_ctrl_c_at_the_question_is_130(home: Path) -> None:
    status, said = at_question(home, b"\x03")
    assert status == 130
    assert b"interrupted" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str, home: Path) -> None:
    script = deployer(home, _DEPLOYER_COMPLETE=f"{shell}_source")
    assert f"_DEPLOYER_COMPLETE={shell}_complete" in script.stdout
    typed = {"COMP_WORDS": "deployer re", "COMP_CWORD": "1" if shell != "fish" else "re"}
    done = deployer(home, _DEPLOYER_COMPLETE=f"{shell}_complete", **typed)
    assert "restart" in done.stdout
    assert "down" not in done.stdout


def test_model_of_a_card_on_a_host_without_one_is_refused(home: Path) -> None:
    done = deployer(home, "plan", "-i", "hosts.ini", "-m", "qwen2.5-14b", "--json")
    assert done.returncode == 3
    (refused,) = json.loads(done.stdout)["hosts"]["localhost"]["refused"]
    assert (refused["check"], refused["found"]) == ("accelerator", "none on the PCI bus")


@pytest.mark.parametrize(
    "verb", [["up", "-i", "hosts.ini"], ["status"], ["down"], ["reboot", "a"], ["fault", "a", "tar-missing"]]
)
def test_lab_without_docker_says_how_to_get_it(verb: list[str], home: Path) -> None:
    done = deployer(home, "lab", *verb, DOCKER_HOST=f"unix://{home}/none.sock")
    assert done.returncode == 2
    assert "the lab needs a Docker engine" in done.stderr
    assert "apt install docker.io" in done.stderr
    assert "Traceback" not in done.stderr


def test_lab_lists_its_faults_without_docker(home: Path) -> None:
    done = deployer(home, "lab", "fault", "--list", DOCKER_HOST=f"unix://{home}/none.sock")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 39
    assert "reboot-never-back" in done.stdout


HOSTILE = ["$(touch pwned)", "a; touch pwned", "x\n y", "../../etc", "`id`"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("deployer_image", value) for value in HOSTILE),
        *(("deployer_driver_version", value) for value in HOSTILE),
        ("deployer_replicas", "many"),
        ("deployer_replicas", "0"),
        ("deployer_tensor_parallel", "-1"),
        ("deployer_image_source", "floppy"),
        ("deployer_privileged", "perhaps"),
        ("deployer_options", '{"tensor-parallel-size": 4}'),
    ],
)
def test_wrong_variable_is_named(name: str, value: str, home: Path) -> None:
    extra = json.dumps({name: json.loads(value) if value.startswith("{") else value})
    done = deployer(home, "plan", "-i", "hosts.ini", "-m", "qwen2.5-14b", "-e", extra)
    assert done.returncode == 2, done.stderr
    assert name in done.stderr
    assert not (home / "pwned").exists()


def test_directory_of_packages_that_is_not_there_refuses_a_host_that_needs_something(home: Path) -> None:
    done = deployer(
        home, "check", "-i", "hosts.ini", "-m", "tiny-qwen2", "--json", "-e", "deployer_packages_dir=/none/at/all"
    )
    assert done.returncode == 3, done.stderr
    (refusal,) = json.loads(done.stdout)["hosts"]["localhost"]["refused"]
    assert refusal["check"] == "packages"
    assert "/none/at/all" in refusal["found"]
