"""The server under load: ``python -m verification.load``."""
