"""Training defects as where painting starts: cut out, matched to a place, and laid over the clean image."""
