"""Random transforms: shapes, seeds, what a flip does and that none is done unasked, blank channels, any range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionconv.errors import StudyError
from fusionconv.study.augment import ALONE, augmentation
from fusionconv.study.images import ImageOptions

FLAT = ImageOptions(size=(30, 20))
SOLID = ImageOptions(dims=3, size=(12, 10, 14), channels=1)
NAMES = ["light", "strong", *ALONE, ["light", "hflip"], ["strong", "vflip", "crop"]]


def image(options, channels=3, seed=0):
    return torch.rand(channels, *options.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("options", [FLAT, SOLID], ids=["2d", "3d"])
@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shape_type_seeds_and_that_the_image_itself_stays(options, names, channels):
    change = augmentation(names, options)
    given = image(options, channels)
    before = given.clone()
    torch.manual_seed(5)
    once = [change(given) for _ in range(8)]
    torch.manual_seed(5)
    np.random.seed(1)
    again = [augmentation(names, options)(given) for _ in range(8)]
    assert torch.equal(given, before)
    for a, b in zip(once, again, strict=True):
        assert type(a) is torch.Tensor
        assert (a.shape, a.dtype) == (given.shape, torch.float32)
        assert torch.equal(a, b)
    assert any(not torch.equal(a, given) for a in once)
    assert any(not torch.equal(a, once[0]) for a in once[1:])


@pytest.mark.parametrize("options", [FLAT, SOLID], ids=["2d", "3d"])
@pytest.mark.parametrize("names", ["none", ["none"], []])
def test_nothing_asked_is_nothing_done(options, names):
    assert augmentation(names, options) is None


@pytest.mark.parametrize("names", ["light", "strong"])
@pytest.mark.parametrize("options", [FLAT, SOLID], ids=["2d", "3d"])
def test_left_and_right_are_never_exchanged_unless_named(options, names):
    """A ramp along the axis that a flip turns around: its slope keeps its sign."""
    axis = 2 if options.dims == 2 else 1
    ramp = torch.linspace(0, 1, options.shape[axis - 1])
    given = ramp.view([-1 if d == axis else 1 for d in range(options.dims + 1)]).expand(1, *options.shape).contiguous()

    def slopes(change):
        torch.manual_seed(0)
        out = [change(given).movedim(axis, -1).flatten(0, -2).mean(0) for _ in range(30)]
        return [float(profile[-4] - profile[3]) for profile in out]

    assert min(slopes(augmentation(names, options))) > 0
    flipped = np.array(slopes(augmentation([names, "hflip"], options)))
    assert 6 <= (flipped < 0).sum() <= 24


@pytest.mark.parametrize(("name", "axis"), [("hflip", 2), ("vflip", 1)])
def test_flips_of_pictures_turn_the_axis_that_they_name(name, axis):
    given = image(FLAT)
    torch.manual_seed(0)
    out = [augmentation(name, FLAT)(given) for _ in range(40)]
    turned = sum(torch.equal(o, given.flip(axis)) for o in out)
    assert turned + sum(torch.equal(o, given) for o in out) == 40
    assert 10 <= turned <= 30


@pytest.mark.parametrize(("orientation", "name", "axis"), [("RAS", "hflip", 1), ("LPS", "hflip", 1), ("PIR", "hflip", 3),
                                                           ("RAS", "vflip", 3), ("ASR", "vflip", 2)])  # fmt: skip
def test_flips_of_volumes_follow_the_orientation(orientation, name, axis):
    options = ImageOptions(dims=3, size=(6, 7, 8), channels=1, orientation=orientation)
    given = image(options, 1)
    torch.manual_seed(0)
    out = [augmentation(name, options)(given) for _ in range(20)]
    assert {torch.equal(o, given) or torch.equal(o, given.flip(axis)) for o in out} == {True}
    assert any(torch.equal(o, given.flip(axis)) for o in out)


@pytest.mark.parametrize("options", [FLAT, SOLID], ids=["2d", "3d"])
@pytest.mark.parametrize("names", NAMES, ids=str)
def test_a_channel_that_a_row_does_not_have_stays_zero(options, names):
    given = image(options, 3)
    given[1] = 0
    change = augmentation(names, options)
    for _ in range(5):
        out = change(given)
        assert not out[1].any()
        assert out[0].any()
        assert out[2].any()


@pytest.mark.parametrize("names", ["light", "strong", "rotate", "shift"])
def test_what_comes_in_from_outside_has_the_smallest_value(names):
    """Hounsfield units: air is -1024, and 0 is water."""
    given = image(FLAT, 1) * 500 - 1024
    out = torch.stack([augmentation(names, FLAT)(given) for _ in range(20)])
    assert out.max() < -300
    assert out.min() > -1250


def test_light_moves_an_image_by_a_twentieth_of_its_side_at_most():
    options = ImageOptions(size=(100, 60))
    given = torch.zeros(1, 100, 60)
    given[0, 48:52, 28:32] = 1
    rows, columns = torch.arange(100.0), torch.arange(60.0)
    change = augmentation("light", options)
    for _ in range(40):
        out = change(given)[0]
        row, column = (out.sum(1) @ rows) / out.sum(), (out.sum(0) @ columns) / out.sum()
        assert abs(row - 49.5) <= 5.6
        assert abs(column - 29.5) <= 3.6


def test_crop_keeps_the_aspect_of_sizes_that_are_not_square():
    options = ImageOptions(size=(40, 20))
    ramp = torch.stack([torch.linspace(0, 1, 40)[:, None].expand(40, 20), torch.linspace(0, 1, 20).expand(40, 20)])
    torch.manual_seed(0)
    ratios = []
    for _ in range(60):
        down, across = augmentation("crop", options)(ramp)
        ratios.append(float((down[30, 10] - down[10, 10]) * 39 / 20 / ((across[20, 15] - across[20, 5]) * 19 / 10)))
    assert 0.7 < np.median(ratios) * 1.0 < 1.4


@pytest.mark.parametrize(("names", "word"), [("lihgt", "did you mean light"), ("zoom!", "there are none"),
                                             (["none", "light"], "leave none out"), (["light", "hflp"], "hflip")])  # fmt: skip
def test_names_that_there_are_not_are_refused(names, word):
    with pytest.raises(StudyError, match=word):
        augmentation(names, FLAT)
