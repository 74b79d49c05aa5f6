"""A host's plan in the making: what is known, and the steps, refusals and notes so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployer.catalog import Accelerator, Model, Placement, Runtime
from deployer.catalog.schema import Build, Failure
from deployer.observe.observation import DeploymentState, Observation, Package
from deployer.observe.settings import Settings
from deployer.plan.types import FetchSpec, PackageSpec, Refusal, Step
from deployer.secret import Secret

Templates = Mapping[str, str]
LOAD_BYTES_PER_S = 500_000_000
# States of cards in which nothing is known of their chips.
UNSEEN = ("unknown", "silent")


@dataclass
class Draft:
    """The parts of a plan are decided one after another, each in its module; they share this."""

    accelerator: Accelerator
    model: Model
    placement: Placement
    runtime: Runtime
    settings: Settings
    observation: Observation
    templates: Templates
    failures: tuple[Failure, ...] = ()
    steps: list[Step] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    satisfied: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    needs_disk: dict[str, int] = field(default_factory=dict)
    fetch: list[FetchSpec] = field(default_factory=list)
    lacking: list[Refusal] = field(default_factory=list)
    access: str = ""

    @property
    def deployment(self) -> str:
        """The deployment's name."""
        return self.settings.deployment or self.model.name

    @property
    def have(self) -> dict[int, DeploymentState]:
        """The deployment's replicas that are on the host, by their numbers."""
        return {
            each.replica: each for each in self.observation.deployments.values() if each.deployment == self.deployment
        }

    @property
    def serving(self) -> tuple[str, ...]:
        """Every deployment of the host that answers, of whatever model: it holds the cards, and they work."""
        return tuple(dict.fromkeys(e.deployment for e in self.observation.deployments.values() if e.ready and e.chips))

    @property
    def unseen(self) -> str:
        """Why the chips cannot be seen; empty where they are, or where the reboot of an installation will show them."""
        cards = self.observation.cards
        if cards is None or cards.state not in UNSEEN or self.awaits_reboot:
            return ""
        return cards.problem or cards.state

    @property
    def awaits_reboot(self) -> bool:
        """Whether deployer has installed a driver in this boot that takes effect with the next; others need none."""
        driver, have = self.accelerator.driver, self.observation.driver
        if driver is None or have is None or driver.every_boot or driver.packages:
            return False
        return bool(have.installed_boot) and have.installed_boot == self.observation.boot_id

    @property
    def using(self) -> tuple[str, ...]:
        """Every deployment of the host with a process, also one that does not answer yet."""
        return tuple(dict.fromkeys(e.deployment for e in self.observation.deployments.values() if e.process))

    @property
    def privileged(self) -> bool:
        """Whether containers run with --privileged: as the site says, else as the engine wants it."""
        asked = self.settings.privileged
        return self.runtime.privileged if asked is None else asked

    @property
    def key(self) -> Secret | None:
        """The API key that the engine asks for; None where it asks nobody."""
        return self.settings.key([self.runtime.api_key]) if self.runtime.api_key else None

    @property
    def cap_drop(self) -> tuple[str, ...]:
        """Capabilities that containers do without. One that is privileged has all, whatever Docker is told to drop."""
        return () if self.privileged else tuple(sorted({each.removeprefix("CAP_") for each in self.settings.cap_drop}))

    @property
    def security_opts(self) -> tuple[str, ...]:
        """No program in it gets rights by a setuid file; a privileged one is as the guide makes it."""
        return () if self.privileged else ("no-new-privileges",)

    @property
    def build(self) -> Build | None:
        """The compilation of the model that is served, where there are some."""
        return self.placement.build(self.settings.build, self.settings.tensor_parallel)

    @property
    def port(self) -> int:
        """The port that is asked for, or the engine's own."""
        return self.settings.port or self.runtime.port

    @property
    def chip_memory_mib(self) -> int | None:
        """What each chip has, where they are started: there are cards of the same chip with less."""
        chips = self.observation.cards.chips if self.observation.cards else ()
        return min((chip.memory_total_mib or 0 for chip in chips), default=0) or self.accelerator.chip_memory_mib

    @property
    def start_s(self) -> int:
        """Estimate from the start of a server to its first answer."""
        return self.runtime.start_s + self.model.weights.size // LOAD_BYTES_PER_S

    def step(self, identifier: str, reason: str, estimate_s: int, *, size: int = 0, interrupts: bool = False,
             reboots: bool = False) -> None:  # fmt: skip
        """Add a step."""
        self.steps.append(
            Step(
                id=identifier,
                reason=reason,
                estimate_s=estimate_s,
                size=size,
                interrupts_serving=interrupts,
                reboots=reboots,
            )
        )

    def refuse(self, check: str, found: str, wanted: str, remedy: str) -> None:
        """Add a refusal."""
        self.refused.append(Refusal(check=check, found=found, wanted=wanted, remedy=remedy))

    def lacks(self, check: str, found: str, wanted: str, remedy: str) -> None:
        """Add what only a change of the host needs: a refusal where there is a step, a note on one that serves."""
        self.lacking.append(Refusal(check=check, found=found, wanted=wanted, remedy=remedy))

    def first_sight(self, what: str, published: str) -> None:
        """Tell that something is taken as it comes, the first time; without consent it is refused."""
        if self.settings.trust_first_sight:
            self.notes.append(f"{what}: nobody has published {published}; what comes is taken as it is")
            return
        self.refuse(
            "first sight",
            f"{what}, of which nobody has published {published}",
            "your consent to take what comes, or a source that is known",
            f"set deployer_trust_first_sight=true, or bring it yourself: the file, or {published} in your catalog",
        )

    def require_chips(self, chips: int, compiled: str) -> None:
        """Refuse another number of chips than what `compiled` names was compiled for."""
        asked = self.settings.tensor_parallel
        if asked and asked != chips:
            self.refuse(
                "tensor parallel",
                f"deployer_tensor_parallel={asked}",
                f"{chips}, for which {compiled} was compiled",
                "leave it out",
            )

    def needs(self, place: str, size: int) -> None:
        """Note that a step takes room where `place` is."""
        self.needs_disk[place] = self.needs_disk.get(place, 0) + size

    def has_step(self, identifier: str) -> bool:
        """Whether a step is planned already."""
        return any(step.id == identifier for step in self.steps)

    def stage(self, package: Package) -> PackageSpec:
        """A file of the control node that is to be copied to the host, and the room that it needs there."""
        data = self.observation.places.data
        self.needs(data, package.size)
        if not package.sha256:
            self.notes.append(f"{package.name}: no published checksum beside it (SHA256SUMS), not compared")
        return PackageSpec(
            kind=package.kind,
            path=package.path,
            name=package.name,
            version=package.version,
            size=package.size,
            sha256=package.sha256,
            staged=f"{data}/packages/{package.name}",
        )
