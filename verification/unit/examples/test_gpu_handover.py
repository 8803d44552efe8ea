"""The demonstration of prefill in PyTorch and decode on the device, and that it notices when something is wrong."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

PROGRAM = Path(__file__).parents[3] / "examples" / "gpu_handover.py"
ARGUMENTS = ["--model", "shakespeare", "--prompt", "FIRST WITCH.", "--new-tokens", "4", "--torch-device", "cpu"]


@pytest.fixture
def program() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_handover", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_and_says_what_it_did() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), *ARGUMENTS], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "no GPU is used: PyTorch computes the prompt on the CPU\n",
        ", torch.float32, shakespeare.gguf, ",
        "\n  prefill ",
        "\n  hand-over ",
        "\n  first decode step ",
        "\neach token after that ",
        "(the device is simulated on this CPU: its times are not those of hardware)\n",
        "\nPyTorch alone chooses the same ",
    ):
        assert text in done.stdout


def run(program: Any, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_handover", *ARGUMENTS, *more])
    return int(program.main())


def test_a_wrong_cache_is_noticed(program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys of one layer that do not arrive are enough."""
    from tailrace.device.decoder import Decoder

    load = Decoder.load_cache

    def spoil(self: Decoder, layer: int, sequence: int, first: int, keys: Any, values: Any) -> None:
        load(self, layer, sequence, first, keys * (layer != 2), values)

    assert run(program, monkeypatch) == 0
    monkeypatch.setattr(Decoder, "load_cache", spoil)
    assert run(program, monkeypatch) == 1
    assert "FAILED: 0.02 is allowed\n" in capsys.readouterr().out


def test_a_mistake_of_the_user(program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, monkeypatch, "--torch-device", "gpu") == 1
    assert capsys.readouterr().err.startswith("gpu_handover: PyTorch can't use the device 'gpu': ")
