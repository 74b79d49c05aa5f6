"""The floor: one ssh per host, all at once, and one Python process on the host that makes all the readings.

usage: floor.py CALLS.json, a list of {"host", "words"}. Prints how many answered. Standard library only.
"""

import asyncio
import json
import sys
from pathlib import Path

BEGIN, END = "<<<deployer-observation ", " deployer-observation>>>"


async def ask(words: list[str]) -> bool:
    """Run one line, and read the readings that it prints."""
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    _, begin, rest = out.decode().rpartition(BEGIN)
    return bool(begin) and "host" in json.loads(rest.partition(END)[0])


async def main() -> None:
    """Ask all hosts at once."""
    calls = json.loads(Path(sys.argv[1]).read_text())
    answers = await asyncio.gather(*(ask(call["words"]) for call in calls))
    print(f"{sum(answers)} of {len(calls)}")
    sys.exit(not all(answers))


if __name__ == "__main__":
    asyncio.run(main())
