"""The serial link: a host reaches registers and memory of a board through two wires."""
