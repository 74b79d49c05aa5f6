#!/usr/bin/python
"""Ansible module: compares a directory's files with published checksums. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_checksums
short_description: Compare the files of a directory with a list of checksums
description:
  - Reads every file that the list names, and fails with the first that is missing or differs.
  - Changes nothing in the directory.
  - A file with an empty checksum is seen for the first time; its checksum is noted, and compared ever after.
  - Notes size and time of each in a stamp elsewhere, so that tens of gigabytes are read once.
options:
  directory:
    description: The directory.
    type: str
    required: true
  algorithm:
    description: What the checksums are.
    type: str
    choices: [sha256, md5]
    required: true
  checksums:
    description: File name to checksum.
    type: dict
    required: true
  stamp:
    description: Where to note that they were compared.
    type: str
    required: true
  recorded:
    description: The checksums are those of an earlier stamp, and no published ones.
    type: bool
    default: false
  origin:
    description: What identifies the archive that the files came from, for the stamp.
    type: str
    default: ""
author: deployer
"""

import hashlib
import json
import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.deployer_stamps import make_directory, write


def checksum(path, algorithm):
    """Checksum of a file of any size."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def compare(directory, algorithm, checksums, recorded_in):
    """Facts of every file, and what is wrong with the first that is; `recorded_in` is where checksums came from."""
    facts = {}
    for name, expected in sorted(checksums.items()):
        path = os.path.join(directory, name)
        try:
            before = os.stat(path)
            found = checksum(path, algorithm)
        except OSError as error:
            return facts, "%s: %s" % (path, error.strerror)
        if expected and found != expected and recorded_in:
            words = (
                "%s is not as it was first seen: its %s is %s, recorded was %s; put it back, or remove %s on the host"
            )
            return facts, words % (path, algorithm, found, expected, recorded_in) + " to take it as it is"
        if expected and found != expected:
            return facts, "%s is damaged: its %s is %s, expected %s" % (path, algorithm, found, expected)
        facts[name] = {"size": before.st_size, "mtime_ns": before.st_mtime_ns, algorithm: found}
    return facts, None


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "str", "required": True},
            "algorithm": {"type": "str", "choices": ["sha256", "md5"], "required": True},
            "checksums": {"type": "dict", "required": True},
            "stamp": {"type": "str", "required": True},
            "recorded": {"type": "bool", "default": False},
            "origin": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    recorded_in = arguments["stamp"] if arguments["recorded"] else ""
    facts, problem = compare(arguments["directory"], arguments["algorithm"], arguments["checksums"], recorded_in)
    if problem:
        module.fail_json(msg=problem)
    content = {name: arguments[name] for name in ("directory", "origin", "algorithm", "checksums")}
    content["files"] = facts
    try:
        make_directory(os.path.dirname(arguments["stamp"]), 0o755)
        # What was compared may have been brought a moment ago.
        write(arguments["stamp"], json.dumps(content, sort_keys=True), [arguments["directory"]])
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or arguments["stamp"], error.strerror))
    module.exit_json(changed=True, compared=len(facts))


if __name__ == "__main__":
    sys.exit(main())
