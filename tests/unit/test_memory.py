"""The BM1684X models of the catalog, and what each build takes of a chip's memory."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, paths
from deployer.catalog import Model
from deployer.catalog.schema import Build, Placement, Shape
from deployer.errors import CatalogError
from deployer.plan import memory

# What bm-smi prints as a chip's memory with driver 0.5.1 (S0-X08), and what of it is not for a model.
CHIP, SPARE = 14787, 787
KNOWN = catalog.load()
MODELS = {model.name: model for model in KNOWN.models.values() if "bm1684x" in model.accelerators}
R1_32B = MODELS["deepseek-r1-distill-qwen-32b"]


def placement(model: str) -> Placement:
    return MODELS[model].accelerators["bm1684x"]


def build(model: str, name: str) -> Build:
    return next(each for each in placement(model).builds if each.name == name)


BUILDS = [(model, each.name) for model in MODELS for each in placement(model).builds]

# Model, build, MiB of each chip; rounded where the last three digits are zeros.
ESTIMATES = [
    ("deepseek-r1-distill-qwen-14b", "2dev-2048", 5787),
    ("deepseek-r1-distill-qwen-32b", "2dev-1024", 10324),
    ("qwen2.5-1.5b", "1dev-2048", 1620),
    ("qwen2.5-7b", "1dev-2048", 5548),
    ("qwen2.5-14b", "1dev-512", 9801),
    ("qwen3-4b", "1dev-512", 3406),
    ("deepseek-r1-distill-qwen-32b", "1dev-1024", 19200),
    ("deepseek-r1-distill-qwen-32b", "2dev-8192", 11200),
    ("qwen2.5-14b", "2dev-8192", 6400),
    ("qwen2.5-14b", "4dev-8192", 3900),
    ("qwen2.5-14b", "8dev-8192", 2700),
    ("qwq-32b", "4dev-16384", 6900),
    ("qwen2-72b", "8dev-8192", 7500),
    ("yi-34b-chat", "2dev-512", 10000),
]


@pytest.mark.parametrize(("model", "name", "mib"), ESTIMATES)
def test_the_formula(model: str, name: str, mib: int) -> None:
    shape = MODELS[model].shape
    assert shape is not None
    found = memory.estimate_mib(shape, build(model, name))
    assert abs(found - mib) <= (60 if mib % 100 == 0 else 0)


SHAPE = Shape(layers=2, hidden=1024, vocabulary=1024, kv_heads=2, head_dim=128, blocks=8 * 2**20)
# Embedding and output take 2 MiB each. For 1024 tokens the KV cache takes 2 MiB, blocks of one byte take 8.
PRECISIONS = {"w8bf16": 14, "w8f16": 14, "int8": 14, "bf16": 22, "F16": 22, "w4bf16": 10, "w4f16": 10, "int4": 10}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_of_a_precision(precision: str) -> None:
    one = Build(name="x", chips=1, length=1024, precision=precision)
    assert memory.estimate_mib(SHAPE, one) == PRECISIONS[precision]


def test_embedding_is_on_every_chip_and_the_rest_is_divided() -> None:
    four = Build(name="x", chips=4, length=1024, precision="w8bf16")
    assert memory.estimate_mib(SHAPE, four) == 2 + (8 + 2 + 2) / 4


# S0-R40 and S0-R41: what bm-smi showed, less the 82 MiB of an idle chip.
MEASURED = {("deepseek-r1-distill-qwen-14b", "2dev-2048"): 5757, ("deepseek-r1-distill-qwen-32b", "2dev-1024"): 10558}


def test_what_was_measured_is_taken_and_nothing_else_is_said_to_be() -> None:
    needs = {each: memory.needed(MODELS[each[0]], build(*each)) for each in BUILDS}
    assert {each: need.mib for each, need in needs.items() if need.measured} == MEASURED
    assert all(build(*each).source for each in MEASURED)
    for (model, name), need in needs.items():
        shape = MODELS[model].shape
        assert shape is not None
        assert need.measured or need.mib == memory.estimate_mib(shape, build(model, name))


USABLE = "14000 of 14787 MiB are usable"
TRIED = "it was tried and ran out of memory"
REFUSED = {
    # S0-F06, S0-X07
    ("deepseek-r1-distill-qwen-32b", "1dev-1024"): (
        f"{TRIED} (S0-F06); it takes 19163 MiB (estimated) per chip, without buffers, and {USABLE}"
    ),
    # S0-R41
    ("deepseek-r1-distill-qwen-32b", "2dev-8192"): (
        f"{TRIED} (S0-R41); it takes 11220 MiB (estimated) per chip, without buffers, and {USABLE}"
    ),
    # S2-R02, S2-R27: what the guide would compile where nothing is said.
    ("qwen-14b-chat", "1dev-2048-int8"): f"it takes 16596 MiB (estimated) per chip, and {USABLE}",
}


@pytest.mark.parametrize(("model", "name"), BUILDS)
def test_every_build_fits_but_those_that_do_not(model: str, name: str) -> None:
    assert memory.verdict(MODELS[model], build(model, name), CHIP, SPARE) == REFUSED.get((model, name), "")


def r1_32b(**fields: Any) -> Build:
    return Build(**{"name": "own", "chips": 2, "length": 1024, **fields})


BUFFERS = (
    "the 11220 MiB (estimated) leave less than half of a chip's 14787 MiB, and a static build for 8192 tokens has "
    "large buffers beside them, which nobody has measured"
)
VERDICTS: dict[str, tuple[dict[str, Any], str]] = {
    # S0-X07, S0-X08: a function of chips, memory and tokens, and no constant.
    "one chip": ({"chips": 1}, f"it takes 19163 MiB (estimated) per chip, and {USABLE}"),
    "two chips": ({}, ""),
    "four chips": ({"chips": 4}, ""),
    "two chips for a little less than long": ({"length": 8191}, ""),
    "two chips for long": ({"length": 8192}, BUFFERS),
    "four chips for long": ({"length": 8192, "chips": 4}, ""),
    "long and dynamic": ({"length": 8192, "name": "2dev-8192-dyn"}, ""),
    "long and dynamic in another word": ({"length": 8192, "name": "2dev-8192-dynamic"}, ""),
    "long, and only its name ends like dynamic": ({"length": 8192, "name": "2dev-8192-nodyn"}, BUFFERS),
    "long, and Sophgo hands it out": ({"length": 8192, "url": "open@sophgo.com:/x.bmodel"}, ""),
    "long and measured": ({"length": 8192, "memory_mib": 13000}, ""),
    "measured, and just fits": ({"memory_mib": 14000}, ""),
    "measured, and does not": ({"memory_mib": 14001}, f"it takes 14001 MiB (measured) per chip, and {USABLE}"),
    "measured wins over the estimate": ({"chips": 1, "memory_mib": 9000}, ""),
    "measured, and tried in vain": (
        {"out_of_memory": True, "memory_mib": 14500},
        f"{TRIED}; it takes 14500 MiB (measured) per chip, and {USABLE}",
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict(case: str) -> None:
    fields, said = VERDICTS[case]
    assert memory.verdict(R1_32B, r1_32b(**fields), CHIP, SPARE) == said


def test_the_host_s_own_chips_count() -> None:
    two = build("deepseek-r1-distill-qwen-32b", "2dev-1024")
    assert memory.verdict(R1_32B, two, 10558 + SPARE, SPARE) == ""
    said = memory.verdict(R1_32B, two, 10557 + SPARE, SPARE)
    assert said == "it takes 10558 MiB (measured) per chip, and 10557 of 11344 MiB are usable"


def test_unknown_precision_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(CatalogError, match="build own has the unknown precision 'w3bf16'") as caught:
        memory.verdict(R1_32B, r1_32b(precision="w3bf16"), CHIP, SPARE)
    assert "w4bf16" in caught.value.remedy


def test_model_without_a_shape() -> None:
    bare = R1_32B.model_copy(update={"shape": None})
    with pytest.raises(CatalogError, match="nothing says how much memory") as caught:
        memory.verdict(bare, r1_32b(), CHIP, SPARE)
    assert "memory_mib" in caught.value.remedy
    assert memory.verdict(bare, r1_32b(memory_mib=9000), CHIP, SPARE) == ""
    assert memory.verdict(bare, r1_32b(out_of_memory=True, source="here"), CHIP, SPARE) == f"{TRIED} (here)"


# The catalog itself


@pytest.mark.parametrize(("model", "name"), BUILDS)
def test_a_pattern_takes_what_is_handed_out_and_an_archive_of_the_same_name(model: str, name: str) -> None:
    each = build(model, name)
    assert (each.file[0], each.file[-1]) == ("^", "$")
    if not each.url:
        return
    handed_out = re.split("[/:]", each.url)[-1]
    assert re.search(each.file, handed_out)
    if handed_out != "models.zip":
        stem = re.sub(r"\.(bmodel|zip|tar)$", "", handed_out)
        assert all(re.search(each.file, f"{stem}.{end}") for end in ("zip", "tar", "tar.gz", "tgz"))
    assert not re.search(each.file, f"{handed_out}.part")
    # None of them is taken for another build.
    others = {one: two for one, two in BUILDS if re.search(build(one, two).file, handed_out)}
    assert others == {model: name} or handed_out == "models.zip"


# What operators' own are called by the vendor's compilers (S0-R20, S0-R23, S0-R41, S2-R28 to S2-R32, S4-R20), and which
# build that is. Two more are Sophgo's, for other programs than LLM-TPU's.
OWN = {
    "deepseek-r1-distill-qwen-32b-1024.tar": ("deepseek-r1-distill-qwen-32b", "1dev-1024"),
    "deepseek-r1-distill-qwen-32b-1024-2dev.tar.gz": ("deepseek-r1-distill-qwen-32b", "2dev-1024"),
    "deepseek-r1-32b_int4_seq1024_2dev.zip": ("deepseek-r1-distill-qwen-32b", "2dev-1024"),
    "deepseek-r1-32b_int4_seq8192_2dev.tgz": ("deepseek-r1-distill-qwen-32b", "2dev-8192"),
    "qwen-7b_int8_1dev.bmodel": ("qwen-7b-chat", "1dev-512-int8"),
    "qwen-7b_int4_1dev.bmodel": ("qwen-7b-chat", "1dev-512-int4"),
    "qwen-7b_int4_seq512_1dev.bmodel": ("qwen-7b-chat", "1dev-512-int4"),
    "qwen-7b_int8_2dev.bmodel": ("qwen-7b-chat", "2dev-512-int8"),
    "qwen-14b_int4_1dev.bmodel": ("qwen-14b-chat", "1dev-2048-int4"),
    "qwen-1_8b_int8_1dev.bmodel": ("qwen-1.8b-chat", "1dev-512-int8"),
    "llama2-7b_int4_1dev.bmodel": ("llama2-7b", "1dev-512-int4"),
    "llama2-7b_int8_1dev.bmodel": ("llama2-7b", "1dev-512-int8"),
    "llama2-7b_int8_2dev.bmodel": ("llama2-7b", "2dev-512-int8"),
    "llama2-13b_int8_1dev.bmodel": ("llama2-13b", "1dev-512-int8"),
    "qwen2.5-14b-instruct_w4bf16_seq8192_bm1684x_2dev_static_20260102_030405.bmodel": ("qwen2.5-14b", "2dev-8192"),
    "qwq-32b_int4_seq2048_2dev.bmodel": ("qwq-32b", "2dev-2048"),
    "deepseek-r1-distill-qwen2-14b.tar.gz": ("deepseek-r1-distill-qwen-14b", "1dev-512"),
}


@pytest.mark.parametrize("file", OWN)
def test_own_builds_by_the_names_that_the_compilers_give(file: str) -> None:
    assert [each for each in BUILDS if re.search(build(*each).file, file)] == [OWN[file]]


# A wrong mask for the one precision, a conversation that is kept, a prompt that must come first, other chips.
NOT_TAKEN = [
    "qwen2.5-14b-instruct-awq_w4f16_seq8192_bm1684x_2dev_static_20260102_030405.bmodel",
    "qwen2.5-7b-instruct-awq_w4f16_seq8192_bm1684x_1dev_20250822_154040.bmodel",
    "qwen3-4b-awq_w4bf16_seq8192_bm1684x_1dev_kv.bmodel",
    "qwen3-4b-awq_w4bf16_seq512_bm1688_2core_20250514_162231.bmodel",
    "deepseek-r1-32b_int4_seq1024_2dev.bmodel",
    "deepseek-r1-distill-qwen-14b-seq2048-2dev.zip.part",
]


@pytest.mark.parametrize("file", NOT_TAKEN)
def test_what_no_build_takes(file: str) -> None:
    assert [each for each in BUILDS if re.search(build(*each).file, file)] == []


@pytest.mark.parametrize(("model", "name"), BUILDS)
def test_a_build_says_what_its_name_says(model: str, name: str) -> None:
    each = build(model, name)
    assert name.split("-")[:2] == [f"{each.chips}dev", str(each.length)]
    assert each.demo
    # A file alone has no tokenizer: the engine's source must have it, and an archive may bring its own.
    assert bool(each.config) == bool(re.search("bmodel", each.file))
    assert bool(each.source) == bool(each.memory_mib or each.out_of_memory)


def test_names_are_not_given_twice() -> None:
    assert max(Counter(BUILDS).values()) == 1


def test_what_is_taken_where_nobody_asks() -> None:
    first = {model: placement(model).builds[0].name for model in MODELS}
    assert first["qwen2.5-14b"] == "2dev-8192"
    assert first["deepseek-r1-distill-qwen-14b"] == "2dev-2048"
    # S2-R27, S2-R36
    assert first["qwen-7b-chat"] == "1dev-512-int8"
    assert all(not memory.verdict(MODELS[model], build(model, name), CHIP, SPARE) for model, name in first.items())
    chosen = placement("qwen2.5-14b")
    assert (chosen.tensor_parallel, chosen.max_model_len, chosen.dtype) == ((2, 4, 8, 1), 8192, "w4bf16")


def test_engines() -> None:
    assert {placement(model).runtime for model in MODELS} == {"llm-tpu"}
    others = {model: placement(model).runtimes for model in MODELS if placement(model).runtimes}
    demo = {
        model: ("sophon-demo",) for model in MODELS if model.startswith(("qwen2.5-", "qwq-", "deepseek-r1-distill-"))
    }
    qwen = {f"qwen-{size}-chat": ("qwen-cli",) for size in ("1.8b", "7b", "14b")}
    # S4-X19: the programs of the others have 32 layers, and 13B has 40.
    assert others == demo | qwen | {"llama2-7b": ("llama2-cli", "llama2-web")}


def weights(model: Model) -> int:
    shape, first = model.shape, model.accelerators["bm1684x"].builds[0]
    assert shape is not None
    return int(shape.blocks * memory.BITS[first.precision] / 8 + 4 * shape.vocabulary * shape.hidden)


def test_size_of_models_that_only_this_accelerator_has() -> None:
    own = [model for model in MODELS.values() if set(model.accelerators) == {"bm1684x"}]
    assert len(own) == 12
    assert {model.name: model.weights.size for model in own} == {model.name: weights(model) for model in own}


def test_models_of_other_files_are_the_same_in_whatever_order_the_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.CATALOG, tmp_path / "data")
    here = tmp_path / "data" / "models"
    (here / "bm1684x.yml").rename(here / "zz.yml")
    monkeypatch.setattr(paths, "CATALOG", tmp_path / "data")
    assert dict(catalog.load().models) == dict(KNOWN.models)
    shared = {name for name, model in MODELS.items() if len(model.accelerators) > 1}
    assert {"qwen2.5-14b", "deepseek-r1-distill-qwen-14b", "qwen2-7b", "llama2-7b"} <= shared
    assert MODELS["qwen2.5-14b"].weights.size == 29540067328
