"""Distances between two models' next-token distributions, added up as they come."""

import math

import torch

from .comparison import Quality


class Tally:
    """Adds up how far a device's distributions are from the reference's."""

    def __init__(self) -> None:
        self._positions, self._same, self._predicted = 0, 0, 0
        self._divergence, self._largest = 0.0, 0.0
        self._losses = [0.0, 0.0]

    def add(self, reference: torch.Tensor, device: torch.Tensor, following: torch.Tensor) -> None:
        """Compare the logits of some positions.

        Parameters
        ----------
        reference, device : tensor, shape (positions, vocabulary)
        following : tensor of int64, shape (positions,) or (positions - 1,)
            The token that follows each position in the text; nothing follows the last one of a window.
        """
        p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (reference, device))
        divergence = (p.exp() * (p - q)).sum(dim=-1)
        self._positions += len(divergence)
        self._divergence += float(divergence.sum())
        self._largest = max(self._largest, float(divergence.max()))
        self._same += int((p.argmax(-1) == q.argmax(-1)).sum())
        self._predicted += len(following)
        for side, log in enumerate((p, q)):
            self._losses[side] -= float(log[: len(following)].gather(1, following[:, None]).sum())

    def result(self, window: int) -> Quality:
        """What was found, over windows of so many tokens."""
        reference, device = (math.exp(loss / self._predicted) for loss in self._losses)
        return Quality(
            positions=self._positions,
            window=window,
            mean_divergence=self._divergence / self._positions,
            largest_divergence=self._largest,
            same_best=self._same / self._positions,
            reference_perplexity=reference,
            device_perplexity=device,
        )
