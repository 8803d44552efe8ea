"""An environment for each client, with nothing else in it: their needs contradict each other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .catalogue import CLIENTS

#: Written last: an environment without it is set up anew.
_READY = "ready"


def is_ready(folder: Path, name: str) -> bool:
    """Whether a client is installed below `folder`, in the versions of the catalogue."""
    mark = folder / name / _READY
    return mark.is_file() and mark.read_text().split() == list(CLIENTS[name].packages)


def make(folder: Path, name: str, torch: str) -> None:
    """Install a client below `folder`.

    Raises
    ------
    CalledProcessError
        If that fails; the installer has said why.
    """
    client, place = CLIENTS[name], folder / name
    if is_ready(folder, name):
        return
    print(f"installing {' '.join(client.packages)} into {place}", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    if client.node:
        if shutil.which("npm") is None:
            raise FileNotFoundError("npm is missing: install Node.js (Debian: apt-get install nodejs npm)")
        (place / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *client.packages], cwd=place, check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        if client.torch:
            subprocess.run([*pip, *torch.split()], check=True)
        subprocess.run([*pip, *client.packages], check=True)
    if client.mend is not None:
        client.mend(place)
    (place / _READY).write_text("\n".join(client.packages))


def variables(folder: Path, name: str, hub: Path) -> dict[str, str]:
    """Variables for what runs in a client's environment: its programs come first, and nothing is asked of a hub."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    path = f"{folder / name / 'bin'}:{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(hub), **CLIENTS[name].variables}
