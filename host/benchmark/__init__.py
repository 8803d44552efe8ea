"""Measurements behind the published figures. `tailrace bench` runs them."""
