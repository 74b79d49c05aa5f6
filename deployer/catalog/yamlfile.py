"""Reads one YAML mapping and remembers on which line each field stands, so that an error can say where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployer.errors import CatalogError

MAX_BYTES = 1_000_000
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
        if path.stat().st_size > MAX_BYTES:
            raise CatalogError(f"{path}: larger than {MAX_BYTES} bytes, this is no catalog file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path}: not UTF-8 text") from error
    try:
        node, data = _parse(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise CatalogError(f"{where}: {getattr(error, 'problem', None) or 'not YAML'}") from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(data, dict):
        raise CatalogError(f"{path}: a catalog file holds one mapping")
    lines: dict[Location, int] = {}
    _walk(node, (), lines, path)
    return YamlFile(path, data, lines)


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes, which know their lines, and what they mean, in one pass."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


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
