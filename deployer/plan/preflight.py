"""The checks that refuse a host before anything is changed on it. Pure; each says what it found and what would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deployer.catalog import Accelerator, Catalog, Model, Runtime
from deployer.observe.address import ANYWHERE
from deployer.observe.observation import Observation, Python
from deployer.observe.settings import Settings
from deployer.plan.draft import Draft
from deployer.plan.types import Refusal, ServingSpec
from deployer.units import gb

RAM_FACTOR = 1.3  # S3-R05
ROOT_BYTES = 100_000_000
# An engine's virtual environment has 60,000 files, an image's layers more; a file system of our size has millions.
INODES = 100_000
ROOT_INODES = 1_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def pair(catalog: Catalog, model: Model, settings: Settings, observation: Observation) -> Iterator[Refusal]:
    """Whether model, accelerator and host go together at all."""
    accelerator = catalog.accelerators[observation.accelerator]
    if not is_there(catalog, observation):
        yield _not_there(catalog, model, settings, observation)
        if not settings.accelerator:
            # What else is wrong is wrong with a card that nobody has seen.
            return
    if not accelerator.has_roles:
        yield Refusal(
            check="accelerator",
            found=accelerator.name,
            wanted="an accelerator that this version of deployer has roles for",
            remedy="leave the host out with --limit, or set accelerator=cpu for it",
        )
    if observation.accelerator not in model.accelerators:
        yield Refusal(
            check="model",
            found=f"{model.name} on {observation.accelerator}",
            wanted=f"one of {', '.join(model.accelerators)}",
            remedy="choose another model (`deployer models`) or other hosts (--limit)",
        )
    placement = model.accelerators.get(observation.accelerator)
    if placement and settings.runtime and settings.runtime not in (placement.runtime, *placement.runtimes):
        yield Refusal(
            check="runtime",
            found=f"deployer_runtime={settings.runtime}",
            wanted=f"one of {', '.join((placement.runtime, *placement.runtimes))} for {model.name}",
            remedy="correct it in the inventory, or leave it out",
        )
    if observation.architecture not in accelerator.architectures:
        yield Refusal(
            check="architecture",
            found=observation.architecture,
            wanted=" or ".join(accelerator.architectures),
            remedy="leave the host out with --limit",
        )


def is_there(catalog: Catalog, observation: Observation) -> bool:
    """Whether the host has the accelerator that its plan is made for."""
    accelerator = catalog.accelerators[observation.accelerator]
    # A system on a chip has no function of it on its bus: its driver's node shows it.
    soc = observation.cards is not None and observation.cards.mode == "soc"
    return not accelerator.pci or accelerator.name in observation.detected or soc


def _not_there(catalog: Catalog, model: Model, settings: Settings, observation: Observation) -> Refusal:
    """Names all that would do: where nothing is asserted, no vendor is more likely than another."""
    cards = ", ".join(catalog.accelerators[name].title for name in observation.detected) or "none on the PCI bus"
    look = "look at the card's slot and power"
    possible = [settings.accelerator] if settings.accelerator else [*model.accelerators]
    strange = next((each for name in possible for each in _strange(catalog.accelerators[name], observation)), None)
    if strange and not observation.detected:
        cards, look = strange
    if settings.accelerator:
        wanted, remedy = f"{settings.accelerator}, as the inventory says", "correct `accelerator` in the inventory"
    else:
        kinds = [name for name in model.accelerators if catalog.accelerators[name].has_roles]
        wanted, remedy = f"{' or '.join(kinds)}, which {model.name} runs on", "leave the host out with --limit"
    return Refusal(check="accelerator", found=cards, wanted=wanted, remedy=f"{remedy}, or {look}")


def _strange(accelerator: Accelerator, observation: Observation) -> Iterator[tuple[str, str]]:
    """What is on the bus where a card of this kind has not started, and what helps."""
    for each in accelerator.look_alikes:
        ids = f"{each.vendor}:{each.device}"
        if count := observation.look_alikes.get(ids, 0):
            yield f"{count} function{'s' if count > 1 else ''} {ids} on the PCI bus: {each.means}", each.remedy


def resources(draft: Draft, replicas: Sequence[ServingSpec]) -> None:
    """Refuse what the steps cannot do with: account, memory, disk, ports, limits, tools."""
    draft.refused += _refused(draft, replicas)
    observation, runtime = draft.observation, draft.runtime
    if observation.nofile_hard < runtime.min_nofile:
        draft.lacks(
            "open files",
            f"hard limit {observation.nofile_hard}",
            f"at least {runtime.min_nofile}",
            f"raise `nofile` for {observation.user} in /etc/security/limits.conf and log in again",
        )
    if observation.packages_problem:
        draft.lacks(
            "packages",
            observation.packages_problem,
            "the vendor's packages on the control node",
            "put them there, or correct the path",
        )
    if not observation.tools.get("tar"):
        # S3-F01: the vendor's installers unpack themselves with it, and so do the distributions' packages.
        draft.lacks("tar", "no tar", "tar", "install it with the distribution's package manager")
    # A server that has to be waited for needs none of this either.
    if any(step.id != "readiness" for step in draft.steps):
        draft.refused += draft.lacking
    else:
        draft.notes += [f"{each.check}: {each.found}; nothing has to be installed" for each in draft.lacking]


def _refused(draft: Draft, replicas: Sequence[ServingSpec]) -> Iterator[Refusal]:
    observation, runtime = draft.observation, draft.runtime
    if draft.accelerator.needs_root and observation.uid != 0:
        yield Refusal(
            check="account",
            found=observation.user,
            wanted="root",
            remedy="set ansible_become=true (with --ask-become-pass where sudo asks), or log in as root",
        )
    yield from _disk(draft)
    for replica in replicas:
        if replica.protocol != "terminal":
            yield from _port(draft, replica)
    if draft.has_step("serving") or draft.has_step("serving_container"):
        yield from _memory(draft)
    most = max((len(replica.chips) for replica in replicas), default=0)
    if most > runtime.most_chips:
        yield Refusal(
            check="chips",
            found=f"a model on {most} chips",
            wanted=f"at most {runtime.most_chips}: {runtime.title} drives no more",
            remedy="set deployer_build to one for fewer chips, or choose another deployer_runtime",
        )


def notes(draft: Draft) -> Iterator[str]:
    """What is worth telling and no reason to refuse."""
    yield from draft.observation.remarks
    observation, systems = draft.observation, draft.accelerator.systems
    known = any(
        each.id.lower() == observation.os_id.lower()
        and any(observation.os_version.startswith(version) for version in each.versions)
        for each in systems
    )
    if draft.accelerator.name in observation.detected:
        for found, remedy in _strange(draft.accelerator, observation):
            yield f"{found}; {remedy}"
    if systems and not known:
        yield f"{observation.os} is not on the vendor's list for {draft.accelerator.title}"


def _memory(draft: Draft) -> Iterator[Refusal]:
    model, placement, runtime, observation = draft.model, draft.placement, draft.runtime, draft.observation
    if placement.builds:
        # It goes from its file to the chips; no document says that the host holds it.
        return
    kv_cache = (placement.kv_cache_gib or 0) * 2**30
    # S3-R05, S3-X20: one host loads all of a model's weights.
    wanted = int(RAM_FACTOR * model.weights.size) + runtime.memory_bytes + kv_cache
    # What serves now is stopped first, and gives its memory back.
    available = observation.memory_available + sum(each.resident for each in draft.have.values())
    if available < wanted:
        parts = f"{RAM_FACTOR} × {gb(model.weights.size)} of weights"
        parts += f" + {gb(runtime.memory_bytes)} engine" if runtime.memory_bytes else ""
        parts += f" + {gb(kv_cache)} KV cache" if kv_cache else ""
        yield Refusal(
            check="memory",
            found=f"{gb(available)} available of {gb(observation.memory_total)}",
            wanted=f"{gb(wanted)} ({parts})",
            remedy="stop what else uses memory on the host, or choose a smaller model",
        )


def _disk(draft: Draft) -> Iterator[Refusal]:
    """Room for what is to be installed, per file system: two places on one share it (S3-F02)."""
    observation = draft.observation
    data = observation.places.data
    disk = observation.disks.get(data)
    if disk is None or not disk.writable:
        draft.lacks(
            "disk",
            f"{data} cannot be written by {observation.user}",
            "a directory for engine and weights",
            "set deployer_data_dir to a directory of that account",
        )
    wanted: dict[int, tuple[str, int]] = {}
    for place, size in draft.needs_disk.items():
        there = observation.disks.get(place)
        if there is not None:
            first, sum_ = wanted.get(there.device, (place, 0))
            wanted[there.device] = (first, sum_ + size)
    # The root file system is written to by every step, whatever it is that the step installs.
    root = observation.disks.get("/")
    if draft.steps and root is not None:
        first, sum_ = wanted.get(root.device, ("/", 0))
        wanted[root.device] = (first, sum_ + ROOT_BYTES)
    for place, size in wanted.values():
        free = observation.disks[place].free
        inodes, files = observation.disks[place].inodes, INODES if place != "/" else ROOT_INODES
        if size and inodes is not None and inodes < files:
            yield Refusal(
                check="inodes",
                found=f"{inodes} files can still be made on the file system of {place}",
                wanted=f"{files} for what has to be installed",
                remedy="remove what has many small files there (`df -i` counts them), or take another file system",
            )
        if size and free < size:
            yield Refusal(
                check="disk",
                found=f"{gb(free)} free for {place}",
                wanted=f"{gb(size)} for what has to be installed",
                remedy="free some space, or set deployer_data_dir to a larger file system"
                if place == data
                else "free some space on that file system",
            )


def _port(draft: Draft, replica: ServingSpec) -> Iterator[Refusal]:
    observation, have = draft.observation, draft.have.get(replica.replica)
    own = f"{observation.places.config}/{have.name}" if have else None
    for listener in observation.listeners:
        if listener.port != replica.port or (own and listener.config == own):
            continue
        if listener.config:
            who = f"deployment {listener.config.rpartition('/')[2]} (pid {listener.pid})"
        elif listener.pid:
            who = f"{listener.name} (pid {listener.pid})"
        else:
            who = f"a program of another account (`ss -ltnp` as root names it), on {listener.address}"
        yield Refusal(
            check="port",
            found=f"port {replica.port} is taken by {who}",
            wanted="a free port",
            remedy="stop that program, or set deployer_port to a free one",
        )
        return


def listen(settings: Settings, runtime: Runtime, address: str) -> Iterator[Refusal]:
    """A loopback address on a remote host cannot be verified from here, nor used by anybody else."""
    if runtime.fixed_listen and settings.listen not in ("", *ANYWHERE):
        yield Refusal(
            check="listen",
            found=f"deployer_listen={address}",
            wanted=f"all addresses: {runtime.title} listens nowhere else",
            remedy="leave deployer_listen out, or choose another deployer_runtime",
        )
    elif address in LOOPBACK and not settings.is_local and runtime.protocol == "openai":
        yield Refusal(
            check="listen",
            found=f"deployer_listen={address} on a remote host",
            wanted="an address that the control node can reach",
            remedy="leave deployer_listen out, or set it to 0.0.0.0 or an address of the host",
        )


def choose_python(runtime: Runtime, observation: Observation, settings: Settings) -> Python | Refusal:
    """The interpreter that the engine is installed with."""
    low, high = _version(runtime.python_min), _version(runtime.python_below)
    fitting = [each for each in observation.pythons if low <= _version(each.version) < high]
    for each in fitting:
        if each.venv:
            return each
    if fitting:
        minor = ".".join(fitting[0].version.split(".")[:2])
        return Refusal(
            check="python",
            found=f"{fitting[0].path} {fitting[0].version} without its venv module",
            wanted=f"Python {runtime.python_min} or newer, below {runtime.python_below}, with venv and ensurepip",
            remedy=f"install its venv package (Debian, Ubuntu: python{minor}-venv)",
        )
    found = ", ".join(f"{each.path} {each.version}" for each in observation.pythons)
    if settings.python and not found:
        found = f"nothing that runs at {settings.python}"
    return Refusal(
        check="python",
        found=found or "none",
        wanted=f"Python {runtime.python_min} or newer, below {runtime.python_below}, for {runtime.title}",
        remedy="install one beside it and set deployer_python to its path",
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
