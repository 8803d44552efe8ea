"""Other people's clients, asked to speak to `tailrace serve`: ``python -m verification.clients``."""
