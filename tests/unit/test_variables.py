"""Variables that extend the image's: expanded by the shell inside, and nothing else of a value is."""

from __future__ import annotations

import subprocess

import pytest

from deployer import catalog, plan
from deployer.observe import Observation, Settings
from deployer.plan import variables
from deployer.plan.jobs import JobRequest, plan_job
from tests.unit import test_plan

NAME = "LD_LIBRARY_PATH"
CASES: dict[str, tuple[str, str | None, str]] = {
    # name: value, what the image has (None: nothing), what the engine gets
    "before": ("/a:$LD_LIBRARY_PATH", "/usr/local/kuiper/lib", "/a:/usr/local/kuiper/lib"),
    "before nothing": ("/a:$LD_LIBRARY_PATH", None, "/a"),
    "before an empty one": ("/a:$LD_LIBRARY_PATH", "", "/a"),
    "braces": ("/a:/b:${LD_LIBRARY_PATH}", "/k", "/a:/b:/k"),
    "behind": ("$LD_LIBRARY_PATH:/a", "/k", "/k:/a"),
    "behind nothing": ("$LD_LIBRARY_PATH:/a", None, "/a"),
    "around": ("/a:$LD_LIBRARY_PATH:/b", "/k", "/a:/k:/b"),
    "around nothing": ("/a:$LD_LIBRARY_PATH:/b", None, "/a:/b"),
    "alone": ("$LD_LIBRARY_PATH", "/k", "/k"),
    "alone, nothing": ("$LD_LIBRARY_PATH", None, ""),
    "twice": ("$LD_LIBRARY_PATH:/a:$LD_LIBRARY_PATH", "/k", "/k:/a"),
    "no own name": ("/a:$HOME", "/k", "/a:$HOME"),
    "part of a word": ("/a$LD_LIBRARY_PATH", "/k", "/a$LD_LIBRARY_PATH"),
    "a command": ("/a:$(id):`id`:$LD_LIBRARY_PATH:';id'", "/k", "/a:$(id):`id`:/k:';id'"),
    "the image's has marks": ("/a:$LD_LIBRARY_PATH", "/k k:$(id)", "/a:/k k:$(id)"),
    "expansion of another": ("/a:${LD_LIBRARY_PATH:-$(id)}", "/k", "/a:${LD_LIBRARY_PATH:-$(id)}"),
}


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("name", CASES)
def test_value_in_a_shell(name: str, shell: str) -> None:
    value, has, wanted = CASES[name]
    script = f'set -eu\n{NAME}={variables.assigned(value, NAME)}\nprintf %s "${NAME}"'
    environment = {} if has is None else {NAME: has}
    done = subprocess.run([shell, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (wanted, "")


LAYERS: dict[str, tuple[list[str], str]] = {
    "the last wins": (["/a", "/b"], "/b"),
    "extends the earlier": (["/a:$LD_LIBRARY_PATH", "/b:$LD_LIBRARY_PATH"], "/b:/a:$LD_LIBRARY_PATH"),
    "extends one that replaces": (["/a", "/b:$LD_LIBRARY_PATH"], "/b:/a"),
    "nothing earlier": (["/b:$LD_LIBRARY_PATH"], "/b:$LD_LIBRARY_PATH"),
    "an earlier empty one": (["", "/b:$LD_LIBRARY_PATH"], "/b"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    layers, wanted = LAYERS[name]
    assert variables.layered({NAME: each} for each in layers) == {NAME: wanted}


IMAGE = {"PATH": "/usr/local/kuiper/bin:/usr/bin:/bin", NAME: "/usr/local/kuiper/lib"}


def exported(text: str) -> dict[str, str]:
    """PATH and LD_LIBRARY_PATH as a script's assignments leave them, in the vendor's image."""
    lines = [line for line in text.splitlines() if line.removeprefix("export ").startswith(("PATH=", f"{NAME}="))]
    script = "\n".join([*lines, f'printf "%s\\n%s" "$PATH" "${NAME}"'])
    done = subprocess.run(["/bin/bash", "-c", script], env=IMAGE, capture_output=True, text=True, check=True)
    return dict(zip(IMAGE, done.stdout.splitlines(), strict=True))


def test_tx8_keeps_what_its_image_has() -> None:
    """T1-R18, T1-R20: public images of the vendor have the engine's programs and libraries below /usr/local/kuiper."""
    wanted = {
        "PATH": "/opt/miniconda/bin:/usr/local/kuiper/bin:/usr/bin:/bin",
        NAME: "/usr/lib/x86_64-linux-gnu:/usr/local/kuiper/lib",
    }
    spec = test_plan.make_plan("tx8", {}, test_plan.BASES["tx8"]).spec
    assert spec is not None
    assert spec.conda is not None
    files = spec.serving.files
    assert exported(next(text for path, text in files.items() if path.endswith("serve.env"))) == wanted
    assert exported(spec.conda.script) == wanted
    settings = Settings.model_validate(test_plan.DEFAULTS["tx8"])
    host = Observation.model_validate(test_plan.BASES["tx8"])
    job = plan_job(catalog.load(), settings, host, plan.load_templates(), JobRequest(name="offline")).job
    assert job is not None
    assert exported(job.script) == wanted
    # What a container is given is taken as it stands.
    assert not {"PATH", NAME} & {*job.environment, *spec.conda.environment}
