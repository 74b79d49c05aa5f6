"""Which deployment a verb means, where it was not said: the only one there is."""

from __future__ import annotations

from deployer.cli.options import HostOptions
from deployer.cli.session import Session
from deployer.errors import UsageError


def resolve(session: Session, options: HostOptions) -> str | None:
    """The deployment's name, or None where the hosts have none; an error where there are several."""
    if options.deployment:
        return options.deployment
    if options.model:
        return session.catalog.model(options.model).name
    found = {
        each.deployment
        for state in session.hosts.values()
        if state.observation
        for each in state.observation.deployments.values()
    }
    if len(found) > 1:
        raise UsageError(f"which deployment? The hosts have {', '.join(sorted(found))}", "name one with --deployment")
    return next(iter(found), None)


def model_of(session: Session, deployment: str) -> str:
    """The model that a deployment serves, as its hosts record it."""
    states = [
        s.observation.deployments[deployment]
        for s in session.hosts.values()
        if s.observation and deployment in s.observation.deployments
    ]
    found = {state.model for state in states if state.model}
    if len(found) != 1:
        text = ", ".join(sorted(found)) or "nothing that is recorded"
        raise UsageError(f"deployment {deployment} serves {text} on these hosts", "name the model with --model")
    return found.pop()
