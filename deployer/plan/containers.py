"""Decides about the containers that serve: what they are made of, and which have to be made again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployer.observe.observation import FILES_GONE, DeploymentState
from deployer.observe.request import container_name
from deployer.plan import config_copy, drift, render
from deployer.plan.chips import Allotment
from deployer.plan.draft import Draft
from deployer.plan.types import ContainerSpec, ImageSpec, ServingSpec, WeightsSpec
from deployer.units import ranges

# A container that was restarted this often by Docker is dying again and again.
RESTARTS = 3


@dataclass(frozen=True)
class Own:
    """What an engine's containers have beside the usual: volumes, paths that must be seen, and values for its command.

    `identity` stands for the content of what was unpacked: other content is another container.
    """

    volumes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""


def specify(
    draft: Draft, allotment: Allotment, image: ImageSpec, weights: WeightsSpec, listen: str, own: Own | None = None
) -> ServingSpec:
    """One replica: its container and its files."""
    own = own or Own()
    name = container_name(draft.deployment, allotment.replica)
    config = replica_dir(draft.observation.places.config, draft.deployment, allotment.replica)
    script, copy = f"{config}/serve.sh", f"{config}/{config_copy.NAME}"
    devices = draft.accelerator.devices
    handed = devices if devices and devices.handed else None
    nodes = [handed.chip.replace("{id}", str(chip)) for chip in allotment.chips] if handed else []
    shared = handed.shared if handed else ()
    if handed and handed.soc and draft.observation.cards and draft.observation.cards.mode == "soc":
        nodes, shared = [], handed.soc
    open_files, memory = draft.runtime.open_files, draft.runtime.shared_memory_mib
    container = ContainerSpec(
        name=name,
        image=image.id or image.reference,
        command=(draft.runtime.shell, script),
        devices=(*nodes, *shared),
        volumes=(
            *driver_volumes(draft, draft.have.get(allotment.replica)),
            *own.volumes,
            *weights_volumes(weights, own, copy),
            f"{config}:{config}:ro",
        ),
        privileged=draft.privileged,
        cap_drop=draft.cap_drop,
        security_opts=draft.security_opts,
        labels={
            "deployer.deployment": draft.deployment,
            "deployer.replica": str(allotment.replica),
            "deployer.model": draft.model.name,
            **({"deployer.archives": own.identity} if own.identity else {}),
        },
        stop_signal=draft.runtime.stop_signal,
        # S0-F08, S0-X09: each allocation on a chip is an open file; what a shell may have is nothing to a container.
        ulimits=(f"nofile:{open_files}:{open_files}",) if open_files else (),
        shm_size=f"{memory}M" if memory else "",
    )
    # S3-X13: with --privileged a process sees every device of the host, else only those handed in, from 0.
    visible = allotment.chips if draft.privileged else tuple(range(len(allotment.chips)))
    environment = {devices.visible: ",".join(map(str, visible))} if devices and devices.visible else {}
    return render.serving(
        draft,
        render.Replica(
            number=allotment.replica,
            config_dir=config,
            state_dir=replica_dir(f"{draft.observation.places.data}/deployments", draft.deployment, allotment.replica),
            port=allotment.port,
            listen=listen,
            manager="docker",
            weights=weights.dir,
            chips=allotment.chips,
            environment=environment,
            container=container,
            values=own.values,
            files={copy: weights.config_copy} if weights.config_copy else {},
        ),
    )


def weights_volumes(weights: WeightsSpec, own: Own, copy: str) -> list[str]:
    """The weights and what belongs to them, as a container sees them: read-only; `copy` is where their config.json is

    that a container sees in the place of theirs. Docker mounts what is deeper later, so that it lies on top (S3-R09).
    """
    paths = dict.fromkeys((weights.dir, *own.paths))
    volumes = [f"{each}:{each}:ro" for each in paths if not _is_below(each, own.volumes)]
    return volumes + ([f"{copy}:{weights.dir.rstrip('/')}/config.json:ro"] if weights.config_copy else [])


def _is_below(path: str, volumes: tuple[str, ...]) -> bool:
    """Whether a container sees a path of the host through one of its volumes already."""
    return any(path.startswith(f"{volume.split(':')[0]}/") for volume in volumes)


def replica_dir(root: str, deployment: str, replica: int) -> str:
    """Where a replica's files go: `@` cannot stand in a deployment's name, so that two never meet."""
    return f"{root}/{deployment}" + (f"@{replica}" if replica > 1 else "")


def driver_volumes(draft: Draft, have: DeploymentState | None) -> list[str]:
    """The driver's mounts that are there; before the driver is installed, those that it will bring.

    A directory that appears later (the driver's logs do) is no reason to replace a container that serves.
    """
    installed = draft.observation.driver is not None and draft.observation.driver.driver is not None
    volumes = []
    for mount in draft.accelerator.mounts:
        volume = f"{mount.path}:{mount.target or mount.path}:{'ro' if mount.read_only else 'rw'}"
        kind = draft.observation.mounts.get(mount.path, "")
        # S3-X18: Docker makes an empty directory of a path that is not there, also where a file is meant.
        if not (kind == mount.kind or (mount.required and not installed)):
            continue
        if mount.required or have is None or have.process is None or not have.volumes or volume in have.volumes:
            volumes.append(volume)
    return volumes


def plan(draft: Draft, wanted: list[ServingSpec]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The steps of serving; returns the replicas to start and the containers that are there and too many."""
    if draft.settings.cap_drop and draft.privileged:
        draft.notes.append("deployer_cap_drop: nothing is dropped, a privileged container has every capability")
    reasons = {each.replica: reason for each in wanted if (reason := _why(draft, each)) is not None}
    numbers = {each.replica for each in wanted}
    others = [each for number, each in sorted(draft.have.items()) if number not in numbers]
    surplus = tuple(each.container for each in others if _can_go(draft, each))
    draft.notes += [_left_over(each) for each in others if each.problem == FILES_GONE and each.strays]
    interrupts = any(draft.have[number].ready for number in reasons if number in draft.have) or bool(surplus)
    many = len(wanted) > 1
    words = [f"replica {number}: {reason}" if many else reason for number, reason in reasons.items()]
    words += [f"{name} is no longer wanted → remove" for name in surplus]
    if words:
        draft.step("serving_container", "; ".join(words), 5 * len(words), interrupts=interrupts)
    waiting = [each for each in wanted if each.replica in reasons or _is_loading(draft, each)]
    if draft.runtime.protocol == "terminal":
        waiting = []
    if any(each.replica in reasons for each in waiting):
        draft.step("readiness", "wait until it answers" if not many else "wait until they answer", draft.start_s)
    elif waiting:
        have = draft.have[waiting[0].replica]
        age = have.process.age_s if have.process else 0
        reason = f"{have.container} is loading since {age} s → wait until it answers"
        draft.step("readiness", reason, max(1, draft.start_s - age))
    elif draft.has_step("reboot") and draft.have:
        # Docker starts them again by itself; somebody has to see it.
        draft.step("readiness", "wait until it serves again after the reboot", draft.start_s)
    for each in wanted:
        if each not in waiting and each.replica in draft.have:
            name = "serving_container" if not many else f"replica {each.replica}"
            draft.satisfied[name] = f"{each.container.name if each.container else ''} serves as wanted"
    return tuple(reasons), surplus


def _can_go(draft: Draft, have: DeploymentState) -> bool:
    """Whether there is something of a replica to remove: its container or, without one, its files; no mere mark."""
    found = next((each for each in draft.observation.containers if each.name == have.container), None)
    if found is not None:
        return found.labels.get("deployer.deployment") == draft.deployment
    return have.problem != FILES_GONE


def _left_over(have: DeploymentState) -> str:
    pids = ", ".join(str(each.pid) for each in have.strays[:3])
    return f"process {pids} says that it is of {have.name}, of which nothing else is there: `deployer down` ends it"


def _is_loading(draft: Draft, want: ServingSpec) -> bool:
    have = draft.have.get(want.replica)
    return bool(have and have.process and not have.ready)


def _why(draft: Draft, want: ServingSpec) -> str | None:
    """Why a replica's container has to be made (again); None where it serves, or loads, as wanted."""
    have = draft.have.get(want.replica)
    if have is None:
        if _stranger(draft, want):
            return None
        return f"not deployed → start on chip{'s' if len(want.chips) > 1 else ''} {ranges(want.chips)}"
    if have.problem:
        return f"{have.problem} → configure and start again"
    changed = drift.of_files(have, want, "replace", _was_privileged(draft, have))
    if changed:
        return changed
    driver = draft.accelerator.driver
    if not have.ready and driver and driver.every_boot and draft.has_step(driver.role):
        # It lives and dies again and again without its chips.
        return f"{driver.role} first → start"
    if have.process is None:
        # Docker starts it again after a reboot or when the engine is back.
        if any(step.id != "artefacts" for step in draft.steps):
            return f"{' and '.join(step.id for step in draft.steps)} first → start"
        return f"{_container_state(draft, have)} → start"
    return _why_restart(draft, have, want)


def _why_restart(draft: Draft, have: DeploymentState, want: ServingSpec) -> str | None:
    if have.running_spec != want.spec:
        return "it runs with earlier settings → replace"
    if have.hangs:
        return f"it hangs ({have.health}) → make it again"
    if not have.ready and have.restarts >= RESTARTS:
        return f"Docker has restarted it {have.restarts} times → make it again and look at its log"
    return drift.of_running(draft, have, want)


def _was_privileged(draft: Draft, have: DeploymentState) -> bool | None:
    """How the container that is there was made; None where there is none."""
    return next((each.privileged for each in draft.observation.containers if each.name == have.container), None)


def _container_state(draft: Draft, have: DeploymentState) -> str:
    found = next((each for each in draft.observation.containers if each.name == have.container), None)
    if found is None:
        return f"container {have.container} is gone"
    if found.state == "running":
        return f"container {have.container} is not deployer's"
    return f"container {have.container} is {found.state} (status {found.exit_code})"


def _stranger(draft: Draft, want: ServingSpec) -> bool:
    """S3-X09: a container of that name that is not ours is never replaced."""
    name = want.container.name if want.container else ""
    for each in draft.observation.containers:
        if each.name == name and each.labels.get("deployer.deployment") != draft.deployment:
            draft.refuse(
                "container",
                f"a container {name} that deployer has not made",
                "that name free",
                "rename or remove it, or give the deployment another name with --deployment",
            )
            return True
    return False
