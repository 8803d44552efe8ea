"""Whole decode steps under Hugging Face's `generate`: the model computes the prompt, the device all that follows."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from transformers import DynamicCache
from transformers.generation import GenerateDecoderOnlyOutput, StoppingCriteriaList, StopStringCriteria

from tailrace.firmware.decode import MAX_ROWS
from tailrace.spec.errors import LimitError, ModelError, TailraceError

from ..device.counters import Counters
from ..device.decoder import Decoder
from ..device.driver import Device
from ..device.opening import DEFAULT_CONTEXT, check_device, open_for
from ..gguf.describe import DescribedModel, import_model
from ..gguf.file import open_model
from ..image.builds import AUTO
from ..image.image import ImageRequest
from ..progress import Progress
from . import internals
from .describe import describe_model, keeps_states, trained_context
from .handover import hand_over
from .hybrid_match import check_same_hybrid
from .match import check_same
from .prefill import lengths_of, prefill

#: Arguments of a model that mean the same on the device.
_KNOWN_ARGUMENTS = {"attention_mask", "position_ids", "logits_to_keep", "use_cache", internals.CACHE}


@dataclass
class Timing:
    """Where the time of one call went, in seconds.

    Attributes
    ----------
    prefill : float
        The prompt without its last token, by PyTorch.
    hand_over : float
        Its keys and values from PyTorch's device to this one.
    steps : list of float
        Each decode step, up to its logits.
    """

    prefill: float = 0.0
    hand_over: float = 0.0
    steps: list[float] = field(default_factory=list)

    @property
    def first_token(self) -> float:
        """From the call to the logits of the first new token."""
        return self.prefill + self.hand_over + self.steps[0]


class Offload:
    """A Hugging Face model whose new tokens a device computes: what to pass as ``custom_generate``.

    Sequences go on together, as those of Hugging Face's own loop do, with its logits processors, stopping criteria, sampling
    and streamers. The model stays as it is, and works without the device as before. Calls from several threads take turns.

    Parameters
    ----------
    model : PreTrainedModel
    decoder : Decoder
        Of the same model.
    owned : bool
        Whether closing closes the decoder's device, too.

    Attributes
    ----------
    model : PreTrainedModel
    decoder : Decoder
    timing : Timing
        Of the last call.
    """

    def __init__(self, model: Any, decoder: Decoder, *, owned: bool = False) -> None:
        self.model, self.decoder, self._owned = model, decoder, owned
        self.timing = Timing()
        self._turn = threading.RLock()
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("an offload is on a device, and can't be copied or pickled: call offload for each model")

    def close(self) -> None:
        """Release the device, if `offload` opened it."""
        if self._owned:
            self.decoder.device.close()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """``model.generate(..., custom_generate=self)``, which knows stop strings, too.

        Raises
        ------
        ModelError
            If `generate` was asked for what the device does not do.
        LimitError
            If prompt and answer are longer than the context, or there are more sequences than the device takes.
        """
        stops, tokenizer = kwargs.pop("stop_strings", None), kwargs.pop("tokenizer", None)
        if stops is not None:
            if tokenizer is None:
                raise ModelError("stop strings need the model's tokenizer: call generate with tokenizer=...")
            given = kwargs.pop("stopping_criteria", None) or []
            kwargs["stopping_criteria"] = StoppingCriteriaList([*given, StopStringCriteria(tokenizer, stops)])
        # That of the class: an instance's own may be what has led here.
        return type(self.model).generate(self.model, *args, custom_generate=self, **kwargs)

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        """What `generate` calls once it has prepared everything."""
        given = internals.withheld()
        self._check(model, input_ids, generation_config, given.assistant, model_kwargs)
        mask = model_kwargs.get("attention_mask")
        lengths = lengths_of(mask, input_ids)
        _check_places(model_kwargs.get("position_ids"), lengths, input_ids)
        self._check_room(input_ids, lengths, stopping_criteria)
        with self._alone():
            self._compute_prompt(model, input_ids, mask, lengths, model_kwargs[internals.CACHE], generation_config)
            return self._decode(input_ids, logits_processor, stopping_criteria, generation_config, given.streamer)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other thread generates."""
        with self._turn:
            if self._busy:
                raise TailraceError("this offload is generating: let it finish before it is called from within")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    # What is refused, before anything is computed.

    def _check(self, model: Any, input_ids: torch.Tensor, config: Any, assistant: Any, model_kwargs: dict[str, Any]) -> None:
        if model is not self.model:
            raise ModelError("this offload is of another model: call offload for each")
        mode = internals.generation_mode(config, assistant)
        if not internals.is_single_sequence(mode):
            raise ModelError(
                f"the device decodes greedily or by sampling, not by {mode.replace('_', ' ')}: set num_beams=1, and leave out"
                " what asks for it"
            )
        if not model_kwargs.get("use_cache") or internals.CACHE not in model_kwargs:
            raise ModelError("the device keeps keys and values: call generate with use_cache=True")
        if input_ids.numel() == 0 or model_kwargs.get("inputs_embeds") is not None:
            raise ModelError("the device takes tokens: call generate with input_ids of at least one token")
        if input_ids.ndim != 2:
            raise ModelError(f"input_ids have the shape (sequences, tokens), and not {tuple(input_ids.shape)}")
        if input_ids.is_floating_point() or input_ids.dtype is torch.bool:
            raise ModelError(f"input_ids are whole numbers, and these are {input_ids.dtype}: give what a tokenizer returns")
        # PyTorch would stop with an index out of range, and on cuda never work again.
        vocabulary = self.decoder.imported.description.vocabulary
        for token in (int(input_ids.min()), int(input_ids.max())):
            if not 0 <= token < vocabulary:
                raise ModelError(f"token {token} is not one of the model's {vocabulary}: take the model's own tokenizer")
        cache = model_kwargs[internals.CACHE]
        if type(cache) is not DynamicCache:
            raise ModelError(
                f"the prompt's keys and values are handed over from a DynamicCache, not from a {type(cache).__name__}: leave"
                " out cache_implementation"
            )
        for name in ("output_attentions", "output_hidden_states"):
            if getattr(config, name, None):
                raise ModelError(f"the device returns logits only: leave out {name}")
        for name, value in model_kwargs.items():
            if name not in _KNOWN_ARGUMENTS and value is not None:
                raise ModelError(f"the device does not know what {name} means: leave it out")

    def _check_room(self, input_ids: torch.Tensor, lengths: Sequence[int], stopping_criteria: Any) -> None:
        if len(lengths) > self.decoder.batch:
            most = min(self.decoder.device.geometry.right_hand_sides, MAX_ROWS)
            raise LimitError(
                f"there are {len(lengths)} sequences, and this offload takes {self.decoder.batch}: call offload with batch="
                f"{len(lengths)} (this device: at most {most}), or generate fewer at a time"
            )
        new = (stopping_criteria.max_length or input_ids.shape[1] + 1) - input_ids.shape[1]
        # The last token is not taken any more.
        needed = max(lengths) + new - 1
        if needed > self.decoder.limit:
            room = self.decoder.limit - max(lengths) + 1
            advice = f"ask for at most {room} new tokens, or " if room > 0 else ""
            raise LimitError(
                f"the longest prompt has {max(lengths)} tokens and needs a context of {needed} for {new} new ones, and this"
                f" offload has {self.decoder.limit}: {advice}call offload with context={needed}"
            )

    # The work.

    def _compute_prompt(
        self,
        model: Any,
        input_ids: torch.Tensor,
        mask: torch.Tensor | None,
        lengths: Sequence[int],
        cache: DynamicCache,
        config: Any,
    ) -> None:
        self.timing = Timing()
        end = input_ids.shape[1] - 1
        start = time.perf_counter()
        prefill(model, input_ids[:, :end], cache, None if mask is None else mask[:, :end], config.prefill_chunk_size)
        _wait_for(model.device)
        done = time.perf_counter()
        if end:
            hand_over(self.decoder, cache, [n - 1 for n in lengths])
        else:
            self.decoder.reset()
        self.timing.prefill, self.timing.hand_over = done - start, time.perf_counter() - done

    def _decode(
        self, input_ids: torch.Tensor, logits_processor: Any, stopping_criteria: Any, config: Any, streamer: Any
    ) -> Any:
        """Hugging Face's loop, with the device in the place of the model."""
        structured = config.return_dict_in_generate
        scores: list[torch.Tensor] = []
        logits: list[torch.Tensor] = []
        pad = internals.padding(config)
        ends = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
        unfinished = torch.ones(len(input_ids), dtype=torch.long, device=input_ids.device)
        while bool(unfinished.any()):
            raw = self._step(input_ids[:, -1]).to(input_ids.device)
            processed = logits_processor(input_ids, raw.clone())
            _check_scores(processed, raw, unfinished)
            if structured and config.output_scores:
                scores.append(processed)
            if structured and config.output_logits:
                logits.append(raw)
            if config.do_sample:
                tokens = torch.multinomial(torch.softmax(processed, dim=-1), num_samples=1).squeeze(1)
            else:
                tokens = torch.argmax(processed, dim=-1)
            if ends and pad is not None:
                tokens = tokens * unfinished + pad.to(input_ids.device) * (1 - unfinished)
            input_ids = torch.cat([input_ids, tokens[:, None]], dim=-1)
            if streamer is not None:
                streamer.put(tokens.cpu())
            unfinished = unfinished & ~stopping_criteria(input_ids, tuple(scores) or None)
        if streamer is not None:
            streamer.end()
        if not structured:
            return input_ids
        return GenerateDecoderOnlyOutput(
            sequences=input_ids,
            scores=tuple(scores) if config.output_scores else None,
            logits=tuple(logits) if config.output_logits else None,
        )

    def _step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits after one more token of each sequence, shape (sequences, vocabulary)."""
        start = time.perf_counter()
        given = [int(t) for t in tokens]
        found = self.decoder.step([*given, *[None] * (self.decoder.batch - len(given))])
        self.timing.steps.append(time.perf_counter() - start)
        return torch.from_numpy(found[: len(given)])


def offload(
    model: Any,
    device: Device | str,
    *,
    gguf: Path | str | None = None,
    quantise: str | None = None,
    context: int | None = None,
    batch: int = 1,
    config: str = AUTO,
    memory: str = AUTO,
    on_progress: Progress | None = None,
    on_step: Callable[[Counters], None] | None = None,
) -> Offload:
    """Load a device with the weights of a Hugging Face model, to decode with it.

    Parameters
    ----------
    model : PreTrainedModel
        Of a type in `tailrace.huggingface.describe.MODEL_TYPES` or, with a file,
        `tailrace.huggingface.hybrid_configuration.HYBRID_TYPES`, on any PyTorch device, in float32, float16 or bfloat16. It
        keeps computing prompts.
    device : Device or str
        A device, or the name of one that is to be opened: ``golden``, ``verilator``, ``serial:/dev/ttyUSB0``.
    gguf : Path, str or None
        A GGUF file of the same model, whose blocks the device reads as they are.
    quantise : str or None
        Without a file: the format that the model's own matrices become, one after the other, such as ``Q8_0``. With a file:
        what its matrices of plain numbers become.
    context : int or None
        Tokens that prompt and answer have room for together. None: 4096, or as many as the model was trained for if that is
        less.
    batch : int
        Sequences that go on together, at most as many as the device has right-hand sides.
    config, memory : str
        Build and memory of a device without hardware, as in ``base,bus_width=256`` and ``2GiB``. ``auto``: a build that fits
        (``auto,bus_width=256``: with changes), and as much memory as is needed.
    on_progress : callable or None
        Told about what is being written to the device.
    on_step : callable or None
        Called after each doorbell with its counters.

    Returns
    -------
    Offload
        For ``model.generate(..., custom_generate=...)``; to be closed if it opened the device.

    Raises
    ------
    NoDescriptionError
        If the model can't be decoded as a whole.
    ModelError
        If neither file nor format is given, the file is another model's, or a matrix can't be read by the device.
    LimitError
        If model and context do not fit the device.
    """
    internals.check()
    check_device(device, config, memory, context=context, batch=batch)
    described = _described(model, gguf, quantise, context)
    request = ImageRequest(batch, False, quantise)
    opened = device if isinstance(device, Device) else open_for(device, config, memory, described, request)
    try:
        decoder = Decoder(opened, described, batch=batch, quantise=quantise, on_progress=on_progress, on_step=on_step)
    except BaseException:
        if opened is not device:
            opened.close()
        raise
    return Offload(model, decoder, owned=opened is not device)


def _described(model: Any, gguf: Path | str | None, quantise: str | None, context: int | None) -> DescribedModel:
    """The model as the device is to have it: the file's, if there is one, once it has been compared with PyTorch's."""
    if keeps_states(model):
        if gguf is None:
            raise ModelError("the weights of a model with states come from a file: give gguf='model.gguf'")
        file = open_model(gguf)
        imported = import_model(file, min(file.context_length, DEFAULT_CONTEXT) if context is None else context)
        check_same_hybrid(model, imported)
        return imported
    described = describe_model(model, min(trained_context(model), DEFAULT_CONTEXT) if context is None else context)
    if gguf is not None:
        imported = import_model(open_model(gguf), described.context)
        check_same(described, imported)
        return imported
    if quantise is None:
        raise ModelError(
            "say what the device is to read: gguf=... names a file of the model, or quantise='Q8_0' makes its format"
        )
    return described


def _check_places(position_ids: torch.Tensor | None, lengths: Sequence[int], input_ids: torch.Tensor) -> None:
    """Check that each sequence begins at position 0 and goes on one by one."""
    if position_ids is None:
        return
    batch, total = input_ids.shape
    if position_ids.shape not in ((1, total), (batch, total)):
        # A mask without padding is left out by transformers once it has made positions of it.
        raise ModelError(
            f"attention_mask or position_ids have the shape {tuple(position_ids.shape)}, and input_ids {(batch, total)}: give"
            " what the tokenizer returns"
        )
    for sequence, length in enumerate(lengths):
        places = position_ids[min(sequence, len(position_ids) - 1), -length:].cpu()
        if not torch.equal(places, torch.arange(length)):
            raise ModelError(
                f"sequence {sequence} does not begin at position 0: give generate the whole sequence as input_ids, with what a"
                " cache already holds of it, and no position_ids"
            )


def _check_scores(processed: Any, raw: torch.Tensor, unfinished: torch.Tensor) -> None:
    """Check what logits processors returned: Hugging Face's own loop would choose some token from whatever it is."""
    if not isinstance(processed, torch.Tensor) or processed.shape != raw.shape or processed.dtype is torch.bool:
        is_tensor = isinstance(processed, torch.Tensor)
        what = f"{processed.dtype} of shape {tuple(processed.shape)}" if is_tensor else f"a {type(processed).__name__}"
        raise TailraceError(f"logits processors must return logits of shape {tuple(raw.shape)}, and they returned {what}")
    best = processed.max(dim=-1).values[unfinished.bool()]
    if not bool(torch.isfinite(best).all()):
        raise TailraceError(
            "no token can be chosen: a logit is not a number, or all tokens are banned. Check the logits processors"
        )


def _wait_for(device: torch.device) -> None:
    """Wait until an accelerator has done what it was given, so that times are its own."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
