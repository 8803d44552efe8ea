"""Which board, how many of them and which GPU for a model and a wish: ``tailrace plan``, all from predicted cycles."""
