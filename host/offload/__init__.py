"""Hugging Face models whose decode steps run on the device."""
