"""Plumbing that knows no diffusion: configuration, files, labels, pictures, seeds."""
