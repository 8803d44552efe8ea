"""What drafts bring on real text, from itself or from a draft model: tokens of a pass, and predicted cycles."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tailrace.spec.config import parse_config
from tailrace.spec.errors import TailraceError

from ..generation.completion import Completion
from ..generation.depth import Costs
from ..generation.engine_draft import EngineDraft
from ..gguf.describe import DescribedModel
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.predicted_cycles import PredictedCycles
from ..image.programs import Kind, Programs
from ..language_model import LanguageModel
from ..loading import load
from .asked import Asked

#: Tokens in the cache at which rows are compared.
_COMPARED_AT = 512
#: Where drafts can come from: the text; or also a draft model, on a device like that of the model, or on something else.
TEXT, MODEL, FREE = SOURCES = ("text", "text, model", "text, model for free")

#: How often a program was run at a position.
_Steps = Counter[tuple[str, int]]


@dataclass(frozen=True)
class Speculation:
    """An answer with and without drafts.

    Attributes
    ----------
    text : str
        What kind of text it is.
    drafts : str
        Where they come from: one of `SOURCES`.
    prompt_tokens, tokens : int
        Of prompt and answer.
    passes : int
        Over the weights, for the answer.
    drafted, accepted : int
        Tokens that were drafted and verified, and those of them that were right.
    plain, cycles : float
        Predicted for all passes of the answer, without drafts and with them; those of a draft model are among the latter,
        unless it is free.
    """

    text: str
    drafts: str
    prompt_tokens: int
    tokens: int
    passes: int
    drafted: int
    accepted: int
    plain: float
    cycles: float

    @property
    def ratio(self) -> float:
        """How many times as fast the answer is with drafts."""
        return self.plain / self.cycles


class PredictedCosts(Costs):
    """Times of passes in predicted cycles, in place of measured ones.

    Parameters
    ----------
    programs : Programs
    cycles : PredictedCycles
        Of these programs.
    kind : str
        What passes compute.
    """

    are_known = True

    def __init__(self, programs: Programs, cycles: PredictedCycles, kind: Kind = "tokens") -> None:
        super().__init__()
        self._programs, self._cycles, self._kind = programs, cycles, kind

    def note(self, rows: int, seconds: float) -> None:
        """Nothing: what a pass takes on the machine at hand is not what counts."""

    def of(self, rows: int) -> float:
        """Cycles of a pass over so many rows of a sequence."""
        return self._cycles.of(self._programs.name_of(self._kind, [0] * rows), _COMPARED_AT)


class _Free(Costs):
    """Times of passes that cost the device nothing."""

    are_known = True

    def note(self, rows: int, seconds: float) -> None:
        """Nothing."""

    def of(self, rows: int) -> float:
        return 0.0


def measure_speculation(
    model: str, config: str, asked: Mapping[str, Asked], *, tokens: int = 192, memory: str = "ideal", draft: str | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> Iterator[Speculation]:  # fmt: skip
    """Answer each text on the emulator with and without drafts; the tokens are compared, and the cycles predicted.

    Parameters
    ----------
    model : str
        As `tailrace.load` takes it.
    config : str
        Build of the device; of that of a draft model, too.
    asked : mapping of str to Asked
        Texts by their names, as `tailrace.benchmark.asked.texts` has them.
    tokens : int
        Of an answer.
    memory : str
    draft : str or None
        A draft model: each text is answered with drafts of each kind of `SOURCES`.
    on_progress : callable or None

    Raises
    ------
    TailraceError
        If an answer is another one with drafts.
    """
    with load(model, config=config, draft=False if draft is None else draft, progress=on_progress) as lm:
        build, drafter = parse_config(config), None
        cycles = PredictedCycles(lm.decoder.programs, build, memory=memory)
        lm.engine.costs = PredictedCosts(lm.decoder.programs, cycles)
        if lm.engine.drafting is not None:
            drafter = lm.engine.drafting.model
            assert isinstance(drafter, EngineDraft)
            drafter_programs = drafter.engine.decoder.programs
            own = PredictedCycles(drafter_programs, build, memory=memory)
            dear = PredictedCosts(drafter_programs, own, "logits")
        for number, (name, text) in enumerate(asked.items()):
            if on_progress:
                on_progress(name, number / len(asked))
            lm.engine.drafting = None
            plain, slow, _ = _answer(lm, text, tokens, False)
            for drafts in SOURCES if drafter else (TEXT,):
                if drafter and drafts != TEXT:
                    # Each answer begins with what is known before all answers.
                    lm.engine.draft_with(drafter).costs = dear if drafts == MODEL else _Free()
                found, fast, steps = _answer(lm, text, tokens, True)
                if plain.tokens != found.tokens:
                    raise TailraceError(f"{name}: the answer is another one with drafts. Please report this")
                yield Speculation(
                    name, drafts, found.prompt_tokens, len(found.tokens), fast.total(), found.drafted_tokens,
                    found.accepted_tokens, cycles.sum(slow), cycles.sum(fast) + (own.sum(steps) if drafts == MODEL else 0.0),
                )  # fmt: skip


def _answer(lm: LanguageModel, asked: Asked, tokens: int, speculate: bool) -> tuple[Completion, _Steps, _Steps]:
    """An answer of so many tokens, and the steps of the model and of the draft model behind its prompt."""
    encoded = asked.tokens(lm.tokenizer)
    lm.generate(encoded, max_tokens=1, speculate=False)
    decoders = [lm.decoder]
    if lm.engine.drafting is not None and isinstance(drafter := lm.engine.drafting.model, EngineDraft):
        drafter.logits({0: encoded})
        decoders.append(drafter.engine.decoder)
    before = [Counter(decoder.steps) for decoder in decoders]
    completion = lm.generate(encoded, max_tokens=tokens, ignore_ends=True, speculate=speculate, **asked.options)
    taken = [Counter(decoder.steps) - earlier for decoder, earlier in zip(decoders, before, strict=True)]
    return completion, taken[0], taken[1] if len(taken) > 1 else Counter()


def costs_of_rows(imported: DescribedModel, config: str, context: int, memory: str = "ideal") -> list[int]:
    """Predicted cycles of passes that choose a token for each of 1, 2, 3, ... rows of a sequence.

    Parameters
    ----------
    imported : DescribedModel
    config : str
    context : int
        Tokens in the cache.
    memory : str

    Raises
    ------
    ModelError, LimitError
        If the model does not run on the build.
    """
    build = parse_config(config)
    programs = lay_out(imported, Geometry.of_config(build), ImageRequest(whole_embedding=False)).programs
    cycles = PredictedCycles(programs, build, memory=memory)
    return [cycles.exactly(programs.name_of("tokens", [0] * rows), context) for rows in range(1, programs.most_rows + 1)]
