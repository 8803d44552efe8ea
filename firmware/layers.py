"""Layers that differ by nothing but where they lie, found so that they can be one loop."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .description import Description, layer_role
from .placement import Placement

#: Layers that a round of a loop may have: so many as models alternate between kinds of attention.
LONGEST_PERIOD = 8


@dataclass(frozen=True)
class Run:
    """`rounds` times `period` layers, from layer `first` on.

    `weight_distance` and `cache_distance`: bytes from a round's weights and tables, and caches, to the next round's.
    """

    first: int
    period: int
    rounds: int
    weight_distance: int = 0
    cache_distance: int = 0


@dataclass(frozen=True)
class _Form:
    """What two layers must have in common, and where they lie."""

    form: object
    weights: tuple[int, ...]
    caches: tuple[int, ...]


def runs(description: Description, placement: Placement, sequences: Iterable[int]) -> Iterator[Run]:
    """Yield the layers of a model in as few commands as possible; `sequences`: those whose caches are used."""
    used = sorted(set(sequences))
    forms = [_form(description, placement, layer, used) for layer in range(len(description.layers))]
    first = 0
    while first < len(forms):
        run = max((_run(forms, first, period) for period in range(1, LONGEST_PERIOD + 1)), key=_saved)
        yield run
        first += run.period * run.rounds


def _saved(run: Run) -> int:
    """Layers whose commands a loop saves; of equal ones the first, so the shortest period, is taken."""
    return (run.rounds - 1) * run.period


def _form(description: Description, placement: Placement, layer: int, sequences: list[int]) -> _Form:
    prefix = layer_role(layer, "")
    matrices = {role.removeprefix(prefix): m for role, m in sorted(placement.matrices.items()) if role.startswith(prefix)}
    tables = {role.removeprefix(prefix): t for role, t in sorted(placement.tables.items()) if role.startswith(prefix)}
    caches = [placement.caches[s][mixer] for s in sequences for mixer in description.mixers_of(layer)]
    form = (
        description.layers[layer],
        [
            (r, m.format, m.exponent, m.rows, m.blocks, m.expert_stride, m.scale, [(p.first_row, p.rows) for p in m.parts])
            for r, m in matrices.items()
        ],
        [(r, t.columns, t.stride) for r, t in tables.items()],
        [c.form for c in caches],
    )
    weights = [p.address for m in matrices.values() for p in m.parts] + [t.address for t in tables.values()]
    return _Form(form, tuple(weights), tuple(a for c in caches for a in c.addresses))


def _run(forms: list[_Form], first: int, period: int) -> Run:
    """The longest run of rounds of `period` layers."""
    rounds, weights, caches = 1, 0, 0
    while first + (rounds + 1) * period <= len(forms):
        distances = [
            _distance(forms[first + i + (rounds - 1) * period], forms[first + i + rounds * period]) for i in range(period)
        ]
        if None in distances or len(set(distances)) > 1 or (rounds > 1 and distances[0] != (weights, caches)):
            break
        assert distances[0] is not None
        weights, caches = distances[0]
        rounds += 1
    return Run(first, period, rounds, weights, caches)


def _distance(one: _Form, other: _Form) -> tuple[int, int] | None:
    """Bytes between the weights and between the caches of two layers, if these are all the same and nothing else differs."""
    weights = {b - a for a, b in zip(one.weights, other.weights)}
    caches = {b - a for a, b in zip(one.caches, other.caches)}
    if one.form != other.form or len(weights) > 1 or len(caches) > 1:
        return None
    return max(weights, default=0), max(caches, default=0)
