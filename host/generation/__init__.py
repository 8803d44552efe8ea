"""From a prompt to an answer: sampling, batches and sequences of a decoder, and what is kept of them."""
