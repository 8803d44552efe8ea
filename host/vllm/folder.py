"""The folder through which prompts are handed over."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from tailrace.spec import handover as contract
from tailrace.spec.errors import ConfigError

#: What a file is called until it is whole.
_DRAFT = ".draft"


class HandoverFolder:
    """A folder of hand-over files: written whole, and swept when nobody has taken them.

    Parameters
    ----------
    path : Path
        Made if it is not there, for its owner alone: the files hold what people wrote.
    keep_seconds : float
        Age at which a file is swept.

    Raises
    ------
    ConfigError
        If it can't be made or written to.
    """

    def __init__(self, path: Path, keep_seconds: float) -> None:
        self.path, self.keep_seconds = path, keep_seconds
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the folder {path} for hand-over files can't be made: {error.strerror}") from None
        if not os.access(path, os.W_OK | os.X_OK):
            raise ConfigError(f"the folder {path} for hand-over files can't be written to")
        self._swept = 0.0
        self.sweep()

    def write(self, name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
        """Write a file; it is there when it is whole.

        Raises
        ------
        OSError
            If it can't be written; nothing is left behind.
        """
        import safetensors
        from safetensors.torch import save_file

        draft = self.path / f".{name}{_DRAFT}"
        try:
            save_file(dict(tensors), draft, dict(metadata))
            draft.replace(self.path / name)
        except BaseException as error:
            draft.unlink(missing_ok=True)
            if isinstance(error, safetensors.SafetensorError):
                raise OSError(f"{draft}: {error}") from error
            raise

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.path / name).is_file()

    def discard(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove files of ours that are too old; looks at most four times within that age."""
        now = time.time()
        if now - self._swept < self.keep_seconds / 4:
            return
        self._swept = now
        for file in self.path.iterdir():
            name = file.name.removeprefix(".").removesuffix(_DRAFT)
            try:
                if contract.is_name(name) and now - file.stat().st_mtime > self.keep_seconds:
                    file.unlink()
            except FileNotFoundError:
                # Somebody else was faster.
                pass
