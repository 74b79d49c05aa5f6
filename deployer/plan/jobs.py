"""Decides about a job: whether a host can run it now, on which chips, and what exactly is run. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from deployer.catalog import Catalog, Job
from deployer.errors import UsageError
from deployer.observe.observation import Observation
from deployer.observe.settings import Settings
from deployer.plan import chips, config_copy, containers, environments, planner, preflight, render
from deployer.plan.draft import Draft, Templates
from deployer.plan.types import HostPlan, JobSpec, Planned, Step
from deployer.units import ranges

GOLDEN, PROMPTS = "golden.txt", "prompts.txt"
# Steps that a job does without.
SERVING = ("serving_container", "readiness")
TOKENS_PER_S = 20


class JobRequest(BaseModel):
    """What is asked of a job. `prompts` and `golden` are files of the control node; empty is the engine's, or none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    batches: tuple[Annotated[int, Field(ge=1)], ...] = ()
    chips: Annotated[str, StringConstraints(pattern=r"^(\d+\.\.\d+)?$")] = ""
    repeat: int = Field(default=1, ge=1)
    max_tokens: int = Field(default=1024, ge=1)
    prompts: str = ""
    golden: str = ""


class JobPlan(Planned):
    """A host's plan with the job as its only step, and the job itself unless it is refused."""

    plan: HostPlan
    job: JobSpec | None = None


def plan_job(
    catalog: Catalog, settings: Settings, observation: Observation, templates: Templates, request: JobRequest
) -> JobPlan:
    """The job on one host. What is asked for and can nowhere be is an error; what this host lacks is its refusal."""
    model = catalog.model(settings.model)
    refused = tuple(preflight.pair(catalog, model, settings, observation))
    if refused:
        return JobPlan(plan=HostPlan(accelerator=observation.accelerator, refused=refused))
    draft = planner.drafted(catalog, settings, observation, templates)
    job = _job(draft, request)
    spec = _spec(draft, job, request)
    if draft.refused or spec is None:
        return JobPlan(plan=HostPlan(accelerator=observation.accelerator, refused=tuple(draft.refused)))
    where = f"on chips {ranges(spec.chips)}" if spec.chips else f"against {draft.have[1].endpoint}"
    step = Step(
        id="job",
        reason=f"{job.title} {where}: {' '.join(spec.command[:2])} …",
        estimate_s=(0 if job.server else draft.start_s) + request.repeat * (1 + request.max_tokens // TOKENS_PER_S),
    )
    return JobPlan(plan=HostPlan(accelerator=observation.accelerator, steps=(step,)), job=spec)


def _job(draft: Draft, request: JobRequest) -> Job:
    """The job of that name; what is asked for must be something that it can do at all."""
    jobs = draft.runtime.jobs
    if request.name not in jobs:
        raise UsageError(
            f"{draft.model.name} on {draft.accelerator.name} has no job {request.name!r}",
            f"it has {', '.join(jobs)}" if jobs else f"{draft.runtime.title} has none",
        )
    job = jobs[request.name]
    if request.max_tokens > job.most_tokens:
        raise UsageError(f"--max-tokens {request.max_tokens}: at most {job.most_tokens}")
    if request.batches and max(request.batches) > job.most_batches:
        raise UsageError(f"--batches {max(request.batches)}: at most {job.most_batches}")
    if job.server and (request.batches or request.chips):
        raise UsageError(f"{request.name} asks the server, which has its chips and batches", "leave them out")
    return job


def _spec(draft: Draft, job: Job, request: JobRequest) -> JobSpec | None:
    have = planner.prepare(draft)
    missing = [step for step in draft.steps if step.id not in SERVING]
    if missing:
        draft.refused.clear()
        draft.refuse(
            "host",
            f"{', '.join(step.id for step in missing)} still to be done ({missing[0].reason})",
            "a host that `deployer up` has made ready",
            "run `deployer up` for this model first; `deployer down` frees its chips and keeps all else",
        )
        return None
    parallel = have.parallel or draft.placement.tensor_parallel[0]
    allotted = _server(draft) if job.server else _chips(draft, request, parallel)
    if draft.refused:
        return None
    many = len(draft.have[1].chips) // parallel if job.server else max(request.batches, default=1)
    own = environments.container(draft, have.places, have.compiled, allotted, have.parallel)
    results = f"{have.places.home}/.deployer/jobs/{draft.deployment}-{request.name}"
    copy = f"{results}-{config_copy.NAME}"
    uploads = {
        path: f"{results}/{name}" for path, name in ((request.prompts, PROMPTS), (request.golden, GOLDEN)) if path
    }
    values = {
        **own.values,
        "weights": have.weights.dir,
        "prompts": uploads.get(request.prompts) or job.prompts,
        "golden": uploads.get(request.golden, ""),
        "results": results,
        "max_tokens": str(request.max_tokens),
        "repeat": str(request.repeat),
        # T1-R42, T1-X29: one batch says its chips; several say how many, and that wins over the chips (T1-R44).
        "batches": _batches(request),
        "traversal": "True" if many > 1 else "",
        "chips": own.values["chips"] if many == 1 else "",
        "ports": ",".join([str(draft.have[1].port)] * many) if job.server else "",
    }
    programs = job.programs_of_many if many > 1 and job.programs_of_many else job.programs
    program = programs.get(draft.placement.family) or programs[""]
    command = ["python", program]
    for flag, value in job.arguments:
        filled = render.fill(value, values)
        command += [flag, filled] if filled else []
    conda = draft.runtime.conda
    assert conda is not None
    environment, extending = render.runtime_environment(draft.runtime, values)
    return JobSpec(
        name=request.name,
        container=f"deployer-job-{draft.deployment}-{request.name}",
        image=have.image.id,
        script=render.job_script(
            draft.templates, conda, render.fill(draft.runtime.directory, values), results, job.logs, command, extending
        ),
        environment=environment,
        volumes=(
            *containers.driver_volumes(draft, None),
            *own.volumes,
            *containers.weights_volumes(have.weights, own, copy),
        ),
        privileged=draft.privileged,
        cap_drop=draft.cap_drop,
        security_opts=draft.security_opts,
        results=results,
        uploads=uploads,
        files={copy: have.weights.config_copy} if have.weights.config_copy else {},
        command=tuple(command),
        # By its deployment's name `down` finds and stops it too.
        labels={"deployer.deployment": draft.deployment, "deployer.job": request.name},
        chips=() if job.server else allotted,
    )


def _batches(request: JobRequest) -> str:
    if not request.batches:
        return ""
    if len(request.batches) == 1:
        return str(request.batches[0])
    return f"[{','.join(map(str, request.batches))}]"


def _server(draft: Draft) -> tuple[int, ...]:
    have = draft.have.get(1)
    if have is None or not have.ready:
        draft.refuse(
            "server",
            "no server of this deployment that answers"
            if have is None
            else f"a server that does not answer ({have.health})",
            "one that serves",
            "run `deployer up` for this model first",
        )
        return ()
    return have.chips


def _chips(draft: Draft, request: JobRequest, parallel: int) -> tuple[int, ...]:
    """Chips for so many batches: the group asked for, any free one, or the first groups where the program chooses."""
    free, held = chips.free_for_a_job(draft)
    usable = {chip.id for chip in free}
    count = max(request.batches, default=1)
    if request.chips:
        first, last = map(int, request.chips.split(".."))
        wanted = tuple(range(first, last + 1))
        if count > 1 or len(wanted) != parallel or first % parallel:
            draft.refuse(
                "chips",
                f"--chips {request.chips} for {count} batch{'es' if count > 1 else ''}",
                f"one group of {parallel} chips for one batch, as 0..{parallel - 1} or {parallel}..{2 * parallel - 1}",
                "correct it, or leave it out",
            )
            return ()
    elif count == 1:
        wanted = chips.choose(free, parallel, one_card=draft.accelerator.one_card) or tuple(range(parallel))
    else:
        wanted = tuple(range(count * parallel))
    if not usable.issuperset(wanted):
        who = list(_holders(wanted, held)) or [
            f"{sum(number in usable for number in wanted)} of {len(wanted)} chips are free and healthy"
        ]
        draft.refuse(
            "chips",
            "; ".join(who),
            f"chips {ranges(wanted)} free",
            "`deployer down` the deployment that holds them, or ask for fewer batches or another group",
        )
    return wanted


def _holders(wanted: tuple[int, ...], held: dict[int, str]) -> Iterator[str]:
    for who in dict.fromkeys(held[number] for number in wanted if number in held):
        numbers = [number for number in wanted if held.get(number) == who]
        yield f"chips {ranges(numbers)} are held by {who}"
