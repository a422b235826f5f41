"""Readers of annotation formats, one module per format, and how a folder's format is recognized."""
