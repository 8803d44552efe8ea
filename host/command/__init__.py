"""The program ``tailrace``, and what it prints."""
