"""Training of a judge of painted defects on real patches, as `utils.prepare_data` writes them.

The judge learns to tell the classes from each other and from clean windows. A clean window is one of a defect-free
tile, or one of a patch whose box lies beside the defect: otherwise the photographs' noise alone would give the answer
away. Defects that are spoiled as paintings go wrong (`training.spoiling`) count as clean as well. k-fold
cross-validation by group (a board, a camera position; see `training.folds`) tells how reliable it is.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.boxed_patches import FILLED, SIZE_JITTER, Box, window
from training.folds import PatchOrigin, read_origins, spread
from training.image_datasets import Augmentation, turned
from training.setup import TrainingRun
from training.spoiling import spoil
from utils import images, labels
from utils.errors import UserError
from utils.judging.classifier import fit, relight
from utils.judging.judge import FILE, SIDE, Judge, Reliability, box_mask, save_judge
from utils.judging.palette import DEFECT_SHARE, chroma, palette_of

log = logging.getLogger(__name__)

MOST_TILES = 600  # held in memory
TRIES = 30  # to place a box beside the defects of a patch
GAP = 4  # px between such a box and a defect


@dataclass(frozen=True)
class Patch:
    """An image (H, W, 3) uint8 of a defect of class `class_id` with `boxes` in px, that defect's first, and where it is
    from, if known."""

    image: np.ndarray
    boxes: Sequence[Box]
    class_id: int
    origin: PatchOrigin | None = None


@dataclass(frozen=True)
class Tile:
    """A defect-free image (H, W, 3) uint8, and where it is from, if known."""

    image: np.ndarray
    origin: PatchOrigin | None = None


@dataclass(frozen=True)
class JudgedBox:
    """A box in an image (H, W, 3) uint8 and what it holds, `label`; `wanted` is the class that a clean box stands in
    for, `source` the number of the patch or tile, which the folds go by."""

    image: np.ndarray
    box: Box
    label: int
    wanted: int
    source: int


@dataclass(frozen=True)
class JudgeOptions:
    """Training of each of `folds` members; `clean` windows of each kind are drawn; without `turns` windows are
    neither turned nor mirrored; `zoom` is that of `training.boxed_patches.window`, `spoiled` the share of spoiled
    defects in a batch."""

    folds: int = 5
    steps: int = 400
    clean: int = 600
    batch_size: int = 48
    lr: float = 3e-3
    seed: int = 0
    turns: bool = True
    zoom: float = 1.3
    spoiled: float = 0.25
    show_progress: bool = False


def train_and_save(
    data_dir: Path, clean_dir: Path | None, names: Mapping[str, int], out: Path, options: JudgeOptions
) -> Reliability:
    """Train a judge on the patches and tiles of two folders, write it to `out` and log how reliable it is."""
    patches, tiles = load_patches(data_dir, names), load_tiles(clean_dir)
    judge, reliability = train_judge(patches, tiles, sorted(names, key=names.__getitem__), options)
    save_judge(judge, out, reliability)
    log.info("judge: %s; %s", out, reliability)
    return reliability


def judge_beside(run: TrainingRun) -> None:
    """Train a judge on the patches of a prior's training, into the folder of its weights."""
    config, augment = run.config, run.config.augment
    options = JudgeOptions(
        steps=config.judge_steps, seed=config.seed, turns=augment.rotate90 and augment.flip
    )
    clean = Path(config.clean_dir) if config.clean_dir else None
    train_and_save(Path(config.data_dir), clean, run.names, Path(config.checkpoint_dir) / FILE, options)


# Examples


def load_patches(folder: Path, names: Mapping[str, int]) -> list[Patch]:
    """The patches `<class>_<n>` of a folder with the boxes of the YOLO files beside them. Raises UserError."""
    found, origins = [], read_origins(folder)
    for path in images.list_images(folder):
        image, known = images.load_rgb(path), labels.read_annotations(path.with_suffix(".txt"), names)
        if not known or any(one.w is None for one in known):
            raise UserError(f"{path.with_suffix('.txt')}: got no box, expected lines `class cx cy w h`")
        boxes = [labels.pixel_box(one, image.shape[1], image.shape[0]) for one in known]
        class_id = labels.match_class(labels.class_from_filename(path.name), names)
        found.append(Patch(image, boxes, class_id, origins.get(path.resolve())))
    if not found:
        raise UserError(
            f"{folder}: no patches in it; expected <class>_<n>.png files, as utils.prepare_data writes"
        )
    return found


def load_tiles(folder: Path | None) -> list[Tile]:
    """The defect-free images of a folder, as many as clean windows can show; [] for None."""
    if folder is None:
        return []
    paths, origins = images.list_images(folder), read_origins(folder)
    chosen = np.random.default_rng(0).permutation(len(paths))[:MOST_TILES]
    return [Tile(images.load_rgb(paths[k]), origins.get(paths[k].resolve())) for k in sorted(chosen)]


def defect_examples(patches: Sequence[Patch]) -> list[JudgedBox]:
    """One for each patch."""
    return [
        JudgedBox(patch.image, patch.boxes[0], patch.class_id, patch.class_id, n)
        for n, patch in enumerate(patches)
    ]


def clean_examples(
    patches: Sequence[Patch], tiles: Sequence[np.ndarray], count: int, clean: int, rng: np.random.Generator
) -> list[list[JudgedBox]]:
    """`count` boxes of the defects' sizes with the label `clean`, beside the defects of patches and in tiles, whose
    sources count on from the patches'; kinds without any are left out."""
    beside, inside = [], []
    for _ in range(count):
        n = int(rng.integers(len(patches)))
        patch, like = patches[n], patches[int(rng.integers(len(patches)))]
        box = free_box(patch.image, patch.boxes[0], patch.boxes, rng)
        if box is not None:
            beside.append(JudgedBox(patch.image, box, clean, patch.class_id, n))
        if tiles:
            k = int(rng.integers(len(tiles)))
            box = free_box(tiles[k], like.boxes[0], (), rng)
            assert box is not None  # there is nothing to avoid
            inside.append(JudgedBox(tiles[k], box, clean, like.class_id, len(patches) + k))
    return [kind for kind in (beside, inside) if kind]


def free_box(image: np.ndarray, like: Box, avoid: Sequence[Box], rng: np.random.Generator) -> Box | None:
    """A box about as large as `like`, anywhere in an image (H, W, 3) but at the boxes of `avoid`; None where there is
    no room."""
    sides = ((like[2] - like[0], image.shape[1]), (like[3] - like[1], image.shape[0]))
    for _ in range(TRIES):
        width, height = (min(s * SIZE_JITTER ** rng.uniform(-1, 1), FILLED * SIDE, most) for s, most in sides)
        left, top = rng.uniform(0, image.shape[1] - width), rng.uniform(0, image.shape[0] - height)
        box = (left, top, left + width, top + height)
        if not any(_near(box, other) for other in avoid):
            return box
    return None


def _near(one: Box, other: Box) -> bool:
    return all(one[k] - GAP < other[k + 2] and other[k] - GAP < one[k + 2] for k in (0, 1))


# Training


def train_judge(
    patches: Sequence[Patch], tiles: Sequence[Tile], classes: Sequence[str], options: JudgeOptions
) -> tuple[Judge, Reliability]:
    """A judge of `classes`, in the order of their ids, with a member for each fold, and what the members say of the
    fold that they did not see. Raises UserError where nothing clean can be shown."""
    rng = np.random.default_rng(options.seed)
    clean = clean_examples(patches, [tile.image for tile in tiles], options.clean, len(classes), rng)
    if not clean:
        raise UserError(
            "a judge needs clean windows; got patches filled by their defects and no defect-free tiles"
        )
    defects = defect_examples(patches)
    kinds = [group for k in range(len(classes)) if (group := [e for e in defects if e.label == k])]
    fold = _folds(kinds, patches, tiles, options.folds, rng)
    kinds += clean
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        judge = Judge(classes, options.folds).eval()
    held_out: list[tuple[JudgedBox, np.ndarray]] = []
    for k, member in enumerate(tqdm(judge.members, desc="judge", disable=not options.show_progress)):
        seen = [[e for e in kind if fold[e.source] != k] for kind in kinds]
        fit(member, batches([kind for kind in seen if kind], options, k), options.steps, options.lr)
        rest = [e for kind in kinds for e in kind if fold[e.source] == k]
        if rest:
            held_out += zip(rest, judge.predict(*centered(rest), members=[k]), strict=True)
    _remember(judge, clean[-1], options.folds)
    _remember_colors(judge, patches)
    return judge.requires_grad_(False), reliability_of(held_out, judge.labels)


def _folds(
    classes: Sequence[Sequence[JudgedBox]],
    patches: Sequence[Patch],
    tiles: Sequence[Tile],
    folds: int,
    rng: np.random.Generator,
) -> dict[int, int]:
    """Source -> fold, every class and the tiles spread over the folds by group."""
    kinds = [{e.source: patches[e.source].origin for e in group} for group in classes]
    kinds += [{len(patches) + k: tile.origin for k, tile in enumerate(tiles)}] if tiles else []
    return spread(kinds, folds, rng)


def batches(
    kinds: Sequence[Sequence[JudgedBox]], options: JudgeOptions, seed: int
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Batches for `fit`: as many windows of each kind, and spoiled defects, shifted, zoomed, turned and relit."""
    rng, generator = np.random.default_rng([options.seed, seed]), torch.Generator()
    generator.manual_seed(int(rng.integers(2**31)))
    defects = [kind for kind in kinds if kind[0].label == kind[0].wanted]
    clean = [kind for kind in kinds if kind[0].label != kind[0].wanted]
    spoiled = round(options.spoiled * options.batch_size) if defects and clean else 0

    def batch() -> tuple[Tensor, Tensor]:
        chosen = draw(kinds, options.batch_size - spoiled, rng)
        pairs = zip(draw(defects, spoiled, rng), draw(clean, spoiled, rng), strict=True) if spoiled else ()
        chosen += [_spoiled(defect, other, options.zoom, rng) for defect, other in pairs]
        return varied(chosen, options, rng, generator), torch.tensor([one.label for one in chosen])

    return batch


def _spoiled(defect: JudgedBox, clean: JudgedBox, zoom: float, rng: np.random.Generator) -> JudgedBox:
    """A spoiled defect in a window of its own, with the label of clean windows."""
    shown, box = spoil(
        window(defect.image, defect.box, SIDE, zoom, rng),
        window(clean.image, clean.box, SIDE, zoom, rng),
        rng,
    )
    return replace(clean, image=shown, box=box, wanted=defect.wanted)


def draw(kinds: Sequence[Sequence[JudgedBox]], count: int, rng: np.random.Generator) -> list[JudgedBox]:
    """`count` boxes, of each kind as many on average."""
    return [kinds[k][int(rng.integers(len(kinds[k])))] for k in rng.integers(len(kinds), size=count)]


def varied(
    chosen: Sequence[JudgedBox], options: JudgeOptions, rng: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """(N, 4, 64, 64): windows of the boxes as `judge_inputs` gives them, shifted, zoomed, turned and relit."""
    turns = options.turns
    how = Augmentation(flip=turns, rotate90=turns, jitter=0, color=0.0, shrink=1.0, zoom=options.zoom)
    both = torch.from_numpy(np.stack([_varied(one, how, rng) for one in chosen])).permute(0, 3, 1, 2)
    return torch.cat([relight(both[:, :3], generator), both[:, 3:].float()], dim=1)


def _varied(example: JudgedBox, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 4) uint8: a window of the example and the mask of its box."""
    pixels, box = window(example.image, example.box, SIDE, how.zoom, rng)
    return turned(np.concatenate([pixels, box_mask(box)], axis=2), how, rng)


def centered(examples: Sequence[JudgedBox]) -> tuple[np.ndarray, list[Box]]:
    """The windows (N, 64, 64, 3) uint8 around the examples' boxes, and the boxes in them."""
    pairs = [window(one.image, one.box, SIDE, 1.0, None) for one in examples]
    return np.stack([pixels for pixels, _ in pairs]), [box for _, box in pairs]


def _remember(judge: Judge, clean: Sequence[JudgedBox], every: int) -> None:
    """Give the judge clean windows, and as unit the distances of the ones left out: those of every `every`-th tile."""
    seen = [example for example in clean if example.source % every]
    others = [example for example in clean if not example.source % every]
    judge.remember(centered(seen or others)[0], centered(others or seen)[0])


def _remember_colors(judge: Judge, patches: Sequence[Patch]) -> None:
    """Give the judge the colors in the boxes of each class."""
    assert judge.palettes is not None  # a new judge has room for them
    for patch in patches:
        left, top, right, bottom = (max(round(side), 0) for side in patch.boxes[0])
        inside = chroma(patch.image)[top:bottom, left:right]
        judge.palettes[patch.class_id] |= torch.from_numpy(palette_of(inside, DEFECT_SHARE))


def reliability_of(held_out: Sequence[tuple[JudgedBox, np.ndarray]], labels: Sequence[str]) -> Reliability:
    """From examples and the probabilities (len(labels),) that a member without them in its training gave."""
    right, counts = {}, {}
    for k, name in enumerate(labels):
        answers = [
            int(probabilities.argmax()) == k for example, probabilities in held_out if example.label == k
        ]
        if answers:
            right[name], counts[name] = round(float(np.mean(answers)), 4), len(answers)
    clean = len(labels) - 1
    defects, windows = (
        [float(p[example.wanted]) for example, p in held_out if (example.label == clean) == is_clean]
        for is_clean in (False, True)
    )
    return Reliability(right, counts, round(auc(defects, windows), 4))


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Probability that a positive's score is larger than a negative's, ties counting half; nan without either."""
    if not len(positives) or not len(negatives):
        return float("nan")
    above, other = np.asarray(positives)[:, None], np.asarray(negatives)[None]
    return float((above > other).mean() + (above == other).mean() / 2)
