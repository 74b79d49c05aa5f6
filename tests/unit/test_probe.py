"""The probe, run as an Ansible connection runs it, on every Python that this machine has."""

from __future__ import annotations

import ast
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer import catalog, observe
from deployer.observe import holder, probe, settings, transport
from tests.unit import host

SOURCES = Path(probe.__file__).parent


@pytest.mark.parametrize("interpreter", host.interpreters())
def test_runs_on_python_3_8_and_newer_and_tells_older_ones(interpreter: str) -> None:
    words = [interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = tuple(map(int, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split(".")))
    answer = host.probe({"files": ["/etc/os-release"], "tools": ["tar"], "ports": [1]}, interpreter)
    assert ("python_too_old" in answer) == (version < (3, 8))
    if version < (3, 8):
        known = catalog.load()
        wanted = settings.Settings(model="tiny-qwen2")
        with pytest.raises(observe.ProbeRefusedError, match=r"python: found .*wanted Python 3\.8 or newer"):
            observe.parse("h", answer, known, wanted)
    else:
        assert answer["version"] == 1
        assert answer["python"]["executable"]


@pytest.mark.parametrize("name", ["probe", "locker", "reader"])
def test_what_runs_on_hosts_imports_only_the_standard_library(name: str) -> None:
    tree = ast.parse((SOURCES / f"{name}.py").read_text())
    modules = {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    modules |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= sys.stdlib_module_names


def test_command_is_small_enough_for_a_command_line() -> None:
    known = catalog.load()
    command = observe.pack(observe.build(known, settings.Settings(model="tiny-qwen2")))
    # The kernel takes 128 KiB for one argument.
    assert len(command) < 64_000


def test_noise_around_the_answer_is_no_matter() -> None:
    rc, out, err = host.shell(observe.pack({"tools": ["tar"]}))
    assert observe.unpack(rc, f"Welcome!\n{out}\nlogout\n", err)["version"] == 1


WRONG = {
    "nothing": (1, "", "", "the probe ended with status 1: no output"),
    "an error": (1, "", "sh: cannot fork", "sh: cannot fork"),
    "an error on a terminal": (
        127,
        "bash: sudo: command not found\r\n",
        "A banner\nShared connection to 10.0.0.1 closed.\r\n",
        "status 127: A banner; bash: sudo: command not found",
    ),
    "cut off": (0, probe.BEGIN + '{"a":', "", "ended with status 0"),
    "no JSON": (0, probe.BEGIN + "{]" + probe.END, "", "is no JSON"),
    "a list": (0, probe.BEGIN + "[]" + probe.END, "", "is no mapping"),
    "huge": (0, "x" * (transport.MAX_ANSWER + 1), "", "more than"),
    "no Python": (127, "", "deployer: no Python on this host", "found none, wanted Python 3.8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_told(name: str) -> None:
    rc, out, err, said = WRONG[name]
    with pytest.raises(observe.ProbeError, match=said):
        observe.unpack(rc, out, err)


def test_no_interpreter_at_all() -> None:
    with pytest.raises(observe.ProbeRefusedError):
        observe.unpack(*host.shell(observe.pack({}, "/nowhere/python")))


def test_readings_that_miss_something_are_told() -> None:
    with pytest.raises(observe.ProbeError, match="cannot be read: KeyError"):
        observe.parse("h", {"version": 1}, catalog.load(), settings.Settings(model="tiny-qwen2"))


def test_places_are_expanded_from_the_host_s_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_PLACE", str(tmp_path))
    places = {"a": "${SOME_PLACE:-/x}/a", "b": "${NO_PLACE:-~/b}", "c": "$SOME_PLACE/c"}
    found = host.probe({"places": places, "disks": ["{a}"]})
    kernel = found["places"].pop("kernel")
    assert found["places"] == {"a": f"{tmp_path}/a", "b": f"{Path.home()}/b", "c": f"{tmp_path}/c"}
    assert kernel == os.uname().release
    assert found["disks"]["{a}"]["free"] > 0


def test_listener_has_its_program_s_pid() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        ports = [server.getsockname()[1], six.getsockname()[1]]
        found = host.probe({"ports": ports})["listeners"]
    assert [(each["port"], each["address"], each["pid"]) for each in found] == [
        (ports[0], "127.0.0.1", os.getpid()),
        (ports[1], "::1", os.getpid()),
    ]


def test_log_tail(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a" * 100 + "end")
    found = host.probe({"logs": {f"{tmp_path}/log": 5, f"{tmp_path}/none": 5}})["logs"]
    assert found[f"{tmp_path}/log"] == {"text": "aaend", "size": 103}
    assert "error" in found[f"{tmp_path}/none"]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A deployment's files, and a living process that is marked as its own."""
    directory = tmp_path / "config" / "one"
    directory.mkdir(parents=True)
    environment = {"DEPLOYER_DEPLOYMENT": "one", "DEPLOYER_CONFIG": str(directory)}
    process = subprocess.Popen(["/bin/sleep", "600"], env=environment)
    facts = {"pid": process.pid, "start": holder.start_time(process.pid), "spec": "abc"}
    facts["boot_id"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "pid").write_text(json.dumps(facts))
    record: dict[str, object] = dict.fromkeys(("endpoint", "engine", "weights", "unit", "log", "manager", "spec"), "x")
    record |= {
        "deployment": "one",
        "model": "m",
        "accelerator": "cpu",
        "port": 1,
        "state_dir": str(tmp_path),
        "settings": {},
    }
    record |= {"pid_file": f"{tmp_path}/pid", "files": [f"{tmp_path}/pid"], "health_url": "http://127.0.0.1:1/health"}
    (directory / "deployment.json").write_text(json.dumps(record))
    try:
        yield tmp_path, process
    finally:
        process.kill()
        process.wait()


def look(place: Path) -> observe.Observation:
    """Observe this machine with its deployments in `place`."""
    wanted = settings.Settings(model="tiny-qwen2", data_dir=f"{place}/data", config_dir=f"{place}/config")
    known = catalog.load()
    return observe.parse("here", host.probe(observe.build(known, wanted)), known, wanted)


def test_variable_of_a_path_that_is_not_set_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """`$UNSET/x` would be `/x`."""
    monkeypatch.delenv("NOBODY_SETS_THIS", raising=False)
    wanted = settings.Settings(model="tiny-qwen2", weights_dir="$NOBODY_SETS_THIS/x")
    known = catalog.load()
    with pytest.raises(observe.ProbeRefusedError) as caught:
        observe.interpret("here", host.probe(observe.build(known, wanted)), known, wanted)
    assert "$NOBODY_SETS_THIS in a path of this host" in caught.value.refusal["found"]
    monkeypatch.setenv("NOBODY_SETS_THIS", "/srv")
    seen = observe.interpret("here", host.probe(observe.build(known, wanted)), known, wanted)
    assert seen.host == "here"


def test_inodes_of_a_file_system_are_read(tmp_path: Path) -> None:
    found = look(tmp_path).disks[f"{tmp_path}/data"].inodes
    # Others make files at the same time.
    assert found == pytest.approx(os.statvfs(tmp_path).f_favail, abs=100_000)


def test_deployment_has_its_process_until_the_pid_is_another_s(
    deployment: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    place, process = deployment
    state = look(place).deployments["one"]
    assert state.process is not None
    assert (state.process.pid, state.running_spec, state.ready, state.strays) == (process.pid, "abc", False, ())
    assert "refused" in state.health
    facts = json.loads((place / "pid").read_text())
    (place / "pid").write_text(json.dumps(facts | {"start": facts["start"] + 1}))
    state = look(place).deployments["one"]
    assert state.process is None
    assert [each.pid for each in state.strays] == [process.pid]
    (place / "pid").write_text(json.dumps(facts | {"boot_id": "of another boot"}))
    assert look(place).deployments["one"].process is None


HEALTH: dict[str, tuple[bytes, str, bool]] = {
    "hangs": (b'{"status": "no token for 900 s: it hangs", "state": "hangs"}', ": no token for 900 s: it hangs", True),
    "loads": (b'{"status": "the model is loading", "state": "loading"}', ": the model is loading", False),
    "another server": (b"", "", False),
    "no JSON": (b"<html>", "", False),
    "a list": (b"[1]", "", False),
    "much": (b'{"status": "' + b"x" * 5000, "", False),
    "no text": (b"\xff\xfe", "", False),
}


@pytest.mark.parametrize("name", HEALTH)
def test_what_an_engine_says_of_itself(name: str, deployment: tuple[Path, subprocess.Popen[bytes]]) -> None:
    body, said, hangs = HEALTH[name]
    place, _ = deployment

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.end_headers()
        handler.wfile.write(body)

    own = {"do_GET": answer, "log_message": lambda *_: None}
    handler = type("Handler", (http.server.BaseHTTPRequestHandler,), own)
    path = place / "config/one/deployment.json"
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/health"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"health_url": url}))
        state = look(place).deployments["one"]
        server.shutdown()
    assert (state.health, state.hangs, state.ready) == (f"HTTP 503{said}", hangs, False)


@pytest.mark.parametrize("record", ["", "{", "[]", '{"files": 3}', '{"model": 7}'])
def test_damaged_record_is_a_problem_of_that_deployment_alone(
    deployment: tuple[Path, subprocess.Popen[bytes]], record: str
) -> None:
    place, process = deployment
    (place / "config/one/deployment.json").write_text(record)
    state = look(place).deployments["one"]
    assert "damaged" in (state.problem or "")
    assert [each.pid for each in state.strays] == [process.pid]


def test_process_without_files_is_still_ours_to_stop(deployment: tuple[Path, subprocess.Popen[bytes]]) -> None:
    place, process = deployment
    shutil.rmtree(place / "config")
    state = look(place).deployments["one"]
    assert state.problem == "its files are gone"
    assert [each.pid for each in state.strays] == [process.pid]
