"""Where defects go when they are asked for by numbers."""
