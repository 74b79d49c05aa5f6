"""Reads one YAML mapping and remembers on which line each field stands, so that an error can say where."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployer.errors import CatalogError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_PLAIN = 4000
# libyaml's loader is ten times faster, and in every wheel of PyYAML; a build from source may lack it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlFile:
    """A mapping read from a file, with the line of every field in it."""

    path: Path
    data: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """The line of a field, or of the nearest one around it that is written in this file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read(path: Path) -> YamlFile:
    """Read a file that holds one mapping."""
    try:
        text = _content(path).decode("utf-8-sig")
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path}: not UTF-8 text") from error
    lines: dict[Location, int] = {}
    try:
        _require_plain(text, path)
        data = _parse(text, lines, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise CatalogError(f"{where}: {getattr(error, 'problem', None) or 'not YAML'}") from error
    except (ValueError, OverflowError) as error:
        # A date that there is not, a number of a million digits: the loader lets out what Python says.
        raise CatalogError(f"{path}: a value that cannot be: {error}") from error
    return YamlFile(path, data, lines)


def _content(path: Path) -> bytes:
    """The bytes of an ordinary file of a size that a catalog file may have.

    What is opened is what is looked at: without waiting for a writer that never comes, and no more is read than may be.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise CatalogError(f"{path}: not an ordinary file", "a catalog file is a file, or a link to one")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CatalogError(f"{path}: larger than {MAX_BYTES} bytes, this is no catalog file")
    return content


def _require_plain(text: str, path: Path) -> None:
    """No anchors and aliases, of which a few lines become gigabytes or have no end, and no depth that a parser dies of.

    The parser's events come one by one and need no stack; what composes them does.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise CatalogError(
                f"{path}:{line}: {mark}{event.anchor}: a catalog file has no anchors and no aliases",
                "write the value in each place",
            )
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and len(event.value) > MAX_PLAIN:
            # `1:1:1:…` is a number of YAML's, for which Python takes a minute.
            raise CatalogError(f"{path}:{line}: a value of more than {MAX_PLAIN} characters", "put a text in quotes")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise CatalogError(f"{path}:{line}: nested more than {MAX_DEPTH} levels deep, this is no catalog file")


def _parse(text: str, lines: dict[Location, int], path: Path) -> dict[str, Any]:
    """What the nodes mean, and their lines, in one pass."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise CatalogError(f"{path}: a catalog file holds one mapping")
        _walk(node, (), lines, path)
        data = loader.construct_document(node)
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise CatalogError(f"{path}: a catalog file holds one mapping")
    return data


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*location, str(key.value))
            if inner in lines:
                raise CatalogError(f"{path}:{key.start_mark.line + 1}: {dotted(inner)} is written twice")
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*location, index), lines, path)


def dotted(location: Location) -> str:
    """`('weights', 'sources', 0, 'kind')` as `weights.sources[0].kind`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
