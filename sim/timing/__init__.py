"""How many cycles a program takes, worked out without simulating the gateware."""
