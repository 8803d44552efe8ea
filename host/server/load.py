"""What a server has done, and what it is doing."""

from collections import Counter
from dataclasses import dataclass, field

from ..device.counters import Counters
from .histogram import Histogram


@dataclass
class Load:
    """What has been done, and what is being done.

    Attributes
    ----------
    running, waiting : int
        Answers.
    prompt_tokens, reused_tokens, generated_tokens, finished, cancelled, failed, refused : int
        Since the start; `reused_tokens` are those of prompts that the device held already.
    drafts, drafted_tokens, accepted_tokens : int
        Passes that verified drafts of an answer, the tokens of these, and how many of them were right.
    reasons : Counter of str
        Answers that came to their end, by why.
    steps : int
        Of the device.
    busy : int
        Sequences that were computed, summed over the steps.
    seconds : float
        Time in which the device was at work.
    prompt_seconds, answer_seconds : float
        Time that answers took up to their first token, and from then on, summed over those that are finished.
    counters : Counters
        What the device has counted.
    queue, first_token, between_tokens, prefill, decode, whole : Histogram
        From asking to a sequence, and to the first token; from one token to the next; from a sequence to the first token, and
        from there to the end; from asking to the end.
    failures_in_a_row : int
        Steps that have failed since the last one that did not.
    last_failure : str
        Why the last one of them failed.
    """

    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    drafts: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    busy: int = 0
    seconds: float = 0.0
    prompt_seconds: float = 0.0
    answer_seconds: float = 0.0
    counters: Counters = field(default_factory=Counters)
    queue: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    between_tokens: Histogram = field(default_factory=Histogram)
    prefill: Histogram = field(default_factory=Histogram)
    decode: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)
    failures_in_a_row: int = 0
    last_failure: str = ""
