"""Packs the probe into one shell command, and unpacks what comes back.

One command is all that an Ansible connection must be able to run: no file is copied and nothing stays on the host.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import shlex
import zlib
from importlib import resources
from typing import Any

from deployer import jsonfile
from deployer.errors import DeployerError, ExitStatus
from deployer.observe import probe

MIN_PYTHON = (3, 8)
WANTED_PYTHON = f"Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer"
MAX_ANSWER = 64 * 1024 * 1024

# Parsed by any Python since 2.6, so that an old one can still say how old it is.
_BOOTSTRAP = (
    "import sys,zlib,base64,json\n"
    "r=json.loads(zlib.decompress(base64.b64decode('{request}')).decode())\n"
    "if sys.version_info<{minimum}:\n"
    " sys.stdout.write('\\n{begin}'+json.dumps({{'python_too_old':'.'.join(map(str,sys.version_info[:3])),"
    "'executable':sys.executable}})+'{end}\\n')\n"
    "else:\n"
    " s={{'__name__':'probe'}};exec(compile(zlib.decompress(base64.b64decode('{source}')).decode(),'probe','exec'),s);"
    "s['main'](r)\n"
)
_GOODBYE = re.compile(r"(Shared c|C)onnection to \S+ closed\.?\s*$")
_CANDIDATES = " ".join(
    ["python3", *(f"python3.{minor}" for minor in range(14, 7, -1)), "/usr/libexec/platform-python", "python"]
)


class ProbeError(DeployerError):
    """A host was reached, but the probe did not answer as it should."""


class NoAnswerError(ProbeError):
    """What came back holds no answer at all: the probe was never run, or it died."""


class ProbeRefusedError(ProbeError):
    """A host was reached, and lacks what even looking at it needs."""

    exit_status = ExitStatus.REFUSED

    def __init__(self, check: str, found: str, wanted: str, remedy: str) -> None:
        super().__init__(f"{check}: found {found}, wanted {wanted}", remedy)
        self.refusal = {"check": check, "found": found, "wanted": wanted, "remedy": remedy}


def described(error: DeployerError) -> dict[str, Any]:
    """An error as a mapping, so that it can travel in a task's result."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "remedy": error.remedy,
        "exit_status": int(error.exit_status),
        "refusal": error.refusal if isinstance(error, ProbeRefusedError) else None,
    }


def too_old(version: str, executable: str) -> ProbeRefusedError:
    """The host's Python cannot run the probe."""
    return ProbeRefusedError(
        "python",
        f"{executable} {version}",
        WANTED_PYTHON,
        "install a newer Python beside it, or set ansible_python_interpreter to one",
    )


def pack(request: dict[str, Any], interpreter: str = "", program: str = "probe") -> str:
    """The shell command that runs `probe.py`, `locker.py` or `reader.py`, on the interpreter given or found."""
    script = _BOOTSTRAP.format(
        request=_squeeze(json.dumps(request)),
        source=_source(program),
        minimum=MIN_PYTHON,
        begin=probe.BEGIN,
        end=probe.END,
    )
    code = shlex.quote(f"import zlib,base64;exec(zlib.decompress(base64.b64decode('{_squeeze(script)}')).decode())")
    candidates = shlex.quote(interpreter) if interpreter else _CANDIDATES
    return (
        f"for p in {candidates}; do command -v $p >/dev/null 2>&1 && exec $p -c {code}; done; "
        "echo 'deployer: no Python on this host' >&2; exit 127"
    )


@functools.cache
def source(program: str) -> str:
    """The text of `probe.py` or `locker.py`."""
    return resources.files("deployer.observe").joinpath(f"{program}.py").read_text(encoding="utf-8")


@functools.cache
def _source(program: str) -> str:
    return _squeeze(source(program))


def unpack(rc: int, stdout: str, stderr: str) -> dict[str, Any]:
    """The readings in a probe's output, or an error that says what came instead."""
    if len(stdout) > MAX_ANSWER:
        raise ProbeError(f"the probe answered {len(stdout)} bytes, more than {MAX_ANSWER}")
    _, begin, rest = stdout.rpartition(probe.BEGIN)
    body, end, _ = rest.rpartition(probe.END)
    if not begin or not end:
        if rc == 127 and "no Python" in stderr:
            raise ProbeRefusedError("python", "none", WANTED_PYTHON, "install one, or set ansible_python_interpreter")
        raise NoAnswerError(f"the probe ended with status {rc}: {_last_words(stderr, stdout)}")
    try:
        raw = jsonfile.load(body)
    except jsonfile.JsonError as error:
        raise ProbeError(f"the probe's answer is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ProbeError("the probe's answer is no mapping")
    return raw


def _last_words(*texts: str) -> str:
    """The last line of each. Where ssh has a terminal the host's errors are in stdout, and stderr is ssh's own: a
    banner before, a goodbye after."""
    found = []
    for text in texts:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not _GOODBYE.match(line)]
        found += [lines[-1][:300]] if lines else []
    return "; ".join(dict.fromkeys(found)) or "no output"


def _squeeze(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")
