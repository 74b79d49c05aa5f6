#!/usr/bin/python
"""Ansible module: checks a staged directory, stamps it and moves it to its place. Standard library only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_seal
short_description: Stamp a staged directory and put it in its place in one move
description:
  - Computes the checksum of every file, compares those that are known, and writes a stamp with sizes and times once all
    of them are on the disk.
  - Only then the directory gets its final name, so that what has that name is complete.
options:
  part:
    description: The staged directory.
    type: str
    required: true
  dest:
    description: Its final name. An earlier directory of that name is replaced.
    type: str
    required: true
  sha256:
    description: Known checksums, by file name.
    type: dict
    default: {}
  source:
    description: Where it came from, for the stamp.
    type: str
    default: ""
author: deployer
"""

import hashlib
import json
import os
import shutil
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.deployer_stamps import sync_directory, write

STAMP = ".deployer.json"


def checksum(path):
    """SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def facts(directory):
    """Size, time and checksum of every file at the top of the directory."""
    found = {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and name != STAMP:
            status = os.stat(path)
            found[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": checksum(path)}
    return found


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "part": {"type": "str", "required": True},
            "dest": {"type": "str", "required": True},
            "sha256": {"type": "dict", "default": {}},
            "source": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    part, dest = module.params["part"], module.params["dest"]
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        files = facts(part)
        for name, expected in sorted(module.params["sha256"].items()):
            found = files.get(name, {}).get("sha256")
            if found != expected:
                module.fail_json(msg="%s: sha256 is %s, expected %s" % (name, found or "missing", expected))
        content = {"source": module.params["source"], "files": files}
        write(os.path.join(part, STAMP), json.dumps(content, indent=1, sort_keys=True), [part])
        if os.path.isdir(dest):
            shutil.rmtree(dest)
        os.replace(part, dest)
        sync_directory(os.path.dirname(dest))
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or part, error.strerror))
    module.exit_json(changed=True, files=files)


if __name__ == "__main__":
    sys.exit(main())
