"""Logging to the console and to a file, without breaking progress bars."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

PROJECT_LOGGERS = ("crg", "guided_diffusion", "generation", "training", "utils", "evaluation")


class _ConsoleHandler(logging.StreamHandler):
    """Writes lines above a running tqdm bar instead of through it, with the level from warnings up."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text

    def filter(self, record: logging.LogRecord) -> bool:
        """Records with `file_only` (as in `log.info(text, extra={"file_only": True})`) are not for the console."""
        return not getattr(record, "file_only", False) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
            self.flush()
        except Exception:  # as in every handler of the standard library
            self.handleError(record)


class _FileHandler(logging.FileHandler):
    """A log file that says once that it cannot be written, as on a full disk, and lets the run go on."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            tqdm.write(
                f"warning: {self.baseFilename}: log lines are lost ({error.strerror})", file=sys.stderr
            )

    def close(self) -> None:
        with suppress(OSError):  # of what is still to be written
            super().close()


def setup_logging(log_file: str | Path | None = None, debug: bool = False) -> logging.Logger:
    """Show log lines on stderr and append them, with time and level, to `log_file`; returns the logger 'crg'.

    The project's modules log from INFO up (DEBUG with `debug`), libraries and the `warnings` module from
    WARNING up. A second call replaces what the first one set up, so that no line comes twice.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, (_ConsoleHandler, _FileHandler)):
            root.removeHandler(handler)
            handler.close()
    root.addHandler(_ConsoleHandler(sys.stderr))
    if log_file is not None:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        file_handler = _FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        root.addHandler(file_handler)
    logging.captureWarnings(True)
    for name in PROJECT_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    return logging.getLogger("crg")
