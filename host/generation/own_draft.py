"""A model that drafts for itself: by a layer behind its last one (multi-token prediction)."""

from collections.abc import Mapping, Sequence

from tailrace.firmware.decode import MAX_ROWS

from ..device.decoder import Decoder
from ..image.kv_cache import Floats
from ..text.tokenizer import Tokenizer
from .draft import Outlook


class OwnDraft:
    """Drafts with the layer of a decoder's model that is there for this.

    Places are sequences of the decoder. All that the layer has to know of a text's tokens the passes over them leave for it, so
    it has nothing to catch up with; it drafts what comes behind the one token that no pass has taken. Where passes left nothing
    for it, it waits for the next one that does.

    Parameters
    ----------
    decoder : Decoder
        With a layer that drafts.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @property
    def weight_bytes(self) -> int:
        """That a draft reads."""
        return self._decoder.image.draft_bytes

    def check(self, tokenizer: Tokenizer, batch: int) -> None:
        """Its tokens are the model's; see `DraftModel.check`."""

    def outlook(self, place: int, tokens: Sequence[int]) -> Outlook:
        """What it can do for a text; see `DraftModel.outlook`."""
        taken = self._decoder.positions[place]
        if taken != len(tokens) - 1 or not self._decoder.has_filled(place):
            return Outlook()
        return Outlook(1, 1, min(MAX_ROWS, self._decoder.limit - taken))

    def logits(self, texts: Mapping[int, Sequence[int]]) -> dict[int, Floats]:
        """Logits of what comes next in texts, each one token longer than in the call before; see `DraftModel.logits`."""
        places = range(self._decoder.batch)
        found = self._decoder.draft([(texts[n][-1], len(texts[n]) - 1) if n in texts else None for n in places])
        return {place: logits for place, logits in enumerate(found) if logits is not None}
