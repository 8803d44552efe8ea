"""What `load` makes of a draft model, and who closes it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import ConfigError, DraftModel, ModelError, TailraceError
from tailrace.device.driver import Device
from tailrace.generation.engine_draft import EngineDraft
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from verification.unit.host.generation.draft_models import liar
from verification.unit.host.tiny_models import write_model

OPTIONS: Any = {"context": 48, "batch": 2}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)


@pytest.fixture(scope="module")
def small(path: Path) -> Path:
    return write_model(path.with_name("small.gguf"), layers=1, context=40, default_type="Q4_0")


def engine_of(lm: tailrace.LanguageModel) -> Any:
    assert lm.engine.drafting is not None
    assert isinstance(lm.engine.drafting.model, EngineDraft)
    return lm.engine.drafting.model.engine


@pytest.mark.parametrize("device", ["emulator", "golden"])
def test_a_file_has_a_device_of_its_own_of_the_same_kind(path: Path, small: Path, device: str) -> None:
    with tailrace.load(path, device, config="base,right_hand_sides=4", draft=small, **OPTIONS) as lm:
        engine = engine_of(lm)
        assert engine.decoder.device is not lm.device
        assert engine.decoder.device.transport.name == lm.device.transport.name
        assert engine.decoder.batch == lm.batch
        # As long as the model's, or as it was trained for.
        assert engine.decoder.limit == 40
    with pytest.raises(TailraceError, match=r"^the language model is closed: load it again$"):
        engine.advance([])


def test_beside_a_device_that_is_open_it_is_on_the_emulator(path: Path, small: Path) -> None:
    device = Device(open_device("golden", parse_config("base,right_hand_sides=4"), 8 << 20))
    with tailrace.load(path, device, draft=small, **OPTIONS) as lm:
        assert engine_of(lm).decoder.device.transport.name == "emulator"
        assert lm.generate("a", max_tokens=3).tokens
    device.close()


def test_a_language_model_stays_open(path: Path, small: Path) -> None:
    with tailrace.load(small, batch=2) as drafts:
        plain = drafts.generate("hello", max_tokens=5)
        with tailrace.load(path, draft=drafts, **OPTIONS) as lm:
            assert engine_of(lm) is drafts.engine
            lm.generate("hello", max_tokens=20)
        assert drafts.generate("hello", max_tokens=5).tokens == plain.tokens


def test_whatever_drafts(path: Path, rng: np.random.Generator) -> None:
    model = liar(rng)
    assert isinstance(model, DraftModel)
    with tailrace.load(path, draft=model, **OPTIONS) as lm:
        assert lm.engine.drafting is not None
        assert lm.engine.drafting.model is model


def test_what_does_not_draft(path: Path) -> None:
    text = (
        "draft must be a model's file, a language model, a causal model of transformers, or do what a tailrace.DraftModel does,"
        " and not 7"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        tailrace.load(path, draft=7)
    with pytest.raises(ModelError, match="nowhere"):
        tailrace.load(path, draft="nowhere.gguf")


def test_a_model_that_fails_to_load_leaves_no_draft_model_open(path: Path, small: Path, tmp_path: Path) -> None:
    closed = []
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    close = tailrace.LanguageModel.close
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tailrace.LanguageModel, "close", lambda lm: (closed.append(lm), close(lm)))
        with pytest.raises(ModelError):
            tailrace.load(tmp_path / "broken.gguf", draft=small)
    assert len(closed) == 1
