"""The folder: whole files, nobody else's touched, and none that stays for ever."""

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from tailrace import ConfigError
from tailrace.spec import handover as contract
from tailrace.vllm.folder import HandoverFolder


def test_names_lead_to_no_other_folder() -> None:
    names = {contract.new_name() for _ in range(100)}
    assert len(names) == 100
    assert all(contract.is_name(name) and len(Path(name).parts) == 1 for name in names)
    for name in (
        "",
        "../x.safetensors",
        "a" * 32,
        f"{'A' * 32}.safetensors",
        f"/{'a' * 32}.safetensors",
        f"{'a' * 32}.safetensors\n",
    ):
        assert not contract.is_name(name)


def test_a_folder_is_its_owners(tmp_path: Path) -> None:
    HandoverFolder(tmp_path / "a" / "b", 600)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    folder, name = HandoverFolder(tmp_path, 600), contract.new_name()
    folder.write(name, {"a": torch.arange(3)}, {"format": "x"})
    assert folder.has(name)
    with pytest.raises(OSError, match="draft"):
        HandoverFolder(tmp_path, 600).write(f"none/{name}", {"a": torch.arange(3)}, {})
    assert [file.name for file in tmp_path.iterdir()] == [name]
    folder.discard(name)
    folder.discard(name)
    assert not folder.has(name)


def test_what_is_too_old_is_swept(tmp_path: Path) -> None:
    old, young, draft = contract.new_name(), contract.new_name(), f".{contract.new_name()}.draft"
    for name in (old, young, draft, "notes.txt", "model.safetensors"):
        (tmp_path / name).touch()
        if name != young:
            os.utime(tmp_path / name, (time.time() - 700,) * 2)
    folder = HandoverFolder(tmp_path, 600)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([young, "notes.txt", "model.safetensors"])
    # It was looked at a moment ago.
    os.utime(tmp_path / young, (time.time() - 700,) * 2)
    folder.sweep()
    assert (tmp_path / young).exists()


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"the folder .*file for hand-over files can't be made: File exists"):
        HandoverFolder(tmp_path / "file", 600)
