"""The planner, case by case: plan_cases/*.json hold settings, observation and the plan that is expected.

A case's observation is laid over base.json, a bare host. With `"converged": true` the host first gets what the planner
itself says it should have, so that no hash is copied by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, plan
from deployer.observe import Observation, Settings
from deployer.plan import HostPlan, preflight, render
from deployer.plan.types import DriverSpec

CASES = Path(__file__).parent / "plan_cases"
KINDS = (".", "ascend", "sophon", "sophon_models", "tx8")
BASES = {name: json.loads((CASES / name / "base.json").read_text()) for name in KINDS}
NAMES = sorted(
    str(path.relative_to(CASES).with_suffix(""))
    for kind in KINDS
    for path in (CASES / kind).glob("*.json")
    if path.stem != "base"
)
DEFAULTS: dict[str, dict[str, Any]] = {
    ".": {"model": "tiny-qwen2", "connection": "local"},
    "ascend": {
        "model": "qwen2.5-14b",
        "weights_dir": "/home/ckpt/qwen2.5-14b",
        "packages_dir": "/srv/p",
        "address": "192.0.2.1",
        # One of the two cards; what is taken where nobody asks has cases of its own, with 0.
        "tensor_parallel": 2,
    },
    "sophon": {
        "model": "sophon-two",
        "weights_dir": "/srv/models/two",
        "packages_dir": "/srv/p",
        "address": "192.0.2.1",
    },
    "sophon_models": {"model": "deepseek-r1-distill-qwen-14b", "packages_dir": "/srv/p", "address": "192.0.2.1"},
    "tx8": {"model": "deepseek-r1-distill-qwen-7b", "packages_dir": "/srv/p", "address": "192.0.2.1"},
}
CATALOG = catalog.load([CASES / "catalog"])
TEMPLATES = plan.load_templates()


def merge(base: Any, over: Any) -> Any:
    """Lay one document over another; null removes a key of a mapping."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    result = dict(base)
    for key, value in over.items():
        if value is None and isinstance(base.get(key), dict):
            result.pop(key)
        else:
            result[key] = merge(base.get(key), value)
    return result


def make_plan(kind: str, settings: dict[str, Any], observation: dict[str, Any]) -> HostPlan:
    wanted = Settings.model_validate(DEFAULTS[kind] | settings)
    return plan.plan_host(CATALOG, wanted, Observation.model_validate(observation), TEMPLATES)


def converged(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The base host after a successful `up` with these settings."""
    spec = make_plan(kind, settings, BASES[kind]).spec
    assert spec is not None
    deployments = {}
    containers = []
    listeners = []
    for replica in spec.replicas:
        record = json.loads(replica.record)
        kept = ("model", "accelerator", "port", "endpoint", "manager", "spec", "engine", "weights", "state_dir", "unit")
        more = ("served_name", "log", "wanted_port", "chips", "container", "volumes", "settings")
        name = replica.config_dir.rpartition("/")[2]
        deployments[name] = {key: record[key] for key in (*kept, *more) if key in record} | {
            "name": name,
            "files": {path: render.sha256(content) for path, content in replica.files.items()},
            "process": {"pid": 4711, "start": 5, "name": "python", "age_s": 900, "resident": 600000000},
            "resident": 3000000000,
            "running_spec": record["spec"],
            "ready": True,
            "health": "HTTP 200",
        }
        listeners.append(
            {
                "port": record["port"],
                "address": "127.0.0.1",
                "pid": 4711,
                "name": "python",
                "config": replica.config_dir,
            }
        )
        if replica.container:
            facts = {"id": name, "image": replica.container.image, "image_id": replica.container.image}
            labels = {"name": replica.container.name, "state": "running", "labels": replica.container.labels}
            containers.append({**facts, **labels, "devices": replica.container.devices})
    over: dict[str, Any] = {"listeners": listeners, "deployments": deployments}
    if spec.engine:
        weights = {"path": spec.weights.dir, "exists": True, "size": 5400000, "stamped": True}
        over |= {"engines": {spec.engine.dir: True}, "weights": {spec.weights.dir: weights}}
    else:
        over |= {"docker": {"containers": containers}}
    if spec.programs:
        build = spec.programs.unfinished[1]
        made = [*spec.programs.writes, f"{build}/chat.cpython-310-x86_64-linux-gnu.so"]
        over |= {"programs": [spec.programs.stamp, *made]}
    host: dict[str, Any] = merge(BASES[kind], over)
    return host


def load_case(name: str) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    case = json.loads((CASES / f"{name}.json").read_text())
    assert set(case) <= {"why", "converged", "earlier_settings", "settings", "observation", "expected"}, name
    kind = str(Path(name).parent)
    settings = case.get("settings", {})
    host = converged(kind, case.get("earlier_settings", settings)) if case.get("converged") else BASES[kind]
    return kind, settings, merge(host, case.get("observation", {})), case["expected"]


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    kind, settings, observation, expected = load_case(name)
    found = make_plan(kind, settings, observation)
    steps = [(step.id, step.reason, step.interrupts_serving, step.reboots) for step in found.steps]
    refused: list[list[str]] = [[each.check, each.found, each.remedy] for each in found.refused]
    shown = json.dumps({"steps": steps, "refused": refused, "satisfied": found.satisfied}, indent=1, ensure_ascii=False)
    assert [step[0] for step in steps] == [step[0] for step in expected.get("steps", [])], shown
    for step, (_, reason, interrupts, *reboots) in zip(steps, expected.get("steps", []), strict=True):
        assert reason in step[1], shown
        assert step[2] is interrupts, shown
        # A step of a case says `true` at its end where it reboots; every other one must not.
        assert step[3] is (reboots == [True]), shown
    assert [each[0] for each in refused] == [each[0] for each in expected.get("refused", [])], shown
    for each, (_, said, remedy) in zip(refused, expected.get("refused", []), strict=True):
        assert said in each[1], shown
        assert remedy in each[2], shown
    if "wanted" in expected:
        assert expected["wanted"] in found.refused[0].wanted, found.refused
    assert sorted(found.satisfied) == sorted(expected.get("satisfied", [])), shown
    assert all(step.estimate_s >= 1 for step in found.steps), shown
    assert_words(found, expected)
    if found.spec is not None and found.spec.driver is not None:
        assert_driver(found.spec.driver, expected)
    for key, values in (
        ("chips", [list(each.chips) for each in found.spec.replicas] if found.spec else []),
        ("ports", [each.port for each in found.spec.replicas] if found.spec else []),
    ):
        if key in expected:
            assert values == expected[key]
    if "endpoint" in expected:
        assert found.endpoint == expected["endpoint"]
    if "command" in expected:
        assert found.spec is not None
        assert expected["command"] in found.spec.serving.command
    if "manager" in expected:
        assert found.spec is not None
        assert found.spec.serving.manager == expected["manager"]


def assert_words(found: HostPlan, expected: dict[str, Any]) -> None:
    if "accelerator" in expected:
        assert found.accelerator == expected["accelerator"]
    if "wanted" in expected:
        assert any(expected["wanted"] in each.wanted for each in found.refused), found.refused
    if "note" in expected:
        assert any(expected["note"] in note for note in found.notes), found.notes
    if "no_note" in expected:
        assert not any(expected["no_note"] in note for note in found.notes), found.notes


def assert_driver(driver: DriverSpec, expected: dict[str, Any]) -> None:
    if "installs" in expected:
        assert [f"{each.kind} {each.version}" for each in driver.installs] == expected["installs"]
    if "mode" in expected:
        assert driver.mode == expected["mode"]
    for key, found in (("removes", driver.removes), ("unfinished", driver.unfinished)):
        if key in expected:
            assert list(found) == expected[key]
    if "tool_packages" in expected:
        assert list(driver.tool_packages) == expected["tool_packages"]


@pytest.mark.parametrize("name", NAMES)
def test_same_input_same_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without a look at files, network, clock or processes."""
    kind, settings, observation, _ = load_case(name)
    first = make_plan(kind, settings, observation)

    def forbidden(*words: object, **_: object) -> None:
        raise AssertionError(f"the planner did I/O: {words}")

    for target in (
        "builtins.open",
        "socket.socket",
        "subprocess.Popen",
        "time.time",
        "time.monotonic",
        "random.random",
    ):
        monkeypatch.setattr(target, forbidden)
    second = make_plan(kind, settings, observation)
    monkeypatch.undo()
    assert first == second


def test_every_check_has_a_case() -> None:
    written = set()
    for name in NAMES:
        written |= {each[0] for each in load_case(name)[3].get("refused", [])}
    # Jobs have cases of their own (test_jobs.py).
    package = Path(preflight.__file__).parent
    source = "".join(path.read_text() for path in package.glob("*.py") if path.stem != "jobs")
    checks = set(re.findall(r'check="([^"]+)"', source)) | set(re.findall(r'refuse\(\s*"([^"]+)"', source))
    checks |= {"driver package", "firmware package"}
    assert written >= checks - {"image", "inventory"}, checks - written


def test_readiness_deadline_grows_with_the_model() -> None:
    tiny, large = CATALOG.model("tiny-qwen2"), CATALOG.model("qwen2.5-32b")
    runtime = CATALOG.runtimes["vllm-cpu"]
    assert render.ready_timeout_s(runtime, large) > render.ready_timeout_s(runtime, tiny) + 600
