"""The build that a model gets when none is asked for, and the advice where the one that there is does not take it."""

import re
from pathlib import Path

import pytest

from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import AUTO, CHOICES, builds_of, choose, lay_out, named_build, smallest_build
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.layout import fits
from tailrace.models.measured import SHAPES
from tailrace.models.shapes import write_header
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import ConfigError, LimitError, ModelError
from verification.unit.host.tiny_models import write_model

#: The longest context of Gemma 3 270M in a batch of four on `base`: less than a chunk of attention.
SHORT = 960


def shape(folder: Path, name: str, context: int = 2048) -> ImportedModel:
    return import_model(open_model(write_header(folder / "m.gguf", SHAPES[name], SHAPES[name].layers)), context)


@pytest.mark.parametrize("name", ["SmolLM2-135M", "Llama-2-7B", "Gemma-3-270M"])
def test_the_smallest_build_that_fits_is_taken(name: str, tmp_path: Path) -> None:
    model, request = shape(tmp_path, name), ImageRequest()
    chosen = choose(model, request)
    smaller = CHOICES[: CHOICES.index(chosen.config.name)]
    assert not any(fits(model, Geometry.of_config(CONFIGS[name]), request) for name in smaller)
    assert chosen.layout.image.imported is model
    assert chosen.layout.size <= chosen.memory < chosen.layout.size + (1 << 20)
    assert chosen.memory % (1 << 20) == 0
    # What was taken is enough, to the byte.
    lay_out(model, Geometry.of_config(chosen.config), request, chosen.layout.size)
    assert choose(model, request, chosen.config.name, chosen.memory).layout.size == chosen.layout.size


def test_a_longer_context_takes_a_larger_build(tmp_path: Path) -> None:
    """As long as it is shorter than a chunk: a longer one needs no more room in a build."""
    model = shape(tmp_path, "SmolLM2-135M")
    assert smallest_build(model, ImageRequest()).name == smallest_build(model.at(8192), ImageRequest()).name == "base"
    assert smallest_build(model, ImageRequest(4)).name == "base,right_hand_sides=4"
    gemma = shape(tmp_path, "Gemma-3-270M")
    assert smallest_build(gemma.at(SHORT), ImageRequest(4)).name == "base,right_hand_sides=4"
    assert smallest_build(gemma.at(SHORT + 1), ImageRequest(4)).name == "large,right_hand_sides=4"
    assert smallest_build(gemma.at(8192), ImageRequest(4)).name == "large,right_hand_sides=4"


def test_a_simulated_build_has_the_widest_bus_and_two_right_hand_sides(tmp_path: Path) -> None:
    model = shape(tmp_path, "SmolLM2-135M")
    assert choose(model, ImageRequest(), simulated=True).config == parse_config("base,bus_width=512,right_hand_sides=2")
    assert choose(model, ImageRequest(), "auto,right_hand_sides=1", simulated=True).config.name.endswith("=1,bus_width=512")
    assert named_build("wide", bus_width=512) is CONFIGS["wide"]
    assert choose(model, ImageRequest(), "base", simulated=True).config is CONFIGS["base"]


def test_native_code_takes_prompts_in_chunks(tmp_path: Path) -> None:
    """With as many right-hand sides as a pass can use, in the smallest build that has room for them; without, if none has."""
    model = shape(tmp_path, "SmolLM2-135M")

    def name(config: str = AUTO, batch: int = 1, context: int = 2048) -> str:
        return choose(model.at(context), ImageRequest(batch), config, native=True).config.name

    assert name() == name(batch=3) == "base,right_hand_sides=4"
    assert name("auto,right_hand_sides=2") == "base,right_hand_sides=2"
    assert name("base") == "base"
    model = shape(tmp_path, "Gemma-3-270M")
    assert name(batch=4, context=SHORT) == "base,right_hand_sides=4"
    assert name(batch=4) == "large,right_hand_sides=4"
    assert name("base", context=8192) == "base"


def test_a_choice_with_changes(tmp_path: Path) -> None:
    """The smallest build that fits with the changes; what they say goes before what would be chosen."""
    models = {name: shape(tmp_path, name) for name in ("SmolLM2-135M", "Gemma-3-270M")}

    def name(config: str, batch: int = 1, of: str = "SmolLM2-135M", *, simulated: bool = False) -> str:
        return choose(models[of], ImageRequest(batch), config, simulated=simulated).config.name

    assert name("auto,bus_width=256") == "base,bus_width=256"
    sizes = "vector_blocks=1024,buffer_entries=32768"
    assert name("auto,bus_width=256", 4, of="Gemma-3-270M") == "large,bus_width=256,right_hand_sides=4"
    assert name(f"auto,{sizes}", 4, of="Gemma-3-270M") == f"base,{sizes},right_hand_sides=4"
    assert name("auto,bus_width=256", 2, simulated=True) == "base,bus_width=256,right_hand_sides=2"
    assert name("auto,channels=2", simulated=True) == "base,channels=2,bus_width=256,right_hand_sides=2"
    assert name("auto,channels=2") == "base,channels=2"
    assert [build.beat_width for build in builds_of("auto,channels=4")] == [512] * 3
    assert name("auto,right_hand_sides=4", 2, simulated=True) == "base,right_hand_sides=4,bus_width=512"
    assert [build.name for build in builds_of("auto,burst_beats=32")] == [f"{name},burst_beats=32" for name in CHOICES]
    assert builds_of("wide") == [CONFIGS["wide"]]
    for config, text in (
        ("auto,lanes=2", "unknown field 'lanes' of a configuration: choose from address_width, "),
        ("auto,bus_width=100", "bus_width must be one of (128, 256, 512), not 100"),
        ("auto,", "unknown field '' of a configuration: choose from address_width, "),
        (
            "automatic,bus_width=256",
            "unknown configuration 'automatic': choose one of tiny, base, large, wide, arty, kv260, u280-hbm",
        ),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
            builds_of(config)


def test_advice_is_true(tmp_path: Path) -> None:
    """A refusal names a build and a context, and both run."""
    model, request = shape(tmp_path, "Gemma-3-270M"), ImageRequest(4)
    geometry = Geometry.of_config(parse_config("base,right_hand_sides=4"))
    with pytest.raises(LimitError) as caught:
        lay_out(model, geometry, request)
    found = re.search(
        r"\. The longest context of this model on this device for a batch of 4 is (\d+) tokens, and a build that takes 2048 for a"
        r" batch of 4 is (\S+) \(--config \2\)$",
        str(caught.value),
    )
    assert found is not None, caught.value
    assert int(found[1]) == SHORT
    lay_out(model.at(SHORT), geometry, request)
    choose(model, request, found[2])


def test_what_no_named_build_takes(tmp_path: Path) -> None:
    model, request = shape(tmp_path, "Gemma-4-12B"), ImageRequest(4)
    with pytest.raises(LimitError) as caught:
        choose(model, request, AUTO)
    found = re.search(r"The longest context of this model on this device for a batch of 4 is (\d+) tokens$", str(caught.value))
    assert found is not None, caught.value
    choose(model.at(int(found[1])), request, "wide")
    longest = r"The longest that a named build takes for a batch of 4 is (\d+) \(--config (\w+)\)$"
    with pytest.raises(LimitError, match=longest) as caught:
        choose(model, request, "large,right_hand_sides=4")
    found = re.search(longest, str(caught.value))
    assert found is not None
    choose(model.at(int(found[1])), request, found[2])


def test_rows_that_are_too_long_for_a_build(tmp_path: Path) -> None:
    model = import_model(open_model(write_model(tmp_path / "m.gguf", feed_forward=8192)), 64)
    assert smallest_build(model, ImageRequest()).name == "base"
    with pytest.raises(
        LimitError, match=r"(?s)this device takes at most 4096.*A build that takes 64 is base \(--config base\)$"
    ):
        choose(model, ImageRequest(), "tiny")


def test_what_no_build_reads_is_refused_as_it_is(tmp_path: Path) -> None:
    model = import_model(
        open_model(
            write_model(
                tmp_path / "m.gguf",
                types={"blk.0.ffn_up.weight": "F64"},
                hidden=256,
            )
        ),
        64,
    )
    with pytest.raises(ModelError, match=r"(?s)blk.0.ffn_up.weight: this device does not read F64.*one by one\.$"):
        choose(model, ImageRequest())


def test_memory_that_is_too_small(tmp_path: Path) -> None:
    model = import_model(open_model(write_model(tmp_path / "m.gguf", context=1 << 12)), 1 << 12)
    request, needed = ImageRequest(), choose(model, ImageRequest()).layout.size
    with pytest.raises(LimitError) as caught:
        choose(model, request, memory=needed - 64)
    text = str(caught.value)
    assert text.startswith(f"{model.model.path} needs {needed} bytes of device memory, but only {needed - 64} are available: ")
    found = re.search(
        r"\(a simulated one takes what is needed: --memory auto\), or ask for a context of up to (\d+) tokens", text
    )
    assert found is not None, text
    assert int(found[1]) < 1 << 12
    choose(model.at(int(found[1])), request, memory=needed - 64)
