"""Decides what a host needs. Pure: catalog + settings + observation → plan; no I/O, no clock, no randomness."""

from __future__ import annotations

from deployer.catalog import Catalog, Model, Placement, Runtime
from deployer.observe.observation import DeploymentState, Observation, Python
from deployer.observe.request import engine_dir, weights_dir
from deployer.observe.settings import Settings
from deployer.plan import preflight, render
from deployer.plan.preflight import gb
from deployer.plan.types import EngineSpec, HostPlan, HostSpec, Refusal, ServingSpec, Step, WeightsSpec

DOWNLOAD_BYTES_PER_S = 20_000_000
LOAD_BYTES_PER_S = 500_000_000
SHOWN_CHANGES = 3


def plan_host(catalog: Catalog, settings: Settings, observation: Observation, templates: render.Templates) -> HostPlan:
    """The plan of one host for the deployment that its settings ask for."""
    model = catalog.model(settings.model)
    refused = tuple(preflight.pair(catalog, model, settings, observation))
    if refused:
        return HostPlan(accelerator=observation.accelerator, refused=refused)
    placement = catalog.placement(model, observation.accelerator)
    runtime = catalog.runtimes[placement.runtime]
    return _Planner(model, placement, runtime, settings, observation, templates).plan()


class _Planner:
    """One host's planning; the parts of a plan depend on each other in the order engine, weights, serving."""

    def __init__(
        self,
        model: Model,
        placement: Placement,
        runtime: Runtime,
        settings: Settings,
        observation: Observation,
        templates: render.Templates,
    ) -> None:
        self.model, self.placement, self.runtime = model, placement, runtime
        self.settings, self.observation, self.templates = settings, observation, templates
        self.deployment = settings.deployment or model.name
        self.have = observation.deployments.get(self.deployment)
        self.steps: list[Step] = []
        self.refused: list[Refusal] = []
        self.satisfied: dict[str, str] = {}
        self.needs_disk = 0

    def plan(self) -> HostPlan:
        engine = self._engine()
        weights = self._weights()
        listen = self.settings.listen or ("127.0.0.1" if self.settings.is_local else "0.0.0.0")  # noqa: S104
        self.refused += preflight.listen(self.settings, listen)
        serving = render.serving(
            self.deployment, self.model, self.placement, self.runtime, engine, weights.dir,
            self.settings, self.observation, self._manager(), listen, self.templates,
        )  # fmt: skip
        self._serving(serving)
        self.refused += preflight.resources(
            self.model, self.placement, self.runtime, self.settings, self.observation,
            self.have, tuple(self.steps), self.needs_disk,
        )  # fmt: skip
        return HostPlan(
            accelerator=self.observation.accelerator,
            steps=tuple(self.steps),
            refused=tuple(self.refused),
            satisfied=self.satisfied,
            notes=("random weights: its answers are noise",) if self.model.random_weights else (),
            endpoint=serving.endpoint,
            spec=HostSpec(
                deployment=self.deployment,
                model=self.model.name,
                served_name=self.model.name,
                accelerator=self.observation.accelerator,
                data_dir=self.observation.places.data,
                engine=engine,
                weights=weights,
                serving=serving,
            ),
        )

    def _engine(self) -> EngineSpec:
        directory = engine_dir(self.observation.places.data, self.runtime.name, self.runtime.version)
        title = f"{self.runtime.title} {self.runtime.version}"
        python = ""
        if self.observation.engines.get(directory):
            self.satisfied["engine"] = f"{title} is installed"
        else:
            chosen = preflight.choose_python(self.runtime, self.observation, self.settings)
            if isinstance(chosen, Python):
                python = chosen.path
            else:
                self.refused.append(chosen)
            self.needs_disk += self.runtime.disk_bytes
            found = "half-installed" if directory in self.observation.partial_engines else "absent"
            reason = f"{title} {found} → install"
            # What serves from a damaged engine, this deployment or another, loses it while it is installed again.
            used = any(each.engine == directory and each.process for each in self.observation.deployments.values())
            self.steps.append(
                Step(id="engine", reason=reason, interrupts_serving=used, estimate_s=self.runtime.install_s)
            )
        return EngineSpec(
            dir=directory,
            name=self.runtime.name,
            version=self.runtime.version,
            python=python,
            torch=self.runtime.torch,
            packages=self.runtime.packages,
            drop_packages=self.runtime.drop_packages,
            import_check=self.runtime.import_check,
        )

    def _weights(self) -> WeightsSpec:
        in_place = bool(self.settings.weights_dir)
        staged = weights_dir(self.observation.places.data, self.model.name)
        state = self.observation.weights.get(self.settings.weights_dir if in_place else staged)
        if in_place:
            self._weights_in_place()
        elif state and state.exists and state.stamped and not state.problem:
            self.satisfied["artefacts"] = f"weights are staged and complete ({gb(state.size)})"
        else:
            self._stage_weights(state.problem if state and state.exists else None, bool(state and state.half_written))
        return WeightsSpec(
            dir=self.settings.weights_dir if in_place else staged,
            in_place=in_place,
            size=self.model.weights.size,
            sources=tuple(source.model_dump() for source in self.model.weights.sources),
            sha256=self.model.weights.sha256,
        )

    def _weights_in_place(self) -> None:
        directory = self.settings.weights_dir
        state = self.observation.weights.get(directory)
        problem = "the directory does not exist" if state is None or not state.exists else state.problem
        if problem is None and state is not None:
            self.satisfied["artefacts"] = f"weights in {directory} are complete ({gb(state.size)})"
            return
        self.refused.append(
            Refusal(
                check="weights",
                found=f"{directory}: {problem}",
                wanted=f"the complete weights of {self.model.name}",
                remedy="copy them again and compare checksums with the source, or correct deployer_weights_dir",
            )
        )

    def _stage_weights(self, problem: str | None, half_written: bool) -> None:
        sources = self.model.weights.sources
        if not sources:
            self.refused.append(
                Refusal(
                    check="weights",
                    found=f"no source for the weights of {self.model.name} in the catalog",
                    wanted="weights",
                    remedy="set deployer_weights_dir to a directory on the host that holds them",
                )
            )
            return
        generated = sources[0].kind == "generated"
        verb = "make from the fixed seed (random weights)" if generated else f"download {gb(self.model.weights.size)}"
        found = problem or ("half-written" if half_written else "absent")
        self.needs_disk += int(self.model.weights.size * 1.05)
        self.steps.append(
            Step(
                id="artefacts",
                reason=f"weights {found} → {verb}" if not problem else f"weights: {problem} → {verb}",
                estimate_s=15 if generated else 10 + self.model.weights.size // DOWNLOAD_BYTES_PER_S,
                size=self.model.weights.size,
            )
        )

    def _manager(self) -> str:
        """systemd where it runs; a deployment keeps the one it has, as a bare SSH session may not see systemd."""
        if self.settings.service_manager != "auto":
            return self.settings.service_manager
        if self.have and self.have.manager:
            return self.have.manager
        return "systemd" if self.observation.systemd_user else "detached"

    def _serving(self, want: ServingSpec) -> None:
        start = self.runtime.start_s + self.model.weights.size // LOAD_BYTES_PER_S
        alive = self.have.process if self.have else None
        reason = self._why_start(want)
        if reason:
            self.steps.append(
                Step(id="serving", reason=reason, interrupts_serving=bool(self.have and self.have.ready), estimate_s=2)
            )
            self.steps.append(Step(id="readiness", reason="wait until it answers", estimate_s=start))
        elif alive and self.have and not self.have.ready:
            reason = f"pid {alive.pid} is loading since {alive.age_s} s → wait until it answers"
            self.steps.append(Step(id="readiness", reason=reason, estimate_s=max(1, start - alive.age_s)))
        elif alive:
            self.satisfied["serving"] = f"serving as wanted (pid {alive.pid})"

    def _why_start(self, want: ServingSpec) -> str | None:
        have = self.have
        if have is None:
            return "not deployed → configure and start"
        if have.problem:
            return f"{have.problem} → configure and start again"
        if self.steps and have.process:
            return f"{' and '.join(step.id for step in self.steps)} new → restart"
        if have.spec != want.spec:
            return f"{_difference(have, want)} → {'restart' if have.process else 'start'}"
        for path, content in want.files.items():
            if have.files.get(path) != render.sha256(content):
                return f"{path.rpartition('/')[2]} was changed by hand or is missing → write it again and restart"
        return self._why_restart(have, want)

    def _why_restart(self, have: DeploymentState, want: ServingSpec) -> str | None:
        if have.process is None:
            if have.strays:
                return f"the server died and left {len(have.strays)} processes behind → stop them and start"
            return "not running → start"
        if have.running_spec != want.spec:
            return "it runs with earlier settings → restart"
        if not have.ready and have.process.age_s > want.ready_timeout_s:
            return f"alive for {have.process.age_s} s but /health says {have.health or 'nothing'} → restart"
        if self.settings.restart:
            return "restart was asked for"
        return None


def _difference(have: DeploymentState, want: ServingSpec) -> str:
    """What changed between the settings that are deployed and those that are wanted."""
    wanted = dict(want.environment)
    for word in want.command:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            wanted[name] = value or "on"
    parts = []
    for name in sorted({*wanted, *have.settings}):
        old, new = have.settings.get(name), wanted.get(name)
        if old != new:
            parts.append(f"{name} {old if old is not None else 'unset'} → {new if new is not None else 'unset'}")
    if not parts:
        return "its files are of another version"
    more = f" and {len(parts) - SHOWN_CHANGES} more" if len(parts) > SHOWN_CHANGES else ""
    return "; ".join(parts[:SHOWN_CHANGES]) + more
