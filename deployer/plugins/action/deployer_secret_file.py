"""Action plugin: writes a file whose plan has marks in the place of secrets, with the secrets, on the host alone.

The values are those of the host's own variables, decrypted here and now. They go to the host on the standard input of
one command, over the connection that Ansible has for it: they are in no argument, in no file of this machine (Ansible's
`copy` makes one) and in no result.
"""

from __future__ import annotations

import shlex
from typing import Any

from deployer.errors import DeployerError, SettingsError
from deployer.observe import settings
from deployer.plugins import adapter, vaulted
from deployer.plugins.action.deployer_observe import ActionModule as Observe
from deployer.secret import MARK

# `[` is the shell's own: its words are in no list of processes. A file that was cut short on its way is not taken.
SCRIPT = r"""
umask 077
p={path}
same() {{ [ -f "$p" ] && [ ! -L "$p" ] && [ "$(stat -c %a "$p")" = 600 ] && [ "$(cat "$p"; echo .)" = "$t" ]; }}
if [ {check} = 1 ]; then
  t=$(cat; echo .)
  if same; then echo deployer-same; else echo deployer-changed; fi
  exit 0
fi
trap 'rm -f "$p.new"' EXIT
trap 'exit 1' HUP INT TERM
rm -f "$p.new" || exit 1
set -C
cat > "$p.new" || exit 1
[ "$(wc -c < "$p.new")" -eq {size} ] || {{ echo 'the file was cut short on its way' >&2; exit 1; }}
t=$(cat "$p.new"; echo .)
if same; then echo deployer-same; exit 0; fi
sync "$p.new" 2> /dev/null || :
[ ! -d "$p" ] || {{ echo "$p is a directory" >&2; exit 1; }}
mv -f "$p.new" "$p" && echo deployer-changed
"""


class ActionModule(Observe):
    """`path`, its `content` with marks, and the `deployment` that they belong to. The file is its owner's alone (0600).

    It never fails, since a task that is not logged hides why: `problem` says what went wrong, and is empty otherwise.
    """

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write it."""
        del tmp
        arguments, variables = self._task.args, task_vars or {}
        path = str(arguments["path"])
        result: dict[str, Any] = {"changed": False, "path": path, "problem": ""}
        try:
            content = filled(str(arguments["content"]), self._values(variables, str(arguments["deployment"])))
            result["changed"] = self._write(path, content.encode())
        except DeployerError as error:
            result["problem"] = f"{error.message}: {error.remedy}" if error.remedy else error.message
        return result

    def _values(self, variables: dict[str, Any], deployment: str) -> dict[str, str]:
        """Mark → value of all secrets of the host."""
        host = str(variables["inventory_hostname"])
        wanted = settings.parse(host, vaulted.hidden(self._settings(variables), variables)).salted(deployment)
        return {each.mark: each.reveal() for each in wanted.every_secret if each.known}

    def _write(self, path: str, content: bytes) -> bool:
        become = self._connection.become
        if not self._connection.has_pipelining or (become is not None and not become.pipelining):
            way = self._connection.transport if not self._connection.has_pipelining else become.name
            raise DeployerError(
                f"{way} cannot hand a secret to the host without writing it into a file here",
                "connect by ssh, and become another user by sudo",
            )
        script = SCRIPT.format(path=shlex.quote(path), check=int(self._task.check_mode), size=len(content))
        answer = self._low_level_execute_command(
            script, sudoable=adapter.becomes(self), in_data=content, executable="/bin/sh"
        )
        words = str(answer.get("stdout", "")).split()
        if "deployer-changed" not in words and "deployer-same" not in words:
            said = (str(answer.get("stderr", "")).strip() or f"status {answer.get('rc')}").splitlines()[-1]
            raise DeployerError(f"{path} could not be written: {said}")
        return "deployer-changed" in words


def filled(content: str, values: dict[str, str]) -> str:
    """The content with values for its marks, each as one word of a shell."""
    missing = [mark for mark in MARK.findall(content) if mark not in values]
    if missing:
        raise SettingsError(
            "a secret of deployer_secrets or deployer_environment is not as it was when the plan was made",
            "run the command again; it must be set where every role sees it: the inventory, or --extra-vars",
        )
    return MARK.sub(lambda match: shlex.quote(values[match[0]]), content)
