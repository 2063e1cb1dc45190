import pytest
import torch

from fusionconv.errors import SurgeryError
from recipes.celeba.arms import build_network
from recipes.celeba.study import CelebAStudy

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def build(arm, seed=3, **options):
    torch.manual_seed(seed)
    network = build_network(arm, **{"weights": "none", "classifier_width": 16, **options})
    return network, torch.random.get_rng_state()


@pytest.mark.parametrize(
    ("layer_idx", "strategy"),
    [(0, "stacked"), (-1, "stacked"), ([0, "features.17"], "stacked"), (0, "auto"), (-1, "auto")],
)
def test_corrected_hybrid_starts_as_the_plain_arm_exactly(layer_idx, strategy, real_vgg):
    plain, plain_state = build("plain")
    hybrid, hybrid_state = build("hybrid", layer_idx=layer_idx, num_covariates=3, strategy=strategy)
    assert torch.equal(plain_state, hybrid_state)  # dropout and the order of images go on alike
    images, s = torch.randn(4, 3, 32, 32), torch.randn(4, 3)
    outputs = []
    for call in (lambda: plain.train()(images), lambda: hybrid.train()(images, s)):
        torch.manual_seed(0)  # the same dropout
        outputs.append(call())
    outputs += [plain.eval()(images), hybrid.eval()(images, s)]
    for one, other in (outputs[:2], outputs[2:]):
        if strategy == "auto":  # it may take one small convolution per image, which sums in another order
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(one, other)


def test_as_published_layer_is_what_the_study_made():
    one, _ = build("hybrid", mode="as_published", num_covariates=1)
    layer = one.get_submodule("features.0")
    assert (layer.padding, layer.bias, layer.stride) == ((0, 0), None, (1, 1))
    assert layer.covariate_weight.requires_grad
    three, _ = build("hybrid", mode="as_published", layer_idx=-1, num_covariates=3)
    layer = three.get_submodule("features.40")
    assert not layer.covariate_weight.requires_grad
    assert layer.weight.requires_grad
    # Kaiming-normal, fan_out, ReLU: std = sqrt(2 / (C_out * 3 * 3)), for W and for every V_j
    expected = (2 / (8 * 9)) ** 0.5
    for kernel in (layer.weight, *layer.covariate_weight):
        assert 0.85 * expected < kernel.std() < 1.15 * expected
    assert three(torch.randn(2, 3, 64, 64), torch.ones(2, 3)).shape == (2, 2)


@pytest.mark.parametrize(("layer_idx", "count"), [(0, 1), (0, 3), (-1, 3)])
def test_as_published_computes_the_published_formula(layer_idx, count, real_vgg):
    """y_i = (W + sum_j s_ij V_j) * x_i, padding 0, stride 1, no bias: image by image, as the study's code does."""
    network, _ = build("hybrid", mode="as_published", layer_idx=layer_idx, num_covariates=count)
    network = network.double().eval()
    layer = network.get_submodule({0: "features.0", -1: "features.40"}[layer_idx])
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    s = torch.randint(0, 2, (5, count)).double()
    s[0], s[1] = 0, 1  # the constant rows too
    with torch.no_grad():
        network(torch.randn(5, 3, 64, 64, dtype=torch.float64), s)
        (x, y), w, v = seen[0], layer.weight, layer.covariate_weight
        assert y.shape[2] == x.shape[2] - 2
        for i in range(5):
            kernel = w.clone()
            for j in range(count):
                kernel += s[i, j] * v[j]
            patches = (
                x[i].unfold(1, 3, 1).unfold(2, 3, 1)
            )  # (C, H - 2, W - 2, 3, 3): every window, none beyond the edge
            expected = torch.einsum("chwkl,ockl->ohw", patches, kernel)
            torch.testing.assert_close(y[i], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "options"), [("film", {}), ("concat", {}), ("concat", {"hidden": 4})])
def test_other_methods_start_as_the_plain_arm_and_leave_its_random_numbers(method, options):
    plain, plain_state = build("plain")
    fused, state = build("hybrid", layer_idx=-1, num_covariates=2, method=method, method_options=options)
    assert torch.equal(plain_state, state)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(fused.eval()(images, torch.randn(4, 2)), plain.eval()(images))
    with pytest.raises(SurgeryError, match="no such row"):
        build("hybrid", mode="as_published", method=method)


def test_corrected_layer_keeps_the_pretrained_convolution():
    hybrid, _ = build("hybrid", num_covariates=2)
    layer = hybrid.get_submodule("features.0")
    assert layer.padding == (1, 1)
    assert layer.bias is not None
    assert layer.covariate_weight.shape == (2, 4, 3, 3, 3)
    assert layer.covariate_weight.count_nonzero() == 0
    assert all(parameter.requires_grad for parameter in hybrid.parameters())


def test_what_cannot_be_built_says_so():
    with pytest.raises(SurgeryError, match="from -13 to 12"):
        build("hybrid", layer_idx=13)
    with pytest.raises(SurgeryError, match=r"features\.41.*BatchNorm2d"):
        build("hybrid", layer_idx="features.41", mode="as_published")
    with pytest.raises(SurgeryError, match="at least 64"):
        CelebAStudy(arm="hybrid", mode="as_published", image_size=32)
    with pytest.raises(SurgeryError, match="at least one covariate"):
        CelebAStudy(arm="hybrid", covariates=[])
