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

CASES = Path(__file__).parent / "plan_cases"
BASE = json.loads((CASES / "base.json").read_text())
NAMES = sorted(path.stem for path in CASES.glob("*.json") if path.stem != "base")
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


def make_plan(settings: dict[str, Any], observation: dict[str, Any]) -> HostPlan:
    wanted = Settings.model_validate({"model": "tiny-qwen2", "connection": "local", **settings})
    return plan.plan_host(CATALOG, wanted, Observation.model_validate(observation), TEMPLATES)


def converged(settings: dict[str, Any]) -> dict[str, Any]:
    """The base host after a successful `up` with these settings."""
    spec = make_plan(settings, BASE).spec
    assert spec is not None
    record = json.loads(spec.serving.record)
    kept = (
        "model",
        "accelerator",
        "port",
        "endpoint",
        "manager",
        "spec",
        "engine",
        "weights",
        "state_dir",
        "unit",
        "log",
    )
    deployment = {name: record[name] for name in kept} | {
        "name": spec.deployment,
        "settings": record["settings"],
        "files": {path: render.sha256(content) for path, content in spec.serving.files.items()},
        "process": {"pid": 4711, "start": 5, "name": "python", "age_s": 900, "resident": 600000000},
        "resident": 3000000000,
        "running_spec": record["spec"],
        "ready": True,
        "health": "HTTP 200",
    }
    weights = {"path": spec.weights.dir, "exists": True, "size": 5400000, "stamped": True}
    listener = {"port": record["port"], "address": "127.0.0.1", "pid": 4711, "name": "python"}
    listener["config"] = spec.serving.config_dir
    over = {"engines": {spec.engine.dir: True}, "weights": {spec.weights.dir: weights}, "listeners": [listener]}
    host: dict[str, Any] = merge(BASE, over | {"deployments": {spec.deployment: deployment}})
    return host


def load_case(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    case = json.loads((CASES / f"{name}.json").read_text())
    assert set(case) <= {"why", "converged", "earlier_settings", "settings", "observation", "expected"}, name
    settings = case.get("settings", {})
    host = converged(case.get("earlier_settings", settings)) if case.get("converged") else BASE
    return settings, merge(host, case.get("observation", {})), case["expected"]


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    settings, observation, expected = load_case(name)
    found = make_plan(settings, observation)
    steps = [(step.id, step.reason, step.interrupts_serving) for step in found.steps]
    refused: list[list[str]] = [[each.check, each.found, each.remedy] for each in found.refused]
    shown = json.dumps({"steps": steps, "refused": refused, "satisfied": found.satisfied}, indent=1, ensure_ascii=False)
    assert [step[0] for step in steps] == [step[0] for step in expected.get("steps", [])], shown
    for step, (_, reason, interrupts) in zip(steps, expected.get("steps", []), strict=True):
        assert reason in step[1], shown
        assert step[2] is interrupts, shown
    assert [each[0] for each in refused] == [each[0] for each in expected.get("refused", [])], shown
    for each, (_, said, remedy) in zip(refused, expected.get("refused", []), strict=True):
        assert said in each[1], shown
        assert remedy in each[2], shown
    assert sorted(found.satisfied) == sorted(expected.get("satisfied", [])), shown
    assert all(step.estimate_s >= 1 for step in found.steps), shown
    if "endpoint" in expected:
        assert found.endpoint == expected["endpoint"]
    if "manager" in expected:
        assert found.spec is not None
        assert found.spec.serving.manager == expected["manager"]


@pytest.mark.parametrize("name", NAMES)
def test_same_input_same_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without a look at files, network, clock or processes."""
    settings, observation, _ = load_case(name)
    first = make_plan(settings, observation)

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
    second = make_plan(settings, observation)
    monkeypatch.undo()
    assert first == second


def test_every_check_has_a_case() -> None:
    written = set()
    for name in NAMES:
        written |= {each[0] for each in load_case(name)[2].get("refused", [])}
    source = Path(preflight.__file__).read_text() + (Path(preflight.__file__).parent / "planner.py").read_text()
    assert set(re.findall(r'check="([^"]+)"', source)) == written


def test_readiness_deadline_grows_with_the_model() -> None:
    tiny, large = CATALOG.model("tiny-qwen2"), CATALOG.model("qwen2.5-32b")
    runtime = CATALOG.runtimes["vllm-cpu"]
    assert render.ready_timeout_s(runtime, large) > render.ready_timeout_s(runtime, tiny) + 600
