#!/usr/bin/python
"""Ansible module: unpacks a vendor's archive, whole or not at all. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_unpack
short_description: Unpack a vendor's archive beside others, whole or not at all
description:
  - The archive is unpacked aside, looked at, and only then moved to its place. A stamp says where that is, once all of
    it is on the disk.
  - Taken are files, directories and links that stay inside; a device, a pipe or a link that leaves it is refused.
    Nothing is set-user-id, nor can others than its owner write it.
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
  spoils:
    description: Stamps that say something of what was there before; they are removed first.
    type: list
    elements: path
    default: []
  owner:
    description: Account that what was unpacked belongs to.
    type: str
    default: root
  most:
    description: Bytes that it may hold.
    type: int
    required: true
  reserve:
    description: Bytes that stay free on the file system.
    type: int
    default: 0
  links:
    description: Beginnings of absolute paths that its links may lead to, which nothing on the host follows.
    type: list
    elements: str
    default: []
  timeout_s:
    description: Seconds that it may take.
    type: int
    default: 3600
author: deployer
"""

import glob
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import sys
import tarfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.deployer_archive import ArchiveError, Place, unpack
from ansible.module_utils.deployer_stamps import (
    dumped,
    is_directory,
    make_directory,
    read,
    remove,
    sync,
    sync_directory,
    write,
)

CHUNK = 1024 * 1024


class UnpackError(Exception):
    """The archive cannot be used, or its place cannot."""


def opened(path):
    """The archive, which is a file itself: a pipe or a device would never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnpackError("%s is no regular file" % path)
    return os.fdopen(handle, "rb")


def sha256(file):
    """Checksum of an open file, which is read from its beginning again afterwards."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(CHUNK), b""):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def extract(file, archive, aside, arguments):
    """Unpack what is an archive by its name; what is none is moved."""
    name = os.path.basename(archive)
    place = Place(
        aside, arguments["most"], arguments["reserve"], bool(arguments["directory"]), tuple(arguments["links"])
    )
    if not unpack(file, name, place):
        # The copy on the host is removed afterwards in any case.
        shutil.move(archive, os.path.join(aside, name))


def top(place, pattern, archive):
    """The one directory that is in it."""
    names = sorted(os.listdir(place))
    fitting = [name for name in names if re.match(pattern, name)]
    if len(names) != 1 or len(fitting) != 1 or not is_directory(os.path.join(place, names[0])):
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
            with opened(path) as file, tarfile.open(fileobj=file) as archive:
                manifest = json.loads(archive.extractfile("manifest.json").read(CHUNK).decode("utf-8"))[0]
                tags = [str(tag) for tag in manifest.get("RepoTags") or []]
        except (
            tarfile.TarError, OSError, KeyError, ValueError, IndexError, AttributeError, EOFError, TypeError,
            RecursionError,
        ) as error:  # fmt: skip
            raise UnpackError("%s: truncated or no image archive: %s" % (os.path.basename(path), error)) from error
        digest = re.search(r"([0-9a-f]{64})", str(manifest.get("Config")))
        found.append(
            {
                "path": os.path.basename(path),
                "size": os.path.getsize(path),
                "id": "sha256:" + digest.group(1) if digest else "",
                "tags": tags,
            }
        )
    return found


def is_ours(target, stamps):
    """Whether a stamp of ours names the directory, now or before."""
    found = [read(path) for path in glob.glob(os.path.join(glob.escape(stamps), "*.json"))]
    return any(target == known.get("path") or target in (known.get("earlier") or []) for known in found)


def earlier(stamp, target):
    """Where archives of this name were unpacked before, under other names of their own: they are still ours."""
    known = read(stamp)
    paths = [known.get("path"), *(known.get("earlier") or [])]
    return [path for path in dict.fromkeys(paths) if isinstance(path, str) and path != target and is_directory(path)]


def own(place, account):
    """Give a directory and all that is below it to an account, and nothing that a link leads to."""
    facts = pwd.getpwnam(account)
    if not is_directory(place):
        raise UnpackError("%s is no directory" % place)
    for directory, below, files in os.walk(place, followlinks=False):
        os.lchown(directory, facts.pw_uid, facts.pw_gid)
        for name in (*below, *files):
            os.lchown(os.path.join(directory, name), facts.pw_uid, facts.pw_gid)


def bring(arguments, aside):
    """Unpack aside, look at it, move it to its place. Returns where that is."""
    archive, home, stamp = arguments["archive"], arguments["home"], arguments["stamp"]
    with opened(archive) as file:
        found = sha256(file) if arguments["sha256"] else ""
        if found != arguments["sha256"]:
            raise UnpackError("%s: sha256 is %s, expected %s" % (os.path.basename(archive), found, arguments["sha256"]))
        extract(file, archive, aside, arguments)
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
        "earlier": earlier(stamp, os.path.join(home, name)),
    }
    if arguments["owner"] != "root" or os.getuid() != 0:
        own(source, arguments["owner"])
    if source == aside:
        os.chmod(source, 0o755)
    target, old = content["path"], aside + ".old"
    sync([aside])
    if os.path.lexists(target):
        if not is_ours(target, os.path.dirname(stamp)):
            raise UnpackError("%s is there and was not unpacked by deployer: move it away first" % target)
        os.rename(target, old)
        # Or what was there before may bear the new stamp.
        sync_directory(home)
    remove(arguments["spoils"])
    # The stamp first: where the directory it names is missing, the archive is unpacked again.
    write(stamp, dumped(content))
    os.rename(source, target)
    sync_directory(home)
    shutil.rmtree(old, ignore_errors=True)
    return target


def prepare(work, aside):
    """An empty directory to unpack into, which nobody else sees, on the file system that the archive's place is on."""
    make_directory(work, 0o755)
    if not is_directory(work):
        raise UnpackError("%s is no directory" % work)
    for left in (aside, aside + ".old"):
        shutil.rmtree(left, ignore_errors=True)
    os.mkdir(aside, 0o700)


def too_long(seconds):
    """What ends the module when its time is over; a task's own limit ends only what waits for it."""

    def end(*_):
        raise UnpackError("it takes longer than %d s, which is its limit: archives_timeout_s" % seconds)

    return end


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
            "spoils": {"type": "list", "elements": "path", "default": []},
            "owner": {"type": "str", "default": "root"},
            "most": {"type": "int", "required": True},
            "reserve": {"type": "int", "default": 0},
            "links": {"type": "list", "elements": "str", "default": []},
            "timeout_s": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    work = os.path.join(arguments["home"], ".deployer")
    aside = os.path.join(work, "unpacking-" + arguments["name"])
    signal.signal(signal.SIGALRM, too_long(arguments["timeout_s"]))
    signal.alarm(arguments["timeout_s"])
    try:
        make_directory(os.path.dirname(arguments["stamp"]))
        prepare(work, aside)
        target = bring(arguments, aside)
    except (ArchiveError, UnpackError, OSError, KeyError) as error:
        signal.alarm(0)
        shutil.rmtree(aside, ignore_errors=True)
        module.fail_json(msg=str(error))
    signal.alarm(0)
    shutil.rmtree(aside, ignore_errors=True)
    module.exit_json(changed=True, path=target)


if __name__ == "__main__":
    sys.exit(main())
