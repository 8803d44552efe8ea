"""The result of comparing two models' next-token distributions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """Comparison of two sets of next-token distributions.

    Attributes
    ----------
    positions : int
    window : int
        Tokens after which both start over, with an empty context.
    mean_divergence, largest_divergence : float
        Kullback-Leibler divergence of the device's distribution from the reference's, in nats, per position.
    same_best : float
        Part of the positions at which the most probable token is the same.
    reference_perplexity, device_perplexity : float
        Of the text.
    """

    positions: int
    window: int
    mean_divergence: float
    largest_divergence: float
    same_best: float
    reference_perplexity: float
    device_perplexity: float
