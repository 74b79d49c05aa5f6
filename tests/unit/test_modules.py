"""The Ansible modules, run for real on this machine with a small program in the engine's place."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.box import free_port

MODULES = Path(__file__).resolve().parents[2] / "deployer" / "plugins" / "modules"
UTILS = MODULES.parent / "module_utils"
RUN = """
import importlib.util, json, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[3])
from ansible.module_utils.testing import patch_module_args
spec = importlib.util.spec_from_file_location("module", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with patch_module_args(json.loads(sys.argv[2])):
    module.main()
"""
SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen(["/bin/sleep", "600"])
print("engine starts", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status}); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


def module(name: str, arguments: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Run a module in a process of its own, in which a few lines may run before."""
    words = [sys.executable, "-c", before + RUN, str(MODULES / f"{name}.py"), json.dumps(arguments), str(UTILS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip(), done.stderr
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


class Engine:
    """A deployment whose engine is a few lines of Python."""

    def __init__(self, place: Path, status: int = 200) -> None:
        self.place, self.port = place, free_port()
        self.config = place / "config" / "one"
        self.config.mkdir(parents=True)
        self.script, self.pid_file, self.log = self.config / "serve.sh", place / "pid", place / "log"
        self.write(SERVER.format(status=status, port=self.port))

    def write(self, program: str) -> None:
        (self.place / "engine.py").write_text(program)
        self.script.write_text(
            f"set -eu\nexport DEPLOYER_CONFIG={self.config}\n"
            "stat=$(cat /proc/$$/stat); set -- ${stat##*) }\n"
            f"new={self.pid_file}.new\n"
            'printf \'{"pid": %d, "start": %s}\' $$ "${20}" > $new\n'
            f"mv $new {self.pid_file}\n"
            f"exec {sys.executable} {self.place}/engine.py\n"
        )

    def process(self, state: str, **more: Any) -> dict[str, Any]:
        arguments = {"state": state, "config_dir": str(self.config), "script": str(self.script), "stop_timeout": 5}
        arguments |= {"pid_file": str(self.pid_file), "log": str(self.log)}
        return module("deployer_process", arguments | more)

    def wait(self, slice_s: int = 20) -> dict[str, Any]:
        arguments = {"health_url": f"http://127.0.0.1:{self.port}/health", "slice_s": slice_s}
        return module("deployer_wait_ready", arguments | {"pid_file": str(self.pid_file), "log": str(self.log)})

    def alive(self) -> list[int]:
        mark = f"DEPLOYER_CONFIG={self.config}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


ENDINGS: dict[str, tuple[dict[str, Any], int, str]] = {
    "aborted, and runs again": ({"Status": "running", "ExitCode": 0}, 1, "ended, and Docker has started it again"),
    "again and again": (
        {"Status": "running", "ExitCode": 0}, 3, "ended, and Docker has started it again, 3 times so far",
    ),
    "between two starts": (
        {"Status": "restarting", "ExitCode": 134}, 2,
        "ended with status 134, and Docker starts it again, 2 times so far",
    ),
    "stopped": ({"Status": "exited", "ExitCode": 1}, 0, "ended with status 1"),
    "no memory": ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, 0, "was killed: no memory was left for it"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_what_is_said_of_a_container_that_died(name: str) -> None:
    state, restarts, said = ENDINGS[name]
    spec = importlib.util.spec_from_file_location("wait_ready", MODULES / "deployer_wait_ready.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    container = loaded.Container("deployer-q")
    answer = {"State": {"Pid": 7, **state}, "RestartCount": restarts}
    container.get = lambda _: json.dumps(answer).encode()
    assert container.state() == (False, f"container deployer-q {said}")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path)
    yield made
    for pid in made.alive():
        os.kill(pid, signal.SIGKILL)


def test_start_wait_restart_stop(engine: Engine) -> None:
    first = engine.process("restarted")
    assert (first["changed"], first["stopped"]) == (True, [])
    ready = engine.wait()
    assert (ready["ready"], ready["pid"]) == (True, first["pid"])
    assert len(engine.alive()) == 2
    second = engine.process("restarted")
    assert len(second["stopped"]) == 2
    assert second["pid"] != first["pid"]
    assert engine.wait()["ready"] is True
    stopped = engine.process("stopped")
    assert stopped["changed"] is True
    assert engine.alive() == []
    assert engine.process("stopped")["changed"] is False


def test_server_is_nobody_s_child_and_leads_its_own_session(engine: Engine) -> None:
    pid = engine.process("restarted")["pid"]
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/fd/0").resolve() == Path("/dev/null")
    assert Path(f"/proc/{pid}/fd/1").resolve() == engine.log
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"ANSIBLE" not in environment
    assert b"PYTEST" not in environment


def test_what_a_killed_server_left_is_stopped_and_nothing_else(engine: Engine) -> None:
    other = subprocess.Popen(["/bin/sleep", "600"], env={"DEPLOYER_CONFIG": f"{engine.config}-other"})
    pid = engine.process("restarted")["pid"]
    engine.wait()
    process = psutil.Process(pid)
    process.kill()
    process.wait(timeout=10)
    left = engine.alive()
    assert len(left) == 1
    assert engine.process("stopped")["stopped"] == left
    assert engine.alive() == []
    assert other.poll() is None
    other.kill()
    other.wait()


def test_process_that_ignores_the_polite_signal_is_killed(engine: Engine) -> None:
    engine.write(
        f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVER.format(status=200, port=engine.port)}"
    )
    engine.process("restarted")
    engine.wait()
    assert engine.process("stopped", stop_timeout=1)["changed"] is True
    assert engine.alive() == []


def test_check_mode_stops_nothing(engine: Engine) -> None:
    engine.process("restarted")
    alive = engine.alive()
    result = engine.process("stopped", _ansible_check_mode=True)
    assert result["changed"] is True
    assert engine.alive() == alive


def test_script_that_fails_before_the_engine_shows_its_words(engine: Engine) -> None:
    engine.script.write_text("echo no such place >&2; exit 3\n")
    result = module_failure(engine)
    assert "no such place" in result["msg"]


def module_failure(engine: Engine) -> dict[str, Any]:
    result = engine.process("restarted")
    assert result["failed"] is True
    return result


def test_engine_that_dies_is_told_with_its_last_lines(engine: Engine) -> None:
    engine.write("print('loading'); raise SystemExit('out of luck')")
    engine.process("restarted")
    result = engine.wait()
    assert (result["failed"], result["dead"]) == (True, True)
    assert "out of luck" in result["tail"]
    assert str(engine.log) in result["msg"]


@pytest.mark.parametrize("status", [503, 404])
def test_alive_but_not_ready(status: int, tmp_path: Path) -> None:
    made = Engine(tmp_path, status)
    try:
        made.process("restarted")
        result = made.wait(slice_s=0)
        assert (result["ready"], result["dead"], result.get("failed")) == (False, False, None)
    finally:
        made.process("stopped")


def sealed(tmp_path: Path, **more: Any) -> dict[str, Any]:
    part = tmp_path / "w.part"
    part.mkdir()
    (part / "a").write_text("abc")
    return module("deployer_seal", {"part": str(part), "dest": str(tmp_path / "w"), "source": "s", **more})


SHA = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_seal_stamps_and_moves(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "old").write_text("")
    assert sealed(tmp_path, sha256={"a": SHA})["changed"] is True
    stamp = json.loads((tmp_path / "w" / ".deployer.json").read_text())
    facts = (tmp_path / "w" / "a").stat()
    assert stamp == {"source": "s", "files": {"a": {"size": 3, "mtime_ns": facts.st_mtime_ns, "sha256": SHA}}}
    assert not (tmp_path / "w" / "old").exists()
    assert not (tmp_path / "w.part").exists()


@pytest.mark.parametrize("wrong", [{"a": "0" * 64}, {"b": SHA}])
def test_seal_of_wrong_content_leaves_the_place_alone(wrong: dict[str, str], tmp_path: Path) -> None:
    result = sealed(tmp_path, sha256=wrong)
    assert result["failed"] is True
    assert "expected" in result["msg"]
    assert not (tmp_path / "w").exists()


def test_seal_in_check_mode_and_without_a_part(tmp_path: Path) -> None:
    assert sealed(tmp_path, _ansible_check_mode=True)["changed"] is True
    assert not (tmp_path / "w").exists()
    result = module("deployer_seal", {"part": str(tmp_path / "none"), "dest": str(tmp_path / "w")})
    assert "none" in result["msg"]


def compared(tmp_path: Path, **more: Any) -> dict[str, Any]:
    directory = tmp_path / "weights"
    directory.mkdir(exist_ok=True)
    (directory / "a").write_text("abc")
    arguments = {"directory": str(directory), "algorithm": "sha256", "checksums": {"a": SHA}}
    return module("deployer_checksums", {**arguments, "stamp": str(tmp_path / "verified" / "x.json"), **more})


def test_checksums_that_are_right_are_noted_elsewhere(tmp_path: Path) -> None:
    assert compared(tmp_path)["changed"] is True
    stamp = json.loads((tmp_path / "verified" / "x.json").read_text())
    facts = (tmp_path / "weights" / "a").stat()
    assert stamp["files"] == {"a": {"size": 3, "mtime_ns": facts.st_mtime_ns, "sha256": SHA}}
    assert stamp["directory"] == str(tmp_path / "weights")
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"checksums": {"a": "0" * 64}}, "is damaged: its sha256 is"),
        ({"checksums": {"b": SHA}}, "No such file"),
        ({"algorithm": "md5", "checksums": {"a": "0" * 32}}, "its md5 is 900150983cd24fb0d6963f7d28e17f72"),
        ({"stamp": "/proc/none/x.json"}, "/proc/none"),
    ],
)
def test_checksums_that_are_wrong_leave_no_note(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    result = compared(tmp_path, **more)
    assert result["failed"] is True
    assert said in result["msg"]
    assert not (tmp_path / "verified").is_dir() or not list((tmp_path / "verified").iterdir())


def test_checksum_of_a_first_sight_is_noted_and_compared_ever_after(tmp_path: Path) -> None:
    assert compared(tmp_path, checksums={"a": ""}, recorded=True)["changed"] is True
    stamp = tmp_path / "verified" / "x.json"
    known = json.loads(stamp.read_text())["files"]["a"]["sha256"]
    assert known == SHA
    assert compared(tmp_path, checksums={"a": known}, recorded=True)["changed"] is True
    before = stamp.read_text()
    result = compared(tmp_path, checksums={"a": "1" * 64}, recorded=True)
    assert "is not as it was first seen" in result["msg"]
    assert str(stamp) in result["msg"]
    assert stamp.read_text() == before


def test_checksums_in_check_mode_are_not_read(tmp_path: Path) -> None:
    assert compared(tmp_path, checksums={"a": "0" * 64}, _ansible_check_mode=True)["changed"] is True
