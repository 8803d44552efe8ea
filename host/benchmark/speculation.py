"""What drafts bring on real text, from itself, a layer or a draft model: tokens of a pass, and predicted cycles."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from typing import Literal

from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ConfigError, LimitError, TailraceError

from ..generation.completion import Completion
from ..generation.depth import Costs
from ..generation.draft import DraftModel
from ..generation.engine_draft import EngineDraft
from ..generation.upkeep import Upkeep
from ..gguf.describe import DescribedModel
from ..image.builds import lay_out
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..image.predicted_cycles import PredictedCycles
from ..image.programs import DRAFT, Kind, LoadedProgram, Programs, folds
from ..language_model import LanguageModel
from ..loading import load
from ..models.measured import SHAPES
from .asked import Asked
from .models import imported_shape

#: Tokens in the cache at which rows are compared.
_COMPARED_AT = 512
#: Where drafts can come from: the text; or also a layer of the model; or a draft model, on a device like that of the model, or
#: on something else.
TEXT, LAYER, MODEL, FREE = SOURCES = ("text", "text, layer", "text, model", "text, model for free")

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
        Over the weights, for the answer; what a layer takes that drafts, and folds, are no passes.
    drafted, accepted : int
        Tokens that were drafted and verified, and those of them that were right.
    plain, cycles : float
        Predicted for all that the answer takes, without drafts and with them. What a layer or a draft model takes is among the
        latter, unless that model is free.
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
    fills : bool
        Whether they fill the cache of a layer that drafts, if there is one.
    """

    are_known = True

    def __init__(
        self, programs: Programs, cycles: PredictedCycles, kind: Kind | Literal["draft"] = "tokens", fills: bool = False
    ) -> None:
        super().__init__()
        self._programs, self._cycles, self._kind, self._fills = programs, cycles, kind, fills

    def note(self, rows: int, seconds: float) -> None:
        """Nothing: what a pass takes on the machine at hand is not what counts."""

    def of(self, rows: int) -> float:
        """Cycles of a pass over so many rows of a sequence; without end where there is no room for them."""
        try:
            return self._cycles.of(self._programs.name_of(self._kind, [0] * rows, self._fills), _COMPARED_AT)
        except LimitError:
            return inf


class PredictedUpkeep(Upkeep):
    """What passes take more that fill the cache of a layer that drafts, in predicted cycles.

    Parameters
    ----------
    filling, plain : Costs
        Of passes that do, and of those that do not.
    """

    def __init__(self, filling: Costs, plain: Costs) -> None:
        super().__init__(0.0)
        self._filling, self._plain = filling, plain

    def note(self, rows: int, seconds: float, fills: bool) -> float:
        """Nothing, as of `PredictedCosts`."""
        return seconds

    def factor(self, rows: int) -> float:  # noqa: D102
        plain = self._plain.of(rows)
        return self._filling.of(rows) / plain if plain < inf else 1.0


class _Free(Costs):
    """Times of passes that cost the device nothing."""

    are_known = True

    def note(self, rows: int, seconds: float) -> None:
        """Nothing."""

    def of(self, rows: int) -> float:
        return 0.0


@dataclass(frozen=True)
class _Way:
    """A way to answer.

    Attributes
    ----------
    drafts : str
        Where drafts come from.
    lm : LanguageModel
        Whose device they are verified on.
    programs : Programs
        Whose cycles count.
    cycles : PredictedCycles
        Of these.
    drafter : DraftModel or None
        What drafts beside the text, and what it is thought to take.
    costs : Costs
    upkeep : Upkeep or None
        What passes are thought to take more for it.
    own : PredictedCycles or None
        Of the programs of a draft model whose passes count.
    """

    drafts: str
    lm: LanguageModel
    programs: Programs
    cycles: PredictedCycles
    drafter: DraftModel | None = None
    costs: Costs = _Free()
    upkeep: Upkeep | None = None
    own: PredictedCycles | None = None

    def answer(self, asked: Asked, tokens: int, speculate: bool = True) -> tuple[Completion, int, float]:
        """An answer of so many tokens; and passes and cycles behind its prompt."""
        engine, encoded = self.lm.engine, asked.tokens(self.lm.tokenizer)
        # Each answer begins with what is known before all answers.
        engine.drafting = None
        if speculate and self.drafter is not None:
            drafting = engine.draft_with(self.drafter)
            drafting.costs, drafting.upkeep = self.costs, self.upkeep
        self.lm.generate(encoded, max_tokens=1, speculate=speculate)
        decoders = [self.lm.decoder]
        if speculate and isinstance(self.drafter, EngineDraft):
            self.drafter.logits({0: encoded})
            decoders.append(self.drafter.engine.decoder)
        before = [Counter(decoder.steps) for decoder in decoders]
        completion = self.lm.generate(encoded, max_tokens=tokens, ignore_ends=True, speculate=speculate, **asked.options)
        taken, *others = (Counter(decoder.steps) - earlier for decoder, earlier in zip(decoders, before, strict=True))
        passes = sum(count for (name, _), count in taken.items() if self._run(name).kind in ("logits", "tokens"))
        return completion, passes, self.cycles.sum(self._counted(taken)) + self._drafter_cycles(others)

    def _run(self, name: str) -> LoadedProgram:
        """A program that has been run."""
        return self.lm.decoder.programs.loaded[name]

    def _counted(self, taken: _Steps) -> _Steps:
        """Steps by the programs whose cycles count; those of folds go by their names."""
        counted = _Steps()
        for (name, position), count in taken.items():
            run = self._run(name)
            counted[self.programs.name_of(run.kind, run.rows, run.fills) if run.kind else name, position] += count  # type: ignore[arg-type]
        return counted

    def _drafter_cycles(self, steps: Sequence[_Steps]) -> float:
        return sum(self.own.sum(taken) for taken in steps) if self.own else 0.0


def measure_speculation(
    model: str, config: str, asked: Mapping[str, Asked], *, tokens: int = 192, memory: str = "ideal", draft: str | None = None,
    shape: str | None = None, on_progress: Callable[[str, float], None] | None = None,
) -> Iterator[Speculation]:  # fmt: skip
    """Answer each text on the emulator with and without drafts; the tokens are compared, and the cycles predicted.

    Without drafts, and with those from the text alone, a model is loaded without a layer that drafts.

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
        A draft model, on a device like that, and for free. None: a layer of the model, if the file has one.
    shape : str or None
        Whose cycles count in place of the model's, from `tailrace.models.measured.SHAPES`: what drafts that are right as often
        would bring there.
    on_progress : callable or None

    Raises
    ------
    ConfigError
        If one of model and shape folds lists into states, and the other does not.
    TailraceError
        If an answer is another one with drafts.
    """
    with ExitStack() as stack:
        ways = list(_ways(stack, model, config, memory, draft, shape, on_progress))
        for number, (name, text) in enumerate(asked.items()):
            if on_progress:
                on_progress(name, number / len(asked))
            plain, _, slow = ways[0].answer(text, tokens, speculate=False)
            for way in ways:
                found, passes, fast = way.answer(text, tokens)
                if plain.tokens != found.tokens:
                    raise TailraceError(f"{name}: the answer is another one with drafts. Please report this")
                yield Speculation(
                    name, way.drafts, found.prompt_tokens, len(found.tokens), passes, found.drafted_tokens,
                    found.accepted_tokens, slow, fast,
                )  # fmt: skip


def _ways(
    stack: ExitStack, model: str, config: str, memory: str, draft: str | None, shape: str | None,
    on_progress: Callable[[str, float], None] | None,
) -> Iterator[_Way]:  # fmt: skip
    """The ways to answer, those from the text first; what is loaded is closed with the stack."""
    build = parse_config(config)

    def loaded(drafts: str | bool | None) -> tuple[LanguageModel, Programs, PredictedCycles]:
        lm = stack.enter_context(load(model, config=config, draft=drafts, progress=on_progress))
        programs = lm.decoder.programs
        if shape is not None:
            programs = _programs_of(shape, build, lm.decoder.limit, drafts is None)
            if folds(programs.image.imported.description) != folds(lm.decoder.imported.description):
                raise ConfigError(f"cycles of {shape} can't count in place of {model}'s: one of them has folds, the other none")
        cycles = PredictedCycles(programs, build, memory=memory)
        lm.engine.costs = PredictedCosts(programs, cycles)
        return lm, programs, cycles

    lm, programs, cycles = loaded(False if draft is None else draft)
    yield _Way(TEXT, lm, programs, cycles)
    if draft is not None:
        drafting = lm.engine.drafting
        assert drafting is not None
        assert isinstance(drafting.model, EngineDraft)
        own_programs = drafting.model.engine.decoder.programs
        own = PredictedCycles(own_programs, build, memory=memory)
        yield _Way(MODEL, lm, programs, cycles, drafting.model, PredictedCosts(own_programs, own, "logits"), own=own)
        yield _Way(FREE, lm, programs, cycles, drafting.model)
    elif lm.engine.imported.model.has_draft_layer:
        lm, programs, cycles = loaded(None)
        if lm.engine.drafting is not None:
            upkeep = PredictedUpkeep(PredictedCosts(programs, cycles, fills=True), PredictedCosts(programs, cycles))
            costs = PredictedCosts(programs, cycles, DRAFT)
            yield _Way(LAYER, lm, programs, cycles, lm.engine.drafting.model, costs, upkeep)


def _programs_of(shape: str, build: Config, context: int, drafts: bool) -> Programs:
    imported = imported_shape(SHAPES[shape], context, drafts=drafts)
    return lay_out(imported, Geometry.of_config(build), ImageRequest(whole_embedding=False)).programs


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
