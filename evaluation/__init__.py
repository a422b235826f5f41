"""Experiments that measure what the painted defects are worth."""
