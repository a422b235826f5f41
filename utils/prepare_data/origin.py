"""Where a prepared data set came from, so that its photographs can be read again as they were."""

import csv
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from utils.errors import UserError
from utils.labels import load_class_names
from utils.prepare_data.sources import Survey
from utils.prepare_data.survey import survey_source
from utils.reading import read_json
from utils.schema.manifest import first_problem
from utils.schema.prepared import INDEX, ORIGIN


class Preparation(BaseModel):
    """The options that decide what a survey of the photographs finds; folders are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: str
    format: str
    clean_dir: str | None
    group_pattern: str | None

    def write(self, folder: Path) -> None:
        """Write it into a prepared folder."""
        (folder / ORIGIN).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def survey_again(folder: Path) -> Survey:
    """The photographs that a folder was prepared from, as they are now. Raises UserError."""
    try:
        origin = Preparation.model_validate(read_json(folder / ORIGIN))
    except ValidationError as error:
        raise UserError(f"{folder / ORIGIN}: {first_problem(error)}; run utils.prepare_data again") from error
    if not Path(origin.source).is_dir():
        raise UserError(
            f"{folder}: the photographs that it was prepared from are not in {origin.source} any more; put them back, "
            "or run utils.prepare_data again"
        )
    clean = Path(origin.clean_dir) if origin.clean_dir else None
    classes = load_class_names(folder / "classes.json")
    return survey_source(Path(origin.source), origin.format, classes, clean, origin.group_pattern)


def held_out_groups(folder: Path) -> set[str]:
    """The groups that a prepared folder holds out. Raises UserError."""
    path = folder / INDEX
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["group"] for row in csv.DictReader(file) if row["split"] == "test"}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UserError(
            f"{path}: cannot be read: {error or 'a column is missing'}; run utils.prepare_data again"
        ) from error
