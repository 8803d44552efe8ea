"""Which layers of a model repeat, so that a few that are run stand for all of them."""

from dataclasses import dataclass

from ..gguf.describe import DescribedModel


@dataclass(frozen=True)
class Repetition:
    """Layers that are run, and how often those of a period stand for others.

    Layers are those before the period, two rounds of the period, and what is left of a round at the end.

    Attributes
    ----------
    layers : int
        Of the whole model.
    first : int
        Layers before the period.
    period : int
        Layers of a round.
    present : int
        Layers that are run: all of them, or so many that two rounds are.
    """

    layers: int
    first: int
    period: int
    present: int

    @property
    def missing(self) -> int:
        """Rounds that are not run."""
        return (self.layers - self.present) // self.period

    @property
    def rounds(self) -> float:
        """Rounds of the whole model; layers before the period, and at its end, are parts of one."""
        return self.layers / self.period

    def stands_for(self, layer: int) -> int:
        """The layer among those that are run which is like one of the whole model."""
        rest = (self.layers - self.first) % self.period
        if layer < self.present - rest:
            return layer
        if layer >= self.layers - rest:
            return layer - (self.layers - self.present)
        return self.first + self.period + (layer - self.first) % self.period


def whole(layers: int) -> Repetition:
    """All layers, which are run."""
    return Repetition(layers, 0, layers, layers)


def repetition_of(imported: DescribedModel) -> Repetition:
    """The fewest layers that stand for a model; all of them, if more than half of them would be needed.

    Parameters
    ----------
    imported : DescribedModel
        With all of its layers.
    """
    kinds = [_kind(imported, n) for n in range(len(imported.description.layers))]
    layers = len(kinds)
    best = whole(layers)
    for first in range(layers):
        for period in range(1, (layers - first) // 2 + 1):
            present = first + 2 * period + (layers - first) % period
            if present < best.present and all(kinds[n] == kinds[n - period] for n in range(first + period, layers)):
                best = Repetition(layers, first, period, present)
    return best if 2 * best.present <= layers else whole(layers)


def _kind(imported: DescribedModel, n: int) -> object:
    """All of a layer that its cycles depend on."""
    prefix = f"layers.{n}."
    matrices = {role.removeprefix(prefix): source for role, source in imported.matrices.items() if role.startswith(prefix)}
    sizes = sorted((role, s.tensor.type_name, s.rows, s.columns, s.experts) for role, s in matrices.items())
    return imported.description.layers[n], sizes
