"""Processes: signals that end one, several that share a run, and one run a folder."""
