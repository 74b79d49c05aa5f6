"""Ansible in this process, as the words of an `ansible-playbook` line set it up.

Options, ansible.cfg, inventory, variables, vault, connection and become plugins are Ansible's own. `TaskExecutor` takes
each host as far as its connection and the task's final arguments, as a worker of `ansible-playbook` would.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deployer import paths
from deployer.errors import UsageError
from deployer.reach.call import Call, collected

ACTION = "deployer_observe"
# Options that make another run of it: what asks a person, or does not simply run the tasks.
ITS_OWN = (
    "ask_pass", "become_ask_pass", "ask_vault_pass", "listhosts", "listtasks", "listtags", "syntax", "step",
    "start_at_task", "verbosity",
)  # fmt: skip


# What was to be asked for and has come in a file, whatever ansible.cfg says of asking.
PASSWORD_FILES = {"ask_pass": "connection_password_file", "become_ask_pass": "become_password_file"}


class NotHereError(Exception):
    """This run is better done by `ansible-playbook` itself; its text says why."""


class Controller:
    """One playbook's only task of ours, ready to be put to any host of the inventory."""

    def __init__(self, words: Sequence[str], hosts: list[str], inventory: Any, loader: Any) -> None:
        """`words` are the whole line, `hosts` whom it is for; `inventory` and `loader` have read them already."""
        from ansible.errors import AnsibleError

        self._hosts, self._loader, self._inventory = hosts, loader, inventory
        options = parsed(words)
        for name in ITS_OWN:
            if options.get(name) and not options.get(PASSWORD_FILES.get(name, "")):
                raise NotHereError(f"the option {name} was given")
        if len(options["inventory"]) > 1:
            raise NotHereError("a second inventory was given")
        try:
            self._set_up(options)
        except AnsibleError as error:
            raise NotHereError(str(error)) from error

    def _set_up(self, options: Any) -> None:
        from ansible import constants, context
        from ansible.cli import CLI
        from ansible.playbook import Playbook
        from ansible.playbook.play_context import PlayContext
        from ansible.plugins.loader import init_plugin_loader
        from ansible.utils.collection_loader import AnsibleCollectionConfig
        from ansible.vars.manager import VariableManager

        loader, inventory = self._loader, self._inventory
        context.CLIARGS = options
        # As in a run: facts that a cache has of a host must not win over the inventory.
        constants.INJECT_FACTS_AS_VARS = False
        if AnsibleCollectionConfig.collection_finder is None:
            init_plugin_loader()
        # Where files of the line are looked for, as long as no playbook has been loaded.
        loader.set_basedir(".")
        _open_vault(loader, options)
        _forget_words()
        self._variables = VariableManager(
            loader=loader, inventory=inventory, version_info=CLI.version_info(gitinfo=False)
        )
        playbook = Playbook.load(str(paths.PLAYBOOKS / "observe.yml"), variable_manager=self._variables, loader=loader)
        (self._play,) = playbook.get_plays()
        self._task = next(task for task in _tasks(self._play.compile()) if task.action.rpartition(".")[2] == ACTION)
        files = {"conn_pass": options["connection_password_file"], "become_pass": options["become_password_file"]}
        passwords = {name: CLI.get_password_from_file(path) for name, path in files.items() if path}
        self._context = PlayContext(self._play, passwords)

    def call(self, host: str) -> Call | dict[str, Any]:
        """What to ask a host, or the failed result of the task that was to find that out."""
        from ansible.executor.task_executor import TaskExecutor
        from ansible.plugins import loader as plugins

        known = self._inventory.get_host(host)
        variables = self._variables.get_vars(
            play=self._play, host=known, task=self._task, _hosts=self._hosts, _hosts_all=self._hosts
        )
        executor = TaskExecutor(
            known, self._task.copy(), variables, self._context.copy(), self._loader, plugins, None, self._variables
        )
        with collected() as calls:
            result: dict[str, Any] = executor.run()
        return calls[0] if calls else result


def parsed(words: Sequence[str], plain: bool = False) -> Any:
    """The options as `ansible-playbook` would read them; `plain`: without what ansible.cfg says of passwords."""
    from ansible.cli.playbook import PlaybookCLI
    from ansible.utils.context_objects import CLIArgs

    cli = PlaybookCLI(list(words))
    cli.init_parser()
    if plain:
        cli.parser.set_defaults(
            ask_pass=False, become_ask_pass=False, ask_vault_pass=False,
            connection_password_file=None, become_password_file=None,
        )  # fmt: skip
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
            options = cli.post_process_args(cli.parser.parse_args(list(words[1:])))
    except SystemExit:
        last = (complaint.getvalue().strip() or "wrong options").splitlines()[-1]
        message = last.partition(": error: ")[2] or last
        raise UsageError(f"ansible-playbook: {message}", "correct what stands after `--`") from None
    return CLIArgs.from_options(options)


def _open_vault(loader: Any, options: Any) -> None:
    """Give the loader the vault's secrets, and Ansible's one context of them, which outlives a controller."""
    from ansible import constants
    from ansible.cli import CLI
    from ansible.parsing.vault import VaultSecretsContext

    secrets = CLI.setup_vault_secrets(
        loader,
        # One that prompts has been asked for, and stands among the words.
        vault_ids=[
            each
            for each in (*constants.DEFAULT_VAULT_IDENTITY_LIST, *options["vault_ids"])
            if each.rpartition("@")[2] != "prompt"
        ],
        vault_password_files=list(options["vault_password_files"]),
        auto_prompt=False,
        initialize_context=False,
    )
    loader.set_vault_secrets(secrets)
    known = VaultSecretsContext.current(optional=True)
    if known is None:
        VaultSecretsContext.initialize(VaultSecretsContext(secrets))
    else:
        known.secrets = secrets


def _forget_words() -> None:
    """Ansible reads the line's variables once in a process; a second look may come with others."""
    from ansible.utils import vars as ansible_vars

    for function in (ansible_vars.load_extra_vars, ansible_vars.load_options_vars):
        vars(function).clear()


def _tasks(blocks: Sequence[Any]) -> Iterator[Any]:
    for each in blocks:
        if hasattr(each, "block"):
            yield from _tasks(each.block)
        else:
            yield each


@contextmanager
def quiet(log: io.TextIOBase) -> Iterator[None]:
    """What Ansible would print goes to the log of the run."""
    from ansible.utils.display import Display

    display = Display()

    def write(message: Any, *_: Any, **__: Any) -> None:
        log.write(f"{message}\n")

    silenced = ("display", "warning", "error_as_warning", "deprecated", "error")
    for name in silenced:
        setattr(display, name, write)
    try:
        yield
    finally:
        for name in silenced:
            delattr(display, name)
