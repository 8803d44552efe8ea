"""Attention over long contexts: a softmax takes one chunk of the cache after the other.

A chunk is `CHUNK` rows of a KV cache. Over a first chunk a softmax is what it is over a short context: ``e_i = exp(s_i - m)``
with ``m`` the largest score, their sum ``l``, and ``o``, the product of the values with all ``e_i``, times the values' scales,
as one vector in block floating point. With each chunk that follows, in float32 and in this order::

    m' = max(m, largest score of the chunk)       f = exp(m - m')
    e_i = exp(s_i - m')                           l = l * f + sum of e_i, added to ``l * f`` as `spec.floats.total` begins
    o = o * f + product of the chunk's values

In the end ``o`` is multiplied with the reciprocal of ``l``. So a token's bits depend on its position and on nothing else; up to
`CHUNK` tokens they are those of a softmax without chunks. Where sliding windows have closed, chunks are those of their rings.

M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018 (arXiv:1805.02867).
"""

#: Rows of a KV cache that a softmax takes at a time.
CHUNK = 2048


def chunks(position: int) -> int:
    """Chunks that the token at a position sees, itself included."""
    return position // CHUNK + 1
