"""A real model from its GGUF file, through the command line, on golden and on the gateware."""

import re
import subprocess
import sys

import pytest

PROMPT = "What is the capital of France?"


def answer(device: str, config: str, tokens: int) -> tuple[str, str]:
    """Text of an answer, and the digest over every result vector."""
    command = [sys.executable, "-m", "tailrace", "run", "smollm2", "-p", PROMPT, "-n", str(tokens)]
    run = subprocess.run([*command, "--device", device, "--config", config], capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stderr
    digest = re.search(r"SHA-256 ([0-9a-f]{16})", run.stderr)
    assert digest, run.stderr
    return run.stdout, digest[1]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "tokens"), [("base", 8), ("base,bus_width=256", 2), ("base,bus_width=512", 2)])
def test_same_answer(config: str, tokens: int) -> None:
    """Every result vector of the gateware has golden's bits, and so the text is the same, on every bus."""
    golden = answer("golden", "tiny", tokens)
    assert answer("verilator", config, tokens) == golden
    text = golden[0].strip()
    assert text
    assert "The capital of France is Paris.".startswith(text)


@pytest.mark.slow
def test_distance_from_float32() -> None:
    """Teacher-forced over 512 positions of real text, golden is within 1e-6 of float32 with the same weights."""
    from tailrace.benchmark.quality import measure_quality
    from tailrace.fetch import resolve_model

    quality = measure_quality(str(resolve_model("smollm2")), positions=512)
    assert quality.positions == 512
    assert quality.mean_divergence <= 1e-6
