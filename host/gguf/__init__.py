"""GGUF files: the header, the tensors, and what model they describe."""
