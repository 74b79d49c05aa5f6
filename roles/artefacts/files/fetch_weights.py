"""Download a model's weights: directory, sources as JSON, and the kinds of hubs to try, in their order, as JSON.

Runs in the engine's virtual environment. Both clients resume what an earlier run left in the directory, and both check
what they download; the deployer's stamp comes afterwards.
"""

import json
import sys
from pathlib import Path

# Weights in other formats would only cost time and space.
SKIPPED = ["*.bin", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*"]


def from_huggingface(repository: str, revision: "str | None", directory: Path) -> None:
    """Download with huggingface_hub; HF_ENDPOINT names a mirror."""
    from huggingface_hub import snapshot_download

    snapshot_download(repository, revision=revision, local_dir=directory, ignore_patterns=SKIPPED)


def from_modelscope(repository: str, revision: "str | None", directory: Path) -> None:
    """Download with modelscope."""
    from modelscope import snapshot_download

    snapshot_download(repository, revision=revision, local_dir=str(directory), ignore_patterns=SKIPPED)


HUBS = {"huggingface": from_huggingface, "modelscope": from_modelscope}


def main() -> int:
    """Try the sources in their order."""
    directory, sources, hubs = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    directory.mkdir(parents=True, exist_ok=True)
    sources = [source for hub in hubs for source in sources if source["kind"] == hub]
    problems = []
    for source in sources:
        try:
            HUBS[source["kind"]](source["id"], source["revision"], directory)
        except Exception as error:  # each client raises its own kinds; the next hub may do better
            problems.append(
                f"{source['kind']} {source['id']}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
        else:
            return 0
    print("\n".join(["no hub gave the weights", *problems]), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
