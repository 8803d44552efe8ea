"""Images in the cache: mapped the next time, made again when anything is not as it was, and never in a run's way."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tailrace.device import kept_image
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.models.random_model import write_random_model
from tailrace.sim.cache import cached
from tailrace.sim.cache_contents import check, make_room
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of images; the compiled emulator is the one that there is."""
    library = _library()
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(kept_image.VARIABLE, raising=False)
    monkeypatch.setattr(kept_image, "_LEAST", 1)
    monkeypatch.setattr("tailrace.sim.emulator.device.build_emulator", lambda: library)
    return tmp_path / "cache" / "images"


def _library() -> Path:
    from tailrace.sim.emulator.build import build_emulator

    return build_emulator()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_random_model(tmp_path / "model.gguf")
    return tmp_path / "model.gguf"


class Loaded(NamedTuple):
    logits: list[bytes]
    memory: bytes


def decode(path: Path, kind: str = "emulator", config: str = "base") -> Loaded:
    """Some logits, and the weights and tables that the device has afterwards."""
    with Device(open_device(kind, parse_config(config), 1 << 21)) as device:
        decoder = Decoder(device, import_model(open_model(path)))
        logits = [decoder.step(token).tobytes() for token in (1, 2, 3)]
        return Loaded(logits, device.read(decoder.image.base, kept_image.image_size(decoder.image)))


def entries(images: Path) -> list[Path]:
    return sorted(path for path in images.iterdir() if not path.name.startswith(".")) if images.exists() else []


def image_of(images: Path) -> Path:
    (entry,) = entries(images)
    return entry / "image.bin"


def laid_out(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every image that is laid out from now on."""
    seen: list[object] = []
    for module in ("tailrace.device.decoder", "tailrace.device.kept_image"):
        real = __import__(module, fromlist=["write_image"]).write_image

        def write(image: object, *more: object, _real: object = real) -> None:
            seen.append(image)
            _real(image, *more)  # type: ignore[operator]

        monkeypatch.setattr(f"{module}.write_image", write)
    return seen


def test_mapped_the_second_time(model: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode(model, "golden")
    seen = laid_out(monkeypatch)
    assert decode(model) == expected
    assert len(seen) == 1
    before = image_of(images).read_bytes()
    assert decode(model) == expected
    assert len(seen) == 1
    # The embeddings, keys and values that the device wrote are its own.
    assert image_of(images).read_bytes() == before


def test_one_for_each_layout(model: Path, images: Path) -> None:
    expected = decode(model, "golden").logits
    for config in ("base", "base,bus_width=256", "base"):
        assert decode(model, config=config).logits == expected
    assert len(entries(images)) == 2


def test_another_file_in_its_place(model: Path, images: Path) -> None:
    """Of the same name, size and time; also one that was changed where it lies."""
    first, status = decode(model), model.stat()
    changed = bytearray(model.read_bytes())
    changed[-2000] ^= 1
    for write in (lambda: model.write_bytes(changed), lambda: (model.unlink(), model.write_bytes(changed))):
        write()
        os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
        second = decode(model)
        assert second.memory != first.memory
        assert second == decode(model, "golden")
    assert len(entries(images)) == 3


@pytest.mark.parametrize("large", [True, False])
def test_a_damaged_image_is_made_again(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], large: bool
) -> None:
    if large:
        monkeypatch.setattr("tailrace.sim.cache_entry._LARGE", 1)
    expected = decode(model)
    for damage, text in ((truncate, "image.bin has "), (alter, "image.bin has other contents than were written")):
        damage(image_of(images))
        capsys.readouterr()
        assert decode(model) == expected
        assert text in capsys.readouterr().err


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 64)


def alter(path: Path) -> None:
    """Change a byte, and what time can be set back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(bytes([file.read(1)[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_full_check_reads_everything(model: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk has lost in silence has the times that it had."""
    monkeypatch.setattr("tailrace.sim.cache_entry._LARGE", 1)
    decode(model)
    assert check() == []
    path = image_of(images)
    manifest = path.with_name("manifest.json")
    alter(path)
    old = re.search(r'"changed": \[\s*(\d+),\s*(\d+)', manifest.read_text())
    assert old
    manifest.write_text(manifest.read_text().replace(old[2], str(path.stat().st_ctime_ns)))
    assert [stored.path for stored in check()] == [path.parent]


def test_none_is_kept(model: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode(model, "golden")
    assert entries(images) == []  # Golden's memory shows no files.
    for value in ("0", "1000"):
        monkeypatch.setenv(kept_image.VARIABLE, value)
        assert decode(model) == expected
    monkeypatch.delenv(kept_image.VARIABLE)
    monkeypatch.setattr(kept_image, "_LEAST", 1 << 20)
    assert decode(model) == expected
    assert entries(images) == []


def test_a_limit_that_is_no_size(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept_image.VARIABLE, "much")
    text = "TAILRACE_IMAGES must be a size such as 20GiB, or 0 to keep no images, not 'much'"
    with pytest.raises(ConfigError, match=f"^{text}$"):
        decode(model)


def test_a_full_disk(model: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Found before anything is written, or in the middle: the run goes on."""
    expected = decode(model, "golden")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(kept_image._FileMemory, "write", full)
        assert decode(model) == expected
        assert "model.gguf will be laid out again the next time, as its image is not kept: the cache" in capsys.readouterr().err
    usage = shutil.disk_usage(images)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1 << 30))
    assert decode(model) == expected
    assert "as its image is not kept: it takes 0.0 GB, and 1.1 GB of the disk of" in capsys.readouterr().err
    assert list(images.iterdir()) == []


def test_a_cache_that_can_not_be_written(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = decode(model, "golden")
    monkeypatch.setenv("TAILRACE_CACHE", "/proc/nowhere")
    assert decode(model) == expected
    assert "as its image is not kept: the cache /proc/nowhere/images can't be written" in capsys.readouterr().err


def test_an_image_that_vanishes(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = decode(model)
    missing = images / "missing"
    monkeypatch.setattr("tailrace.device.decoder.kept_image", lambda *_: missing)
    assert decode(model) == expected
    assert f"{missing} can't be mapped (No such file or directory): the model is laid out again" in capsys.readouterr().err


def test_interrupted(model: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kept_image._FileMemory, "write", interrupt)
        decode(model)
    assert list(images.iterdir()) == []
    assert decode(model) == decode(model, "golden")


def test_a_model_that_changes_while_it_is_laid_out(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = kept_image.write_image

    def write(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        os.utime(model)

    monkeypatch.setattr(kept_image, "write_image", write)
    decode(model)
    assert "as its image is not kept: its file was changed meanwhile" in capsys.readouterr().err
    assert list(images.iterdir()) == []


def test_the_least_recently_used_go_first(images: Path) -> None:
    for name, age in (("a", 30), ("b", 10), ("c", 20)):
        entry = cached("images", name, lambda draft: (draft / "file").write_bytes(bytes(1000)), what=name)
        then = os.stat(entry).st_mtime - age
        os.utime(entry / "manifest.json", (then, then))
    assert make_room("images", 1000, 100_000) == []
    removed = make_room("images", 1000, 3000)
    assert [stored.what for stored in removed] == ["a", "c"]
    assert [path.name for path in entries(images)] == ["b"]


def test_both_devices_decode_random_tokens(model: Path, rng: np.random.Generator) -> None:
    """With a file mapped, every byte that a run reads and writes is golden's."""
    decode(model)
    tokens = [int(t) for t in rng.integers(0, 96, 6)]
    memories = []
    for kind in ("golden", "emulator"):
        with Device(open_device(kind, parse_config("base"), 1 << 21)) as device:
            decoder = Decoder(device, import_model(open_model(model)), tokens_per_doorbell=4)
            for token in tokens:
                decoder.step(token)
            decoder.run(tokens[0], 4)
            memories.append(device.read(0, device.memory_size))
    assert memories[0] == memories[1]
