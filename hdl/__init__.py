"""The co-processor in Amaranth."""
