"""Broken and hostile inputs, kills, full disks: what must never end in a traceback, a hang or a loss."""
