"""Tokenizers and chat templates against independent readers: llama.cpp (through `cyllama`) and transformers."""
