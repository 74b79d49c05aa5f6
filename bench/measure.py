"""Runs a command and says what it took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Took:
    """Seconds on the clock and of computing; the largest process of the run in bytes."""

    wall: float
    cpu: float
    peak: int


def run(words: list[str], environment: dict[str, str], accept: tuple[int, ...] = (0,)) -> Took:
    """Run to the end; another exit status than those accepted ends the benchmark."""
    log = Path(environment["DEPLOYER_STATE_DIR"]) / "last.log"
    with log.open("w") as stream:
        begin = time.monotonic()
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
    code = os.waitstatus_to_exitcode(status)
    if code not in accept:
        sys.exit(f"{' '.join(words[:3])} … ended with status {code}:\n{log.read_text()[-3000:]}")
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def median(values: list[float]) -> float:
    """Of a few runs."""
    return statistics.median(values)
