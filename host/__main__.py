"""``python -m tailrace`` is ``tailrace``."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="tailrace")
