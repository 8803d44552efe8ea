"""Hugging Face checkpoints (a folder of config.json, tokenizer.json and safetensors), said in GGUF's terms."""
