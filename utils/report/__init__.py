"""A page to look through a run's results: `python -m utils.report RUN`."""

from utils.report.page import write_report

__all__ = ["write_report"]
