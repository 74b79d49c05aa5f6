"""The catalog: what is built in, what an overlay may change, and where it is wrong."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deployer import catalog
from deployer.errors import CatalogError

# S3-R01, S3-R02, S3-R35, as the vendor's guide has them.
GUIDE = {
    "qwen2.5-32b": 0.8,
    "qwen3-32b": 0.8,
    "qwen2.5-14b": 0.5,
    "qwen3-14b": 0.5,
    "qwen3-8b": 0.3,
    "qwen2.5-7b": 0.3,
    "qwen3-4b": 0.3,
    "qwen2.5-3b": 0.3,
}


def test_the_guide_s_models_have_its_memory_utilization() -> None:
    models = catalog.load().models.values()
    found = {
        m.name: m.accelerators["ascend-310p"].memory_utilization for m in models if "ascend-310p" in m.accelerators
    }
    assert found == GUIDE


def test_the_guide_s_serve_options_and_environment() -> None:
    known = catalog.load()
    runtime = known.runtimes["vllm-mindspore"]
    # S3-R25, S3-R26, S3-R28
    guide = {"MS_ENABLE_LCCL": "off", "HCCL_OP_EXPANSION_MODE": "AI_CPU"}
    assert runtime.environment == {**guide, "PATH": "$PATH:/usr/local/sbin:/usr/local/bin"}
    # Without --trust-remote-code, for which none of these models has a use (H5).
    assert "trust-remote-code" not in runtime.options
    wanted = {"max-num-seqs": 256, "block-size": 128, "max-num-batched-tokens": 4096}
    assert wanted.items() <= runtime.options.items()
    for model in GUIDE:
        placement = known.placement(known.model(model), "ascend-310p")
        assert (placement.dtype, placement.max_model_len) == ("float16", 8192)
        assert set(placement.tensor_parallel) <= {1, 2, 4}


# T1-R29, as cleaned in T1-X16
CONVERTER = (
    "deepseek_qwen2_1.5b_bf16 deepseek_qwen2_7b_bf16 deepseek_qwen2_14b_bf16 qwen2_14b_quant deepseek_qwen2_32b_bf16 "
    "qwen2_32b_quant deepseek_llama3_8b_bf16 deepseek_llama3_8b_quant deepseek_llama3_70b_bf16 "
    "deepseek_llama3_70b_quant llama2_7b_fp16 llama2_7b_quant qwen2_7b_bf16 qwen2_7b_quant"
)


def test_every_type_of_the_tx8_s_converter_has_a_model() -> None:
    known = catalog.load()
    placements = [m.accelerators["tx8"] for m in known.models.values() if "tx8" in m.accelerators]
    types = {kind for each in placements if each.compiled for kind in each.compiled.types}
    assert types == set(CONVERTER.split())
    names = known.runtimes["txnn"].compiled
    assert names is not None
    for each in placements:
        assert each.compiled is not None
        for kind in each.compiled.types:
            # What the converter leaves is known for its model (T1-R32).
            match = re.match(names.pattern, f"{kind}_28b_c4_2")
            assert match is not None
            assert match["model"] in each.compiled.names
            assert (match["chips"], match["layers"], match["precision"] in names.precisions) == ("4", "28", True)


def test_the_vendor_s_kcore_says_its_length_and_chips() -> None:
    names = catalog.load().runtimes["txnn"].compiled
    assert names is not None
    match = re.match(names.pattern, "deepseek_7b_bf16_seq8192_c4")
    assert match is not None
    assert match.groupdict() == {
        "model": "deepseek_7b", "precision": "bf16", "length": "8192", "layers": None, "chips": "4",
    }  # fmt: skip


def test_the_first_tensor_parallel_choice_leaves_room_for_the_weights() -> None:
    known = catalog.load()
    for model in known.models.values():
        for name, placement in model.accelerators.items():
            memory = known.accelerators[name].chip_memory_mib
            if memory and placement.memory_utilization:
                each = model.weights.size / placement.tensor_parallel[0]
                assert each < placement.memory_utilization * memory * 2**20, model.name


def test_a_dtype_is_one_that_the_accelerator_has() -> None:
    known = catalog.load()
    for model in known.models.values():
        for name, placement in model.accelerators.items():
            assert placement.dtype in known.accelerators[name].dtypes, model.name


UNKNOWN = {
    "tiny-qwen": "did you mean tiny-qwen2?",
    "qwen2.5-14": "qwen2.5-14b",
    "zzz": "`deployer models` lists what there is",
    "": "`deployer models` lists what there is",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_model_gets_the_nearest_names(name: str) -> None:
    with pytest.raises(CatalogError, match="unknown model") as caught:
        catalog.load().model(name)
    assert UNKNOWN[name] in caught.value.remedy


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "Qwen3-MoE", "qwen2.5-vl-7b-instruct"])
def test_what_the_vendor_does_not_serve_yet_is_refused_with_its_words(name: str) -> None:
    with pytest.raises(CatalogError, match="is not served on ascend-310p: the vendor's guide says"):  # S3-R03
        catalog.load().model(name)


@pytest.mark.parametrize("name", ["qwen3-8b", "QWEN3-8B", "Qwen/Qwen3-8B", " qwen3-8b "])
def test_names_and_aliases_without_regard_to_case(name: str) -> None:
    assert catalog.load().model(name).name == "qwen3-8b"


def test_model_whose_accelerators_have_no_roles_is_refused_before_any_host() -> None:
    built_in = catalog.load()
    without = built_in.accelerators["ascend-310p"].model_copy(update={"has_roles": False})
    known = replace(built_in, accelerators={**built_in.accelerators, "ascend-310p": without})
    with pytest.raises(
        CatalogError, match="ascend-310p, for which this version of deployer has no roles yet"
    ) as caught:
        known.require_deployable(known.model("qwen3-32b"))
    assert "tiny-qwen2" in caught.value.remedy
    known.require_deployable(known.model("tiny-qwen2"))
    built_in.require_deployable(built_in.model("qwen3-32b"))


def overlay(tmp_path: Path, text: str, section: str = "models") -> Path:
    directory = tmp_path / "catalog" / section
    directory.mkdir(parents=True)
    (directory / "x.yml").write_bytes(text.encode("utf-8", "surrogateescape"))
    return tmp_path / "catalog"


def test_overlay_changes_the_fields_that_it_names(tmp_path: Path) -> None:
    text = "name: tiny-qwen2\naccelerators:\n  cpu:\n    max_model_len: 512\n"
    known = catalog.load([overlay(tmp_path, text)])
    placement = known.placement(known.model("tiny-qwen2"), "cpu")
    assert placement.max_model_len == 512
    assert placement.options == {"enforce-eager": True}
    assert len(known.models) == len(catalog.load().models)


NEW = """name: mine
title: Mine
parameters: 1
weights: {size: 1}
accelerators:
  cpu: {runtime: vllm-cpu, dtype: float32, max_model_len: 64}
"""


def test_overlay_adds_a_model(tmp_path: Path) -> None:
    assert catalog.load([overlay(tmp_path, NEW)]).model("mine").title == "Mine"


WRONG = {
    "unknown field": ("name: tiny-qwen2\nwieghts: 1\n", "x.yml:2: wieghts: unknown field"),
    "unknown inner field": (
        "name: tiny-qwen2\naccelerators:\n  cpu:\n    dtypes: x\n",
        "x.yml:4: accelerators.cpu.dtypes: unknown field",
    ),
    "wrong type": ("name: tiny-qwen2\nparameters: many\n", "x.yml:2: parameters: Input should be a valid integer"),
    "out of range": (
        "name: tiny-qwen2\n\naccelerators:\n  cpu: {memory_utilization: 1.5}\n",
        "x.yml:4: accelerators.cpu.memory_utilization: Input should be less than",
    ),
    "field missing": (
        "name: new\ntitle: New\nparameters: 1\nweights: {size: 1}\n",
        "x.yml:1: accelerators: Field required",
    ),
    "written twice": ("name: tiny-qwen2\ntitle: a\ntitle: b\n", "x.yml:3: title is written twice"),
    "no YAML": ("name: [\n", "x.yml:2: "),
    "tab": ("name: x\n\ttitle: y\n", "x.yml:2: "),
    "no mapping": ("- a\n", "x.yml: a catalog file holds one mapping"),
    "empty": ("", "x.yml: a catalog file holds one mapping"),
    "list with more beside it": ("models: []\nother: 1\n", "x.yml:2: other: unknown field beside 'models'"),
    "list of words": ("models: [a]\n", "x.yml:1: models must be a list of mappings"),
    "entry of a list": (
        "models:\n  - name: tiny-qwen2\n  - name: tiny-qwen2\n    titel: x\n",
        "x.yml:4: titel: unknown field",
    ),
    "name no text": ("name: 7\n", "x.yml:1: name: must be text"),
    "name no name": (NEW.replace("mine", "Mine!"), "x.yml:1: name: String should match"),
    "unknown runtime": (NEW.replace("vllm-cpu", "sglang"), "model mine names the unknown runtime 'sglang'"),
    "unknown accelerator": (NEW.replace("cpu:", "npu:"), "model mine names the unknown accelerator 'npu'"),
    "alias of another": (NEW + "aliases: [tiny-qwen2]\n", "both answer to 'tiny-qwen2'"),
    "too large": ("# " + "x" * 1_000_001, "x.yml: larger than"),
    "not UTF-8": ("name: \udcff\n", "x.yml: not UTF-8 text"),
    "hostile source": (
        NEW.replace("{size: 1}", "{size: 1, sources: [{kind: huggingface, id: '../../etc'}]}"),
        "x.yml:4: weights.sources[0].id: String should match",
    ),
}


# Alias bombs, what a parser's stack dies of, and values that Python does not take: told at once, whatever their size.
WRONG |= {
    "alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghij")),
        "x.yml:1: &a: a catalog file has no anchors and no aliases",
    ),
    "alias of itself": ("name: x\na: &a [*a]\n", "x.yml:2: &a: a catalog file has no anchors and no aliases"),
    "alias of nothing": ("name: *a\n", "x.yml:1: *a: a catalog file has no anchors and no aliases"),
    "lists in lists": ("a: " + "[" * 400_000, "x.yml:1: nested more than 50 levels deep"),
    "mappings in mappings": ("{a: " * 100_000, "x.yml:1: nested more than 50 levels deep"),
    "keys in keys": ("? " * 200_000, "x.yml:1: nested more than 50 levels deep"),
    "dashes on a line": ("a:\n " + "- " * 200_000, "x.yml:2: nested more than 50 levels deep"),
    "sixties of sixties": ("a: 1" + ":1" * 300_000, "x.yml:1: a value of more than 4000 characters"),
    "more digits than Python reads": (
        "a: 1\nb: !!int '" + "9" * 5000 + "'\n",
        "x.yml: a value that cannot be: Exceeds",
    ),
    "day that there is not": ("a: 2024-99-99\n", "x.yml: a value that cannot be: month must be in 1..12"),
    "list as a key": ("? [a, b]\n: y\n", "x.yml:1: found unhashable key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_overlay_is_told_with_file_line_and_field(name: str, tmp_path: Path) -> None:
    text, said = WRONG[name]
    with pytest.raises(CatalogError) as caught:
        catalog.load([overlay(tmp_path, text)])
    assert said in caught.value.message
    assert "\n" not in caught.value.message


NO_FILES = {"a device without end": "/dev/zero", "nothing": "/dev/null", "a directory": "/tmp"}


@pytest.mark.parametrize("name", [*NO_FILES, "a FIFO that nobody writes to"])
def test_what_is_no_ordinary_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "models"
    directory.mkdir()
    path = directory / "x.yml"
    if name in NO_FILES:
        path.symlink_to(NO_FILES[name])
    else:
        os.mkfifo(path)
    # In a process of its own: what reads such a file may never end, or eat the memory of all.
    limited = f"ulimit -v 4000000; exec {sys.executable} -m deployer models --catalog {tmp_path}"
    done = subprocess.run(["/bin/sh", "-c", limited], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert f"{path}: {'Is a directory' if name == 'a directory' else 'not an ordinary file'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "mine").write_text(NEW)
    (tmp_path / "models" / "x.yml").symlink_to(tmp_path / "mine")
    assert catalog.load([tmp_path]).model("mine").title == "Mine"


def test_pattern_that_is_no_regular_expression(tmp_path: Path) -> None:
    text = "name: x\npattern: '('\ncause: c\nremedy: r\n"
    with pytest.raises(CatalogError, match=r"x\.yml:2: pattern: not a regular expression"):
        catalog.load([overlay(tmp_path, text, "failures")])


def test_overlay_is_found_next_to_the_inventory(tmp_path: Path) -> None:
    overlay(tmp_path, NEW)
    assert catalog.overlay_directories(str(tmp_path / "hosts.ini"), None) == [tmp_path / "catalog"]
    assert catalog.overlay_directories(str(tmp_path / "other" / "hosts.ini"), None) == []
    assert catalog.overlay_directories("localhost,", None) == []
    with pytest.raises(CatalogError, match="does not exist"):
        catalog.overlay_directories(None, str(tmp_path / "none"))


HUB_NAMES = {
    "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b",
    "Qwen2.5-7B-Instruct": "qwen2.5-7b",
    "Qwen2.5-14B": "qwen2.5-14b",
    "qwen2.5_7b_instruct": "qwen2.5-7b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "deepseek-r1-distill-qwen-14b",
    "DeepSeek-R1-Distill-Qwen-14B": "deepseek-r1-distill-qwen-14b",
    "THUDM/glm-4-9b-chat": "glm4-9b-chat",
    "glm-4-9b-chat": "glm4-9b-chat",
    "Meta-Llama-3-8B-Instruct": "llama3-8b-instruct",
    "Llama-2-7b-chat-hf": "llama2-7b",
    "Qwen/Qwen2.5-1.5B-Instruct": "qwen2.5-1.5b",
}


@pytest.mark.parametrize("name", HUB_NAMES)
def test_hub_s_id_is_the_catalog_s_model(name: str) -> None:
    assert catalog.load().model(name).name == HUB_NAMES[name]


@pytest.mark.parametrize(
    "name",
    [
        "Qwen2.5-7B-Instruct-GPTQ-Int4",
        "/srv/models/Qwen2.5-7B",
        "../Qwen2.5-7B",
        "Qwen/Qwen2.5-0.5B",
        "Qwen/",
        "/",
        "-instruct",
    ],
)
def test_what_is_another_model_or_none_is_not_taken_for_one(name: str) -> None:
    with pytest.raises(CatalogError, match="unknown model"):
        catalog.load().model(name)


def test_name_of_several_models_names_them(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = (
        "name: {}\ntitle: X\naliases: [{}]\nparameters: 1\nweights: {{size: 1}}\n"
        "accelerators: {{cpu: {{runtime: vllm-cpu, dtype: float32, max_model_len: 64}}}}\n"
    )
    for owner in ("one", "two"):
        (tmp_path / "models" / f"{owner}.yml").write_text(text.format(owner, f"{owner}/Same-9B-Chat"))
    known = catalog.load([tmp_path])
    assert known.model("one/Same-9B-Chat").name == "one"
    with pytest.raises(CatalogError, match="may be one of several models") as caught:
        known.model("Same-9B-Chat")
    assert caught.value.remedy == "did you mean one or two?"
