"""The study's networks: corrected starts as the plain one; as published is what the study made, to the formula."""

import pytest
import torch

from fusionconv.errors import SurgeryError
from fusionconv.study.arms import build_arm, parse_arm
from fusionconv.study.networks import build_network
from recipes.celeba.reproduce import read_rows

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def build(function="vgg16_bn", arm="image", covariates=1, seed=3, size=64, **options):
    """An arm of a study, as the engine builds it."""
    torch.manual_seed(seed)
    network = build_network(f"recipes.celeba.vgg:{function}", num_outputs=2, in_channels=3, image_size=(size, size),
                            options={"classifier_width": 16, **options})  # fmt: skip
    return build_arm(parse_arm(arm), network, covariates), torch.random.get_rng_state()


@pytest.mark.parametrize("row", ["male-conv1-lr1e-5-b32", "trio-last-lr1e-5-b32", "film-trio-last", "concat-mlp-male"])
def test_corrected_rows_start_as_the_plain_one(row):
    row = read_rows()[row]
    plain, state = build()
    fused, state_after = build(arm=row.arm("corrected"), covariates=len(row.covariates))
    assert torch.equal(state, state_after)  # dropout and the order of images go on alike
    images, s = torch.randn(4, 3, 64, 64), torch.randn(4, len(row.covariates))
    torch.testing.assert_close(fused.eval()(images, s), plain.eval()(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "row", [name for name, row in read_rows().items() if row.method == "hybrid" and row.lr == 1e-5]
)
def test_a_published_row_computes_the_published_formula(row, real_vgg):
    """y_i = (W + sum_j s_ij V_j) * x_i, padding 0, stride 1, no bias: image by image, as the study's code does."""
    row = read_rows()[row]
    arm, count = row.arm("as_published", classifier_width=16), len(row.covariates)
    network, _ = build("as_published", arm, count, **arm["network_options"])
    network = network.double().eval()
    layer = network.features.published
    assert (layer.padding, layer.bias, layer.stride) == ((0, 0), None, (1, 1))
    place = [name for name, _ in network.features.named_children()].index("published")
    assert place == {0: 0, 1: 3, 2: 7, 4: 14, -1: 40}[row.layer]
    # Kaiming-normal, fan_out, ReLU: std = sqrt(2 / (C_out * 3 * 3)), for W and for every V_j
    expected = (2 / (layer.out_channels * 9)) ** 0.5
    for kernel in (layer.weight, *layer.covariate_weight):
        assert 0.85 * expected < kernel.std() < 1.15 * expected
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    images, s = torch.rand(3, 3, 64, 64, dtype=torch.float64), torch.randint(0, 2, (3, count)).double()
    s[0], s[1] = 0, 1  # the constant rows too
    with torch.no_grad():
        network(images, s)
        (x, y), w, v = seen[0], layer.weight, layer.covariate_weight
        if row.layer == 0:
            torch.testing.assert_close(x, 2 * images - 1)  # 0.5 / 0.5
        for i in range(3):
            kernel = w.clone()
            for j in range(count):
                kernel += s[i, j] * v[j]
            windows = x[i].unfold(1, 3, 1).unfold(2, 3, 1)  # (C, H - 2, W - 2, 3, 3): none beyond the edge
            torch.testing.assert_close(y[i], torch.einsum("chwkl,ockl->ohw", windows, kernel), rtol=0, atol=1e-6)


def test_v_is_trained_with_one_covariate_only():
    rows = read_rows()
    for row in rows.values():
        if row.method == "hybrid":
            arm = row.arm("as_published", lr_scale=10)
            assert arm["covariate_lr"] == (10 * row.lr if len(row.covariates) == 1 else 0), row.row
            assert row.arm("corrected")["covariate_lr"] == "scaled"
            assert row.arm("corrected", covariate_lr="same")["covariate_lr"] == "same"


def test_the_image_arm_as_published_is_the_plain_network_on_images_of_0_to_1():
    published, _ = build("as_published")
    plain, _ = build()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(published.eval()(images), plain.eval()((images - 0.5) / 0.5))


@pytest.mark.parametrize(("function", "size", "options"), [("vgg16_bn", 31, {}), ("as_published", 63, {"layer": 0})])
def test_images_that_are_too_small(function, size, options):
    with pytest.raises(SurgeryError, match=f"at least {size + 1} pixels"):
        build(function, size=size, **options)
    with pytest.raises(SurgeryError, match="from -13 to 12"):
        build("as_published", layer=13)
