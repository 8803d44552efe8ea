"""Attention over long contexts: a softmax takes one chunk of the cache after the other.

Over a first chunk a softmax is what it is over a short context: ``e_i = exp(s_i - m)`` with ``m`` the largest score, their sum
``l``, and ``o``, the product of the values with all ``e_i``, times the values' scales, as one vector in block floating point.
With each chunk that follows, in float32 and in this order::

    m' = max(m, largest score of the chunk)       f = exp(m - m')
    e_i = exp(s_i - m')                           l = l * f + sum of e_i, added to ``l * f`` as `spec.floats.total` begins
    o = o * f + product of the chunk's values

In the end ``o`` is multiplied with the reciprocal of ``l``. A chunk has `CHUNK` rows of the cache, but for the last two, which
share what is left evenly, so that the scores of one are streamed for about as long as a softmax over the other takes
(`chunk_starts`). So a token's bits depend on its position and on nothing else; up to `CHUNK` tokens they are those of a softmax
without chunks. Where sliding windows have closed, chunks are those of their rings.

M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018 (arXiv:1805.02867).
"""

#: Rows of a KV cache that a softmax takes at a time, at most.
CHUNK = 2048
#: Beyond a chunk, tokens after which the rows are divided in another way. Half of it is a multiple of 64, where a stream can
#: begin.
STEP = 512


def reach(position: int) -> int:
    """Tokens up to which rows are divided as they are for the token at a position, itself included."""
    return CHUNK if position < CHUNK else (position // STEP + 1) * STEP


def chunk_starts(tokens: int) -> tuple[int, ...]:
    """First rows of the chunks of so many tokens."""
    if tokens <= CHUNK:
        return (0,)
    shared = ((tokens - 1) // CHUNK - 1) * CHUNK
    first = -(-(tokens - shared) // STEP) * STEP // 2
    return (*range(0, shared, CHUNK), shared, shared + first)
