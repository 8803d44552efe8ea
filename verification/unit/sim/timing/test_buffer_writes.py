"""Words of the vector unit between the results of products."""

from tailrace.sim.timing.buffer_writes import BufferWrites


def test_no_product() -> None:
    assert BufferWrites().last(100, 50) == 149


def test_a_product_takes_its_share() -> None:
    writes = BufferWrites()
    # Three of four cycles.
    writes.add(100, 199, 75)
    assert writes.last(0, 50) == 49
    assert writes.last(100, 10) == 139
    # 50 before it, 25 in it, 25 after it.
    assert writes.last(50, 100) == 224
    assert writes.last(200, 10) == 209


def test_a_product_that_leaves_nothing() -> None:
    writes = BufferWrites()
    writes.add(100, 199, 100)
    assert writes.last(100, 1) == 200
    writes.add(200, 209, 10)
    assert writes.last(150, 5) == 214
    writes.shift(1000)
    assert writes.last(1150, 5) == 1214


def test_results_of_a_reduction_wait_one_by_one() -> None:
    writes = BufferWrites()
    writes.add(100, 199, 100)
    # At 60, 80, and 100, which is behind the product.
    assert writes.last(60, 3, gap=20) == 200
    # All three of them are late, and follow each other.
    assert writes.last(110, 3, gap=20) == 202
    assert writes.last(300, 3, gap=20) == 340
