"""Where defects go when they are requested by numbers."""
