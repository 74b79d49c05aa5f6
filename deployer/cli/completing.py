"""Shell completion: words that were written beforehand, and files skimmed, so that a key press costs little.

The verbs import what looks at hosts, which takes longer than anybody waits for a key; `tree` keeps their words in
`completion.json` (`make docs` writes it). Whatever goes wrong here is silent: a shell has no place to say it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from deployer import paths

TREE = Path(__file__).with_suffix("").with_name("completion.json")
VARIABLE = "_DEPLOYER_COMPLETE"
BIGGEST = 1_000_000
MOST = 2000
# What may be put on a shell's line: no blanks, no control characters, nothing that a shell would take for its own.
NAME = re.compile(r"[\w.@/+-]+(:[\w.+-]+)?")
RANGE = re.compile(r"\[(\d+):(\d+)\]")

# A parameter's name → what completes it.
FILES, DIRECTORIES = ("inventory", "prompts", "golden"), ("catalog", "directory", "target")
MODELS, HOSTS, JOBS = ("model",), ("limit", "host", "hosts"), ("job",)


def tree(command: click.Command, parent: click.Context | None = None) -> dict[str, Any]:
    """A command's words, as `completion.json` has them."""
    # With all that it has when it runs: a command keeps the help option of the first context that asks.
    context = click.Context(command, parent=parent, **command.context_settings)
    document: dict[str, Any] = {"help": command.get_short_help_str(), "params": []}
    for parameter in command.params:
        words: dict[str, Any] = {"name": parameter.name, "nargs": parameter.nargs}
        if isinstance(parameter, click.Option):
            words |= {"opts": [*parameter.opts, *parameter.secondary_opts], "help": parameter.help}
            words |= {"flag": parameter.is_flag or parameter.count, "multiple": parameter.multiple}
            words |= {"envvar": parameter.envvar}
        document["params"].append(words)
    if isinstance(command, click.Group):
        verbs = {name: command.get_command(context, name) for name in command.list_commands(context)}
        document["commands"] = {name: tree(each, context) for name, each in verbs.items() if each}
    return document


def written(command: click.Command) -> str:
    """The text of `completion.json`."""
    return json.dumps(tree(command), indent=1, ensure_ascii=False) + "\n"


def skeleton(document: dict[str, Any], path: tuple[str, ...] = ()) -> click.Command:
    """Commands that know their words and do nothing."""
    parameters = [_parameter(each, path) for each in document["params"]]
    name = path[-1] if path else None
    if "commands" not in document:
        return click.Command(name, params=parameters, help=document["help"])
    commands = {each: skeleton(inner, (*path, each)) for each, inner in document["commands"].items()}
    return click.Group(name, commands, params=parameters, help=document["help"])


def _parameter(words: dict[str, Any], path: tuple[str, ...]) -> click.Parameter:
    complete = _completer(words["name"], path)
    if "opts" not in words:
        return click.Argument([words["name"]], nargs=words["nargs"], required=False, shell_complete=complete)
    return click.Option(
        [words["name"], *words["opts"]], is_flag=words["flag"], multiple=words["multiple"], help=words["help"],
        envvar=words["envvar"], shell_complete=None if words["flag"] else complete,
    )  # fmt: skip


Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(name: str, path: tuple[str, ...]) -> Completer:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if name in FILES or name in DIRECTORIES:
            return [CompletionItem(incomplete, type="file" if name in FILES else "dir")]
        try:
            before, found = _candidates(context, name, path, incomplete)
            start = incomplete[len(before) :]
            return [
                CompletionItem(before + each)
                for each in sorted(set(found))[:MOST]
                if each.lower().startswith(start.lower()) and NAME.fullmatch(each)
            ]
        except Exception:  # half a file, a directory without permission: nothing to offer
            return []

    return complete


def _candidates(context: click.Context, name: str, path: tuple[str, ...], incomplete: str) -> tuple[str, list[str]]:
    """What stays of the word, and what may follow it."""
    if name in MODELS or (path, name) == (("models",), "name"):
        return "", list(_catalog(context, "models"))
    if name in JOBS:
        return "", list(_catalog(context, "runtimes"))
    if path[:1] == ("lab",):
        if name == "fault":
            from deployer.lab.faults import FAULTS

            return "", list(FAULTS)
        if name in HOSTS:
            place = paths.state_dir() / "lab" / str(context.params.get("name") or "default") / "inventory.yml"
            return "", list(_hosts(place, groups=False))
        return "", []
    if name in HOSTS:
        # One of several: `a,b`, `a:!b`.
        before = re.match(r"(.*[,:])?[!&]?", incomplete)[0] if name == "limit" else ""  # type: ignore[index]
        inventory = str(context.params.get("inventory") or os.environ.get("DEPLOYER_INVENTORY") or "")
        return before, list(_hosts(Path(inventory).expanduser(), groups=name == "limit")) if inventory else []
    return "", []


def _catalog(context: click.Context, section: str) -> Iterator[str]:
    """Names and aliases of models, or the jobs of engines, of the catalog and its overlay."""
    chosen = context.params.get("catalog") or context.params.get("directory")
    inventory = context.params.get("inventory") or os.environ.get("DEPLOYER_INVENTORY")
    places = [paths.CATALOG]
    places += [Path(str(chosen)).expanduser()] if chosen else []
    places += [Path(str(inventory)).expanduser().absolute().parent / "catalog"] if inventory and not chosen else []
    for place in places:
        for path in sorted((place / section).glob("*.y*ml")):
            text = _text(path)
            if section == "models":
                yield from re.findall(r"^(?: {0,4}- )?name: *[\"']?([\w./-]+)", text, re.MULTILINE)
            else:
                jobs = re.search(r"^jobs:\n((?:[ #].*\n|\n)*)", text, re.MULTILINE)
                yield from re.findall(r"^  ([\w-]+):", jobs[1], re.MULTILINE) if jobs else ()


def _hosts(inventory: Path, groups: bool) -> Iterator[str]:
    """Names in an inventory, file or directory; read without Ansible, which takes too long to start."""
    files = sorted(path for path in inventory.iterdir() if path.is_file()) if inventory.is_dir() else [inventory]
    for path in files:
        if path.suffix in (".yml", ".yaml", ".json"):
            yield from _yaml_names(path, groups)
        elif path.suffix in ("", ".ini", ".cfg") and not os.access(path, os.X_OK):
            yield from _ini_names(path, groups)


def _ini_names(path: Path, groups: bool) -> Iterator[str]:
    section = ""
    for line in _text(path).splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0].startswith("[") and words[0].endswith("]") and ":" not in RANGE.sub("", words[0].split(":")[0]):
            section, _, kind = words[0][1:-1].partition(":")
            if groups:
                yield section
            section = kind
        elif section == "":
            yield from _expanded(words[0])


def _yaml_names(path: Path, groups: bool) -> Iterator[str]:
    import yaml

    left = [yaml.safe_load(_text(path))]
    while left:
        for name, body in (left.pop() or {}).items():
            if groups:
                yield str(name)
            body = body if isinstance(body, dict) else {}
            for host in body.get("hosts") or {}:
                yield from _expanded(str(host))
            left.append(body.get("children") or {})


def _expanded(name: str) -> Iterator[str]:
    found = RANGE.search(name)
    if not found:
        yield name
        return
    first, last = found.groups()
    for number in range(int(first), min(int(last), int(first) + MOST) + 1):
        yield RANGE.sub(str(number).zfill(len(first)), name, count=1)


def _text(path: Path) -> str:
    # A pipe would be waited for.
    small = path.is_file() and path.stat().st_size < BIGGEST
    return path.read_text(encoding="utf-8", errors="replace") if small else ""


def answer() -> bool:
    """Answer a shell that completes, where it is one that called."""
    instruction = os.environ.get(VARIABLE, "")
    if not instruction.endswith("_complete"):
        return False
    from click.shell_completion import shell_complete

    try:
        document = json.loads(TREE.read_text(encoding="utf-8"))
        shell_complete(skeleton(document), {}, "deployer", VARIABLE, instruction)
    except Exception:
        return True
    return True


if __name__ == "__main__":
    from deployer.cli.main import cli

    TREE.write_text(written(cli), encoding="utf-8")
    sys.stdout.write(f"wrote {TREE}\n")
