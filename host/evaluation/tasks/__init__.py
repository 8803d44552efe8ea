"""Tasks for lm_eval, and their documents: nothing is downloaded for them."""
