"""Small models that are trained, and not only random: how far the device is from them."""
