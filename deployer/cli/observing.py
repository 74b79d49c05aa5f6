"""The first stage: every host is looked at in this process, and by `ansible-playbook` where that is the surer way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from deployer import reach
from deployer.apply import Event, Runner
from deployer.apply.inventory import Inventory
from deployer.cli.progress import Display
from deployer.observe import Observation, Settings

# `playbook` lets ansible-playbook look at every host, as plain Ansible would.
CHOICE = "DEPLOYER_OBSERVE"
TASK = "Read what the host is like"

OnLooked = Callable[[str, Observation, Settings], None]
OnEvent = Callable[[Event], None]


class Observer:
    """Looks at hosts, and says of each what was seen or what went wrong."""

    def __init__(self, runner: Runner, display: Display, inventory: Inventory, keeps_record: bool) -> None:
        self.runner, self.display, self.inventory, self.keeps_record = runner, display, inventory, keeps_record
        # What was wanted of hosts, with the secrets that no event of ansible-playbook has.
        self.wanted: dict[str, Settings] = {}

    def observe(
        self,
        hosts: Sequence[str],
        variables: tuple[str, ...],
        on_looked: OnLooked,
        on_event: OnEvent,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Look at the hosts; each ends with `on_looked`, or with an event that says why not."""
        left = list(hosts)
        if os.environ.get(CHOICE) != "playbook":
            left = self._look(left, variables, on_looked, on_event, meanwhile)
        if left:
            limit = self.runner.limit_to(left)
            self.runner.run(self.runner.line("observe.yml", variables, limit), on_event)

    def _look(
        self,
        hosts: list[str],
        variables: tuple[str, ...],
        on_looked: OnLooked,
        on_event: OnEvent,
        meanwhile: Callable[[], None] | None,
    ) -> list[str]:
        """The hosts that could not be told for certain."""
        words = self.runner.line("observe.yml", variables)
        unsure: dict[str, str] = {}
        with self.runner.in_process(words) as log, reach.quiet(log):
            try:
                controller = reach.Controller(
                    [*words, *self.runner.private_words()], hosts, self.inventory.manager, self.inventory.loader
                )
            except reach.NotHereError as reason:
                log.write(f"{reason}: left to ansible-playbook\n")
                return hosts

            def prepare(host: str) -> reach.Call | dict[str, Any]:
                prepared = controller.call(host)
                if isinstance(prepared, reach.Call):
                    self.wanted[host] = prepared.settings
                return prepared

            slots = self.runner.options.forks or reach.SLOTS
            with closing(reach.look(hosts, prepare, slots, meanwhile)) as found:
                for each in found:
                    if isinstance(each, reach.Looked):
                        self.display.done(each.host)
                        self._keep(each)
                        on_looked(each.host, each.observation, each.settings)
                    elif isinstance(each, reach.Silent):
                        self.display.waiting(each.hosts, each.seconds)
                    elif each.status == "unsure":
                        unsure[each.host] = each.message
                    else:
                        if each.traceback:
                            log.write(f"{each.host}: {each.traceback}\n")
                        on_event(self._event(each))
            for host, why in unsure.items():
                log.write(f"{host}: left to ansible-playbook: {why}\n")
        return list(unsure)

    def _event(self, failed: reach.Failed) -> Event:
        """As the callback plugin would have written it."""
        event = Event(
            event="end",
            time=round(time.time(), 3),
            host=failed.host,
            role="observe",
            task=TASK,
            status=failed.status,
            msg=failed.message,
            deployer_error=failed.details,
        )
        self.runner.note(event.model_dump_json())
        return event

    def _keep(self, looked: reach.Looked) -> None:
        if not self.keeps_record:
            return
        head = {"event": "end", "time": round(time.time(), 3), "host": looked.host, "role": "observe", "task": TASK}
        line = json.dumps({**head, "status": "ok"})[:-1]
        observation, settings = looked.observation.model_dump_json(), looked.settings.model_dump_json()
        self.runner.note(f'{line}, "deployer": {{"observation": {observation}, "settings": {settings}}}}}')
