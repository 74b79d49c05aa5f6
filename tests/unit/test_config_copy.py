"""What a container sees as the weights' config.json where they are published in a format that the chip has not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployer.observe.request import container_name
from deployer.plan import HostPlan, JobPlan, render
from deployer.plan.types import ServingSpec
from tests.unit import host
from tests.unit.test_jobs import job
from tests.unit.test_plan import BASES, converged, make_plan, merge
from tests.unit.test_weights import judge

WEIGHTS = "/home/ckpt/qwen2.5-14b"
COPY = "/etc/deployer/qwen2.5-14b/weights-config.json"
# As Qwen publishes it, with what a copy must not lose: order, numbers, letters.
PUBLISHED = """{
  "architectures": ["Qwen2ForCausalLM"],
  "attention_dropout": 0.0,
  "initializer_range": 0.02,
  "rms_norm_eps": 1e-06,
  "rope_theta": 1000000.0,
  "vocab_size": 152064,
  "a_note": "通义千问",
  "use_cache": true,
  "sliding_window": null,
  "torch_dtype": "bfloat16",
  "id": 12345678901234567890
}
"""


def planned(text: str, **settings: Any) -> HostPlan:
    state = {"weights": {WEIGHTS: {"dtype": "", "config_text": text}}}
    return make_plan("ascend", settings, merge(BASES["ascend"], state))


def serving(plan: HostPlan) -> ServingSpec:
    assert plan.spec is not None
    assert plan.refused == ()
    return plan.spec.serving


def test_copy_equals_the_published_one_but_for_its_format() -> None:
    """S3-R09: and whoever compares the two sees one line."""
    found = serving(planned(PUBLISHED)).files[COPY]
    want = PUBLISHED.replace('["Qwen2ForCausalLM"]', '[\n    "Qwen2ForCausalLM"\n  ]').replace("bfloat16", "float16")
    assert found == want


def test_copy_lies_on_top_of_the_weights_and_is_one_of_the_replica_s_files() -> None:
    plan = planned(PUBLISHED, replicas=2)
    assert plan.spec is not None
    for number, replica in enumerate(plan.spec.replicas, 1):
        directory = "/etc/deployer/qwen2.5-14b" + ("@2" if number == 2 else "")
        assert replica.container is not None
        assert replica.container.name == container_name("qwen2.5-14b", number)
        assert replica.container.volumes[-3:] == (
            f"{WEIGHTS}:{WEIGHTS}:ro",
            f"{directory}/weights-config.json:{WEIGHTS}/config.json:ro",
            f"{directory}:{directory}:ro",
        )
        assert f"{directory}/weights-config.json" in json.loads(replica.record)["files"]
    assert [note for note in plan.notes if "config.json" in note] == [
        "config.json says bfloat16; the container sees a copy that says float16"
    ]


def test_a_format_that_the_chip_has_needs_no_copy_and_changes_nothing() -> None:
    """What serves today is not made again by a version that reads more of config.json."""
    before = serving(make_plan("ascend", {}, BASES["ascend"]))
    assert serving(planned(PUBLISHED.replace("bfloat16", "float16"))) == before
    assert COPY not in before.files


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # config.json as it is → what of it is another in the copy
    "newer transformers": ({"dtype": "bfloat16"}, {"dtype": "float16"}),
    "both": ({"torch_dtype": "bfloat16", "dtype": "float32"}, {"torch_dtype": "float16", "dtype": "float16"}),
    "inside, and not above": (
        {"torch_dtype": "float16", "text_config": {"hidden_size": 8, "torch_dtype": "bfloat16"}},
        {"text_config": {"hidden_size": 8, "torch_dtype": "float16"}},
    ),
    "two levels inside": (
        {"thinker_config": {"text_config": {"dtype": "bfloat16"}}},
        {"thinker_config": {"text_config": {"dtype": "float16"}}},
    ),
    "one for each model": (
        {"dtype": {"": "bfloat16", "vision_config": "float16"}},
        {"dtype": {"": "float16", "vision_config": "float16"}},
    ),
    "what is no format of the model": (
        {"torch_dtype": "bfloat16", "quantization_config": {"dtype": "int8"}, "labels": {"dtype": "x"}},
        {"torch_dtype": "float16"},
    ),
    "half of a pair of surrogates": ({"torch_dtype": "bfloat16", "a": "\ud800"}, {"torch_dtype": "float16"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_only_formats_are_changed_wherever_they_stand(name: str) -> None:
    config, changed = FORMS[name]
    text = serving(planned(json.dumps(config))).files[COPY]
    assert json.loads(text) == config | changed
    assert list(json.loads(text)) == list(config)
    assert render.sha256(text)


@pytest.mark.parametrize("config", [{}, {"torch_dtype": None}, {"text_config": {}}, {"dtype": {}}])
def test_config_that_names_no_format_is_left_to_the_option(config: dict[str, Any]) -> None:
    assert COPY not in serving(planned(json.dumps(config))).files


@pytest.mark.parametrize("value", ["float8_e4m3fn", "int8", 16, ["bfloat16"], True])
def test_a_format_that_is_no_float_of_16_bits_is_refused(value: object) -> None:
    plan = planned(json.dumps({"torch_dtype": value}))
    assert [(each.check, "published in 16 bits" in each.remedy) for each in plan.refused] == [("dtype", True)]


def serves(text: str) -> dict[str, Any]:
    """A host that serves weights with this config.json."""
    spec = serving(planned(text))
    over: dict[str, Any] = {"files": {path: render.sha256(content) for path, content in spec.files.items()}}
    over |= {"spec": spec.spec, "running_spec": spec.spec}
    assert spec.container is not None
    labels = {"container": spec.container.name, "volumes": spec.container.volumes}
    return merge(converged("ascend", {}), {"deployments": {"qwen2.5-14b": over | labels}})  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("now", "files", "reason"),
    [
        (PUBLISHED, {}, None),
        (PUBLISHED.replace("152064", "152065"), {}, "config.json of the weights has changed → replace"),
        (PUBLISHED.replace("bfloat16", "float16"), {}, "config.json of the weights has changed → replace"),
        (PUBLISHED, {COPY: "0" * 64}, "weights-config.json was changed by hand or is missing → write it again"),
        (PUBLISHED, {COPY: None}, "weights-config.json was changed by hand or is missing → write it again"),
    ],
)
def test_what_serves_is_replaced_when_the_original_or_the_copy_has_changed(
    now: str, files: dict[str, str | None], reason: str | None
) -> None:
    changed = {"weights": {WEIGHTS: {"config_text": now}}}
    there = merge(serves(PUBLISHED), changed)
    there["deployments"]["qwen2.5-14b"]["files"] |= files
    steps = make_plan("ascend", {}, there).steps
    if reason is None:
        assert steps == ()
        return
    assert steps[0].id == "serving_container"
    assert reason in steps[0].reason
    assert steps[0].interrupts_serving


def test_jobs_see_the_same_copy() -> None:
    weights, kcore = "/d/w", "/d/deepseek_7b_bf16_c4/node_0_0"
    config = {"param_dir": kcore, "tensor_parallel": "{}"}
    state = {"path": weights, "exists": True, "config_text": json.dumps({"torch_dtype": "float32"}), "config": config}
    compiled = {"path": kcore, "exists": True, "files": ["model_info.json", "kcore.bin"]}
    there = merge(BASES["tx8"], {"compiled": compiled, "weights": {weights: state}})
    found: JobPlan = job({"name": "offline"}, there, weights_dir=weights, compiled_dir=kcore)
    assert found.job is not None, found.plan.refused
    ((path, text),) = found.job.files.items()
    assert not path.startswith(f"{found.job.results}/")
    assert json.loads(text) == {"torch_dtype": "bfloat16"}
    assert found.job.volumes[-3:] == (
        f"{weights}:{weights}:ro", f"{kcore}:{kcore}:ro", f"{path}:{weights}/config.json:ro",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "carried", "problem"),
    [
        (PUBLISHED, True, None),
        (json.dumps({"labels": ["x" * 70000]}), False, None),
        ("{", False, "config.json is no JSON: "),
        ("[1]", False, "config.json is no JSON object"),
        ('{"a": ' * 40 + "1" + "}" * 40, False, "config.json is nested "),
        ('{"a": ' * 40000 + "1" + "}" * 40000, False, "config.json is nested "),
        ('{"a": ' + "9" * 5000 + "}", False, "config.json is no JSON: "),
    ],
    ids=["published", "large", "no JSON", "a list", "deep", "very deep", "huge number"],
)
def test_text_of_config_json_is_carried_where_it_can_be_copied(
    text: str, carried: bool, problem: str | None, tmp_path: Path
) -> None:
    directory = host.weights(tmp_path / "w")
    (directory / "config.json").write_text(text, encoding="utf-8")
    state = judge(directory)
    assert state.config_text == (text if carried else "")
    assert (state.problem is None) == (problem is None)
    assert (problem or "") in (state.problem or "")
