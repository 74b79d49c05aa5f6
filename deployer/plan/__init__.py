"""The pure planner: catalog + settings + observation → ordered steps, each with its reason."""

from deployer.plan.jobs import JobPlan, JobRequest, plan_job
from deployer.plan.limits import limits
from deployer.plan.planner import plan_host
from deployer.plan.removal import Removal, plan_removal
from deployer.plan.render import load_templates
from deployer.plan.types import HostPlan, HostSpec, JobSpec, Plan, Refusal, Step

__all__ = [
    "HostPlan",
    "HostSpec",
    "JobPlan",
    "JobRequest",
    "JobSpec",
    "Plan",
    "Refusal",
    "Removal",
    "Step",
    "limits",
    "load_templates",
    "plan_host",
    "plan_job",
    "plan_removal",
]
