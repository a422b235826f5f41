"""The layout of a folder that `utils.prepare_data` wrote; paths are relative to it."""

INDEX = "index.csv"  # where every file comes from
CLASSES = "classes.json"
ORIGIN = "origin.json"  # where the photographs are, and which were held out
PATCHES = "train/boxed/"  # training defects with their surroundings, each with a YOLO file
TWINS = "train/twins/"  # the same places of the clean image, by the same names
OUTLINES = "train/outlines/"  # the shapes of the same defects
PIECES = "train/clean/"  # pieces without defects, at the scales of the patches
CENTERED = "train/defect/"  # patches of a window with the defect in the middle
TILES = "train/defect_free/"


def in_native_px(part: str) -> str:
    """Where what PATCHES, TWINS and OUTLINES show is in px of the photograph, for those that are shrunk."""
    return part.replace("train/", "train/native/", 1)
