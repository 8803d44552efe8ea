"""The vector slots: block-floating-point vectors that the rows of a matrix are multiplied with."""
