"""Allots chips and ports to a deployment's replicas. Pure.

Whole cards first, never a chip that something else holds or that is not healthy; an allotment that is there is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.catalog import match_failure
from deployer.observe.observation import AcceleratorState, Chip, DeploymentState, Observation
from deployer.plan.draft import Draft
from deployer.plan.types import ServingSpec
from deployer.units import gb, ranges

HEALTHY = ("OK",)
NO_NODE = "no node"
MIB = 2**20


@dataclass(frozen=True)
class Allotment:
    """One replica's chips and port."""

    replica: int
    chips: tuple[int, ...]
    port: int


def plan(draft: Draft, parallel: int | None = None) -> list[Allotment]:
    """The replicas' allotments; what does not fit is refused. `parallel` is what the model was compiled for, if it was.

    Where one server has all replicas, it is one allotment with the chips of each.
    """
    cards = draft.observation.cards or AcceleratorState(kind=draft.accelerator.name)
    if not parallel:
        _require_choice(draft)
    awaited = _awaited(draft)
    if draft.unseen and not awaited:
        return _unseen(draft, parallel)
    chips = cards.chips or _expected(draft, cards)
    if awaited and cards.chips:
        # Those that are up so far are not all that there will be.
        there = {chip.id for chip in chips}
        chips = (*chips, *(chip for chip in _expected(draft, cards) if chip.id not in there))
    held = holders(draft, chips)
    wanted = draft.settings.replicas
    free = [chip for chip in chips if chip.id not in held and chip.health in HEALTHY]
    parallel = parallel or _tensor_parallel(draft, chips, held, free)
    if draft.runtime.one_server:
        return [_one_server(draft, parallel, chips, held)]
    kept = _kept(draft, parallel, chips, held)
    free = [chip for chip in free if all(chip.id not in numbers for numbers in kept.values())]
    count = (
        wanted
        if isinstance(wanted, int)
        else max(1, len(kept) + _fits(free, parallel, one_card=draft.accelerator.one_card))
    )
    allotted: list[Allotment] = []
    ports = _Ports(draft)
    for replica in range(1, count + 1):
        chosen = kept.get(replica) or choose(free, parallel, one_card=draft.accelerator.one_card)
        free = [chip for chip in free if chip.id not in chosen]
        if not chosen:
            own = [*kept.items(), *((each.replica, each.chips) for each in allotted)]
            taken = {number: f"replica {who}" for who, numbers in own for number in numbers}
            _refuse(draft, replica, parallel, chips, held | taken)
            chosen = ()
        allotted.append(Allotment(replica, chosen, ports.take(replica)))
        if not chosen:
            break
    return allotted


def _unseen(draft: Draft, parallel: int | None) -> list[Allotment]:
    """What serves keeps the chips that it has; nothing is allotted where they cannot be seen."""
    wanted, ports = draft.settings.replicas, _Ports(draft)
    count = 1 if draft.runtime.one_server else wanted if isinstance(wanted, int) else max(draft.have, default=1)
    have = [draft.have.get(replica) for replica in range(1, count + 1)]
    # T1-X35: one server has the chips of all its replicas, so another number of them is another set of chips.
    if draft.runtime.one_server and isinstance(wanted, int):
        group = parallel or draft.settings.tensor_parallel or draft.placement.tensor_parallel[0]
        have = [each for each in have if each and len(each.chips) == wanted * group]
    if not have or not all(each and each.ready and each.chips for each in have):
        return [Allotment(1, (), draft.port)]
    return [Allotment(each.replica, each.chips, ports.take(each.replica)) for each in have if each]


def _awaited(draft: Draft) -> bool:
    """Whether an installer starts the chips, or is waited for: what is seen before that says nothing."""
    driver = draft.accelerator.driver
    return bool(driver and driver.every_boot and draft.has_step(driver.role))


def require_seen(draft: Draft, replicas: Sequence[ServingSpec]) -> None:
    """Nothing is done on a host whose chips cannot be seen; what serves as wanted is left alone, and that is told."""
    problem = draft.unseen
    if not problem or _awaited(draft):
        return
    if not draft.steps and all(each.chips for each in replicas):
        draft.notes.append(f"the chips cannot be seen now ({problem}); what serves is left alone")
        return
    unknown = draft.observation.cards is not None and draft.observation.cards.state == "unknown"
    known = match_failure(draft.failures, problem)
    if unknown:
        draft.refuse(
            "cards",
            f"an answer that cannot be read ({problem})",
            "a layout of the vendor's tool that is known",
            "report it with the output of the tool; nothing is done on a host that cannot be read",
        )
    else:
        draft.refuse(
            "cards",
            f"no answer that tells of the chips ({problem})" + (f": {known.cause}" if known else ""),
            f"`{draft.accelerator.tool}` on the host shows them",
            known.remedy if known else "run it there and look at `dmesg`; a host that cannot be seen is not rebooted",
        )


def free_for_a_job(draft: Draft) -> tuple[list[Chip], dict[int, str]]:
    """Chips that nothing runs on, also no server of this deployment; and who holds the others."""
    cards = draft.observation.cards or AcceleratorState(kind=draft.accelerator.name)
    held = holders(draft, cards.chips)
    for each in draft.have.values():
        if each.process:
            held |= dict.fromkeys(each.chips, f"deployment {each.deployment}")
    return [chip for chip in cards.chips if chip.id not in held and chip.health in HEALTHY], held


def _one_server(draft: Draft, parallel: int, chips: tuple[Chip, ...], held: dict[int, str]) -> Allotment:
    """T1-X35: one server on the chips of all its replicas. What it has is kept, as far as it is still wanted."""
    wanted, most = draft.settings.replicas, draft.runtime.most_replicas
    one_card = draft.accelerator.one_card
    free = [chip for chip in chips if chip.id not in held and chip.health in HEALTHY]
    have = draft.have.get(1)
    usable = {chip.id for chip in free}
    own = [
        group
        for start in range(0, len(have.chips) if have else 0, parallel)
        if have and len(group := tuple(have.chips[start : start + parallel])) == parallel and usable.issuperset(group)
    ]
    count = wanted if isinstance(wanted, int) else min(most, max(1, _fits(free, parallel, one_card=one_card)))
    if count > most:
        draft.refuse(
            "replicas", f"deployer_replicas={count}", f"1 to {most} behind one server", "correct it in the inventory"
        )
        count = most
    chosen = [number for group in own[:count] for number in group]
    for replica in range(len(chosen) // parallel + 1, count + 1):
        left = [chip for chip in free if chip.id not in chosen]
        group = choose(left, parallel, one_card=one_card)
        if not group:
            _refuse(draft, replica, parallel, chips, held)
            break
        chosen += group
    return Allotment(1, tuple(sorted(chosen)), _Ports(draft).take(1))


def _require_choice(draft: Draft) -> None:
    choices, asked = draft.placement.parallels, draft.settings.tensor_parallel
    if asked and asked not in choices:
        draft.refuse(
            "tensor parallel",
            f"deployer_tensor_parallel={asked}",
            f"one of {', '.join(map(str, choices))} for {draft.model.name} on {draft.accelerator.name}",
            "correct it in the inventory, or leave it out",
        )


def _tensor_parallel(draft: Draft, chips: tuple[Chip, ...], held: dict[int, str], free: list[Chip]) -> int:
    """S3-R06: as asked, else as the deployment has it, else the first of the catalog that there are free chips for.

    `free` has the chips of this deployment too.
    """
    placement, asked = draft.placement, draft.settings.tensor_parallel
    chosen = asked or _as_it_is(draft, chips, held, free) or _preferred(draft, free)
    each = draft.model.weights.size / chosen
    if share := _share(draft):
        told = f"memory-utilization {placement.memory_utilization} of its memory ({gb(share)})"
        takes = f"on {chosen} chip{'s' if chosen > 1 else ''} each takes {gb(each)} of weights"
        if each > share:
            draft.notes.append(f"{takes}, more than {told}: the vendor's table has no value for that")
        elif chosen < min(placement.tensor_parallel):
            draft.notes.append(
                f"{takes}, of {told}: {gb(share - each)} a chip are left for the KV cache and all else; "
                f"{min(placement.tensor_parallel)} chips are usual for {draft.model.name}"
            )
    return chosen


def _share(draft: Draft) -> float:
    """Bytes of a chip that the engine may take; 0 where the catalog does not say."""
    return (draft.placement.memory_utilization or 0) * (draft.chip_memory_mib or 0) * MIB


def _as_it_is(draft: Draft, chips: tuple[Chip, ...], held: dict[int, str], free: list[Chip]) -> int:
    """Chips of a replica that this model has already and can keep: what serves is not moved because more are free."""
    placement, health = draft.placement, {chip.id: chip.health for chip in chips}
    one_card = draft.accelerator.one_card
    for _, have in sorted(draft.have.items()):
        count = len(have.chips)
        if have.model == draft.model.name and count in placement.parallels and _stays(have, health, held):
            first, replicas = placement.tensor_parallel[0], draft.settings.replicas
            if count < first and isinstance(replicas, int) and _fits(free, first, one_card=one_card) >= replicas:
                draft.notes.append(
                    f"it keeps {count} chips a replica; there are {first} for it now: "
                    f"deployer_tensor_parallel={first} takes them, and replaces what serves"
                )
            return count
    return 0


def _preferred(draft: Draft, free: list[Chip]) -> int:
    """The first number for which all replicas find chips; `auto` is as many replicas as can be, so the fewest."""
    choices, replicas = draft.placement.tensor_parallel, draft.settings.replicas
    fewest = min(choices)
    if replicas == "auto":
        return fewest
    one_card = draft.accelerator.one_card
    return next((each for each in choices if _fits(free, each, one_card=one_card) >= replicas), fewest)


def _expected(draft: Draft, cards: AcceleratorState) -> tuple[Chip, ...]:
    """The chips that the PCI bus promises, where their driver has not started them yet: numbered from 0, healthy."""
    device = draft.accelerator.devices.chip if draft.accelerator.devices else ""
    count, per_card = cards.pci_chips, max(1, cards.pci_chips // max(1, cards.cards))
    if draft.accelerator.one_card:
        # Which of them share a card, their driver will say; the plan is made again then.
        per_card = max(1, count)
    if draft.accelerator.chips:
        count, per_card = draft.settings.chips or draft.accelerator.chips, draft.accelerator.chips_per_card
    return tuple(
        Chip(id=n, card=n // per_card, chip=n % per_card, device=device.replace("{id}", str(n)), health="OK")
        for n in range(count)
    )


def holders(draft: Draft, chips: tuple[Chip, ...]) -> dict[int, str]:
    """Chip → who holds it: another deployment, somebody else's container, or a program on the host."""
    observation = draft.observation
    own = {each.container for each in draft.have.values()}
    held: dict[int, str] = {}
    for other in observation.deployments.values():
        if other.container not in own:
            held |= dict.fromkeys(other.chips, f"deployment {other.deployment}")
    numbers = {chip.device: chip.id for chip in chips}
    ours = {each.container for each in observation.deployments.values()}
    for container in observation.containers:
        if container.name in ours or container.state != "running":
            continue
        for device in container.devices:
            if device in numbers:
                held.setdefault(numbers[device], f"container {container.name}, which is not deployer's")
    for chip, who in _used(draft, chips).items():
        held.setdefault(chip, who)
    return held


def _used(draft: Draft, chips: tuple[Chip, ...]) -> dict[int, str]:
    """Chip → the program that the vendor's tool shows on it, unless it is a server of deployer's."""
    owned = {chip for each in draft.have.values() if each.process for chip in each.chips}
    used = {chip.id: f"process {chip.processes[0]}" for chip in chips if chip.processes and chip.id not in owned}
    # Where the tool tells a whole card only, any server of deployer's on that card may be what it means.
    serving = {chip for each in draft.observation.deployments.values() if each.process for chip in each.chips}
    cards = {chip.card for chip in chips if chip.id in serving}
    for chip in chips:
        if chip.busy and chip.card not in cards:
            used.setdefault(chip.id, f"a program on card {chip.card} that is not deployer's")
    return used


def _kept(draft: Draft, parallel: int, chips: tuple[Chip, ...], held: dict[int, str]) -> dict[int, tuple[int, ...]]:
    """Allotments that were made and still can be: all chips there, held by nobody else, as many as wanted."""
    health = {chip.id: chip.health for chip in chips}
    kept = {}
    for replica, have in sorted(draft.have.items()):
        if len(have.chips) == parallel and _stays(have, health, held):
            kept[replica] = tuple(have.chips)
            draft.notes += [f"chip {n} is in {health[n]} and still serves" for n in _sick(have, health)[:1]]
    return kept


def _stays(have: DeploymentState, health: dict[int, str], held: dict[int, str]) -> bool:
    """Whether a replica can keep its chips; one that is not healthy only as long as it serves."""
    there = bool(have.chips) and all(number in health and number not in held for number in have.chips)
    return there and (have.ready or not _sick(have, health))


def _sick(have: DeploymentState, health: dict[int, str]) -> list[int]:
    return [number for number in have.chips if health[number] not in HEALTHY]


def _fits(free: list[Chip], parallel: int, *, one_card: bool = False) -> int:
    """How many more replicas the free chips can hold."""
    count = 0
    while chosen := choose(free, parallel, one_card=one_card):
        free = [chip for chip in free if chip.id not in chosen]
        count += 1
    return count


def choose(free: list[Chip], parallel: int, *, one_card: bool = False) -> tuple[int, ...]:
    """The chips for one replica: of the fullest card that has room enough, else of as few cards as can be.

    Where they have to be on one card, never of two.
    """
    by_card: dict[int, list[int]] = {}
    for chip in sorted(free, key=lambda chip: chip.id):
        by_card.setdefault(chip.card, []).append(chip.id)
    enough = sorted((numbers for numbers in by_card.values() if len(numbers) >= parallel), key=lambda n: (len(n), n))
    if enough:
        return tuple(enough[0][:parallel])
    if len(free) < parallel or one_card:
        return ()
    chosen: list[int] = []
    for numbers in sorted(by_card.values(), key=lambda n: (-len(n), n)):
        chosen += numbers[: parallel - len(chosen)]
    return tuple(sorted(chosen))


def _refuse(draft: Draft, replica: int, parallel: int, chips: tuple[Chip, ...], held: dict[int, str]) -> None:
    holders: dict[str, list[int]] = {}
    for number, who in sorted(held.items()):
        holders.setdefault(who, []).append(number)
    parts = [
        f"chips {ranges(numbers)} are held by {who}" if len(numbers) > 1 else f"chip {numbers[0]} is held by {who}"
        for who, numbers in holders.items()
    ]
    parts += [
        f"chip {chip.id} has no node" if chip.health == NO_NODE else f"chip {chip.id} is in {chip.health}"
        for chip in chips
        if chip.health not in HEALTHY and chip.id not in held
    ]
    cards = draft.observation.cards
    if cards and cards.state == "ok" and cards.problem:
        # A chip that is missing altogether is on no list of chips.
        parts.append(cards.problem)
    good = sum(chip.id not in held and chip.health in HEALTHY for chip in chips)
    of = f" for replica {replica}" if replica > 1 else ""
    sick = any(chip.health not in HEALTHY for chip in chips) or bool(cards and cards.state == "ok" and cards.problem)
    remedy = "free the chips, or set deployer_tensor_parallel or deployer_replicas lower"
    if draft.accelerator.one_card:
        remedy = f"free {parallel} chips of one card, or set deployer_tensor_parallel or deployer_replicas lower"
    if fewer := _fewer(draft, parallel, good):
        remedy = f"free the chips; or {fewer}"
    if sick:
        look = f"look at the card with `{draft.accelerator.tool}`, reset or replace it"
        remedy = f"{look}; or {fewer}" if fewer else f"{look}; or leave the host out with --limit"
    choices = draft.placement.tensor_parallel
    least = parallel == min(choices) < choices[0] and not draft.settings.tensor_parallel and not draft.placement.builds
    draft.refuse(
        "chips",
        "; ".join([f"{good} of {len(chips)} free and healthy", *parts]),
        f"{'at least ' if least else ''}{parallel}{of}",
        remedy,
    )


def _fewer(draft: Draft, parallel: int, good: int) -> str:
    """What an operator can ask for on so many chips, where the weights fit it, and what that leaves."""
    share, asked = _share(draft), draft.settings.tensor_parallel
    for chips in sorted(draft.placement.tensor_parallel_asked, reverse=True):
        left = share - draft.model.weights.size / chips
        if chips < parallel and chips <= good and left > 0 and not asked:
            return (
                f"set deployer_tensor_parallel={chips}, which leaves {gb(left)} of each chip's {gb(share)} "
                "(memory-utilization) for the KV cache and all else"
            )
    return ""


class _Ports:
    """Hands out ports: the one asked for to the first replica, free ones after it to the others."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.observation: Observation = draft.observation
        own = {each.container for each in draft.have.values()}
        # Another deployment's port is passed over; a stranger's program on the port asked for is refused by preflight.
        others = [each for each in self.observation.deployments.values() if each.container not in own]
        # A program in a terminal listens nowhere.
        self.taken = {each.port for each in others if each.protocol != "terminal"}
        configs = {f"{self.observation.places.config}/{each.name}" for each in draft.have.values()}
        self.listening = {each.port for each in self.observation.listeners if (each.config or "") not in configs}

    def take(self, replica: int) -> int:
        """The port of a replica; one that it has is kept as long as the same is asked for."""
        asked = self.draft.port
        have = self.draft.have.get(replica)
        if have and have.wanted_port == asked and have.port not in self.taken:
            self.taken.add(have.port)
            return have.port
        port = asked
        while port in self.taken or (replica > 1 and port in self.listening):
            port += 1
        self.taken.add(port)
        return port
