"""Jobs of the engine: what exactly is run, on which chips, and when not."""

from __future__ import annotations

from typing import Any

import pytest

from deployer import plan
from deployer.errors import DeployerError
from deployer.observe import Observation, Settings
from deployer.plan import JobPlan, JobRequest
from tests.unit.test_plan import BASES, CATALOG, DEFAULTS, TEMPLATES, converged, merge

HOME = "/var/lib/deployer/home"
MODEL = "deepseek-r1-distill-qwen-7b"
WEIGHTS, KCORE = f"{HOME}/DeepSeek-R1-Distill-Qwen-7B", f"{HOME}/deepseek_7b_bf16_seq8192_c4/chip_out/node_0_0"


def job(request: dict[str, Any], host: dict[str, Any] | None = None, **settings: Any) -> JobPlan:
    wanted = Settings.model_validate(DEFAULTS["tx8"] | settings)
    seen = Observation.model_validate(BASES["tx8"] if host is None else host)
    return plan.plan_job(CATALOG, wanted, seen, TEMPLATES, JobRequest.model_validate(request))


def command(found: JobPlan) -> list[str]:
    assert found.job is not None, found.plan.refused
    return list(found.job.command)


def results(name: str) -> str:
    return f"{HOME}/.deployer/jobs/{MODEL}-{name}"


def test_offline_one_batch_is_the_guide_s() -> None:
    """T1-R42: -cn, and no -bs nor -tf where nobody asks for batches."""
    found = job({"name": "offline", "max_tokens": 2048})
    assert command(found) == [
        "python", "offline_auto_test.py", "-mp", f"{WEIGHTS}/", "-cd", f"{KCORE}/", "-pp", "quests_v1.txt",
        "-s", results("offline"), "-mt", "2048", "-cn", "0..3", "-rn", "1",
    ]  # fmt: skip
    assert found.job is not None
    assert found.job.chips == (0, 1, 2, 3)
    assert found.plan.steps[0].id == "job"


def test_offline_eight_batches_is_the_guide_s() -> None:
    """T1-R41, T1-X29: -tf True with -bs, which wins over -cn."""
    found = job({"name": "offline", "batches": [8], "max_tokens": 2048, "repeat": 3})
    assert command(found) == [
        "python", "offline_auto_test.py", "-mp", f"{WEIGHTS}/", "-cd", f"{KCORE}/", "-pp", "quests_v1.txt",
        "-s", results("offline"), "-mt", "2048", "-tf", "True", "-bs", "8", "-rn", "3",
    ]  # fmt: skip
    assert found.job is not None
    assert found.job.chips == tuple(range(32))


def test_offline_list_of_batches_files_and_container() -> None:
    found = job({"name": "offline", "batches": [1, 5], "prompts": "/c/q.txt", "golden": "/c/g.txt"})
    words = command(found)
    assert words[words.index("-bs") + 1] == "[1,5]"
    assert words[words.index("-pp") + 1] == f"{results('offline')}/prompts.txt"
    assert words[words.index("-gp") + 1] == f"{results('offline')}/golden.txt"
    assert found.job is not None
    assert found.job.uploads == {
        "/c/q.txt": f"{results('offline')}/prompts.txt",
        "/c/g.txt": f"{results('offline')}/golden.txt",
    }
    assert found.job.chips == tuple(range(20))
    assert found.job.volumes[-2:] == (f"{HOME}:{HOME}:rw", f"{HOME}/miniconda:/opt/miniconda:rw")
    assert "/dev:/dev:rw" in found.job.volumes
    assert found.job.labels["deployer.deployment"] == MODEL
    assert f"cd {HOME}/txnn_1.2.1_build0307/script/run_infer" in found.job.script
    assert "find . -maxdepth 1 -type f -name 'TX8_offline_func_batchsize_*'" in found.job.script


CLIENTS = {
    # T1-R49, T1-R50, T1-R51; T1-X36: one port, once per batch
    (MODEL, 1): ("openai_chat_completion_client.py", "8000"),
    (MODEL, 8): ("mul_process_online_client.py", ",".join(["8000"] * 8)),
    ("deepseek-r1-distill-llama-8b", 1): ("openai_completion_client_llama.py", "8000"),
    ("deepseek-r1-distill-llama-8b", 2): ("mul_process_online_client_completion_llama.py", "8000,8000"),
}


@pytest.mark.parametrize(("model", "replicas"), CLIENTS)
def test_client_is_the_one_of_the_model_s_family(model: str, replicas: int) -> None:
    program, ports = CLIENTS[model, replicas]
    host = converged("tx8", {"replicas": replicas})
    settings: dict[str, Any] = {"replicas": replicas}
    if model != MODEL:
        kcore, weights = "/d/deepseek_llama3_8b_bf16_32b_c4_2/node_0_0", "/d/w"
        settings |= {"model": model, "deployment": MODEL, "weights_dir": weights, "compiled_dir": kcore}
        state = {"path": weights, "exists": True, "dtype": "bfloat16", "layers": 32, "config": {"param_dir": kcore}}
        state["config"]["tensor_parallel"] = "{}"  # type: ignore[index]
        compiled = {"path": kcore, "exists": True, "files": ["model_info.json", "kcore.bin"]}
        host = merge(host, {"compiled": compiled, "weights": {weights: state}})
    found = job({"name": "client", "max_tokens": 2048}, host, **settings)
    assert command(found) == [
        "python", program, "-sp", ports, "-pp", "quests_v1.txt", "-s", results("client"), "-rn", "1", "-mt", "2048",
    ]  # fmt: skip
    assert found.job is not None
    assert found.job.chips == ()


SERVING = converged("tx8", {})
ALL = converged("tx8", {"replicas": 8})
LOADING = {"deployments": {MODEL: {"ready": False, "health": "Connection refused"}}}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str, str]] = {
    "not made ready": (
        {"name": "offline"}, merge(BASES["tx8"], {"engine_version": ""}), "host", "conda_env still to be done",
        "deployer up",
    ),
    "server holds all": (
        {"name": "offline"}, ALL, "chips", f"chips 0..3 are held by deployment {MODEL}", "deployer down",
    ),
    "server holds one of the groups": (
        {"name": "offline", "batches": [8]}, SERVING, "chips", f"chips 0..3 are held by deployment {MODEL}",
        "fewer batches",
    ),
    "group asked for is held": ({"name": "offline", "chips": "0..3"}, SERVING, "chips", "are held by", "another group"),
    "no group": ({"name": "offline", "chips": "2..5"}, SERVING, "chips", "--chips 2..5", "leave it out"),
    "two groups": ({"name": "offline", "chips": "8..15"}, SERVING, "chips", "--chips 8..15", "leave it out"),
    "group that is not there": (
        {"name": "offline", "chips": "32..35"}, SERVING, "chips", "0 of 4 chips are free and healthy", "another group",
    ),
    "chips and batches": (
        {"name": "offline", "chips": "4..7", "batches": [2]}, SERVING, "chips", "--chips 4..7 for 2 batches",
        "leave it",
    ),
    "no server": ({"name": "client"}, BASES["tx8"], "server", "no server of this deployment", "deployer up"),
    "server that loads": ({"name": "client"}, merge(SERVING, LOADING), "server", "does not answer", "deployer up"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_host_that_cannot_run_it_now_is_refused(name: str) -> None:
    request, host, check, found, remedy = REFUSED[name]
    result = job(request, host)
    assert result.job is None
    (refusal,) = result.plan.refused
    assert (refusal.check, result.plan.steps) == (check, ())
    assert found in refusal.found
    assert remedy in refusal.remedy


def test_free_group_beside_a_server_is_taken() -> None:
    found = job({"name": "offline"}, SERVING)
    assert found.job is not None
    assert found.job.chips == (4, 5, 6, 7)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"name": "train"}, "has no job 'train'"),
        ({"name": "offline", "max_tokens": 8193}, "at most 8192"),
        ({"name": "offline", "batches": [9]}, "at most 8"),
        ({"name": "client", "batches": [2]}, "asks the server"),
    ],
)
def test_what_can_nowhere_be_is_an_error(request_: dict[str, Any], said: str) -> None:
    with pytest.raises(DeployerError, match=said):
        job(request_)


def test_engine_without_jobs_says_so() -> None:
    wanted = Settings(model="tiny-qwen2", connection="local")
    with pytest.raises(DeployerError, match="has no job 'offline'"):
        plan.plan_job(CATALOG, wanted, Observation.model_validate(BASES["."]), TEMPLATES, JobRequest(name="offline"))
