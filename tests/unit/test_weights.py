"""Weights directories, read by the real probe: complete, or what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.observe import weights as judging
from deployer.observe.observation import WeightsState
from tests.unit import host


def judge(directory: Path) -> WeightsState:
    reading = host.probe({"weights": [str(directory)]})["weights"][str(directory)]
    return judging.judge(str(directory), reading)


def stamp(directory: Path) -> None:
    files = {}
    for path in directory.iterdir():
        facts = path.stat()
        files[path.name] = {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": "0" * 64}
    (directory / ".deployer.json").write_text(json.dumps({"files": files}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def added_then_removed(path: Path) -> None:
    path.touch()
    stamped_then(path.parent, lambda: remove(path))


def stamped_then(directory: Path, deed: Callable[[], object]) -> None:
    stamp(directory)
    deed()


SHARD = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"
BROKEN: dict[str, tuple[int, Callable[[Path], object], str]] = {
    # what was done to it: shards, the deed, what is said
    "shard named in the index": (3, lambda d: remove(d / SHARD), f"shard {SHARD} is missing"),
    "shard without an index": (3, lambda d: remove(d / SHARD, d / INDEX), f"shard {SHARD} is missing"),
    "two shards": (3, lambda d: remove(*d.glob("*-0000[12]-*")), "and 1 more"),
    "truncated": (1, lambda d: cut(d / "model.safetensors"), "model.safetensors is truncated: "),
    "too long": (1, lambda d: (d / "model.safetensors").open("ab").write(b"x"), "is longer than it should be"),
    "no header": (1, lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 32), "is no safetensors header"),
    "empty shard": (1, lambda d: (d / "model.safetensors").write_bytes(b""), "shorter than its header"),
    "header no mapping": (
        1,
        lambda d: (d / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"[]"),
        "no safetensors",
    ),
    "config missing": (1, lambda d: remove(d / "config.json"), "config.json is missing"),
    "config no JSON": (1, lambda d: (d / "config.json").write_text("{"), "config.json is no JSON: "),
    "config a list": (1, lambda d: (d / "config.json").write_text("[]"), "config.json is no JSON object"),
    "index damaged": (3, lambda d: (d / INDEX).write_text("{}"), "index.json is damaged"),
    "no tokenizer": (1, lambda d: remove(d / "tokenizer.json"), "no tokenizer"),
    "no weights": (1, lambda d: remove(d / "model.safetensors"), "no weights"),
    "changed since": (
        1,
        lambda d: stamped_then(d, lambda: (d / "tokenizer.json").write_text('{"new": 1}')),
        "tokenizer.json has changed since it was staged",
    ),
    "gone since": (
        1,
        lambda d: added_then_removed(d / "x"),
        "x is missing since it was staged",
    ),
    "stamp damaged": (1, lambda d: (d / ".deployer.json").write_text("{"), "stamp (.deployer.json) is damaged"),
}


@pytest.mark.parametrize("deed", BROKEN)
def test_what_is_wrong_is_named(deed: str, tmp_path: Path) -> None:
    shards, act, said = BROKEN[deed]
    directory = host.weights(tmp_path / "w", shards)
    act(directory)
    problem = judge(directory).problem
    assert problem is not None
    assert said in problem


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("stamped", [True, False])
def test_complete_weights_have_no_problem(shards: int, stamped: bool, tmp_path: Path) -> None:
    directory = host.weights(tmp_path / "w", shards)
    if stamped:
        stamp(directory)
    state = judge(directory)
    assert state.problem is None
    assert (state.exists, state.stamped, state.half_written) == (True, stamped, False)
    assert state.size >= shards * 64


def test_absent_and_half_written(tmp_path: Path) -> None:
    assert judge(tmp_path / "none") == WeightsState(path=f"{tmp_path}/none", exists=False)
    (tmp_path / "none.part").mkdir()
    assert judge(tmp_path / "none").half_written


LISTS: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    "gnu": ({"SHA256SUMS": f"{'A' * 64}  a\n{'b' * 64} *b\n"}, "sha256", {"a": "a" * 64, "b": "b" * 64}),
    "bsd": ({"sums.md5": f"MD5 (a) = {'c' * 32}\n"}, "md5", {"a": "c" * 32}),
    "sha256 before md5": ({"md5.txt": f"{'c' * 32}  a\n", "x.sha256": f"{'a' * 64}  a\n"}, "sha256", {"a": "a" * 64}),
    "dot slash": ({"SHA256SUMS": f"{'a' * 64}  ./a\n"}, "sha256", {"a": "a" * 64}),
    "paths elsewhere are not followed": ({"SHA256SUMS": f"{'a' * 64}  ../../etc/shadow\n"}, "", {}),
    "itself": ({"SHA256SUMS": f"{'a' * 64}  SHA256SUMS\n"}, "", {}),
    "nonsense": ({"SHA256SUMS": "hello\n\n# comment\n"}, "", {}),
}


@pytest.mark.parametrize("name", LISTS)
def test_list_of_checksums(name: str) -> None:
    texts, algorithm, checksums = LISTS[name]
    assert judging.checksum_list({key: {"text": text} for key, text in texts.items()}) == (algorithm, checksums)


def test_comparison_counts_for_these_files_and_this_list_only() -> None:
    files = {"a": {"size": 3, "mtime_ns": 7}}
    raw = {"exists": True, "files": files, "lists": {"SHA256SUMS": {"text": f"{'a' * 64}  a\n"}}}
    stamp = {"algorithm": "sha256", "checksums": {"a": "a" * 64}, "files": files}
    assert judging.judge("/w", raw, json.dumps(stamp)).verified
    assert not judging.judge("/w", raw).verified
    for change in ({"algorithm": "md5"}, {"checksums": {"a": "b" * 64}}, {"files": {"a": {"size": 4, "mtime_ns": 7}}}):
        assert not judging.judge("/w", raw, json.dumps(stamp | change)).verified
    assert not judging.judge("/w", raw, "{").verified
