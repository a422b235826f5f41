"""How often the training defects of each class touch what looks like them."""

from collections.abc import Mapping

from generation.exemplars.exemplar import Exemplar
from generation.exemplars.laying import Exemplars
from generation.painting.compositing import defect_region
from generation.quality.contacts import contacts, usual_contacts


def contacts_of_classes(exemplars: Exemplars) -> Mapping[int, int]:
    """Class id -> number of contacts that its training defects have, for the classes in which they agree, as far as
    their clean places are known."""
    found = {}
    for class_id, known in exemplars.of_class.items():
        upright = {one.number: one for one in reversed(known) if not one.hidden}  # the first of each
        usual = usual_contacts([_contacts(one, exemplars.margin) for one in upright.values()])
        if usual is not None:
            found[class_id] = usual
    return found


def _contacts(one: Exemplar, margin: float) -> int:
    cutout, clean = one.cutout, one.clean
    height, width = cutout.alpha.shape
    x, y = (round(clean.box[k] - cutout.box[k]) for k in (0, 1))
    before = clean.pixels[y : y + height, x : x + width]
    beyond = int(margin / clean.scale) + 1
    left, top, right, bottom = (int(side) for side in cutout.box)
    box = left - beyond, top - beyond, right + beyond, bottom + beyond
    return contacts(before, cutout.pixels, defect_region(before, cutout.pixels, box).region.mask)
