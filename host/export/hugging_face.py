"""A folder that Hugging Face's tools take for one of their models, and whose `generate` decodes on a device."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError, TailraceError

from ..gguf.describe import ImportedModel, import_model
from ..gguf.file import Model, open_model
from ..gguf.rope_reader import LONG
from ..huggingface import internals
from ..huggingface.configuration import COMPUTED, write_rotation
from ..huggingface.describe import describe_model
from ..huggingface.loader import load_model, load_tokenizer
from ..huggingface.match import shape_differences
from ..huggingface.placement import make_plan
from ..image.geometry import Geometry
from ..text.tokenizer import Tokenizer
from .folder import whole_folder
from .templates import template

#: What every such folder has: where `generate` looks.
MARK = "custom_generate/generate.py"
_TEMPLATE = "custom_generate.py.in"
#: Bytes of a number of each type.
_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: What the folder takes beside weights and GGUF file, at most.
_REST = 64 << 20


def export_model(
    path: Path | str,
    target: Path,
    *,
    dtype: str = "float32",
    quantise: str | None = None,
    replace: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Write configuration, tokenizer, weights, the GGUF file and the code that decodes on a device.

    Parameters
    ----------
    path : Path or str
        GGUF file. In the folder it is a hard link, where the disk is the same, or else a copy.
    target : Path
        The folder.
    dtype : str
        Type of the weights in `model.safetensors`, with which Hugging Face computes prompts: float32, bfloat16 or float16.
    quantise : str or None
        What matrices of plain numbers become on the device; None: they are refused.
    replace : bool
        Whether an earlier such folder may be replaced.
    progress : callable or None
        Told what is being done, and which part of it is.

    Raises
    ------
    ModelError
        If transformers does not have the architecture, or computes something else; or the device can't read a matrix.
    TailraceError
        If there is something at `target`, or there is no room for it.
    """
    tell = progress or (lambda what, part: None)
    model = open_model(path)
    if model.path.is_dir():
        raise ModelError(f"{model.path} is a folder of Hugging Face already: their tools take it as it is")
    if model.parts > 1:
        raise ModelError(
            f"{model.path} is in {model.parts} parts: join them with llama.cpp's `llama-gguf-split --merge`, so that the folder"
            " has one file"
        )
    # Before minutes of work: what has no description can't be decoded as a whole.
    longer = import_model(model, model.context_length)
    if longer.description.architecture not in COMPUTED:
        raise ModelError(
            f"{model.path} has the architecture {longer.description.architecture}, and folders for Hugging Face's tools are"
            f" written for {', '.join(COMPUTED)}: use `tailrace serve`, which takes it as it is"
        )
    original = model.integer("rope.scaling.original_context_length", 1, model.context_length, model.context_length)
    imported = longer.at(original) if LONG in model.tensors else longer
    plan = make_plan(model, Geometry.of_config(parse_config("wide")), quantise)
    plan.check(plan.memory_bytes)
    with whole_folder(target, MARK, replace, option="") as folder:
        _check_room(model, folder, dtype)
        tell("reading weights", 0.1)
        host = load_model(plan, imported.context, "cpu", dtype).model
        write_rotation(host.config, imported, longer)
        _check_same(host, imported)
        tell("writing weights", 0.5)
        host.config.name_or_path = ""
        host.save_pretrained(folder)
        tell("tokenizer", 0.8)
        tokenizer = load_tokenizer(model)
        tokenizer.save_pretrained(folder)
        _generation_config(host, tokenizer, Tokenizer(model)).save_pretrained(folder)
        tell(model.path.name, 0.9)
        _link(model.path, folder / model.path.name)
        code = folder / MARK
        code.parent.mkdir()
        names = {"FILE": repr(model.path.name), "FOLDER": repr(str(target.absolute())), "QUANTISE": repr(quantise)}
        code.write_text(template(_TEMPLATE, **names), encoding="utf-8")
        # What safetensors writes is for its owner alone.
        for weights in folder.glob("*.safetensors"):
            weights.chmod(code.stat().st_mode)


def _check_room(model: Model, folder: Path, dtype: str) -> None:
    numbers = sum(tensor.rows * tensor.columns for tensor in model.tensors.values())
    file = 0 if os.stat(model.path).st_dev == os.stat(folder).st_dev else os.stat(model.path).st_size
    needed, free = numbers * _SIZES[dtype] + file + _REST, shutil.disk_usage(folder).free
    if needed > free:
        advice = "choose another folder" + (", or half the size with --dtype bfloat16" if dtype == "float32" else "")
        raise TailraceError(f"{folder.parent} has {free >> 20:,} MiB free, and {needed >> 20:,} MiB are needed: {advice}")


def _check_same(host: Any, imported: ImportedModel) -> None:
    """Check that whoever reads the configuration gets this model: RoPE's angles are no parameters."""
    with torch.device("meta"):
        again = AutoModelForCausalLM.from_config(AutoConfig.for_model(**host.config.to_dict()))
    internals.make_buffers(again)
    again.load_state_dict(host.state_dict(), assign=True)
    again.tie_weights()
    for reason in shape_differences(describe_model(again, imported.context), imported):
        raise ModelError(
            f"{imported.model.path} can't be written as a configuration of transformers: {reason}. Use `tailrace serve`, which"
            " needs none"
        )


def _generation_config(host: Any, tokenizer: Any, ours: Tokenizer) -> GenerationConfig:
    ends = sorted(ours.ends)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else None)
    return GenerationConfig(
        bos_token_id=host.config.bos_token_id, eos_token_id=ends or None, pad_token_id=padding, do_sample=False
    )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another disk, or one without links.
        shutil.copyfile(source, target)
