"""A small model that comes with Tailrace: for boards with little memory, and for a first try without a download."""
