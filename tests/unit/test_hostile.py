"""A host that answers as it likes: its own look fails, with words, and nobody else's; nothing else ever happens.

`answers/` holds what the probe has answered on hosts of each kind, with the settings that it was asked for. Each leaf
of them is replaced by whatever a broken or hostile host could put there.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe, plan, reach
from deployer.errors import DeployerError
from deployer.observe import Observation, Settings, observation, probe
from deployer.observe.parse import fills
from deployer.reach import call, fleet
from tests.unit import host
from tests.unit.test_modules import module

ANSWERS = Path(__file__).parent / "answers"
KINDS = sorted(path.stem for path in ANSWERS.glob("*.json"))
CATALOG = catalog.load()
TEMPLATES = plan.load_templates()
SEED = 13
SAMPLE = 120

Place = tuple[str | int, ...]
# What is written into the answer, as JSON: some of it no Python value could say.
VALUES: dict[str, str] = {
    "null": "null",
    "no text": '""',
    "a list": "[]",
    "a mapping": "{}",
    "zero": "0",
    "less than zero": "-1",
    "true": "true",
    "beyond all numbers": "1e999",
    "a number of a page": "1" + "0" * 5000,
    "the largest number": "18446744073709551615",
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep mappings": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep in a text": json.dumps("[" * 100_000),
    "a megabyte": json.dumps("x" * 1_000_000),
    "a megabyte of lines": json.dumps("1 2:3\n" * 170_000),
    "control characters": json.dumps("a\x00\x1b]0;x\x07\x1b[2J\r\n\x9b\u202e"),
    "half of a character": '"\\ud800"',
    "a digit that is none": json.dumps("²"),
    "not a number": "NaN",
    "a way out": json.dumps("../../../etc"),
}
MARK = "\x00here\x00"


def load(kind: str) -> tuple[Settings, dict[str, Any]]:
    document = json.loads((ANSWERS / f"{kind}.json").read_text(encoding="utf-8"))
    return Settings.model_validate(document["settings"]), document["answer"]


def leaves(node: Any, place: Place = ()) -> Iterator[Place]:
    """Every place of a document, also those that hold others."""
    if place:
        yield place
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, each in items:
        yield from leaves(each, (*place, key))


def inside(node: Any, place: Place = ()) -> Iterator[tuple[Place, Place]]:
    """Places in the JSON that stands in a text (records, stamps): the text's place, and the one in it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, each in items:
        if isinstance(each, str) and each.startswith("{"):
            try:
                yield from (((*place, key), leaf) for leaf in leaves(json.loads(each)))
            except ValueError:
                continue
        yield from inside(each, (*place, key))


def put(document: Any, place: Place, value: Any) -> Any:
    """A copy with another value at a place."""
    result = copy.copy(document)
    result[place[0]] = value if len(place) == 1 else put(document[place[0]], place[1:], value)
    return result


def text_with(document: Any, place: Place, value: str) -> str:
    """The document as JSON, with a text of JSON at one place."""
    return json.dumps(put(document, place, MARK)).replace(json.dumps(MARK), value)


def changed(kind: str) -> list[tuple[str, Callable[[], str]]]:
    """Every change of an answer: what it is, and the answer's text."""
    _, answer = load(kind)
    found: list[tuple[str, Callable[[], str]]] = []
    for place in leaves(answer):
        for name, value in VALUES.items():
            found.append((f"{place}: {name}", partial(text_with, answer, place, value)))
    for place, within in inside(answer):
        known: Any = answer
        for key in place:
            known = known[key]
        for name, value in VALUES.items():
            found.append(
                (
                    f"{place} → {within}: {name}",
                    partial(_nested, answer, place, within, known, value),
                )
            )
    return found


def _nested(answer: Any, place: Any, within: Any, known: str, value: Any) -> str:
    """A document within the answer, itself JSON, with another value in it."""
    return json.dumps(put(answer, place, text_with(json.loads(known), within, value)))


def judge(settings: Settings, text: str) -> str:
    """What comes of an answer: `read`, or `refused` by an error of our own; anything else is raised."""
    try:
        raw = observe.unpack(0, f"hello\n{probe.BEGIN}{text}{probe.END}\n", "")
        seen = observe.interpret("h", raw, CATALOG, settings)
    except observe.ProbeError as error:
        return "refused" if len(error.message) < 1000 else "a refusal without an end"
    # It has to travel: into the record, to Ansible and back.
    again = Observation.model_validate_json(seen.model_dump_json())
    try:
        plan.plan_host(CATALOG, settings, again, TEMPLATES)
        for deployment in {each.deployment for each in again.deployments.values()}:
            _, removal = plan.plan_removal(CATALOG, settings, again, deployment, purge=True)
            require_ours(again, removal)
    except DeployerError:
        return "no plan"
    return "read"


def require_ours(seen: Observation, removal: plan.Removal) -> None:
    """Nothing is removed but what stands below the directories that deployer was given."""
    roots = [place for place in (seen.places.data, seen.places.config, seen.places.home, seen.unit_dir) if place]
    for path in (*removal.paths, *removal.staged, *removal.config_dirs):
        assert any(path.startswith(f"{root}/") for root in roots), path
        name = path.rpartition("/")[2]
        assert name not in ("", ".", ".."), path
        assert "/../" not in path, path


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_answer_is_read(kind: str) -> None:
    settings, answer = load(kind)
    assert judge(settings, json.dumps(answer)) == "read"
    seen = observe.interpret("h", answer, CATALOG, settings)
    # With all that can be in an answer, or the changes would change nothing.
    (name, state), *_ = seen.deployments.items()
    assert state.problem is None
    assert state.process is not None
    assert name == state.deployment
    assert seen.lock is not None
    assert seen.cards is None or seen.cards.state == "ok"
    assert not seen.damaged


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_an_answer_holds_it_is_read_or_refused(kind: str) -> None:
    """A part of the changes, always the same; all of them are a test of their own."""
    settings, _ = load(kind)
    every = changed(kind)
    chosen = random.Random(SEED).sample(every, SAMPLE)
    outcomes = {judge_named(settings, name, text()) for name, text in chosen}
    assert {"read", "refused"} <= outcomes <= {"read", "refused", "no plan"}


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_every_change_of_an_answer_is_read_or_refused(kind: str) -> None:
    settings, _ = load(kind)
    for name, text in changed(kind):
        assert judge_named(settings, name, text()) in ("read", "refused", "no plan"), name


def judge_named(settings: Settings, name: str, text: str) -> str:
    try:
        return judge(settings, text)
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {str(error)[:500]}") from error


class Stub:
    """Ansible's connection, as far as the channel looks at it."""

    become = None

    def __init__(self, answer: str) -> None:
        self.exec_command = lambda *_, **__: (0, f"{probe.BEGIN}{answer}{probe.END}".encode(), b"")


def look(answers: dict[str, str]) -> dict[str, Any]:
    settings, _ = load("cpu")

    def prepare(name: str) -> call.Call:
        return call.Call(name, Stub(answers[name]), "true", False, CATALOG, settings)

    return {each.host: each for each in fleet.look(list(answers), prepare) if not isinstance(each, reach.Silent)}


def test_three_hosts_of_which_one_lies_are_two_that_are_seen() -> None:
    _, answer = load("cpu")
    good = json.dumps(answer)
    config = next(place for place in answer["weights"] if "config" in answer["weights"][place])
    deep = put(answer, ("weights", config, "config"), {"text": "[" * 100_000})
    hostile = {
        "nested": "[" * 200_000,
        "no clock": json.dumps(put(answer, ("clock_ticks",), 0)),
        "huge": json.dumps(answer).replace(f'"clock_ticks": {answer["clock_ticks"]}', '"clock_ticks": 1' + "0" * 5000),
    }
    found = look({"a": good, **hostile, "b": good, "weights": json.dumps(deep)})
    assert {host: each.status for host, each in found.items() if isinstance(each, reach.Failed)} == dict.fromkeys(
        hostile, "failed"
    )
    assert all("cannot be read" in found[host].message or "no JSON" in found[host].message for host in hostile)
    # Of a directory of weights the directory is told, and all else of the host is seen.
    problems = [each.problem for each in found["weights"].observation.weights.values() if each.exists]
    assert problems == ["config.json is nested too deep"]
    assert "ZeroDivisionError" in found["no clock"].traceback
    assert "Traceback" not in found["no clock"].message


@pytest.mark.parametrize("place", [("clock_ticks",), ("weights",), ("host",)])
def test_answer_that_breaks_its_reader_is_the_answer_s_fault(place: Place) -> None:
    """Also where Ansible asks, one host in a process: the error is of our own words, and names no defect of ours."""
    settings, answer = load("cpu")
    with pytest.raises(observe.ProbeError, match=r"the probe's answer cannot be read: \w+Error"):
        observe.interpret("h", put(answer, place, 0 if place == ("clock_ticks",) else "x"), CATALOG, settings)


def test_what_a_parser_has_not_thought_of_is_that_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised, of whatever kind."""
    _, answer = load("cpu")
    whole = observe.interpret

    def interpret(host: str, *words: Any) -> Observation:
        if host == "bad":
            raise AssertionError("never thought of")
        return whole(host, *words)

    monkeypatch.setattr(observe, "interpret", interpret)
    found = look({"a": json.dumps(answer), "bad": json.dumps(answer), "b": json.dumps(answer)})
    assert [type(found[host]) for host in ("a", "bad", "b")] == [reach.Looked, reach.Failed, reach.Looked]
    assert found["bad"].status == "failed"
    assert "AssertionError: never thought of" in found["bad"].message
    assert "Traceback" in found["bad"].traceback


# Stamps: data of a directory that a container may have written.

HOME = "/var/lib/deployer/home"
ENGINE = f"{HOME}/txnn_1.2.1_build0307"
STAMPS: dict[str, dict[str, Any]] = {
    "another place": {"path": "/etc"},
    "root's own": {"path": "/root"},
    "a way out": {"path": f"{HOME}/../../../../etc"},
    "a way out and back": {"path": f"{HOME}/x/../txnn_1.2.1_build0307"},
    "the directory itself": {"path": HOME},
    "the directory of stamps": {"path": f"{HOME}/.deployer"},
    "deeper": {"path": f"{ENGINE}/script"},
    "beside": {"path": "/var/lib/deployer/home2"},
    "with a slash": {"path": f"{ENGINE}/"},
    "two slashes": {"path": f"{HOME}//txnn_1.2.1_build0307"},
    "what somebody else has put there": {"path": f"{HOME}/precious"},
    "a volume's options": {"path": f"{HOME}/txnn_1.2.1_build0307:/x:rw"},
    "a line": {"path": f"{ENGINE}\n/etc"},
    "relative": {"path": "txnn_1.2.1_build0307"},
    "a number": {"path": 3},
    "none": {"path": None},
    "earlier, a way out": {"earlier": [f"{HOME}/../../../home"]},
    "earlier, another place": {"earlier": ["/home"]},
    "earlier, no list": {"earlier": "/home"},
    "earlier, no text": {"earlier": [["/etc"]]},
    "an image elsewhere": {"images": [{"path": "../../etc/shadow", "id": "", "size": 1}]},
    "images that are none": {"images": {"a": 1}},
    "an image without a path": {"images": [7]},
}


def stamped(change: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """The recorded host with another stamp of the engine, and with whatever that names, to look at."""
    settings, answer = load("tx8")
    key = next(path for path in answer["files"] if path.endswith("/engine.json"))
    stamp = json.loads(answer["files"][key]["text"]) | change
    answer = put(answer, ("files", key), {"text": json.dumps(stamp)})
    if isinstance(stamp["path"], str):
        # A probe of another version, or none of ours, looks wherever it likes.
        answer = put(answer, ("places", "tx8.at.engine"), stamp["path"])
    return settings, answer


@pytest.mark.parametrize("name", STAMPS)
def test_what_a_stamp_names_elsewhere_is_refused_and_never_mounted_nor_removed(name: str) -> None:
    settings, answer = stamped(STAMPS[name])
    seen = observe.interpret("h", answer, CATALOG, settings)
    assert "engine" not in seen.unpacked
    assert set(seen.damaged) == {"engine"}
    assert seen.damaged["engine"].isprintable()
    found = plan.plan_host(CATALOG, settings, seen, TEMPLATES)
    assert [(each.check, "engine.json is damaged" in each.found) for each in found.refused][:1] == [("stamp", True)]
    assert "remove /var/lib/deployer/stamps/home/engine.json" in found.refused[0].remedy
    assert found.spec is not None
    volumes = [each.split(":")[0] for replica in found.spec.replicas for each in replica.container.volumes]  # type: ignore[union-attr]
    assert not {"/etc", "/root", "/home", f"{HOME}/precious"} & set(volumes)
    # Alone on its host, so that all would go with it.
    alone = {name: each for name, each in seen.deployments.items() if each.problem is None}
    seen = seen.model_copy(update={"deployments": alone})
    (deployment,) = alone
    for purge in (False, True):
        going, removal = plan.plan_removal(CATALOG, settings, seen, deployment, purge)
        assert [each.check for each in going.refused] == (["stamp"] if purge else [])
        assert not (purge and going.steps)
        assert not any("etc/shadow" in path or path in ("/etc", "/root", "/home", HOME) for path in removal.staged)
        require_ours(seen, removal)


def test_an_observation_that_was_made_elsewhere_is_looked_at_again() -> None:
    """What reads the stamp refuses it; what removes by it does not rely on that."""
    settings, answer = load("tx8")
    seen = observe.interpret("h", answer, CATALOG, settings)
    engine = seen.unpacked["engine"].model_copy(update={"path": "/etc", "earlier": (f"{HOME}/../../../home", ENGINE)})
    bad = seen.model_copy(update={"unpacked": seen.unpacked | {"engine": engine}})
    bad = bad.model_copy(update={"deployments": {}})
    _, removal = plan.plan_removal(CATALOG, settings, bad, "deepseek-r1-distill-qwen-7b", purge=True)
    assert ENGINE in removal.staged
    assert "/etc" not in removal.staged
    require_ours(bad, removal)


@pytest.mark.parametrize("name", ["link", "elsewhere", "hidden", "deeper", "as it should be"])
def test_probe_looks_nowhere_else(name: str, tmp_path: Path) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret"
    (home / ".deployer").mkdir(parents=True)
    (secret / "txnn").mkdir(parents=True)
    (home / "engine").mkdir()
    (home / "link").symlink_to(secret)
    paths = {
        "link": home / "link",
        "elsewhere": secret,
        "hidden": home / ".deployer",
        "deeper": home / "engine" / "..",
        "as it should be": home / "engine",
    }
    stamp = home / ".deployer" / "x.json"
    stamp.write_text(json.dumps({"path": str(paths[name])}))
    request = {
        "places": {"home": str(home)},
        "pointed": {"x": ["{home}/.deployer/x.json", "{home}"]},
        "globs": ["{x}/*"],
    }
    seen = host.probe(request | {"paths": ["{x}"]})
    assert seen["paths"]["{x}"]["exists"] is (name == "as it should be")
    assert seen["globs"]["{x}/*"] == []


PLACES: dict[str, tuple[str, str, bool]] = {
    # name: what is asked for, what the host says, whether that can be
    "as asked": ("/var/lib/deployer", "/var/lib/deployer", True),
    "said otherwise": ("/srv//deployer/", "/srv/deployer", True),
    "another": ("/var/lib/deployer", "/etc", False),
    "its own account's": ("~/.config/deployer", "/home/ops/.config/deployer", True),
    "of a variable": ("${XDG_DATA_HOME:-~/.local/share}/deployer", "/srv/data/deployer", True),
    "of a variable alone": ("$SCRATCH", "/scratch/ops", True),
    "of a variable, all": ("$SCRATCH", "/", False),
    "not in the account": ("~/.config/deployer", "/etc", False),
    "a way out": ("~/.config/deployer", "/home/ops/../../.config/deployer", False),
    "relative": ("~/x", "x", False),
    "no text": ("~/x", "", False),
    "a line": ("~/x", "/home/\n/x", False),
}


@pytest.mark.parametrize("name", PLACES)
def test_host_fills_in_its_account_s_directories_and_no_others(name: str) -> None:
    wanted, said, can_be = PLACES[name]
    assert fills(wanted, said) is can_be


@pytest.mark.parametrize("key", ["data", "config", "home", "units"])
def test_host_that_says_where_things_are_is_refused(key: str) -> None:
    settings, answer = load("tx8")
    answer = put(answer, ("places", key if key == "units" else f"tx8.{key}"), "/etc")
    with pytest.raises(observe.ProbeError, match=r"the host says that .* is '/etc'"):
        observe.interpret("h", answer, CATALOG, settings)


# Marks: words in the environment of whatever anybody starts.

NAMES: dict[str, bool] = {
    "qwen": True,
    "qwen2.5-14b": True,
    "qwen@2": True,
    "qwen@64": True,
    "qwen@1": False,
    "qwen@0": False,
    "qwen@02": False,
    "qwen@²": False,
    "qwen@٢": False,
    "qwen@": False,
    "qwen@2@3": False,
    "qwen\n": False,
    "..": False,
    ".": False,
    "": False,
    "Qwen": False,
    "qwen\x1b[2J": False,
    "qwen/x": False,
    "x" * 63: True,
    "x" * 64: False,
}


@pytest.mark.parametrize("name", NAMES)
def test_only_names_of_deployer_are_names(name: str) -> None:
    assert observation.is_replica_name(name) is NAMES[name]
    assert observation.is_deployment_name(name) is (NAMES[name] and "@" not in name)


@pytest.mark.parametrize("name", [name for name, good in NAMES.items() if not good and name])
def test_mark_and_directory_of_another_name_are_told_and_left_alone(name: str) -> None:
    settings, answer = load("cpu")
    good = observe.interpret("h", answer, CATALOG, settings)
    mark = answer["marked"][0] | {"config": f"/etc/deployer/{name}", "deployment": name, "pid": 77}
    entries = answer["deployments"]["{cpu.config}"]
    answer = put(answer, ("marked",), [*answer["marked"], mark])
    answer = put(answer, ("deployments", "{cpu.config}"), entries | {name: entries["tiny-qwen2"]})
    seen = observe.interpret("h", answer, CATALOG, settings)
    assert set(seen.deployments) == set(good.deployments)
    remarks = [each for each in seen.remarks if each not in good.remarks]
    assert len(remarks) == (1 if "/" in name else 2)
    assert all(each.isprintable() and "left alone" in each for each in remarks)
    with pytest.raises(DeployerError, match="no deployment is called"):
        plan.plan_removal(CATALOG, settings, seen, name, purge=False)


def test_container_of_a_record_is_the_deployment_s_own() -> None:
    settings, answer = load("ascend")
    key, name = "{ascend-310p.config}", "qwen2.5-14b"
    record = json.loads(answer["deployments"][key][name]["record"]["text"]) | {"container": "postgres"}
    answer = put(answer, ("deployments", key, name, "record"), {"text": json.dumps(record)})
    state = observe.interpret("h", answer, CATALOG, settings).deployments[name]
    assert "'postgres' is not deployer-qwen2.5-14b" in (state.problem or "")
    assert state.container == f"deployer-{name}"


def test_model_of_a_record_that_no_catalog_has_ends_nobody_s_run() -> None:
    settings, answer = load("cpu")
    record = json.loads(answer["deployments"]["{cpu.config}"]["tiny-qwen2"]["record"]["text"]) | {"model": "no-such"}
    place = ("deployments", "{cpu.config}", "tiny-qwen2", "record")
    seen = observe.interpret("h", put(answer, place, {"text": json.dumps(record)}), CATALOG, settings)
    bare = Settings(data_dir=settings.data_dir, config_dir=settings.config_dir)
    found, _ = plan.plan_removal(CATALOG, bare, seen, "tiny-qwen2", purge=True)
    assert [step.id for step in found.steps] == ["stop", "remove"]


NOBODY = "import ctypes, os; libc = ctypes.CDLL(None); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3); "
# prctl(PR_SET_DUMPABLE, 0): its files below /proc are root's then.
HIDE = "libc.prctl(4, 0); "
SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def started() -> Iterator[Callable[[str, list[str]], int]]:
    """Start a program with deployer's marks; all are gone at the end."""
    children: list[subprocess.Popen[bytes]] = []

    def start(config: str, words: list[str]) -> int:
        environment = {"DEPLOYER_DEPLOYMENT": "x", "DEPLOYER_CONFIG": config, "PATH": os.environ["PATH"]}
        child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child.pid

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another account wants root")
@pytest.mark.parametrize("who", ["own", "nobody", "nobody, hidden", "a program that becomes root"])
def test_marks_count_from_processes_of_the_own_account_alone(
    who: str, started: Callable[[str, list[str]], int], tmp_path: Path
) -> None:
    config = str(tmp_path / "config" / "x")
    python = sys.executable
    if who == "a program that becomes root":
        # As sudo is while it asks for the password: root altogether, and the environment is the user's.
        python = str(tmp_path / "python")
        shutil.copy(os.path.realpath(sys.executable), python)
        Path(python).chmod(0o4755)
    program = (NOBODY if who.startswith("nobody") else "") + (HIDE if who.endswith("hidden") else "") + SLEEP
    pid = started(config, [python, "-c", program])
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = host.probe({"ports": [server.getsockname()[1]]})
    ours = [each["pid"] for each in answer["marked"] if each.get("config") == config]
    foreign = [each["pid"] for each in answer["foreign"]]
    assert ours == ([pid] if who == "own" else [])
    assert (pid in foreign) is (who != "own")
    stopped = module("deployer_process", {"state": "stopped", "config_dir": config, "pid_file": "", "stop_timeout": 1})
    assert stopped["stopped"] == ([pid] if who == "own" else [])


def test_container_of_deployer_is_known_by_its_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever account its image has chosen: nobody but the kernel says in which group a process is."""
    own, other = "a" * 64, "b" * 64
    groups = {
        1: f"0::/system.slice/docker-{own}.scope\n",
        2: f"12:cpu:/docker/{own}\n11:memory:/docker/{own}\n",
        3: f"0::/system.slice/docker-{other}.scope\n",
        4: f"0::/user.slice/{own}x\n",
        5: "0::/user.slice\n",
    }

    def read_text(path: str, *_: Any) -> dict[str, Any]:
        pid = int(path.split("/")[2])
        return {"text": groups[pid] if path.endswith("cgroup") else "Uid:\t1000\t1000\t1000\t1000\n"}

    monkeypatch.setattr(probe, "read_text", read_text)
    monkeypatch.setattr(os, "readlink", lambda path: path.replace("self", "0"))
    assert [probe.is_trusted(pid, [own]) for pid in groups] == [True, True, False, False, False]


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    """A pipe in a directory of weights: who opens it waits for ever."""
    directory = host.weights(tmp_path / "w")
    for name in ("config.json", "SHA256SUMS", "more.safetensors"):
        (directory / name).unlink(missing_ok=True)
        os.mkfifo(directory / name)
    seen = host.probe({"weights": [str(directory)], "files": ["/dev/zero", str(directory / "config.json")]})
    assert seen["files"]["/dev/zero"] == {"error": "no regular file"}
    assert seen["weights"][str(directory)]["config"] == {"error": "no regular file"}
    assert "more.safetensors" not in seen["weights"][str(directory)]["files"]


def test_header_of_weights_that_is_nested_is_no_end_of_the_probe(tmp_path: Path) -> None:
    directory = host.weights(tmp_path / "w")
    header = b"[" * 200_000
    (directory / "bad.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    seen = host.probe({"weights": [str(directory)]})["weights"][str(directory)]["files"]["bad.safetensors"]
    assert seen["safetensors"] == {"error": "its header is no safetensors header"}
