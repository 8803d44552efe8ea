"""Distances from float32: added up rightly, whatever the windows."""

import re
from pathlib import Path

import pytest

from tailrace.spec.errors import ConfigError, LimitError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tailrace.benchmark.quality import measure_quality  # noqa: E402
from tailrace.benchmark.tally import Tally  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402

TEXT = "the quick brown fox jumps over the lazy dog, and again: " * 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("quality")
    make_model(folder / "m.gguf", "llama")
    (folder / "text.txt").write_text(TEXT)
    return folder / "m.gguf", folder / "text.txt"


def test_what_is_added_up() -> None:
    """Two parts of a window against the definition, position by position."""
    random = torch.Generator().manual_seed(4)
    reference, device = torch.randn(7, 11, generator=random), torch.randn(7, 11, generator=random)
    tokens = torch.randint(0, 11, (7,), generator=random)
    tally = Tally()
    tally.add(reference[:4], device[:4], tokens[1:5])
    tally.add(reference[4:], device[4:], tokens[5:])
    found = tally.result(7)
    p, q = torch.softmax(reference.double(), -1), torch.softmax(device.double(), -1)
    divergence = (p * (p.log() - q.log())).sum(-1)
    assert found.positions == found.window == 7
    assert found.mean_divergence == pytest.approx(float(divergence.mean()))
    assert found.largest_divergence == pytest.approx(float(divergence.max()))
    assert found.same_best == float((p.argmax(-1) == q.argmax(-1)).double().mean())
    for mine, value in ((p, found.reference_perplexity), (q, found.device_perplexity)):
        assert value == pytest.approx(float((-mine[range(6), tokens[1:]].log().mean()).exp()))


@pytest.mark.parametrize("config", ["base", "base,right_hand_sides=4"])
def test_windows_share_steps_and_change_nothing(files: tuple[Path, Path], config: str) -> None:
    """Four windows and a shorter one: the device's perplexity is the same to the last bit, alone or together."""
    model, text = files
    found = measure_quality(str(model), positions=90, window=20, config=config, text=text)
    assert (found.positions, found.window) == (90, 20)
    assert 0 < found.mean_divergence < 1e-2
    assert found.device_perplexity == pytest.approx(found.reference_perplexity, rel=1e-2)
    assert found.device_perplexity == measure_quality(str(model), positions=90, window=20, text=text).device_perplexity


def test_linear_layers_alone_are_nearer(files: tuple[Path, Path]) -> None:
    model, text = files
    whole = measure_quality(str(model), positions=40, text=text)
    linear = measure_quality(str(model), positions=40, window=20, operations=True, text=text)
    assert linear.mean_divergence < whole.mean_divergence / 10


def test_what_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = files
    (tmp_path / "short.txt").write_text("short")
    text = f"{tmp_path / 'short.txt'} has 5 tokens, and 64 are needed: give a longer text or fewer positions"
    with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
        measure_quality(str(model), positions=64, text=tmp_path / "short.txt")
    with pytest.raises(ConfigError, match=r"^positions and window must be 2 or more, not 64 and 1$"):
        measure_quality(str(model), positions=64, window=1)
