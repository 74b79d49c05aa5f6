"""Writes the reference pages from the code: docs/cli.md, docs/variables.md, docs/failures.md.

python docs/generate.py          writes them
python docs/generate.py --check  names those that are not current, and exits 1
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import yaml
from click.testing import CliRunner

from deployer import catalog
from deployer.cli.main import VERBS, cli
from deployer.errors import ExitStatus

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
WIDTH = 100
# In the order of a run.
ROLES = [
    "observe",
    "preflight",
    "lock",
    "fetch",
    "archives",
    "system_packages",
    "kernel_headers",
    "ascend_driver",
    "sophon_driver",
    "tx8_driver",
    "reboot",
    "docker_engine",
    "engine",
    "image",
    "programs",
    "conda_env",
    "artefacts",
    "serving",
    "serving_container",
    "readiness",
    "smoke_test",
    "job",
    "teardown",
]
NOTE = "<!-- Written by docs/generate.py; `make docs` writes it again. -->\n"


def cli_page() -> str:
    """Each verb's help as it is printed, and the exit statuses."""
    parts = ["# Command line\n", NOTE, help_block()]
    for verb in VERBS:
        parts += [f"\n## deployer {verb}\n", help_block(verb)]
        command = cli.get_command(click.Context(cli), verb)
        for name in command.commands if isinstance(command, click.Group) else ():
            parts += [f"\n### deployer {verb} {name}\n", help_block(verb, name)]
    parts += ["\n## Exit status\n", "The worst host decides; the summary names each.\n"]
    parts += table(["status", "meaning"], ([str(int(each)), each.meaning] for each in ExitStatus))
    return "\n".join(parts) + "\n"


def help_block(*words: str) -> str:
    """What `deployer WORDS --help` prints, by the command's own way through click."""
    runner = CliRunner(env={"NO_COLOR": "1"})
    done = runner.invoke(
        cli, [*words, "--help"], prog_name="deployer", terminal_width=WIDTH, max_content_width=WIDTH, color=False
    )
    if done.exit_code != 0:
        raise RuntimeError(f"deployer {' '.join(words)} --help ended with {done.exit_code}: {done.output}")
    return f"```text\n{done.output.rstrip()}\n```"


def variables_page() -> str:
    """Every variable of every role, from its argument specification."""
    parts = ["# Variables\n", NOTE, "Set them in the inventory, or with `-e`. A role reads those under its name.\n"]
    for role in ROLES:
        spec = argument_spec(role)
        parts += [f"## {role}\n", f"{spec['short_description']}. {marked(' '.join(spec['description']))}\n"]
        rows = [variable_row(role, name, option) for name, option in spec["options"].items()]
        parts += table(["variable", "type", "default", "description"], rows) if rows else ["No variables."]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def variable_row(role: str, name: str, option: dict[str, Any]) -> list[str]:
    """Name, type, default and description of one variable."""
    kind, several = option["type"], option["type"] == "list"
    text = marked(option["description"].rstrip(".")) + "."
    if "choices" in option:
        text += f" {'Any' if several else 'One'} of {', '.join(f'`{each}`' for each in option['choices'])}."
    return [
        f"`{name}`",
        f"list of {option['elements']}" if several and "elements" in option else kind,
        default_cell(role, option["default"]),
        text,
    ]


def default_cell(role: str, value: Any) -> str:
    """A default as YAML has it. An address stands in the role alone: a page is no place to keep it current."""
    if isinstance(value, str) and "://" in value:
        return f"an address, in `roles/{role}/defaults/main.yml`"
    if isinstance(value, str) and value:
        return f"`{value}`"
    return f"`{json.dumps(value)}`"


def argument_spec(role: str) -> dict[str, Any]:
    """The `main` argument specification of a role."""
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    spec: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]
    return spec


def marked(text: str) -> str:
    """Ansible's `C(code)` as Markdown's."""
    return re.sub(r"C\(([^)]*)\)", r"`\1`", text)


def failures_page() -> str:
    """The table of known failures."""
    parts = ["# Known failures\n", NOTE]
    parts += ["What a failed step printed is searched for these, and the first that is found counts. A catalog overlay"]
    parts += ["can change one, or add to them at the end ([catalog.md](catalog.md#failures)).\n"]
    rows = []
    for each in catalog.load().failures:
        when = f" (only where the host is {each.when})" if each.when else ""
        rows.append([each.name, f"`{each.pattern}`{when}", each.cause, each.remedy, each.source])
    parts += table(["name", "pattern", "cause", "remedy", "source"], rows)
    return "\n".join(parts) + "\n"


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table; a bar inside a cell is escaped, or it would end the cell."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in [head, *rows]]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


PAGES = {"cli.md": cli_page, "variables.md": variables_page, "failures.md": failures_page}


def outdated() -> list[str]:
    """Pages that are not what the code says."""
    return [
        name
        for name, make in PAGES.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != make()
    ]


def main(words: list[str]) -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="only name the pages that are not current, and exit 1")
    check = parser.parse_args(words).check
    old = outdated()
    for name in old:
        if check:
            print(f"docs/{name} is not current: make docs")
        else:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"wrote docs/{name}")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
