"""Tailrace: an open decode co-processor for large language models, and what drives it."""
