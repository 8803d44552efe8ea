"""A small model on a device of its own that drafts for a large one."""

from collections.abc import Mapping, Sequence

import numpy as np

from tailrace.firmware.decode import MAX_ROWS
from tailrace.spec.errors import ConfigError

from ..gguf.printable import shown
from ..image.kv_cache import Floats
from ..text.tokenizer import Tokenizer
from ..text.vocabulary import TokenType
from .draft import Outlook
from .engine import Engine
from .sequences import Holder

#: Tokens that may have other names in the two vocabularies, such as those that one of the models reserves and the other uses.
_OTHERS = 128


class EngineDraft:
    """Drafts with an engine. It may be used for answers of its own, too: they take turns.

    What is the same in a text as in the call before is not computed again, so a draft that was wrong costs nothing more.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._holders: dict[int, Holder] = {}

    @property
    def weight_bytes(self) -> int:
        """That a pass reads."""
        return self.engine.decoder.image.token_bytes

    def check(self, tokenizer: Tokenizer, batch: int) -> None:
        """Refuse a model that this one can't draft for; see `DraftModel.check`."""
        name = self.engine.imported.name
        own, wanted = self.engine.tokenizer.vocabulary.tokens, tokenizer.vocabulary
        used = (n for n, kind in enumerate(wanted.types) if kind != TokenType.UNUSED)
        differ = [n for n in used if own[n : n + 1] != wanted.tokens[n : n + 1]]
        if len(differ) > _OTHERS:
            first = differ[0]
            other = f"{shown(own[first])}, not" if first < len(own) else "not there, and is"
            raise ConfigError(
                f"{name} can't draft for this model, because its tokens are others: token {first} is {other}"
                f" {shown(wanted.tokens[first])}, and {len(differ) - 1} more differ. Take a smaller model of the same family,"
                " which has the same tokenizer"
            )
        if self.engine.decoder.batch < batch:
            raise ConfigError(
                f"{name} can draft for {self.engine.decoder.batch} texts at a time, and the model has {batch}: load it with"
                f" batch={batch}"
            )

    def outlook(self, place: int, tokens: Sequence[int]) -> Outlook:
        """What it can do for a text; see `DraftModel.outlook`."""
        decoder = self.engine.decoder
        length = len(tokens)
        if length > decoder.limit or max(tokens) >= decoder.imported.description.vocabulary:
            return Outlook()
        with self.engine.lock:
            sequence = self._place(place, tokens)
            missing, rows = length - decoder.positions[sequence], decoder.programs.most_rows
            passes = 1 if missing <= decoder.together(sequence) else 1 + -(-(missing - 1) // rows)
            # The last draft is not taken, unless the large model takes it.
            most = decoder.retractable(length - 1, MAX_ROWS, sequence)
        return Outlook(missing, passes, min(most, decoder.limit - length + 1))

    def logits(self, texts: Mapping[int, Sequence[int]]) -> dict[int, Floats]:
        """Logits of what comes next in texts; see `DraftModel.logits`."""
        decoder = self.engine.decoder
        with self.engine.lock:
            places = {place: self._place(place, tokens) for place, tokens in texts.items()}
            rest = {places[place]: list(tokens[decoder.positions[places[place]] :]) for place, tokens in texts.items()}
            share = decoder.programs.most_together // len(rest)
            if any(len(tokens) > min(share, decoder.together(sequence)) for sequence, tokens in rest.items()):
                for sequence, tokens in rest.items():
                    self.engine.sequences.note(sequence, tokens[:-1])
                decoder.prefill([rest.get(sequence, [])[:-1] for sequence in range(decoder.batch)])
                rest = {sequence: tokens[-1:] for sequence, tokens in rest.items()}
            for sequence, tokens in rest.items():
                self.engine.sequences.note(sequence, tokens)
            results = decoder.take([rest.get(sequence) for sequence in range(decoder.batch)])
        return {place: np.asarray(results[sequence][-1]) for place, sequence in places.items()}

    def _place(self, place: int, tokens: Sequence[int]) -> int:
        """The sequence of a place, cut to what it has of a text, but for the last token."""
        sequences = self.engine.sequences
        holder = self._holders.setdefault(place, Holder())
        others = (sequences.find(other) for other in self._holders.values() if other is not holder)
        return sequences.place(holder, tokens, tuple(found for found in others if found is not None))
