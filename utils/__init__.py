"""Plumbing that knows no diffusion: configuration, files, labels, images, seeds."""
