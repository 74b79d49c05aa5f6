"""Runs on a lab's host: tells when two of the same installer are at work at once. Standard library only.

    watch_installers.py LOG PATTERN…

Of a tree of processes whose command lines match, the topmost counts. A line of LOG is a pattern and its processes.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path


def processes() -> dict[int, tuple[int, str]]:
    """Process id → parent, command line."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        if int(place.name) == os.getpid():
            continue
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            parent = int((place / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        found[int(place.name)] = (parent, line)
    return found


def topmost(found: dict[int, tuple[int, str]], pattern: str) -> list[int]:
    """Processes that match, but those below another that matches."""
    hits = {pid for pid, (_, line) in found.items() if re.search(pattern, line)}

    def below(pid: int) -> bool:
        parent = found[pid][0]
        while parent in found:
            if parent in hits:
                return True
            parent = found[parent][0]
        return False

    return sorted(pid for pid in hits if not below(pid))


def main() -> None:
    log, patterns = Path(sys.argv[1]), sys.argv[2:]
    while True:
        found = processes()
        for pattern in patterns:
            pids = topmost(found, pattern)
            if len(pids) > 1:
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"{pattern}: {[found[pid][1] for pid in pids]}\n")
        # It samples; nothing waits for it.
        time.sleep(0.05)


if __name__ == "__main__":
    main()
