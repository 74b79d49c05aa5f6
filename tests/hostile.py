"""A host that answers as it likes: its interpreter prints what a test has written down, which root there could do too.

The probe and the lock are answered truly, so that the run goes on; every module gets the one `answer`, and who reads
results gets `names`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROGRAM = """#!{python}
import base64, json, os, re, sys, zlib
if sys.argv[1:2] == ["-c"]:
    def inner(text):
        return zlib.decompress(base64.b64decode(text)).decode()
    found = re.search(r"b64decode[(]'([^']+)'", sys.argv[2])
    script = inner(found[1]) if found else ""
    request = re.search(r"b64decode[(]'([^']+)'", script)
    asked = json.loads(inner(request[1])) if request else {{}}
    begin, end = "<<<deployer-observation ", " deployer-observation>>>"
    if asked.get("action") == "list":
        print(begin + json.dumps({{"entries": {names!r}}}) + end)
    elif asked.get("action") == "read":
        pieces = [base64.b64encode(b"OWNED"[:length]).decode() for _, _, length in asked["pieces"]]
        print(begin + json.dumps({{"pieces": pieces}}) + end)
    else:
        os.execv({python!r}, [{python!r}, *sys.argv[1:]])
else:
    print({answer!r})
"""


def interpreter(path: Path, answer: dict[str, Any] | str, names: list[Any] | None = None) -> Path:
    """Write such an interpreter, for `ansible_python_interpreter`."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    path.write_text(PROGRAM.format(python=sys.executable, answer=text, names=names or []))
    path.chmod(0o755)
    return path
