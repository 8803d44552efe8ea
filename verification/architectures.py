"""Every architecture, with random shapes and weights: the device's logits against those of Hugging Face's model in float32.

``python -m verification.architectures`` measures and prints a table; ``--help`` lists its options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import BUS_WIDTHS, parse_config
from verification.unit.host.architectures import ARCHITECTURES, GEMMA4, MIXTURES, SIZED_BY_HIDDEN
from verification.unit.host.latent_models import latent_yarn
from verification.unit.host.references import (
    Floats,
    chosen_experts,
    decode,
    divergence,
    quantised_logits,
    reference_logits,
    steps,
)
from verification.unit.host.transformers_models import make_model, ministral_rope

POSITIONS = 64
#: Bounds on the mean divergence: with the reference's own keys and values, and with the device's codes of them in both.
LIMIT, LIMIT_SAME_CODES = 1e-3, 1e-6
#: Part of the positions at which routers may be undecided.
MOST_OTHER_EXPERTS = 0.1
#: Formats that the `gguf` package can quantise to.
_FORMATS = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4")
_MEMORY = 1 << 27
#: Right-hand sides that are drawn. No bit depends on them.
_SIDES = (1, 2, 4)
_STATE_SPACES = ("granitehybrid", "granitehybridmoe", "nemotron_h", "nemotron_h_moe", "mamba2", "falcon-h1")
_RECURRENT = ("lfm2", "lfm2moe", "qwen35", "qwen35moe", "qwen3next", *_STATE_SPACES)
_LATENT = ("deepseek2", "deepseek2-lite")
_WITH_SHARED = ("qwen2moe", "ernie4_5-moe", "glm4moe", "bailingmoe2", "nemotron_h_moe", "dots1", *_LATENT)
_WINDOWED = ("llama4", "gpt-oss", *GEMMA4, "gemma2", "gemma3", "cohere2", "olmo3", "exaone4", "phi3")
#: Where two layers do not show all that layers can be.
_LAYERS = {
    "llama4": 4,
    "gemma3": 6,
    "gemma4": 6,
    "gemma4-e2b": 4,
    "cohere2": 4,
    "olmo3": 4,
    "exaone4": 4,
    "smollm3": 5,
    "glm4moe": 3,
    "bailingmoe2": 3,
    "ernie4_5-moe": 4,
    "deepseek2": 3,
    "deepseek2-lite": 3,
    "nemotron_h": 3,
    "nemotron_h_moe": 3,
    "dots1": 3,
}
#: Widest attention that is drawn: the outputs of all heads side by side.
_WIDEST = 1024


@dataclass(frozen=True)
class Case:
    """A model to be made, and the build of the device that decodes it.

    Attributes
    ----------
    architecture : str
    sizes : dict
        Arguments of `make_model`.
    config : str
    seed : int
        Of weights and text.
    """

    architecture: str
    sizes: dict[str, Any]
    config: str
    seed: int


@dataclass(frozen=True)
class Measured:
    """How far the device's logits are from the reference's, at each position.

    Attributes
    ----------
    case : Case
    plain, same_experts, requantised, same_codes : ndarray of float64, shape (positions,)
        Divergence from the model in float32; from it with the experts that the device chooses; from it with its own keys and
        values quantised to 8 bits; and from it with the device's codes, after a check that each of them is a rounding of its
        own key or value.
    other_codes : float
        Part of the keys and values for which the model's own rounding chooses a neighbour.
    other_experts : ndarray of bool, shape (positions,)
        Where a router in float32 would choose other experts than the device does.
    decided, wrong : int
        Positions at which the two best logits are further apart than any two logits of device and float32, and those
        of them at which the best token differs.
    """

    case: Case
    plain: NDArray[np.float64]
    same_experts: NDArray[np.float64]
    requantised: NDArray[np.float64]
    same_codes: NDArray[np.float64]
    other_codes: float
    other_experts: NDArray[np.bool_]
    decided: int
    wrong: int

    @property
    def passed(self) -> bool:
        """Whether all bounds are met.

        Where two experts are as good as each other, the smallest difference chooses, and no bound holds. So the reference takes
        the device's experts at such positions, of which there must be few.
        """
        close = self.same_experts.mean() <= LIMIT and self.same_codes.mean() <= LIMIT_SAME_CODES
        return bool(close and self.other_experts.mean() <= MOST_OTHER_EXPERTS and not self.wrong)


def draw(architecture: str, seed: int) -> Case:
    """A random shape, the same for the same seed."""
    rng = np.random.default_rng([seed, crc32(architecture.encode())])

    def number(low: int, high: int, unit: int = 1) -> int:
        return unit * int(rng.integers(-(-low // unit), max(high // unit, 1) + 1))

    head_size, kv_heads, group = _heads(number, architecture != "gpt2")
    heads = kv_heads * group
    sizes: dict[str, Any] = {
        "head_size": head_size,
        "heads": heads,
        "kv_heads": kv_heads,
        "hidden": _hidden(architecture, heads, head_size, number),
        "feed_forward": number(32, 512, 32),
        "vocabulary": _prime(number(300, 1500)),
        "format": str(rng.choice(_FORMATS)),
        "tied": architecture not in (*MIXTURES, "falcon-h1", "internlm2", "nemotron", "phi2", "phi3") and bool(rng.integers(2)),
        "rope": {"rope_theta": float(10.0 ** number(4, 6))},
    }
    if architecture in MIXTURES:
        sizes |= {"experts": number(4, 16), "used": number(2, 4)}
    if architecture in _WITH_SHARED:
        sizes["shared"] = number(1, 2)
    if architecture == "gemma4-e2b":
        sizes["embedding"] = number(32, 96, 32)
    if architecture in ("ernie4_5-moe", "llama4"):
        sizes["interval"] = number(1, 2)
    if architecture == "llama4":
        sizes |= {"used": number(1, 2), "every": number(2, 4), "period": number(8, 40)}
    if architecture in _LATENT:
        sizes["latent"] = number(32, 512, 32), number(8, 64, 8), number(32, 128, 32), number(8, 64, 32)
        sizes["rank"] = number(32, 128, 32)
        sizes["rope"] |= latent_yarn(float(number(2, 40)), number(8, 40), number(7, 10) / 10)
    if architecture in ("bailingmoe2", "deepseek2"):
        sizes["groups"] = number(2, 3)
        sizes["experts"] = number(8, 16, 4 * sizes["groups"])
    if architecture in _LAYERS:
        sizes["layers"] = _LAYERS[architecture]
    if architecture in _WINDOWED:
        sizes["window"] = number(5, 60)
    if architecture in ("phi2", "phi3", "nemotron", "stablelm", "glm4", "glm4moe", "bailingmoe2", "minimax-m2"):
        # A quarter of an element more, so that no product with it is rounded down to one less.
        sizes["rotary"] = min((number(8, head_size, 8) + 0.25) / head_size, 1.0)
    if architecture == "stablelm":
        sizes["parallel"] = bool(rng.integers(2))
    if architecture == "gpt-oss":
        sizes["rope"] |= {
            "rope_type": "yarn",
            "factor": float(number(2, 40)),
            "original_max_position_embeddings": number(8, 40),
        }
    if architecture in _RECURRENT:
        sizes["kernel"] = number(2, 5)
    if architecture in ("qwen35", "qwen35moe", "qwen3next"):
        key_heads = number(1, 4)
        sizes["linear"] = (key_heads, key_heads * number(1, 3), number(32, 128, 32), number(32, 128, 32))
        sizes["rotary"] = number(8, head_size, 8) / head_size
    if architecture in _STATE_SPACES:
        # llama.cpp takes as many values as a multiple of groups and activations.
        groups, value_size = number(1, 2), int(rng.choice([n for n in (32, 64, 96, 128) if sizes["hidden"] % n == 0]))
        sizes["linear"] = (groups, groups * sizes["hidden"] // value_size, number(32, 256, 32), value_size)
    if architecture == "mistral3":
        sizes["rope"] |= ministral_rope(factor=float(number(8, 40)), original=number(8, 40))
    config = f"base,bus_width={rng.choice(BUS_WIDTHS)},right_hand_sides={rng.choice(_SIDES)}"
    return Case(architecture, sizes, config, seed)


def _heads(number: Callable[..., int], grouped: bool) -> tuple[int, int, int]:
    while True:
        head_size, kv_heads, group = number(32, 256, 8), number(1, 6), number(1, 6) if grouped else 1
        columns = head_size * kv_heads * group
        if columns % 32 == 0 and columns <= _WIDEST:
            return head_size, kv_heads, group


def _hidden(architecture: str, heads: int, head_size: int, number: Callable[..., int]) -> int:
    """A multiple of 32; transformers' own demands make it one of more in some architectures."""
    if architecture in SIZED_BY_HIDDEN:
        return heads * head_size
    hidden = number(32, 384, lcm(32, heads) if architecture in ("llama", "arcee", "gemma", "gemma3", *_LATENT) else 32)
    # Its shapes are those of before, but for what transformers refuses.
    return hidden + -hidden % lcm(32, heads) if architecture == "gemma2" else hidden


def _prime(n: int) -> int:
    while any(n % divisor == 0 for divisor in range(2, int(n**0.5) + 1)):
        n += 1
    return n


def open_decoder(path: Path, config: str, context: int, device: str = "golden", **options: Any) -> Decoder:
    """A file's model on a device."""
    imported = import_model(open_model(path), context)
    return Decoder(Device(open_device(device, parse_config(config), _MEMORY)), imported, **options)


def draw_text(case: Case, positions: int) -> list[int]:
    """Random tokens."""
    return [int(t) for t in np.random.default_rng(case.seed).integers(0, case.sizes["vocabulary"], positions)]


def measure(case: Case, positions: int = POSITIONS, device: str = "golden") -> Measured:
    """Make a model, decode a text on a device, and compare with Hugging Face's model."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        model = make_model(path, case.architecture, seed=case.seed, **case.sizes)
        tokens = draw_text(case, positions)
        logits, held = decode(open_decoder(path, case.config, positions, device), tokens)
    plain = reference_logits(model, tokens)
    with chosen_experts(model) as of_device:
        same_codes = reference_logits(model, tokens, held)
    with chosen_experts(model, of_device) as of_float32:
        same_experts = reference_logits(model, tokens)
    requantised, own = quantised_logits(model, tokens)
    best = np.sort(plain, axis=-1)
    decided = best[:, -1] - best[:, -2] > np.abs(plain - logits).max(axis=-1)
    differ = [(a != b).any(axis=-1) for a, b in zip(of_float32, of_device, strict=True)]
    return Measured(
        case=case,
        plain=divergence(plain, logits),
        same_experts=divergence(same_experts, logits),
        requantised=divergence(requantised, logits),
        same_codes=divergence(same_codes, logits),
        other_codes=_apart(held, own),
        other_experts=np.any(differ, axis=0) if differ else np.zeros(positions, dtype=np.bool_),
        decided=int(decided.sum()),
        wrong=int((plain.argmax(-1) != logits.argmax(-1))[decided].sum()),
    )


def _apart(held: Sequence[tuple[Floats, Floats]], own: Sequence[tuple[Floats, Floats]]) -> float:
    """Part of the keys and values that are more than half a step apart."""
    parts = []
    for layer, others in zip(held, own, strict=True):
        for mine, other, step in zip(layer, others, steps(*others), strict=True):
            parts.append((np.abs(mine - other) > 0.5 * step).reshape(-1))
    return float(np.concatenate(parts).mean()) if parts else 0.0


def table(results: Sequence[Measured]) -> Table:
    """A row for each model."""
    shown = Table(
        title=f"golden against transformers in float32 with the same weights, {len(results[0].plain)} positions",
        caption=(
            "Mean KL divergence in nats. As it is: the reference's keys and values are float32. Same experts: and it uses those"
            " that the device chooses; (n): at so many positions it would have chosen others. Same codes: it sees the device's"
            " 8-bit codes, each of which is a rounding of its own number. Own codes: it rounds by itself, with so many other"
            " codes. Greedy: equal best tokens, where the two best logits are further apart than the error."
        ),
        caption_justify="left",
    )
    shown.add_column("architecture")
    for name in (
        "hidden",
        "heads",
        "inner",
        "vocabulary",
        "weights",
        "bus",
        "R",
        "seed",
        "as it is",
        "same experts",
        "same codes",
        "own codes",
        "greedy",
    ):
        shown.add_column(name, justify="right")
    for r in results:
        sizes, config = r.case.sizes, parse_config(r.case.config)
        more = [f"{sizes['used']} of {sizes['experts']}"] if "experts" in sizes else []
        more += [f"window {sizes['window']}"] if "window" in sizes else []
        shown.add_row(
            r.case.architecture,
            str(sizes["hidden"]),
            f"{sizes['heads']}/{sizes['kv_heads']} of {sizes['head_size']}",
            ", ".join([str(sizes["feed_forward"]), *more]),
            str(sizes["vocabulary"]),
            sizes["format"],
            str(config.bus_width),
            str(config.right_hand_sides),
            str(r.case.seed),
            f"{r.plain.mean():.1e}",
            f"{r.same_experts.mean():.1e} ({r.other_experts.sum()})" if "experts" in sizes else "",
            f"{r.same_codes.mean():.1e}",
            f"{r.requantised.mean():.1e} {r.other_codes:.2%}",
            f"{r.decided - r.wrong} of {r.decided}",
        )
    return shown


@click.command()
@click.option("--architecture", "architectures", multiple=True, type=click.Choice(ARCHITECTURES), default=ARCHITECTURES)
@click.option(
    "--seed", default=1, show_default=True, help="Of the first shape of each; the others have the numbers that follow."
)
@click.option("--shapes", default=3, show_default=True, help="Random shapes of each architecture.")
@click.option("--positions", default=POSITIONS, show_default=True, help="Tokens of random text.")
def main(architectures: tuple[str, ...], seed: int, shapes: int, positions: int) -> None:
    """Measure random models of each architecture. Takes about ten seconds for each."""
    torch.set_num_threads(1)
    console = Console(highlight=False, width=200)
    results = []
    for architecture in architectures:
        for number in range(seed, seed + shapes):
            results.append(measure(draw(architecture, number), positions))
            verdict = "within its bounds" if results[-1].passed else "NOT within its bounds"
            console.print(f"{architecture}, seed {number}: {verdict}", style="dim")
    console.print(table(results))
    raise SystemExit(not all(r.passed for r in results))


if __name__ == "__main__":
    main()
