"""The golden model: an instruction-set simulator in numpy, and the definition of correct."""
