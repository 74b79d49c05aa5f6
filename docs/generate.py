"""Writes the reference pages from the code: docs/cli.md, docs/variables.md, docs/failures.md.

python docs/generate.py          writes them
python docs/generate.py --check  names those that are not current, and exits 1
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from deployer import catalog
from deployer.cli.main import VERBS, cli
from deployer.errors import ExitStatus

ROOT = Path(__file__).resolve().parents[1]
ROLES = [
    "observe",
    "preflight",
    "lock",
    "engine",
    "artefacts",
    "serving",
    "readiness",
    "smoke_test",
    "teardown",
]
NOTE = "<!-- Written by docs/generate.py; `make docs` writes it again. -->\n"


def cli_page() -> str:
    """Each verb's help as it is printed, and the exit statuses."""
    parts = ["# Command line\n", NOTE, _help(cli, "deployer")]
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        parts += [f"\n## deployer {verb}\n", _help(command, f"deployer {verb}")]
    parts += ["\n## Exit status\n", "| status | meaning |\n|---|---|"]
    parts += [f"| {int(each)} | {each.meaning} |" for each in ExitStatus]
    return "\n".join(parts) + "\n"


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
    return f"```text\n{command.get_help(context)}\n```"


def variables_page() -> str:
    """Every variable of every role, from its argument specification."""
    parts = ["# Variables\n", NOTE, "Set them in the inventory, or with `-e`. A role reads those under its name.\n"]
    for role in ROLES:
        spec = argument_spec(role)
        parts += [f"## {role}\n", f"{spec['short_description']}. {' '.join(spec['description'])}\n"]
        if not spec["options"]:
            parts.append("No variables.\n")
            continue
        parts.append("| variable | type | default | |\n|---|---|---|---|")
        for name, option in spec["options"].items():
            choices = f" One of {', '.join(option['choices'])}." if "choices" in option else ""
            default = str(option["default"]).replace("|", "\\|")
            text = option["description"].rstrip(".")
            parts.append(f"| `{name}` | {option['type']} | `{default}` | {text}.{choices} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def argument_spec(role: str) -> dict[str, Any]:
    """The `main` argument specification of a role."""
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    spec: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]
    return spec


def failures_page() -> str:
    """The table of known failures."""
    parts = ["# Known failures\n", NOTE]
    parts += ["A failed step's output is searched for these, in this order. A catalog overlay can add to them.\n"]
    for each in catalog.load().failures:
        when = f" (host {each.when})" if each.when else ""
        parts += [f"## {each.name}\n", f"- pattern: `{each.pattern}`{when}", f"- cause: {each.cause}"]
        parts += [f"- remedy: {each.remedy}", f"- source: {each.source}\n"]
    return "\n".join(parts).rstrip() + "\n"


PAGES = {"cli.md": cli_page, "variables.md": variables_page, "failures.md": failures_page}


def outdated() -> list[str]:
    """Pages that are not what the code says."""
    docs = ROOT / "docs"
    return [
        name
        for name, make in PAGES.items()
        if not (docs / name).is_file() or (docs / name).read_text(encoding="utf-8") != make()
    ]


def main() -> int:
    """Write the pages, or check them."""
    old = outdated()
    if "--check" in sys.argv[1:]:
        for name in old:
            print(f"docs/{name} is not current: make docs")
        return 1 if old else 0
    for name in old:
        (ROOT / "docs" / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
