"""A sample's noise depends on what it is, never on what is painted with it."""

import torch

from utils.seeding import SampleNoise
from utils.seeds import sample_seed

IMAGES = torch.empty(3, 3, 8, 8)
CROPS = torch.empty(3, 3, 4, 4)


def test_noise_is_independent_of_the_batch():
    together = SampleNoise([11, 12, 13], [0, 1, 2])
    alone = SampleNoise([12], [0])
    for _ in range(3):  # the streams stay in step, draw after draw
        assert torch.equal(together.image(IMAGES)[1], alone.image(IMAGES[:1])[0])
        assert torch.equal(together.crop(CROPS)[1], alone.crop(CROPS[:1])[0])
    other_order = SampleNoise([13, 11], [0, 1])
    assert torch.equal(other_order.image(IMAGES[:2]).flip(0), SampleNoise([11, 13], [0, 1]).image(IMAGES[:2]))


def test_images_and_windows_draw_from_one_stream_in_order():
    noise, stream = SampleNoise([5], [0]), torch.Generator().manual_seed(5)
    expected = [torch.randn(shape, generator=stream) for shape in ((3, 8, 8), (3, 4, 4), (3, 8, 8))]
    drawn = [noise.image(IMAGES[:1])[0], noise.crop(CROPS[:1])[0], noise.image(IMAGES[:1])[0]]
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


def test_windows_of_one_image_share_its_stream():
    noise, stream = SampleNoise([5, 6], [1, 0, 1]), torch.Generator().manual_seed(6)
    crops = noise.crop(CROPS)
    assert torch.equal(crops[0], torch.randn(3, 4, 4, generator=stream))
    assert torch.equal(crops[2], torch.randn(3, 4, 4, generator=stream))


def test_noise_is_standard_normal_and_takes_the_tensor_s_type():
    drawn = SampleNoise([1], [0]).image(torch.empty(1, 3, 64, 64, dtype=torch.float64))
    assert drawn.dtype == torch.float64 and drawn.shape == (1, 3, 64, 64)
    assert abs(float(drawn.mean())) < 0.03 and abs(float(drawn.std()) - 1) < 0.03


def test_seed_changes_with_everything_that_identifies_a_sample():
    base = (0, "a.png", "a_spur_cx1_cy2", 0)
    others = [(1, *base[1:]), (0, "b.png", *base[2:]), (0, "a.png", "a_spur_cx1_cy3", 0), (*base[:3], 1)]
    others += [
        (0, "a.pn", "ga_spur_cx1_cy2", 0),
        (0, "a.png", "a_spur_cx1_cy", 20),
    ]  # parts do not run together
    seeds = {sample_seed(*identity) for identity in (base, *others)}
    assert len(seeds) == 7 and all(0 <= seed < 2**63 for seed in seeds)


def test_seed_is_the_first_63_bits_of_a_sha256():
    assert sample_seed(0, "board.png", "board_spur_cx1_cy2", 3) == 2193324995392209063
    torch.Generator().manual_seed(sample_seed(2**64, "x"))


def test_file_names_that_are_no_utf8_have_a_seed():
    name = b"\xb0\xe5.png".decode("utf-8", "surrogateescape")  # Chinese in GBK, from an old archive
    assert sample_seed(0, name) != sample_seed(0, "x.png")
