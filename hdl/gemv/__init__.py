"""The matrix-vector engine: weight stream in, rounded results out."""
