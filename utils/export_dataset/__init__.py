"""A data set for a detector from a run's manifest: `python -m utils.export_dataset RUN [--out DIR] [...]`."""

from utils.export_dataset.contents import ExportOptions
from utils.export_dataset.export import export_dataset

__all__ = ["ExportOptions", "export_dataset"]
