#!/usr/bin/python
"""Ansible module: unpacks a vendor's archive, whole or not at all. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_unpack
short_description: Unpack a vendor's archive beside others, whole or not at all
description:
  - The archive is unpacked aside, tar with C(tar), zip with Python, looked at, and only then moved to its place.
    A stamp says where that is.
  - Links and modes of a zip file are kept as tar keeps them; a link that leaves the archive is refused.
  - A file that is no archive by its name is put into a directory of its own.
  - A directory of that name which no stamp knows is somebody else's, and is never replaced.
options:
  archive:
    description: Archive on the host.
    type: path
    required: true
  sha256:
    description: Published checksum of the archive; empty where there is none.
    type: str
    default: ""
  home:
    description: Directory to unpack into.
    type: path
    required: true
  name:
    description: Name of the archive's stamp, and of its directory where it has none inside.
    type: str
    required: true
  directory:
    description: Pattern of its top directory; empty where its files have none.
    type: str
    default: ""
  fingerprint:
    description: What identifies the archive, for the stamp.
    type: str
    required: true
  stamp:
    description: Where the stamp is written.
    type: path
    required: true
  owner:
    description: Account that what was unpacked belongs to.
    type: str
    default: root
author: deployer
"""

import glob
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib

from ansible.module_utils.basic import AnsibleModule

CHUNK = 1024 * 1024
# The system that has written a zip entry, in whose words its mode is; and the longest target that a link may have.
UNIX, LONGEST_LINK = 3, 4096


class UnpackError(Exception):
    """The archive cannot be used, or its place cannot."""


def sha256(path):
    """Checksum of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for chunk in iter(lambda: handle.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def extract(archive, place):
    """Unpack with tar or as zip, neither of which takes a path outside of the place; what is no archive is moved."""
    name = os.path.basename(archive).lower()
    if name.endswith(".zip"):
        try:
            with zipfile.ZipFile(archive) as zipped:
                unzip(zipped, place)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
            raise UnpackError("%s: zip: %s" % (os.path.basename(archive), error)) from error
        return
    if not name.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")):
        # The copy on the host is removed afterwards in any case.
        shutil.move(archive, os.path.join(place, os.path.basename(archive)))
        return
    done = subprocess.run(
        ["tar", "--no-same-owner", "-xf", archive, "-C", place],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env=dict(os.environ, LC_ALL="C"),
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
        raise UnpackError("%s: tar: %s" % (os.path.basename(archive), "; ".join(lines[-3:]) or "no output"))


def unzip(zipped, place):
    """Unpack a zip file with the modes and the links that stand in it: Python's own makes a text file of each link."""
    links = []
    for entry in zipped.infolist():
        mode = entry.external_attr >> 16 if entry.create_system == UNIX else 0
        if stat.S_ISLNK(mode):
            links.append(entry)
            continue
        path = zipped.extract(entry, place)
        if mode & 0o777 and not entry.is_dir():
            # Never more than this account would give: no set-user-id, and the account itself can read and write.
            os.chmod(path, mode & 0o755 | stat.S_IRUSR | stat.S_IWUSR)
    # After all files: nothing is written through a link. Looked at together: one may lead over another.
    targets = [read_link(zipped, entry, place) for entry in links]
    for path, target in targets:
        os.unlink(path)
        os.symlink(target, path)
    root = os.path.realpath(place) + os.sep
    for path, target in targets:
        if not (os.path.realpath(path) + os.sep).startswith(root):
            raise UnpackError("%s: a link to %s, which is outside" % (os.path.relpath(path, place), target))


def read_link(zipped, entry, place):
    """Where a zip file's link is, as a file so far, and where it leads to."""
    if entry.file_size > LONGEST_LINK:
        raise UnpackError("%s: a link of %d bytes" % (entry.filename, entry.file_size))
    target = os.fsdecode(zipped.read(entry))
    if not target or "\0" in target or os.path.isabs(target):
        raise UnpackError("%s: a link to %s, which is outside" % (entry.filename, target or "nothing"))
    return zipped.extract(entry, place), target


def top(place, pattern, archive):
    """The one directory that is in it."""
    names = sorted(os.listdir(place))
    fitting = [name for name in names if re.match(pattern, name)]
    if len(names) != 1 or len(fitting) != 1 or not os.path.isdir(os.path.join(place, names[0])):
        raise UnpackError(
            "%s: wanted is one directory named like %s, there is %s"
            % (os.path.basename(archive), pattern, ", ".join(names[:5]) or "nothing")
        )
    return fitting[0], re.match(pattern, fitting[0]).groupdict().get("build") or ""


def images(place):
    """Archives of `docker save` among the files at the top: path, the image's id and its names."""
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(place), "*.tar"))):
        try:
            with tarfile.open(path) as archive:
                manifest = json.loads(archive.extractfile("manifest.json").read(CHUNK).decode("utf-8"))[0]
        except (tarfile.TarError, OSError, KeyError, ValueError, IndexError, AttributeError, EOFError) as error:
            raise UnpackError("%s: truncated or no image archive: %s" % (os.path.basename(path), error)) from error
        digest = re.search(r"([0-9a-f]{64})", str(manifest.get("Config")))
        found.append(
            {
                "path": os.path.basename(path),
                "size": os.path.getsize(path),
                "id": "sha256:" + digest.group(1) if digest else "",
                "tags": [str(tag) for tag in manifest.get("RepoTags") or []],
            }
        )
    return found


def read(path):
    """A stamp; empty where there is none that can be read."""
    try:
        with open(path) as handle:
            known = json.load(handle)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def is_ours(target, stamps):
    """Whether a stamp of ours names the directory, now or before."""
    found = [read(path) for path in glob.glob(os.path.join(glob.escape(stamps), "*.json"))]
    return any(target == known.get("path") or target in (known.get("earlier") or []) for known in found)


def earlier(stamp, target):
    """Where archives of this name were unpacked before, under other names of their own: they are still ours."""
    known = read(stamp)
    paths = [known.get("path"), *(known.get("earlier") or [])]
    return [path for path in dict.fromkeys(paths) if isinstance(path, str) and path != target and os.path.isdir(path)]


def own(place, account):
    """Give everything in it to an account."""
    facts = pwd.getpwnam(account)
    for directory, _, files in os.walk(place):
        for path in [directory, *(os.path.join(directory, name) for name in files)]:
            os.lchown(path, facts.pw_uid, facts.pw_gid)


def write(path, content):
    """Write a file at once."""
    with open(path + ".new", "w") as handle:
        json.dump(content, handle, indent=1, sort_keys=True)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(path + ".new", path)


def unpack(arguments, aside):
    """Unpack aside, look at it, move it to its place. Returns where that is."""
    archive, home, stamps = arguments["archive"], arguments["home"], os.path.dirname(arguments["stamp"])
    found = sha256(archive) if arguments["sha256"] else ""
    if found != arguments["sha256"]:
        raise UnpackError("%s: sha256 is %s, expected %s" % (os.path.basename(archive), found, arguments["sha256"]))
    extract(archive, aside)
    source, name, build = aside, arguments["name"], ""
    if arguments["directory"]:
        name, build = top(aside, arguments["directory"], archive)
        source = os.path.join(aside, name)
    content = {
        "archive": os.path.basename(archive),
        "fingerprint": arguments["fingerprint"],
        "sha256": found,
        "build": build,
        "path": os.path.join(home, name),
        "images": images(source) if not arguments["directory"] else [],
        "earlier": earlier(arguments["stamp"], os.path.join(home, name)),
    }
    if arguments["owner"] != "root" or os.getuid() != 0:
        own(source, arguments["owner"])
    target, old = content["path"], aside + ".old"
    if os.path.lexists(target):
        if not is_ours(target, stamps):
            raise UnpackError("%s is there and was not unpacked by deployer: move it away first" % target)
        os.rename(target, old)
    # The stamp first: where the directory it names is missing, the archive is unpacked again.
    write(arguments["stamp"], content)
    os.rename(source, target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "sha256": {"type": "str", "default": ""},
            "home": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "directory": {"type": "str", "default": ""},
            "fingerprint": {"type": "str", "required": True},
            "stamp": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "root"},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    stamps = os.path.dirname(arguments["stamp"])
    aside = os.path.join(stamps, "unpacking-" + arguments["name"])
    try:
        os.makedirs(stamps, exist_ok=True)
        for left in (aside, aside + ".old"):
            shutil.rmtree(left, ignore_errors=True)
        os.mkdir(aside)
        target = unpack(arguments, aside)
    except (UnpackError, OSError, KeyError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        module.fail_json(msg=str(error))
    shutil.rmtree(aside, ignore_errors=True)
    module.exit_json(changed=True, path=target)


if __name__ == "__main__":
    sys.exit(main())
