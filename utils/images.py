"""Images: files, uint8 arrays and tensors. The only place that knows [-1, 1] <-> 0..255."""

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from utils.errors import UserError
from utils.files import replacing
from utils.reading import is_file, text_problem

if TYPE_CHECKING:  # preparing data and reports do without PyTorch, which takes seconds to import
    from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # whatever a file is called; others may start other programs
READ_ERRORS = (  # what Pillow raises
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    struct.error,
)
GRAY = 2  # levels between the channels of a gray image at most; JPEG adds some
EXIF_ORIENTATION = 0x0112
UPRIGHT = {  # orientation -> what turns the image upright; other values mean nothing
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNED = (5, 6, 7, 8)  # orientations that swap the sides
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags


# Files


def open_image(path: str | Path) -> Image.Image:
    """An image file of one of FORMATS, by its content; raises READ_ERRORS. The only call of `Image.open`."""
    return Image.open(path, formats=FORMATS)


def list_images(folder: str | Path) -> list[Path]:
    """The images directly in `folder`, sorted, suffix in any case; UserError without such a folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a folder of images ({', '.join(SUFFIXES)})")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
    if problems := [
        f"{folder}: {problem}; rename it" for path in files if (problem := text_problem(path.name))
    ]:
        raise UserError.from_problems(f"{folder} cannot be used", problems)
    return files


def image_files(folder: Path) -> list[Path]:
    """The images of `defect_free_dir`, sorted; UserError when there is no folder or no image in it."""
    if not folder.is_dir():
        raise UserError(
            f"defect_free_dir {folder}: no such folder; expected one with images and YOLO .txt files"
        )
    paths = [path for path in list_images(folder) if not path.name.startswith(".")]
    if not paths:
        raise UserError(f"defect_free_dir {folder}: no images in it; expected PNG, JPEG, BMP or TIFF files")
    return paths


def load_rgb(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8, turned as its EXIF orientation says.

    Gray becomes three equal channels, palettes are looked up, alpha is dropped, 16 bits are scaled to 8
    (65535 -> 255). Raises UserError when the file is missing or cannot be decoded.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(f"{path}: no such image")
    try:
        with open_image(path) as image:
            return _to_rgb(_upright(image))
    except READ_ERRORS as error:
        raise UserError(f"{path}: not a readable image: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned as its EXIF orientation says."""
    image.load()  # of a TIFF, Pillow turns it here, and forgets the orientation
    method = UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where there is none, or only a broken one."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except READ_ERRORS:
        return 1
    return value if value in UPRIGHT else 1


def verify_image(path: str | Path) -> str | None:
    """None for an image that opens, else a sentence saying why not.

    Cheap: reads headers and checksums, decodes no pixels.
    """
    path = Path(path)
    if not is_file(path):
        return f"{path}: no such image"
    try:
        with open_image(path) as image:
            image.verify()
    except READ_ERRORS as error:
        return f"{path}: not a readable image: {error}"
    return None


def check_pixels(path: str | Path) -> str | None:
    """None for an image that `load_rgb` can read, else a sentence saying why not; takes less memory than reading."""
    try:
        with open_image(path) as image:
            image.load()
            if image.mode.startswith(("I", "F")):
                _deep_gray(image)
    except READ_ERRORS as error:
        return f"{path}: not a readable image: {error}"
    return None


def _to_rgb(image: Image.Image) -> np.ndarray:
    if not image.mode.startswith(("I", "F")):
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    # Deep gray, which Pillow's own conversion would clip, not scale
    gray = np.multiply(_deep_gray(image), 255 / 65535, dtype=np.float32)
    np.rint(gray, out=gray)
    return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)  # (H, W) -> (H, W, 3)


def _deep_gray(image: Image.Image) -> np.ndarray:
    """The pixels of an image of more than 8 bits, (H, W) in 0 to 65535; ValueError for other ranges."""
    gray = np.asarray(image)
    if image.mode == "F" or gray.min(initial=0) < 0 or gray.max(initial=0) > 65535:
        raise ValueError(f"pixels of mode {image.mode}, expected 8 or 16 bits")
    return gray


def save_png(path: str | Path, array: np.ndarray) -> None:
    """Write (H, W, 3) uint8 or (H, W) uint8 or uint16 as PNG, atomically: a stopped run leaves no half-written file."""
    assert array.ndim == 2 or (array.ndim == 3 and array.dtype == np.uint8), (array.dtype, array.shape)
    assert array.dtype in (np.uint8, np.uint16), array.dtype
    with replacing(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def save_gif(path: str | Path, frames: Sequence[np.ndarray]) -> None:
    """Write (H, W, 3) uint8 frames of one size as an endless animation, four a second, atomically.

    A frame equal to the one before makes that one stay longer.
    """
    assert frames and len({frame.shape for frame in frames}) == 1
    # Fast octree: 25 times as fast as the median cut on such frames, and hardly coarser
    palette = Image.Quantize.FASTOCTREE
    first, *rest = (Image.fromarray(frame).quantize(256, palette) for frame in frames)
    with replacing(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=250, loop=0)


# Arrays and tensors


def to_tensor(array: np.ndarray) -> "Tensor":
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [-1, 1]: 0 -> -1, 255 -> 1."""
    assert array.dtype == np.uint8 and array.ndim == 3, (array.dtype, array.shape)
    import torch

    chw = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
    return (chw.to(torch.float32) / 127.5 - 1)[None]  # (1, 3, H, W)


def to_uint8(tensor: "Tensor") -> np.ndarray:
    """(N, C, H, W) in [-1, 1] -> (N, H, W, C) uint8, rounded to the nearest, clipped outside [-1, 1]."""
    assert tensor.ndim == 4, tensor.shape
    scaled = ((tensor.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.byte().permute(0, 2, 3, 1).cpu().numpy()


def resize_squash(array: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3), or (height, width, 3); the aspect ratio is not kept.

    Bicubic with antialiasing when a side shrinks (Pillow widens the kernel by the factor).
    """
    height, width = (size, size) if isinstance(size, int) else size
    if array.shape[:2] == (height, width):
        return array
    return np.array(Image.fromarray(array).resize((width, height), Image.Resampling.BICUBIC))


def resize_float(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, C) float -> (height, width, C) float32, bilinear with antialiasing, values not rounded."""
    planes = [
        Image.fromarray(np.ascontiguousarray(array[..., c], dtype=np.float32)).resize(  # mode F
            (size[1], size[0]), Image.Resampling.BILINEAR
        )
        for c in range(array.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def blend(old: np.ndarray, new: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`old` (h, w, 3) uint8 with `new`, of any numbers, put in by `weight` (h, w) in 0..1: (h, w, 3) uint8. Where the
    weight is 0, pixels stay byte for byte."""
    mixed = old + weight[..., None] * (new.astype(np.float32) - old)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height as `load_rgb` gives them (EXIF orientation applied), without decoding the pixels."""
    with open_image(path) as image:
        width, height = image.size
        turned = _orientation(image) in QUARTER_TURNED
        if isinstance(image, TiffImageFile):  # whose `size` is turned already in some versions of Pillow
            width, height = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
    return (height, width) if turned else (width, height)


def grid(arrays: Sequence[np.ndarray], columns: int, pad: int = 2) -> np.ndarray:
    """Equal (H, W, 3) uint8 images -> one, row by row, on white, with `pad` px between and around."""
    assert arrays and columns >= 1 and len({array.shape for array in arrays}) == 1
    height, width, channels = arrays[0].shape
    columns = min(columns, len(arrays))
    rows = -(-len(arrays) // columns)
    sheet = np.full((rows * (height + pad) + pad, columns * (width + pad) + pad, channels), 255, np.uint8)
    for index, array in enumerate(arrays):
        top = pad + (index // columns) * (height + pad)
        left = pad + (index % columns) * (width + pad)
        sheet[top : top + height, left : left + width] = array
    return sheet


Loader = Callable[[Path], np.ndarray]


class ImageCache:
    """Decoded images (H, W, 3) uint8, the latest ones up to `limit` bytes, and always the last one.

    With `size`, every image is squashed to size x size px.
    """

    def __init__(self, size: int | None = None, limit: int = 512 * 2**20):
        self.size, self.limit = size, limit
        self.images: OrderedDict[Path, np.ndarray] = OrderedDict()

    def __call__(self, path: Path) -> np.ndarray:
        if path in self.images:
            self.images.move_to_end(path)
            return self.images[path]
        image = load_rgb(path)
        if self.size is not None:
            image = resize_squash(image, self.size)
        self.images[path] = image
        while len(self.images) > 1 and sum(p.nbytes for p in self.images.values()) > self.limit:
            self.images.popitem(last=False)
        return image


def is_gray(image: np.ndarray) -> bool:
    """Whether the channels of (H, W, 3) uint8 are equal but for GRAY levels."""
    return bool(np.ptp(image, axis=2).max() <= GRAY)


def gray(image: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 with the mean of the channels in all three."""
    mean = np.rint(image.astype(np.float32).mean(axis=-1, keepdims=True)).astype(np.uint8)
    return np.repeat(mean, 3, axis=-1)
