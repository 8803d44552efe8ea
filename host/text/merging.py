"""Merging neighbours, best first: what byte-pair encoding and SentencePiece's vocabularies with scores have in common."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush


def merge(parts: list[str], order: Callable[[str, str], float | None]) -> list[str]:
    """Join neighbours until none can be joined.

    Parameters
    ----------
    parts : list of str
        The text, cut into its smallest parts. Used up.
    order : callable
        For two neighbours: when they are joined, lowest first, or None if they are not. Of equals the leftmost comes first.
    """
    after = [*range(1, len(parts)), -1]
    before = list(range(-1, len(parts) - 1))

    def candidate(left: int) -> tuple[float, int, int, str] | None:
        right = after[left] if left >= 0 else -1
        if right < 0 or (rank := order(parts[left], parts[right])) is None:
            return None
        return rank, left, right, parts[left] + parts[right]

    queue = [c for left in range(len(parts)) if (c := candidate(left)) is not None]
    heapify(queue)
    while queue:
        _, left, right, joined = heappop(queue)
        # An entry is stale once one of its parts has changed.
        if after[left] != right or not parts[left] or parts[left] + parts[right] != joined:
            continue
        parts[left], parts[right] = joined, ""
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        for neighbour in (before[left], left):
            if (c := candidate(neighbour)) is not None:
                heappush(queue, c)
    return [part for part in parts if part]
