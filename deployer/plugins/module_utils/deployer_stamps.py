"""Writes every stamp: what it vouches for is on the disk before it. Standard library only, Python 3.8 or newer.

A file system writes files up to half a minute late, and names at once: a stamp that is only written after its files may
outlive a power cut that they do not.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import stat
from typing import Any, Dict, Iterable, List, Optional

# Nobody but the account that deploys may write or read what orders its next run.
PRIVATE = 0o700
MOST = 1024 * 1024
# What programs and packages were made of, and how an archive's stamp is called.
IDENTITY = re.compile(r"[0-9a-f]{16}\.json")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.json")
PROGRAMS, ENGINE, OLD_ENGINE = "programs", ".engine.json", "deployer-engine.json"
TEXTS = ("archive", "fingerprint", "sha256", "build")


def sync(trees: Iterable[str]) -> None:
    """Everything that was written below these paths is on the disk afterwards, each file system of them once."""
    places: Dict[int, str] = {}
    for tree in trees:
        there = os.path.abspath(tree)
        while not os.path.exists(there):
            there = os.path.dirname(there)
        places.setdefault(os.stat(there).st_dev, there)
    for place in places.values():
        _sync_file_system(place)


def _sync_file_system(place: str) -> None:
    """Like `syncfs`; where the C library cannot be asked, all file systems."""
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        syncfs = library.syncfs
    except (ImportError, OSError, AttributeError):
        os.sync()
        return
    handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), place)
    finally:
        os.close(handle)


def sync_directory(path: str) -> None:
    """The names in a directory are on the disk afterwards."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: str, mode: int = PRIVATE) -> None:
    """Make a directory and those above it, each of which is on the disk afterwards."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_directory(above, 0o755)
    os.mkdir(path, mode)
    os.chmod(path, mode)
    sync_directory(above)


def write(path: str, text: str, trees: Iterable[str] = (), mode: int = 0o644) -> None:
    """Write a stamp at once, after all that it vouches for: first `trees`, then the stamp, then its name."""
    directory = os.path.dirname(path)
    sync([*trees, directory])
    aside = path + ".new"
    remove([aside])
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync_directory(directory)


def dumped(content: Dict[str, Any]) -> str:
    """A stamp's content as its text."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def remove(paths: Iterable[str]) -> None:
    """Remove stamps, before what they vouch for is touched; none of them comes back after a power cut."""
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        sync_directory(os.path.dirname(path))


def read(path: str) -> Dict[str, Any]:
    """A stamp's content; empty where there is none, or what is there is no file of JSON of our size."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return {}
            known = json.loads(file.read(MOST + 1)[:MOST].decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def is_directory(path: str) -> bool:
    """Whether a directory stands there itself, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def is_child(path: object, home: str) -> bool:
    """Whether a path is that of a directory straight below another, as deployer itself puts archives."""
    if not isinstance(path, str) or path != posixpath.normpath(path):
        return False
    if posixpath.dirname(path) != posixpath.normpath(home):
        return False
    return not posixpath.basename(path).startswith(".") and is_directory(path)


def adopt(old: str, new: str, home: str) -> Optional[List[str]]:
    """Take stamps over, once, from a directory that containers could write to: what they say is not believed.

    Only what deployer itself would have written is taken, and it is written anew. Afterwards there is the new
    directory, and nobody reads the old one again. None where it was there before.
    """
    if os.path.lexists(new):
        return None
    aside = new + ".new"
    if os.path.lexists(aside):
        shutil.rmtree(aside)
    make_directory(os.path.dirname(new))
    os.mkdir(aside, PRIVATE)
    found: Dict[str, Dict[str, Any]] = {}
    for name in _names(old, NAME):
        known = _believed(read(os.path.join(old, name)), home)
        if known:
            found[name] = known
            version = read(os.path.join(known["path"], OLD_ENGINE)).get("version")
            if isinstance(version, str):
                found[name[: -len(".json")] + ENGINE] = {"version": version[:200]}
    # Below a directory that is a link everything is somebody else's.
    programs = os.path.join(old, PROGRAMS) if is_directory(old) else old
    os.mkdir(os.path.join(aside, PROGRAMS), PRIVATE)
    for name in _names(programs, IDENTITY):
        found[os.path.join(PROGRAMS, name)] = {"identity": name[: -len(".json")]}
    sync([home, new + ".new"] if os.path.isdir(home) else [aside])
    for name, content in found.items():
        write(os.path.join(aside, name), dumped(content))
    sync_directory(aside)
    os.rename(aside, new)
    sync_directory(os.path.dirname(new))
    return sorted(found)


def _names(directory: str, pattern: "re.Pattern[str]") -> List[str]:
    if not is_directory(directory):
        return []
    return [name for name in sorted(os.listdir(directory))[:10_000] if pattern.fullmatch(name)]


def _believed(known: Dict[str, Any], home: str) -> Dict[str, Any]:
    """What of an archive's stamp can be taken over; empty where it names a place that deployer never unpacks to."""
    if not is_child(known.get("path"), home):
        return {}
    content: Dict[str, Any] = {name: str(known.get(name) or "")[:1000] for name in TEXTS}
    earlier, images = known.get("earlier"), known.get("images")
    content["path"] = known["path"]
    content["earlier"] = [path for path in earlier if is_child(path, home)] if isinstance(earlier, list) else []
    content["images"] = [each for each in map(_image, images) if each] if isinstance(images, list) else []
    return content


def _image(each: Any) -> Dict[str, Any]:
    if not isinstance(each, dict):
        return {}
    path, size, tags = each.get("path"), each.get("size"), each.get("tags")
    if not isinstance(path, str) or "/" in path or not path.endswith(".tar") or not isinstance(tags, list):
        return {}
    size = size if isinstance(size, int) and size >= 0 else 0
    return {"path": path, "size": size, "id": str(each.get("id") or "")[:100], "tags": [str(tag) for tag in tags[:100]]}
