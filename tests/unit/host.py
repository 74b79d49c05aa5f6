"""Runs the probe for real on this machine, and makes weights directories for it to read."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from deployer import observe


def interpreters() -> list[str]:
    """Each Python from 2.7 on that is on PATH or that pyenv has."""
    names = ["python2.7", *(f"python3.{minor}" for minor in range(6, 15))]
    found = [path for name in names if (path := shutil.which(name))]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python")]
    works = [
        path for path in found if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    ]
    return [*dict.fromkeys(os.path.realpath(path) for path in [sys.executable, *works] if "shims" not in path)]


def shell(command: str) -> tuple[int, str, str]:
    """Run what `pack` made, as an Ansible connection would."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def probe(request: dict[str, Any], interpreter: str = "") -> dict[str, Any]:
    """The probe's readings of this machine."""
    return observe.unpack(*shell(observe.pack(request, interpreter)))


def safetensors(path: Path, size: int = 64) -> None:
    """A small file in the real format."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))


def weights(directory: Path, shards: int = 1) -> Path:
    """A complete weights directory."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    (directory / "tokenizer.json").write_text("{}")
    if shards == 1:
        safetensors(directory / "model.safetensors")
        return directory
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    for name in names:
        safetensors(directory / name)
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(names)}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
