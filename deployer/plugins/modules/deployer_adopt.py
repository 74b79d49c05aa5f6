#!/usr/bin/python
"""Ansible module: takes an earlier version's stamps over, once. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_adopt
short_description: Keep the stamps of archives where no container can write
description:
  - Makes the directory of stamps, which nobody else can read or write.
  - Stamps of an earlier version stand in a directory that containers could write to. They are taken over once, and only
    those that name what deployer itself would have unpacked; the old directory is never read again.
options:
  old:
    description: Where an earlier version kept the stamps.
    type: path
    required: true
  stamps:
    description: The directory of stamps. Where it is there, nothing is done.
    type: path
    required: true
  home:
    description: The directory that archives are unpacked in.
    type: path
    required: true
author: deployer
"""

import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.deployer_stamps import adopt


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={name: {"type": "path", "required": True} for name in ("old", "stamps", "home")},
        supports_check_mode=True,
    )
    old, stamps, home = (module.params[name] for name in ("old", "stamps", "home"))
    if module.check_mode:
        module.exit_json(changed=not os.path.lexists(stamps))
    try:
        taken = adopt(old, stamps, home)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or stamps, error.strerror))
    module.exit_json(changed=taken is not None, taken=taken or [])


if __name__ == "__main__":
    sys.exit(main())
