"""Judges a weights directory from what the probe read in it: complete, truncated, changed, or not weights at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from deployer import jsonfile
from deployer.observe.observation import WeightsState

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.(?P<ending>safetensors|bin)$")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


_LINE = re.compile(r"^([0-9a-fA-F]{32}|[0-9a-fA-F]{64})\s+\*?(\S.*)$")
# A config.json has a few thousand characters, and three levels.
CONFIG_LIMIT = 65536
CONFIG_LEVELS = 16
# Of what a config.json says, for people.
MOST_SHOWN, MOST_LAYERS = 100, 100_000
_BSD_LINE = re.compile(r"^(?:SHA256|MD5)\s*\((.+)\)\s*=\s*([0-9a-fA-F]{32,64})$")


def judge(
    path: str, raw: Mapping[str, Any], verified: str | None = None, keys: frozenset[str] = frozenset()
) -> WeightsState:
    """The state of one directory; `path` is where it is on the host, `verified` the stamp of an earlier comparison.

    `keys` of config.json are those that vendors add for their engines.
    """
    half_written = bool(raw.get("half_written"))
    if not raw.get("exists"):
        return WeightsState(path=path, exists=False, half_written=half_written)
    files: Mapping[str, Mapping[str, Any]] = raw.get("files") or {}
    algorithm, checksums = checksum_list(raw.get("lists") or {})
    # `torch_dtype`, as newer versions of transformers call `dtype`.
    config = _parsed(raw)
    layers = config.get("num_hidden_layers")
    return WeightsState(
        path=path,
        exists=True,
        half_written=half_written,
        problem=_problem(raw, files),
        size=sum(int(each.get("size") or 0) for each in files.values()),
        stamped="text" in (raw.get("stamp") or {}),
        dtype=str(config.get("torch_dtype") or config.get("dtype") or "")[:MOST_SHOWN],
        layers=layers if isinstance(layers, int) and 0 < layers < MOST_LAYERS else None,
        # Made for a rehearsal, and they say so of themselves.
        random_weights=any(key.endswith("random_weights") and value is True for key, value in config.items()),
        config=_added(config, keys),
        config_text=_text(raw) if config and len(_text(raw)) <= CONFIG_LIMIT else "",
        algorithm=algorithm,
        checksums=checksums,
        verified=_is_verified(verified, files, algorithm, checksums),
    )


def checksum_list(lists: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, str]]:
    """Algorithm and file name → checksum of the lists in the directory; SHA-256 counts before MD5 (S3-R07)."""
    found: dict[str, dict[str, str]] = {"sha256": {}, "md5": {}}
    for name, reading in lists.items():
        for line in str(reading.get("text") or "").splitlines():
            gnu, bsd = _LINE.match(line.strip()), _BSD_LINE.match(line.strip())
            digest, file = (gnu[1], gnu[2]) if gnu else (bsd[2], bsd[1]) if bsd else ("", "")
            # A list names what stands beside it: a path would be another directory's.
            file = file.removeprefix("./")
            if digest and "/" not in file and file != name:
                found["md5" if len(digest) == 32 else "sha256"][file] = digest.lower()
    algorithm = next((each for each in ("sha256", "md5") if found[each]), "")
    return algorithm, found.get(algorithm, {})


def _parsed(raw: Mapping[str, Any]) -> dict[str, Any]:
    try:
        config = _config(_text(raw) or "{}")
    except jsonfile.JsonError:
        return {}
    return config if isinstance(config, dict) else {}


def _config(text: str) -> Any:
    """A model's configuration: some have Infinity in it, and nothing else that is no JSON."""
    return jsonfile.plain(jsonfile.load(text, depth=CONFIG_LEVELS, exact=True))


def _text(raw: Mapping[str, Any]) -> str:
    return str((raw.get("config") or {}).get("text") or "")


def _added(config: Mapping[str, Any], keys: frozenset[str]) -> dict[str, str]:
    """Those keys that are there, their values as text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in config.items()
        if name in keys
    }


def _is_verified(
    stamp: str | None, files: Mapping[str, Mapping[str, Any]], algorithm: str, checksums: Mapping[str, str]
) -> bool:
    """Whether exactly these files were compared with exactly this list."""
    try:
        known = jsonfile.load(stamp)
        if known["algorithm"] != algorithm or known["checksums"] != dict(checksums):
            return False
        return all(
            (int(files[name]["size"]), int(files[name]["mtime_ns"])) == (each["size"], each["mtime_ns"])
            for name, each in known["files"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _problem(raw: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str | None:
    if raw.get("error"):
        return f"cannot be read: {raw['error']}"
    checks = (_config_problem(raw), _shard_problem(raw, files), _file_problem(files), _stamp_problem(raw, files))
    return next((problem for problem in checks if problem), None)


def _config_problem(raw: Mapping[str, Any]) -> str | None:
    text = (raw.get("config") or {}).get("text")
    if text is None:
        return "config.json is missing"
    try:
        config = _config(text)
    except jsonfile.JsonError as error:
        return f"config.json is {'' if isinstance(error, jsonfile.TooDeepError) else 'no JSON: '}{error}"
    return None if isinstance(config, dict) else "config.json is no JSON object"


def _shard_problem(raw: Mapping[str, Any], files: Mapping[str, Any]) -> str | None:
    wanted: set[str] = set()
    text = (raw.get("index") or {}).get("text")
    if text is not None:
        try:
            wanted |= {str(name) for name in jsonfile.load(text)["weight_map"].values()}
        except (ValueError, KeyError, AttributeError, TypeError):
            return "model.safetensors.index.json is damaged"
    for name in files:
        if match := _SHARD.match(name):
            total = min(int(match["total"]), 10_000)
            wanted |= {f"{match['stem']}-{n:05}-of-{match['total']}.{match['ending']}" for n in range(1, total + 1)}
    missing = sorted(str(name) for name in wanted if name not in files)
    if missing:
        return f"shard {missing[0]} is missing" + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
    if not any(name.endswith((".safetensors", ".bin")) for name in files):
        return "there are no weights (*.safetensors) in it"
    if not any(name in files for name in _TOKENIZERS):
        return "there is no tokenizer in it"
    return None


def _file_problem(files: Mapping[str, Mapping[str, Any]]) -> str | None:
    for name, facts in sorted(files.items()):
        if facts.get("error"):
            return f"{name} cannot be read: {facts['error']}"
        if not facts.get("readable", True):
            return f"{name} cannot be read by this account"
        shard = facts.get("safetensors") or {}
        if shard.get("error"):
            return f"{name} is damaged: {shard['error']}"
        expected, size = shard.get("expected"), int(facts.get("size") or 0)
        if expected is not None and expected != size:
            word = "truncated" if size < int(expected) else "longer than it should be"
            return f"{name} is {word}: {size} of {expected} bytes"
    return None


def _stamp_problem(raw: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Compare with the stamp that was written when the directory was staged, if it was."""
    text = (raw.get("stamp") or {}).get("text")
    if text is None:
        return None
    try:
        stamped = {
            name: (int(each["size"]), int(each["mtime_ns"])) for name, each in jsonfile.load(text)["files"].items()
        }
    except (ValueError, KeyError, AttributeError, TypeError):
        return "its stamp (.deployer.json) is damaged"
    for name, expected in stamped.items():
        facts = files.get(name)
        if facts is None:
            return f"{name} is missing since it was staged"
        if (int(facts["size"]), int(facts["mtime_ns"])) != expected:
            return f"{name} has changed since it was staged"
    return None
