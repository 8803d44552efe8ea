"""The image of a model in a device's memory: what lies where, and its bytes."""
