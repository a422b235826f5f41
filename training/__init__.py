"""Training of either network: set-up, loop, resumption, previews, curves."""
