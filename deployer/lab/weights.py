"""Tiny weights that stand for a large model, as its maker publishes it: the same files, keys and types, random numbers.

Published weights are bfloat16, in config.json and in the shards, and the hub's list of checksums covers every file,
config.json too. `lab_parameters_b` in config.json says how large the model is that they stand for; the emulated image
reads it.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SEED = 20240601
HIDDEN, LAYERS, HEADS, KEY_HEADS, INNER, VOCABULARY = 256, 2, 4, 2, 512, 320
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SHARDS = 2
# The models of the vendor's guide, in billions of parameters.
MODELS = {
    "qwen2.5-3b": 3.1, "qwen2.5-7b": 7.6, "qwen2.5-14b": 14.8, "qwen2.5-32b": 32.8,
    "qwen3-4b": 4.0, "qwen3-8b": 8.2, "qwen3-14b": 14.8, "qwen3-32b": 32.8,
}  # fmt: skip
SUMS = "SHA256SUMS"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

README = """\
---
license: apache-2.0
license_name: apache-2.0
language:
- en
pipeline_tag: text-generation
---
# {name}

Random numbers in the form of {name}, for a rehearsal.
"""
LICENSE = "Apache License, Version 2.0, January 2004: http://www.apache.org/licenses/LICENSE-2.0\n"
ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in ("*.bin", "*.safetensors", "*.gguf")
)

Tensor = tuple[str, tuple[int, ...], bytes]


def published(model: str) -> str:
    """The name of the model's directory on the hub: qwen2.5-14b → Qwen2.5-14B-Instruct."""
    series, _, size = model.partition("-")
    return f"{series.capitalize()}-{size.upper()}{'-Instruct' if series == 'qwen2.5' else ''}"


def names(model: str) -> set[str]:
    """What an operator may call the directory, in lower case: the model, the hub's name, that without `-Instruct`."""
    return {model, published(model).lower(), published(model).removesuffix("-Instruct").lower()}


def make(directory: Path, model: str) -> None:
    """Write a complete weights directory with its list of checksums."""
    directory.mkdir(parents=True, exist_ok=True)
    qwen3 = model.startswith("qwen3")
    _write_json(directory / "config.json", _config(model, qwen3))
    _write_json(
        directory / "generation_config.json",
        {
            "bos_token_id": 256, "do_sample": True, "eos_token_id": [258, 256], "pad_token_id": 256,
            "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
            "transformers_version": "4.37.0",
        },
    )  # fmt: skip
    (directory / "README.md").write_text(README.format(name=published(model)), encoding="utf-8")
    (directory / "LICENSE").write_text(LICENSE, encoding="utf-8")
    (directory / ".gitattributes").write_text(ATTRIBUTES, encoding="utf-8")
    _write_tokenizer(directory)
    _write_shards(directory, list(_tensors(qwen3)))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(directory.iterdir())
        if path.name != SUMS
    ]
    (directory / SUMS).write_text("".join(lines), encoding="ascii")


def _config(model: str, qwen3: bool) -> dict[str, Any]:
    own: dict[str, Any] = {"max_position_embeddings": 32768, "max_window_layers": 70, "sliding_window": 131072}
    if qwen3:
        own = {
            "attention_bias": False, "head_dim": HIDDEN // HEADS, "max_position_embeddings": 40960,
            "max_window_layers": LAYERS, "rope_scaling": None, "sliding_window": None,
        }  # fmt: skip
    return {
        "architectures": ["Qwen3ForCausalLM" if qwen3 else "Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "model_type": "qwen3" if qwen3 else "qwen2",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_HEADS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0" if qwen3 else "4.43.1",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
        **own,
        "lab_parameters_b": MODELS[model],
        "lab_random_weights": True,
    }


def _alphabet() -> list[str]:
    """The 256 symbols by which byte-level tokenizers write bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(other)) for byte in range(256)]


def _write_tokenizer(directory: Path) -> None:
    vocabulary = {symbol: number for number, symbol in enumerate([*_alphabet(), *SPECIAL])}
    _write_json(directory / "vocab.json", {symbol: number for number, symbol in enumerate(_alphabet())})
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    added = [
        {
            "id": vocabulary[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }
        for token in SPECIAL
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model: dict[str, Any] = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": vocabulary, "merges": [],
    }  # fmt: skip
    _write_json(
        directory / "tokenizer.json",
        {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model,
        },
    )  # fmt: skip
    _write_json(
        directory / "tokenizer_config.json",
        {
            "add_prefix_space": False, "bos_token": None, "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False, "eos_token": SPECIAL[2], "errors": "replace",
            "model_max_length": 131072, "pad_token": SPECIAL[0], "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
        },
    )  # fmt: skip


def _bfloat16(values: Iterable[float]) -> bytes:
    """The upper half of each number as a 32-bit float, which is what bfloat16 is."""
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def _tensors(qwen3: bool) -> Iterator[Tensor]:
    dice = random.Random(SEED)  # noqa: S311  noise, no secret

    def noise(name: str, *shape: int, scale: float = 0.05) -> Tensor:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        return name, shape, _bfloat16(dice.uniform(-scale, scale) for _ in range(count))

    def ones(name: str, width: int = HIDDEN) -> Tensor:
        return name, (width,), _bfloat16([1.0] * width)

    head = HIDDEN // HEADS
    yield noise("model.embed_tokens.weight", VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        base = f"model.layers.{layer}"
        for part, width in (("q", HIDDEN), ("k", KEY_HEADS * head), ("v", KEY_HEADS * head)):
            yield noise(f"{base}.self_attn.{part}_proj.weight", width, HIDDEN)
            if not qwen3:
                yield noise(f"{base}.self_attn.{part}_proj.bias", width)
            elif part != "v":
                yield ones(f"{base}.self_attn.{part}_norm.weight", head)
        yield noise(f"{base}.self_attn.o_proj.weight", HIDDEN, HIDDEN)
        yield noise(f"{base}.mlp.gate_proj.weight", INNER, HIDDEN)
        yield noise(f"{base}.mlp.up_proj.weight", INNER, HIDDEN)
        yield noise(f"{base}.mlp.down_proj.weight", HIDDEN, INNER)
        yield ones(f"{base}.input_layernorm.weight")
        yield ones(f"{base}.post_attention_layernorm.weight")
    yield ones("model.norm.weight")
    yield _output_rows(noise("lm_head.weight", VOCABULARY, HIDDEN, scale=0.5))


def _output_rows(tensor: Tensor) -> Tensor:
    """Only printable ASCII keeps its row, so that the noise can be read and never ends a completion early."""
    name, shape, data = tensor
    width = HIDDEN * 2
    rows = [data[row * width : (row + 1) * width] if 33 <= row < 127 else bytes(width) for row in range(shape[0])]
    return name, shape, b"".join(rows)


def _write_shards(directory: Path, tensors: list[Tensor]) -> None:
    places: dict[str, str] = {}
    half = (len(tensors) + 1) // SHARDS
    for number in range(SHARDS):
        part = tensors[number * half : (number + 1) * half]
        name = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for tensor, shape, data in part:
            header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
            offset += len(data)
            places[tensor] = name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (directory / name).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in part))
    size = sum(len(data) for _, _, data in tensors)
    _write_json(directory / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
