"""Everything that is not a matrix-vector product, on the words of the activation buffer."""
