"""Action plugin: takes a host's lock for this run, sees to it that the work holds it too, and gives it back."""

from __future__ import annotations

import os
import shlex
from pathlib import PurePosixPath
from typing import Any

from ansible.plugins.action import ActionBase
from pydantic import ValidationError

from deployer import observe
from deployer.errors import DeployerError, LockedError, UsageError
from deployer.observe import holder
from deployer.plugins import adapter

INTERPRETER = "ansible_python_interpreter"


class ActionModule(ActionBase):
    """`path` of the lock file on the host, and a `state`.

    `acquired` returns `free`; false means that earlier work goes on, and `end_earlier_work` ends it. `interpreter` is
    what every later module has to run on, `at_work` what has to stand before any other program: they hold the lock as
    long as something works. `idle` asks only whether earlier work goes on. `renewed` says that the run lives.
    `cleared` removes the lock of a holder of which nobody knows that it lives; with `force`, anybody's. `forgotten`
    removes what the lock itself keeps on the host.
    """

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = self._task.args
        if self._task.check_mode and arguments["state"] != "idle":
            return result | {"changed": False, "msg": "the lock is left alone in check mode"}
        try:
            states = {
                "acquired": self._acquire,
                "idle": self._idle,
                "released": self._release,
                "renewed": self._renew,
                "cleared": self._clear,
                "forgotten": self._forget,
            }
            return result | {"changed": False} | states[arguments["state"]](variables)
        except DeployerError as error:
            return result | adapter.failure(error)

    def _ask(self, variables: dict[str, Any], action: str, **more: Any) -> dict[str, Any]:
        request = {"path": str(self._task.args["path"]), "action": action, **more}
        return adapter.run_program(self, variables, request, "locker")

    def _own(self) -> dict[str, Any]:
        lease = int(self._task.args.get("lease_s") or holder.LEASE_S)
        claimed = holder.claim(os.getppid(), os.environ.get("DEPLOYER_COMMAND", "ansible-playbook"), lease)
        return claimed.model_dump(exclude={"alive", "renewed", "silent_s"})

    def _acquire(self, variables: dict[str, Any]) -> dict[str, Any]:
        self._require_guard()
        own = self._task.args.get("own") or self._own()
        end = bool(self._task.args.get("end_earlier_work"))
        python = adapter.interpreter(variables)
        more = {"own": own, "source": observe.source("locker"), "python": python, "end": end}
        answer = self._ask(variables, "acquire", **more)
        if not answer.get("done") and "held" in answer and "work" not in answer:
            self._require_dead(variables, answer)
            answer = self._ask(variables, "acquire", **more, replace=answer["held"])
            if not answer.get("done") and "held" in answer and "work" not in answer:
                # Somebody else came between the two questions.
                message = f"{variables['inventory_hostname']} was locked by another run a moment ago"
                raise LockedError(message, "run the command again later")
        if answer.get("work"):
            return self._busy(variables, answer)
        if not answer.get("done"):
            raise DeployerError(f"cannot write the lock: {answer.get('error')}")
        # A lock comes and goes with the run: it is no change of the host.
        directory, python, run = (
            PurePosixPath(str(self._task.args["path"])).parent,
            str(answer["python"]),
            str(own["run"]),
        )
        return {
            "free": True,
            "own": own,
            "python": python,
            "interpreter": str(directory / f"{adapter.GUARD}{run}"),
            "at_work": shlex.join([python, "-IS", str(directory / "locker.py"), run]),
        }

    def _require_guard(self) -> None:
        """What -e says cannot be changed by anybody, so that the work would hold no lock."""
        from ansible.utils.vars import load_extra_vars

        if INTERPRETER in load_extra_vars(self._loader):
            raise UsageError(
                f"{INTERPRETER} is given with -e, and so nothing that works on the host could hold its lock",
                "put it into the inventory, as a variable of the host, its group or `all`",
            )

    def _require_dead(self, variables: dict[str, Any], answer: dict[str, Any]) -> None:
        """A dead run loses its lock; anybody else's stands."""
        other = _lock(answer)
        state = holder.alive(other) if other else False
        if other and state is not False:
            raise holder.locked(str(variables["inventory_hostname"]), other, state)

    def _busy(self, variables: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Earlier work goes on: no failure, unless nobody waits for it any more."""
        words = holder.at_work(answer["work"], _lock(answer))
        if self._task.args.get("end_earlier_work"):
            raise LockedError(
                f"{words}, and does not end, even when it is killed", "look at it there; it may wait for a disk"
            )
        error = LockedError(
            f"{variables['inventory_hostname']}: {words}",
            "wait for it and run the command again; --end-earlier-work (-e deployer_end_earlier_work=true) ends it",
        )
        return {"free": False, "msg": f"waiting: {words}", "deployer_error": observe.described(error)}

    def _idle(self, variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(variables, "look", own={})
        if not answer.get("work"):
            return {"free": True}
        other = _lock(answer)
        if other and holder.alive(other) is not False:
            # Its run lives: nobody's earlier work.
            raise holder.locked(str(variables["inventory_hostname"]), other, holder.alive(other))
        if self._task.args.get("end_earlier_work"):
            ended = self._ask(variables, "end", own={}, replace=answer.get("held"))
            if ended.get("done"):
                note = f"ended: {holder.at_work(answer['work'], other).replace(', is still at work', '')}"
                return {"free": True, "changed": True, "note": note}
            answer = ended | {"held": answer.get("held")}
        return self._busy(variables, answer)

    def _clear(self, variables: dict[str, Any]) -> dict[str, Any]:
        force = bool(self._task.args.get("force"))
        seen = self._ask(variables, "look", own={})
        held, host = seen.get("held"), str(variables["inventory_hostname"])
        other = _lock(seen)
        if not held and not seen.get("work"):
            return {"note": "no lock"}
        if other and holder.alive(other) and not force:
            raise LockedError(
                f"{host} is locked by {other}, which is alive", "stop it with Ctrl-C; --force removes its lock"
            )
        answer = self._ask(variables, "clear", own={}, replace=held, force=force)
        if answer.get("work"):
            raise LockedError(
                f"{host}: {holder.at_work(answer['work'], other)}",
                "wait for it, or `deployer up --end-earlier-work` ends it; --force removes no more than its run's lock",
            )
        if not answer.get("done"):
            raise LockedError(f"{host} was locked by another run a moment ago", "look again")
        return {"changed": True, "note": f"unlocked; it was {other}" if other else "unlocked"}

    def _renew(self, variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(variables, "renew", own=self._own())
        return {"renewed": bool(answer.get("done"))}

    def _forget(self, variables: dict[str, Any]) -> dict[str, Any]:
        self._ask(variables, "forget", own={})
        return {}

    def _release(self, variables: dict[str, Any]) -> dict[str, Any]:
        own = self._task.args.get("own") or self._own()
        answer = self._ask(variables, "release", own=own)
        if not answer.get("done"):
            raise DeployerError(f"cannot give the lock back: {answer.get('error')}")
        return {"note": holder.at_work(answer["work"])} if answer.get("work") else {}


def _lock(answer: dict[str, Any]) -> observe.Lock | None:
    """Who holds the lock; None for a lock that names nobody."""
    held = answer.get("held") or {}
    try:
        known = {key: held[key] for key in observe.Lock.model_fields if key in held and key != "alive"}
        return observe.Lock.model_validate(known | {"silent_s": answer.get("silent_s")})
    except (ValidationError, TypeError):
        return None
