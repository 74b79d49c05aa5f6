#!/usr/bin/python
"""Ansible module: writes a stamp after what it vouches for. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_stamp
short_description: Note that something is complete, once it is on the disk
description:
  - Waits until everything that was written below I(trees) is on the disk, and only then writes the stamp.
  - A power cut thus leaves no stamp without what it vouches for.
options:
  path:
    description: The stamp.
    type: path
    required: true
  state:
    description: Whether it is to be there. One that goes does not come back after a power cut.
    type: str
    choices: [present, absent]
    default: present
  content:
    description: Its text. It is in no log.
    type: str
    default: ""
  trees:
    description:
      - Paths on the file systems of what it vouches for; that of the stamp itself is always among them.
      - Where one is not there, the nearest directory above it counts.
    type: list
    elements: path
    default: []
  mode:
    description: The stamp's mode.
    type: str
    default: "0644"
  directory_mode:
    description: The mode of its directory, where that has to be made.
    type: str
    default: "0755"
author: deployer
"""

import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.deployer_stamps import make_directory, remove, sync, write


def there(path):
    """Text and mode of what is there."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read(), os.fstat(handle.fileno()).st_mode & 0o7777
    except (OSError, ValueError):
        return None, None


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "content": {"type": "str", "default": "", "no_log": True},
            "trees": {"type": "list", "elements": "path", "default": []},
            "mode": {"type": "str", "default": "0644"},
            "directory_mode": {"type": "str", "default": "0755"},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    path, mode = arguments["path"], int(arguments["mode"], 8)
    directory, absent = os.path.dirname(path), arguments["state"] == "absent"
    changed = os.path.lexists(path) if absent else os.path.islink(path) or there(path) != (arguments["content"], mode)
    try:
        if absent and not module.check_mode:
            remove([path])
        elif changed and not module.check_mode:
            make_directory(directory, int(arguments["directory_mode"], 8))
            write(path, arguments["content"], arguments["trees"], mode)
        elif not module.check_mode:
            # It says so already, perhaps of what was there before.
            sync([*arguments["trees"], directory])
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or path, error.strerror))
    module.exit_json(changed=changed, path=path)


if __name__ == "__main__":
    sys.exit(main())
