"""One command's work on hosts: observe → plan → apply → verify, with a record, a display and one state per host."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from deployer import catalog as catalogs
from deployer import plan as planning
from deployer import reach, verify
from deployer.apply import AnsibleOptions, Event, Runner, Watch, configuration, inventory, keepalive
from deployer.clean import clean
from deployer.cli import after_dashes, given, misspelt, redacted
from deployer.cli.observing import Observer
from deployer.cli.options import HostOptions
from deployer.cli.parallel import in_parallel
from deployer.cli.progress import Display
from deployer.cli.secrets import Secrets
from deployer.cli.state import HostState, Problem, Ran
from deployer.errors import (
    DeployerError,
    ExitStatus,
    InventoryError,
    RunInterruptedError,
    SettingsError,
    UsageError,
    worst,
)
from deployer.observe import Observation, Settings, address, holder
from deployer.plan import HostPlan, Plan, Refusal
from deployer.runs import Record, open_record

LOG_CHARS = 6000
# Lines of `@@@@` or `****`, also behind Ansible's own first words: ssh's warnings and hosts' banners are framed so.
DECORATION = re.compile(r"(?:^|(?<=via ssh: ))[^\w\s]{4,}[ \t]*\n", re.MULTILINE)
SAID_AGAIN_S = 60.0
# The task of the role lock that `at_locks` is about.
AT_LOCKS = "See to the host's lock"
# What Ansible says of a host's own variables, before it has asked the host anything.
MISTAKES = re.compile(r"the connection plugin '.*' was not found|Error processing keyword '\w+': The value ")


class Session:
    """The stages, one method each. Use `open_session`."""

    def __init__(
        self, options: HostOptions, catalog: catalogs.Catalog, runner: Runner, display: Display, observer: Observer
    ) -> None:
        self.options, self.catalog, self.runner, self.display = options, catalog, runner, display
        self.record, self.observer = runner.record, observer
        self.selected = observer.inventory.hosts
        self.hosts: dict[str, HostState] = {}
        self.notes: list[str] | None = None
        self._told: dict[str, float] = {}

    # observe

    def observe(
        self,
        hosts: list[str] | None = None,
        extra: dict[str, Any] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Read these hosts, else all that were selected; what cannot be read has its problem in its state.

        `meanwhile` is done while all of them are being waited for.
        """
        hosts = self.selected if hosts is None else hosts
        self.hosts = {host: HostState(host) for host in hosts}
        with self.display.stage("observe", hosts):
            self.observer.observe(hosts, self.variables(extra), self._looked, self._guarded(self._observed), meanwhile)
        self._require_options()
        self._note_misspelt()
        for state in self.hosts.values():
            if state.observation is None and state.problem is None and state.plan is None:
                state.status = "failed"
                state.problem = Problem("observe", "", "Ansible ended without an observation", self._log_end())
        self._require_settings()

    def _looked(self, host: str, observation: Observation, settings: Settings) -> None:
        self.hosts[host].observation, self.hosts[host].settings = observation, settings

    def _observed(self, event: Event) -> None:
        self.display.event(event)
        state = self.hosts.get(event.host)
        if state is None:
            return
        if event.failed:
            self._failed(state, event)
        elif event.deployer and "observation" in event.deployer:
            settings = Settings.model_validate(event.deployer["settings"])
            known = self.observer.wanted.get(event.host)
            self._looked(
                event.host,
                Observation.model_validate(event.deployer["observation"]),
                known if known == settings else settings,
            )

    def _note_misspelt(self) -> None:
        """Once in a run, and now, since what is in a vault can be read only when the hosts have been looked at."""
        if self.notes is None:
            known = self.observer.inventory
            variables = misspelt.variables(known.manager, known.loader, self.options.extra_vars)
            misspelt.refuse(variables)
            self.notes = misspelt.notes(variables)
            for note in self.notes:
                self.display.say(f"note: {note}")

    def public_notes(self) -> dict[str, list[str]]:
        """What is to be said of the whole run, for JSON."""
        return {"notes": self.notes} if self.notes else {}

    def _require_options(self) -> None:
        """Words after `--` that Ansible does not know are the user's to correct."""
        complaint = re.search(r"^ansible-playbook: error: (.+)", self._log()[:LOG_CHARS], re.MULTILINE)
        if complaint and not any(state.observation for state in self.hosts.values()):
            raise UsageError(f"ansible-playbook: {complaint[1]}", "correct what stands after `--`")

    def _require_settings(self) -> None:
        """An inventory variable that cannot be is an error of the whole run: nobody knows what was meant."""
        for state in self.hosts.values():
            if state.problem and state.problem.step == "settings":
                raise SettingsError(state.problem.message, state.problem.remedy)

    def require_unlocked(self) -> None:
        """Refuse to work on a host on which another run works."""
        for state in self.hosts.values():
            lock = state.observation.lock if state.observation else None
            if state.observation and lock and lock.alive is not False:
                raise holder.locked(state.host, lock, lock.alive)

    # plan

    def plan(self, make: Callable[[HostState], HostPlan]) -> None:
        """Plan every host that was read."""
        for state in self.hosts.values():
            if state.observation is None:
                continue
            try:
                state.plan = make(state)
            except DeployerError:
                raise
            except Exception as error:  # what one host has answered is never the end of the others
                what = "no plan can be made of what the host has answered"
                self._not_understood(state, "plan", "", what, error)
                continue
            state.status = "refused" if state.plan.refused else "planned"
        self._refuse_twins()

    def plan_up(self, state: HostState) -> HostPlan:
        """What `up` would do on a host."""
        assert state.settings is not None
        assert state.observation is not None
        return planning.plan_host(self.catalog, state.settings, state.observation, planning.load_templates())

    def _refuse_twins(self) -> None:
        """Two names for one machine would fight for its ports and directories."""
        seen: dict[tuple[str, str, str], HostState] = {}
        for state in self.hosts.values():
            if state.observation is None or state.plan is None or not state.plan.steps:
                continue
            machine = (state.observation.boot_id, state.observation.name, state.observation.places.data)
            first = seen.setdefault(machine, state)
            if first is not state:
                refusal = Refusal(
                    check="inventory",
                    found=f"{state.host} is the same machine as {first.host}",
                    wanted="one name for each machine",
                    remedy="remove one of the two from the inventory",
                )
                state.refuse(refusal)

    def document(self) -> Plan:
        """The plan of all hosts that were reached."""
        plans = {host: state.plan for host, state in self.hosts.items() if state.plan}
        model = self.catalog.model(self.options.model).name if self.options.model else ""
        return Plan(deployment=self.options.deployment or model, model=model, hosts=plans)

    # apply

    def pending(self) -> list[HostState]:
        """Hosts that have steps to take."""
        return [state for state in self.hosts.values() if state.status == "planned" and state.plan and state.plan.steps]

    def refuse_reboots(self) -> None:
        """Leave alone what would have to be rebooted without anybody's consent."""
        for state in self.pending():
            assert state.plan is not None
            step = next((each for each in state.plan.steps if each.reboots), None)
            if step is None or (state.settings and state.settings.reboot):
                continue
            refusal = Refusal(
                check="reboot",
                found=f"a plan that reboots the host ({step.reason})",
                wanted="consent to that",
                remedy="add --reboot, or set deployer_reboot=true for the host",
            )
            state.refuse(refusal)

    def apply_line(self, playbook: str, extra: dict[str, Any]) -> list[str]:
        """The line that takes the confirmed steps."""
        pending = self.pending()
        confirmed = {state.host: [step.id for step in state.plan.steps] for state in pending if state.plan}
        # Where each lock is, so that it comes before the observation that the steps are taken on.
        places = {state.host: state.observation.places.data for state in pending if state.observation}
        path = self.record.write("confirmed", {"deployer_confirmed": confirmed, "deployer_places": places})
        limit = self.runner.limit_to([state.host for state in pending])
        return self.runner.line(playbook, (*self.variables(extra), f"@{path}"), limit)

    def apply(self, words: list[str]) -> None:
        """Take the steps; each host ends with its own status."""
        pending = self.pending()
        plans = {state.host: state.plan for state in pending if state.plan}
        watch = Watch(self.display.waiting)
        # From here on hosts are changed: a full disk here must not hide what becomes of them.
        self.record.best_effort = True
        try:
            with self.display.stage("apply", list(plans), plans):
                status = self.runner.run(words, self._guarded(self._applied), watch)
        except RunInterruptedError as error:
            done = [f"{state.host}: {self._done(state)}" for state in pending]
            raise RunInterruptedError(f"interrupted; done so far: {'; '.join(done)}", error.remedy) from error
        for state in pending:
            if state.host in watch.stuck() and not state.problem:
                state.status = "unreachable"
                remedy = "look at the host; what it was doing may go on there, and the same command waits for that"
                step = next(reversed(state.ran), "ansible")
                state.problem = Problem(step, "", "no word for longer than the step may take", remedy=remedy)
            # Silence is no success: each host must have been looked at again and found to need nothing.
            if not (state.converged or state.problem or self.options.check):
                state.status = "failed"
                message = f"ansible-playbook ended with status {status} before this host was done"
                state.problem = Problem("ansible", "", message, self._log_end())

    # locks

    def settle(self, extra: dict[str, str]) -> None:
        """Wait for what dead runs have left at work on their hosts, or end it, and then look at those again."""
        left = [s for s in self.hosts.values() if s.observation and s.observation.lock and not s.observation.lock.alive]
        if not left or self.options.check:
            return
        done = self.at_locks("earlier.yml", left, extra)
        again = [state.host for state in done]
        self.hosts |= {host: HostState(host) for host in again}
        self.observer.observe(again, self.variables(extra), self._looked, self._guarded(self._observed))

    def at_locks(self, playbook: str, states: list[HostState], extra: dict[str, str]) -> list[HostState]:
        """Run a playbook about the locks of these hosts; returns those where it did what it was for."""
        places = {state.host: state.observation.places.data for state in states if state.observation}
        path = self.record.write("places", {"deployer_places": places})
        done: set[str] = set()
        told: dict[str, float] = {}

        def heard(event: Event) -> None:
            state = self.hosts.get(event.host)
            if state is None or event.role != "lock":
                return
            self._say_lock(event, told)
            if event.failed:
                self._failed(state, event, "lock")
            elif event.event == "end" and event.task == AT_LOCKS:
                done.add(event.host)

        words = self.runner.line(
            playbook, (*self.variables(extra), f"@{path}"), self.runner.limit_to([state.host for state in states])
        )
        status = self.runner.run(words, self._guarded(heard), Watch(self.display.waiting))
        for state in states:
            if state.host not in done and not state.problem:
                state.status = "failed"
                message = f"ansible-playbook ended with status {status} before this host was done"
                state.problem = Problem("lock", "", message, self._log_end())
        return [state for state in states if state.host in done]

    def _say_lock(self, event: Event, told: dict[str, float]) -> None:
        """That earlier work is waited for, now and again; and what became of a lock."""
        note = event.note
        if event.event == "retry":
            if time.monotonic() - told.get(event.host, -SAID_AGAIN_S) < SAID_AGAIN_S:
                return
            told[event.host] = time.monotonic()
            note = event.message
        if note:
            self.display.say(f"  {event.host}  {note}")

    def _done(self, state: HostState) -> str:
        """The steps that were finished: the last one that began was not."""
        return ", ".join(list(state.ran)[:-1]) or "nothing"

    def _log_end(self) -> str:
        return self._log()[-LOG_CHARS:]

    def _log(self) -> str:
        try:
            return self.record.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _applied(self, event: Event) -> None:
        self.display.event(event)
        state = self.hosts.get(event.host)
        if event.event == "retry" and event.role == "lock":
            self._say_lock(event, self._told)
        if state is None or event.event != "end":
            return
        step = event.step([each.id for each in state.plan.steps] if state.plan else [])
        if step:
            ran = state.ran.setdefault(step, Ran(step))
            ran.seconds += event.seconds
            ran.changed = ran.changed or event.status == "changed"
            ran.ok = ran.ok and not event.failed
        said = event.deployer or {}
        state.converged = state.converged or bool(said.get("converged"))
        if state.plan and (every := address.own(said.get("endpoints"), state.plan.endpoint)):
            # What a driver has started may be other chips than were expected, and so other replicas.
            state.plan = state.plan.model_copy(update={"endpoints": every, "endpoint": every[0]})
        if said.get("random_weights") and state.plan and state.plan.spec:
            # What has been unpacked since says that it is noise.
            spec = state.plan.spec.model_copy(update={"random_weights": True})
            state.plan = state.plan.model_copy(update={"spec": spec})
        if event.note:
            state.notes.append(event.note)
            self.display.say(f"  {event.host}  {state.notes[-1]}")
        if event.failed:
            self._failed(state, event, step)

    # verify

    def verify(self) -> None:
        """Ask every endpoint that should serve, those that needed nothing too."""
        serving = [s for s in self.hosts.values() if s.status == "planned" and s.plan and s.plan.spec]
        local = [state for state in serving if not _has_api(state)]
        asked = [
            (state, endpoint)
            for state in serving
            if _has_api(state)
            for endpoint in (state.plan.endpoints if state.plan else ())
        ]
        with self.display.stage("verify", [state.host for state in serving]):
            for (state, _), verdict in zip(asked, in_parallel(_verify, asked), strict=True):
                state.verdicts.append(verdict)
            if local:
                self._verify_there(local)
        for state in serving:
            if state.status != "planned":
                continue
            # One replica that does not answer is the host's verdict, however many others do.
            state.verdict = next((each for each in state.verdicts if not each.ok), state.verdicts[0])
            state.status = "verified" if state.verdict.ok else "unhealthy"
            if not state.verdict.ok:
                where = f"{state.verdict.endpoint}: " if len(state.verdicts) > 1 else ""
                state.problem = Problem("verify", "ask for a completion", where + state.verdict.problem)
                known = catalogs.match_failure(
                    self.catalog.failures, f"step verify: {state.problem.message}", state.status
                )
                if known:
                    state.problem.cause, state.problem.remedy = known.cause, known.remedy

    def _verify_there(self, states: list[HostState]) -> None:
        """What speaks no API is asked on its host."""
        limit = self.runner.limit_to([state.host for state in states])
        status = self.runner.run(self.runner.line("verify.yml", self.variables(), limit), self._guarded(self._verified))
        for state in states:
            # A bad verdict is the last of its host; else there is one of each replica.
            wanted = len(state.plan.endpoints) if state.plan else 0
            said = len(state.verdicts) if all(each.ok for each in state.verdicts) else wanted
            if state.problem is None and said < wanted:
                state.status = "failed"
                message = f"ansible-playbook ended with status {status} before this host was asked"
                state.problem = Problem("verify", "", message, self._log_end())

    def _verified(self, event: Event) -> None:
        self.display.event(event)
        state = self.hosts.get(event.host)
        said = (event.deployer or {}).get("verdict")
        if state is None:
            return
        if said:
            state.verdicts.append(verify.Verdict.model_validate(said))
        elif event.failed:
            self._failed(state, event, "verify")

    # end

    def exit_status(self) -> ExitStatus:
        """The worst host decides."""
        return worst([state.exit_status for state in self.hosts.values()])

    def conclude(self) -> tuple[ExitStatus, dict[str, Any]]:
        """Write the verdict into the record; it is what `--json` prints."""
        plan, status = self.document(), self.exit_status()
        verdict = {
            "deployment": plan.deployment,
            "model": plan.model,
            "hosts": {host: state.public() for host, state in self.hosts.items()},
            "record": str(self.record.directory),
            "exit_status": int(status),
            **self.public_notes(),
        }
        self.record.write("verdict", verdict)
        if self.record.problem:
            note = f"the record of this run is not whole: {self.record.problem}"
            verdict["notes"] = [*(self.notes or ()), note]
            self.display.say(f"note: {note}", "yellow")
        return status, verdict

    def _guarded(self, take: Callable[[Event], None]) -> Callable[[Event], None]:
        """Whatever one host's event raises makes that host fail, and no other."""

        def on_event(event: Event) -> None:
            try:
                take(event)
            except Exception as error:
                state = self.hosts.get(event.host)
                if state is None:
                    raise
                self._not_understood(
                    state, event.role or "ansible", event.task, "what came of this task cannot be understood", error
                )

        return on_event

    def _not_understood(self, state: HostState, step: str, task: str, what: str, error: Exception) -> None:
        trace = clean("".join(traceback.format_exception(error)))
        with suppress(OSError), self.record.log.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"{state.host}, {task or step}:\n{trace}")
        state.status = "failed"
        state.problem = state.problem or Problem(
            step=step,
            task=task,
            message=f"{what}: {type(error).__name__}: {clean(str(error))[:300]}",
            tail=trace,
            remedy="see whether something on the host answers in place of Ansible's modules; if nothing does, this is "
            "a defect of deployer: report it with this trace",
        )

    def _failed(self, state: HostState, event: Event, step: str | None = None) -> None:
        if state.problem is not None:
            return
        state.status = "unreachable" if event.status == "unreachable" else "failed"
        error = event.deployer_error or {}
        if error.get("exit_status") == ExitStatus.USAGE and event.role == "observe":
            state.problem = Problem("settings", event.task, error["message"], remedy=error["remedy"])
            return
        if event.role == "observe" and event.status == "failed" and MISTAKES.search(event.message):
            remedy = "correct it where the inventory sets it"
            state.problem = Problem("settings", event.task, f"{state.host}: {event.message}", remedy=remedy)
            return
        if error.get("refusal"):
            state.status = "refused"
            state.plan = HostPlan(accelerator="unknown", refused=(Refusal(**error["refusal"]),))
            return
        command = getattr(event, "cmd", "")
        state.problem = Problem(
            step=event.deployer_step or step or event.role or "ansible",
            task=event.task,
            message=DECORATION.sub("", str(error.get("message") or event.message)),
            tail=event.tail,
            command=shlex.join(map(str, command)) if isinstance(command, list) else str(command or ""),
            remedy=str(error.get("remedy") or ""),
        )
        # The step stands before what was said: the same words mean something else after a reboot.
        said = f"step {state.problem.step}: {event.message}\n{event.tail}"
        known = catalogs.match_failure(self.catalog.failures, said, state.status)
        if known and not state.problem.remedy:
            state.problem.cause, state.problem.remedy = known.cause, known.remedy
        if known and known.login and event.role == "observe":
            # Ansible calls it failed, since a connection was there; nothing on the host has.
            state.status = "unreachable"

    def variables(self, extra: dict[str, Any] | None = None) -> tuple[str, ...]:
        """The command's own variables for a playbook, and more of them."""
        values: dict[str, Any] = {}
        if self.options.model:
            values["model"] = self.catalog.model(self.options.model).name
        if self.options.deployment:
            values["deployment"] = self.options.deployment
        if self.options.catalog:
            values["deployer_catalog"] = self.options.catalog
        return tuple(f"{name}={shlex.quote(str(value))}" for name, value in (values | (extra or {})).items())


def _has_api(state: HostState) -> bool:
    """Whether it is asked from here: not what has no API, nor what wants a key that only Ansible knows in this run."""
    spec = state.plan.spec if state.plan else None
    if spec is None:
        return True
    known = not spec.serving.keyed or bool(state.key([spec.serving.key_variable]))
    return spec.serving.protocol == "openai" and known


def _verify(asked: tuple[HostState, str]) -> verify.Verdict:
    state, endpoint = asked
    assert state.plan is not None
    assert state.plan.spec is not None
    spec = state.plan.spec
    serving = spec.serving
    return verify.verify_endpoint(
        endpoint,
        spec.served_name,
        both=serving.both_completions,
        counted=serving.counts_tokens,
        random_weights=spec.random_weights,
        key=state.key([serving.key_variable] if serving.keyed else []),
    )


@contextmanager
def open_session(options: HostOptions, keep_record: bool) -> Iterator[Session]:
    """Check options, catalog and inventory, open a record, yield a session; a mere look leaves no record."""
    configuration.require()
    asked = {"ask_pass": options.ask_pass, "become_ask_pass": options.ask_become_pass}
    after_dashes.check(options.other, [name for name, wanted in asked.items() if wanted])
    given.check(options.extra_vars, options.vault_id, options.other)
    hosts = inventory.read(options.inventory, options.limit)
    catalog = catalogs.load(catalogs.overlay_directories(options.inventory, options.catalog))
    if options.model is not None:
        catalog.require_deployable(catalog.model(options.model))
    # Here too: the connections that a look opens are those that the steps go over.
    os.environ |= keepalive.environment()
    with Secrets() as secrets:
        vault = _ask(options, secrets)
        extra_vars, other = secrets.extra_vars(options.extra_vars), secrets.other(options.other)
        ansible = AnsibleOptions(
            inventory=options.inventory,
            limit=options.limit,
            forks=options.forks,
            check=options.check,
            diff=options.diff,
            verbosity=min(options.verbose, 6),
            extra_vars=extra_vars,
            other=(*vault, *secrets.typed, *other),
            environment=secrets.environment,
            private=tuple(secrets.words),
            descriptors=secrets.descriptors,
            show=lambda words: redacted.line([secrets.shown.get(word, word) for word in words]),
        )
        record = open_record(options.verb, keep_record)
        runner = Runner(ansible, record, shlex.join(["deployer", *sys.argv[1:2]]))
        display = Display(options.as_json)
        session = Session(options, catalog, runner, display, Observer(runner, display, hosts, keep_record))
        begin = time.time()
        outcome = "internal error"
        try:
            yield session
            outcome = session.exit_status().meaning
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            if keep_record:
                _close(record, runner, options, begin, outcome)
            else:
                record.discard()


def _ask(options: HostOptions, secrets: Secrets) -> list[str]:
    """Ask for every password that the options want, or that ansible.cfg says to ask for; words that name vaults."""
    from ansible import constants

    told = reach.parsed(["ansible-playbook", "up.yml", *options.other])

    def wanted(name: str, configured: bool) -> bool:
        if configured and told[reach.PASSWORD_FILES[name]]:
            secrets.not_asked(name)
            return False
        return configured

    if options.ask_pass or wanted("ask_pass", constants.DEFAULT_ASK_PASS):
        secrets.ask_login()
    if options.ask_become_pass or wanted("become_ask_pass", constants.DEFAULT_BECOME_ASK_PASS):
        secrets.ask_become()
    secrets.configured_vaults(constants.DEFAULT_VAULT_IDENTITY_LIST)
    vaults = [secrets.vault(each) for each in options.vault_id]
    if options.ask_vault_pass or constants.DEFAULT_ASK_VAULT_PASS:
        vaults.append(secrets.ask_vault())
    return [word for each in vaults for word in ("--vault-id", each)]


def _close(record: Record, runner: Runner, options: HostOptions, begin: float, outcome: str) -> None:
    # How the command ends is decided.
    record.best_effort = True
    record.write(
        "run",
        {
            "verb": options.verb,
            "ansible": runner.lines,
            "begin": round(begin, 3),
            "end": round(time.time(), 3),
            "outcome": outcome,
        },
    )
    record.close()


def one_host(session: Session, wanted: str) -> None:
    """Refuse a host argument that the inventory does not have."""
    if wanted not in session.selected:
        raise InventoryError(f"no host {wanted!r} in the inventory", f"it has {', '.join(session.selected[:8])}")


def require_model(options: HostOptions) -> None:
    """A verb that plans needs a model."""
    if not options.model:
        raise UsageError("which model? --model is missing", "`deployer models` lists them")
