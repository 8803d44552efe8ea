"""Candidates: what is recommended changes with the wish, and what will not do says why."""

from dataclasses import replace

from tailrace.plan.candidates import Wish, candidates
from tailrace.plan.described import find_model
from tailrace.plan.speed import Cores
from tailrace.plan.table import Hardware
from verification.unit.host.plan.boards import BOARD, GPU, HARDWARE, WIDE, shakespeare

CORES = Cores(shakespeare())
EASY = Wish(users=1, tokens_per_second=1.0, prompt=32, first_token=10.0)


def alone(board=BOARD) -> float:
    return board.rate(CORES.of(board).step())


def test_the_cheapest_that_does_comes_first() -> None:
    found = candidates(CORES, HARDWARE, EASY)
    assert [c.board.name for c in found] == ["plain", "wide"]
    assert [(c.boards, c.sharing, c.usd, c.watts, c.reason) for c in found] == [
        (1, 1, 100.0, 5.0, ""),
        (1, 1, 1000.0, 20.0, ""),
    ]
    assert [c.speed for c in found] == [alone(), alone(WIDE)]


def test_a_faster_wish_takes_the_faster_board() -> None:
    wished = (alone() + alone(WIDE)) / 2
    first, second = candidates(CORES, HARDWARE, replace(EASY, tokens_per_second=wished))
    assert (first.board.name, second.board.name) == ("wide", "plain")
    assert second.reason == f"speed: {alone():.2f} tokens/s at most, {wished:g} wished"
    assert second.first is None


def test_many_users_take_the_board_with_rows() -> None:
    """Four share a pass of the one, and need four of the other: at 300 USD each these are dearer."""
    hardware = Hardware((replace(BOARD, usd=300.0), WIDE), ())
    assert [c.board.name for c in candidates(CORES, hardware, EASY)] == ["plain", "wide"]
    first, second = candidates(CORES, hardware, replace(EASY, users=4))
    assert (first.board.name, first.boards, first.sharing, first.usd) == ("wide", 1, 4, 1000.0)
    assert (second.board.name, second.boards, second.sharing, second.usd) == ("plain", 4, 1, 1200.0)
    step = CORES.of(WIDE, 4).step()
    assert (first.speed, first.total) == (100e6 / step, 4 * 100e6 / step)


def test_users_are_spread_evenly() -> None:
    """Six take two boards of four rows, with three each."""
    (found,) = candidates(CORES, Hardware((WIDE,), ()), replace(EASY, users=6))
    assert (found.boards, found.sharing) == (2, 3)
    (found,) = candidates(CORES, Hardware((replace(WIDE, cores=2, memory_gb_s=12.8),), ()), replace(EASY, users=6))
    assert (found.boards, found.sharing) == (1, 3)


def test_what_ranks_first() -> None:
    hardware = Hardware((replace(BOARD, watts=30.0), WIDE), ())
    assert [c.board.name for c in candidates(CORES, hardware, EASY, "usd")] == ["plain", "wide"]
    assert [c.board.name for c in candidates(CORES, hardware, EASY, "watts")] == ["wide", "plain"]


def test_a_prompt_takes_a_gpu_when_it_must_be_quick() -> None:
    hardware = Hardware((replace(BOARD, link_mb_s=1000.0),), (GPU,))
    (slow,) = candidates(CORES, hardware, EASY)
    assert slow.first is not None
    assert slow.first.gpu is None
    quick = replace(EASY, first_token=slow.first.seconds / 2)
    (found,) = candidates(CORES, hardware, quick)
    assert found.first is not None
    assert (found.first.name, found.usd, found.watts) == ("small", 300.0, 55.0)
    (found,) = candidates(CORES, hardware, quick, prefill="device")
    assert found.reason == f"first token: {slow.first.seconds:.3g} s with device"
    assert found.speed == slow.speed
    (found,) = candidates(CORES, hardware, EASY, prefill="small")
    assert found.first is not None
    assert found.first.name == "small"
    (found,) = candidates(CORES, Hardware((BOARD,), (replace(GPU, memory_size="1MiB"),)), EASY, prefill="small")
    assert found.reason == "first token: small: 0.0 GB with 16 bits a weight, 0.0 there"


def test_memory_that_is_too_small() -> None:
    """A little too small: how fast it would be is said, too."""
    needed = CORES.of(BOARD).bytes
    near = replace(BOARD, memory_size=str(needed // 2))
    (found,) = candidates(CORES, Hardware((near,), ()), EASY)
    assert found.reason == f"memory: {needed / 1e9:.2f} GB needed, {near.core_bytes / 1e9:.2f} GB there"
    assert found.speed == alone()
    (found,) = candidates(CORES, Hardware((replace(near, memory_size=str(needed // 9), cores=2),), ()), EASY)
    assert found.reason.endswith(" GB there for each core")
    assert found.speed == 0.0


def test_a_build_that_takes_no_such_model() -> None:
    (found,) = candidates(Cores(find_model("Llama-3-8B", 64, 64)), Hardware((BOARD,), ()), EASY)
    assert found.reason == "build base: the activation buffer has no room for the activations of a feed-forward layer"
    assert found.speed == 0.0
