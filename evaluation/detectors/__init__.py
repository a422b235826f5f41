"""Detectors that are trained alike on real and synthetic images, and how well they find defects."""
