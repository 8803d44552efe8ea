"""From a component to an FPGA: synthesis, placement, routing, and what they report."""
