"""A model of transformers, on whatever PyTorch computes with, that drafts for one on a device."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from tailrace.spec.errors import ConfigError

from ..generation.draft import Outlook
from ..image.kv_cache import Floats
from ..text.tokenizer import Tokenizer
from . import internals
from .prefill import prefill

#: Tokens of a text that it takes at a time; and tokens by which two vocabularies of one family may differ.
_CHUNK, _PADDING = 512, 512


class TorchDraft:
    """Drafts with a causal model of transformers. Its KV cache is kept, and cropped where a draft was wrong.

    Several texts are computed one after the other, each with a cache of its own.

    Parameters
    ----------
    model : PreTrainedModel
        It stays where it is, in its own type; nobody else's caches are touched.

    Raises
    ------
    ConfigError
        If it keeps a state that can't be taken back.
    """

    #: Its time has nothing to do with that of a device: it is measured when it is first asked.
    weight_bytes = 0

    def __init__(self, model: Any) -> None:
        name = type(model).__name__
        if getattr(model, "_is_stateful", False):
            raise ConfigError(f"{name} keeps a state that wrong drafts can't be taken back from: draft with another model")
        if not model.can_generate():
            raise ConfigError(f"{name} can't say what comes next: draft with a causal language model, as AutoModelForCausalLM")
        self._model = model
        config = model.config.get_text_config()
        self._vocabulary: int = config.vocab_size
        self._limit: int = getattr(config, "max_position_embeddings", 1 << 30)
        self._held: dict[int, tuple[list[int], DynamicCache]] = {}

    def check(self, tokenizer: Tokenizer, batch: int) -> None:
        """Refuse a model that this one can't draft for; see `DraftModel.check`. Of its tokens only their number is known."""
        wanted = len(tokenizer.vocabulary.tokens)
        if abs(self._vocabulary - wanted) > _PADDING:
            raise ConfigError(
                f"{type(self._model).__name__} can't draft for this model, because its tokens are others: it has"
                f" {self._vocabulary:,}, and the model {wanted:,}. Take a smaller model of the same family, which has the same"
                " tokenizer"
            )

    def outlook(self, place: int, tokens: Sequence[int]) -> Outlook:
        """What it can do for a text; see `DraftModel.outlook`."""
        if len(tokens) > self._limit or max(tokens) >= self._vocabulary:
            return Outlook()
        held = self._held.get(place)
        missing = len(tokens) - (0 if held is None else _common(held[0], tokens))
        return Outlook(missing, -(-missing // _CHUNK), self._limit - len(tokens) + 1)

    @torch.no_grad()
    def logits(self, texts: Mapping[int, Sequence[int]]) -> dict[int, Floats]:
        """Logits of what comes next in texts; see `DraftModel.logits`."""
        return {place: self._next(place, list(tokens)) for place, tokens in texts.items()}

    def _next(self, place: int, tokens: list[int]) -> Floats:
        # Whoever is interrupted here leaves nothing half done. Without a configuration a cache keeps all tokens, of sliding
        # windows, too, and can be cropped anywhere.
        held, cache = self._held.pop(place, ([], DynamicCache()))
        common = _common(held, tokens)
        if common < len(held):
            cache.crop(common - len(held))
        ids = torch.tensor([tokens], device=self._model.device)
        prefill(self._model, ids[:, :-1], cache, chunk_size=_CHUNK)
        found = self._model(input_ids=ids[:, -1:], logits_to_keep=1, **internals.with_cache(cache)).logits
        self._held[place] = tokens, cache
        return found[0, -1].float().cpu().numpy()


def _common(held: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens that a cache has of a text, but for the last one."""
    most = min(len(held), len(tokens) - 1)
    return next((n for n in range(most) if held[n] != tokens[n]), most)
