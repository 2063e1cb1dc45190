"""lowrank: both ways against one convolution a sample with a kernel written out entry by entry, and what auto takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.layers import Lowrank
from fusionconv.strategies import STRATEGIES, Geometry
from fusionconv.strategies.lowrank import WAYS, choose_way, lowrank_conv
from tests.helpers.methods import by_hand, randomise

K = 3
LAYERS = {
    "1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=2, padding=1), (4, 11)),
    "1d-same-even": (lambda: nn.Conv1d(4, 6, 4, padding="same"), (4, 9)),
    "1x1": (lambda: nn.Conv2d(5, 3, 1), (5, 4, 6)),
    "2d-groups": (lambda: nn.Conv2d(6, 9, 3, groups=3, padding=(1, 0), bias=False), (6, 5, 7)),
    "2d-depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, stride=(2, 1), padding=1), (4, 6, 5)),
    "2d-reflect": (lambda: nn.Conv2d(3, 5, 3, padding=(1, 2), padding_mode="reflect"), (3, 5, 6)),
    "2d-replicate-same": (lambda: nn.Conv2d(3, 5, 2, padding="same", padding_mode="replicate"), (3, 5, 6)),
    "3d": (lambda: nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 1), groups=2), (2, 3, 4, 3)),
    "t1d-groups": (lambda: nn.ConvTranspose1d(6, 4, 3, stride=2, groups=2, output_padding=1), (6, 5)),
    "t2d-depthwise": (lambda: nn.ConvTranspose2d(4, 4, 3, groups=4, padding=1), (4, 5, 4)),
    "t2d-dilation": (lambda: nn.ConvTranspose2d(3, 5, 2, dilation=2, bias=False), (3, 4, 4)),
    "t3d": (lambda: nn.ConvTranspose3d(4, 2, 2, stride=2, groups=2), (4, 2, 3, 2)),
    "linear": (lambda: nn.Linear(5, 7), (5,)),
    "linear-positions": (lambda: nn.Linear(5, 7, bias=False), (3, 2, 5)),
}
OPTIONS = ({}, {"rank": 1}, {"rank": 3, "hidden": 4, "covariate_bias": True})


def same(got, expected, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_both_ways_equal_the_loop_over_samples(kind, options, layout) -> None:
    """Values and the gradients of x, s and every parameter, in batches around which features change their form."""
    make, shape = LAYERS[kind]
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape) + 1)
    if layout == "channels_last" and (last is None or kind.startswith("linear")):
        pytest.skip("no such layout")
    torch.manual_seed(0)
    plain = make().double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    if layout == "channels_last":
        x = x.contiguous(memory_format=last)
    elif layout == "strided":
        x = torch.stack([x, x + 1], -1)[..., 0]
    s = torch.randn(3, K, dtype=torch.float64)
    for strategy in (*WAYS, "auto"):
        layer = Lowrank.from_plain(plain, K, strategy=strategy, **options)
        torch.manual_seed(1)
        randomise(layer)
        leaves = [x.requires_grad_(), s.requires_grad_(), *layer.parameters()]
        y, expected = layer(x, s), by_hand(layer, "lowrank", options, make(), x, s)
        same(y, expected)
        weights = torch.randn_like(y)
        for got, wanted in zip(*(torch.autograd.grad((v * weights).sum(), leaves) for v in (y, expected)), strict=True):
            same(got, wanted)
        if layout == "channels_last":
            assert y.is_contiguous(memory_format=last)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_form_of_features_for_many_positions(transposed, bias) -> None:
    """One convolution with r more outputs: another code path than the small maps of the other tests take."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    plain = kind(3, 5, 3, bias=bias).double()
    layer = Lowrank.from_plain(plain, K, rank=2, strategy="features")
    randomise(layer)
    x = torch.randn(4, 3, 20, 21, dtype=torch.float64).requires_grad_()  # 1,680 positions
    s = torch.randn(4, K, dtype=torch.float64, requires_grad=True)
    leaves = [x, s, *layer.parameters()]
    y, expected = layer(x, s), by_hand(layer, "lowrank", {}, plain, x, s)
    same(y, expected)
    weights = torch.randn_like(y)
    for got, wanted in zip(*(torch.autograd.grad((v * weights).sum(), leaves) for v in (y, expected)), strict=True):
        same(got, wanted)
    z = layer(x.contiguous(memory_format=torch.channels_last), s)
    same(z, expected)
    assert z.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["1d", "2d-groups", "t1d-groups"])
def test_gradcheck_and_gradgradcheck(kind, way) -> None:
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    layer = Lowrank.from_plain(make().double(), 2, rank=2, covariate_bias=True, strategy=way)
    randomise(layer)
    names, values = zip(*layer.named_parameters(), strict=True)
    leaves = [v.detach().clone().requires_grad_() for v in values]
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    s = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def run(x, s, *leaves):
        return torch.func.functional_call(layer, dict(zip(names, leaves, strict=True)), (x, s))

    assert torch.autograd.gradcheck(run, (x, s, *leaves), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, s, *leaves), fast_mode=True)


@pytest.mark.parametrize("way", WAYS)
def test_vmap_over_networks(way) -> None:
    layers = [Lowrank.from_plain(nn.Conv2d(2, 3, 3), K, rank=2, strategy=way) for _ in range(3)]
    for layer in layers:
        randomise(layer)
    stacked, _ = torch.func.stack_module_state(layers)
    x, s = torch.randn(4, 2, 6, 6), torch.randn(4, K)
    y = torch.func.vmap(lambda p: torch.func.functional_call(layers[0], p, (x, s)))(stacked)
    for i, layer in enumerate(layers):
        torch.testing.assert_close(y[i], layer(x, s), rtol=1e-4, atol=1e-5)


def test_forward_mode() -> None:
    """Along s the output moves by the derivative of c, since it is linear in s."""
    layer = Lowrank.from_plain(nn.Conv1d(2, 3, 3).double(), K, rank=2)
    randomise(layer)
    x, s, t = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 2, 7), (4, K), (4, K)))
    _, along = torch.func.jvp(lambda s: layer(x, s), (s,), (t,))
    same(along, layer(x, s + t) - layer(x, s))


def test_zero_covariates_give_the_plain_layer() -> None:
    plain = nn.Conv2d(3, 4, 3).double()
    layer = Lowrank.from_plain(plain, K, covariate_bias=True)
    randomise(layer)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    same(layer(x, torch.zeros(2, K, dtype=torch.float64)), plain(x))


def test_the_change_of_a_kernel_has_rank_r() -> None:
    layer = Lowrank.from_plain(nn.Conv2d(8, 16, 3).double(), 10, rank=3)
    randomise(layer)
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(8, 16, 3).double()), 0, 10, method="lowrank", rank=3)
    randomise(model[0])
    before = model[0].weight.detach().clone()
    change = fusionconv.merge(model, torch.randn(10).double())[0].weight - before
    assert torch.linalg.matrix_rank(change.flatten(1)) == 3


# weight, image, groups, what auto takes: shapes whose ways were measured to differ by more than 1.3 times
CHOICES = [
    ((256, 256, 3, 3), (16, 256, 14, 14), 1, "features"),
    ((512, 512, 3, 3), (16, 512, 4, 4), 1, "features"),
    ((256, 1024, 1, 1), (16, 1024, 14, 14), 1, "features"),
    ((128, 128, 5), (16, 128, 128), 1, "features"),
    ((64, 3, 3, 3), (16, 3, 112, 112), 1, "kernels"),
    ((32, 32, 3, 3), (8, 32, 112, 112), 1, "kernels"),
    ((144, 1, 3, 3), (8, 144, 56, 56), 144, "kernels"),
    ((128, 4, 3, 3), (8, 128, 28, 28), 32, "kernels"),
    ((32, 1, 3, 3, 3), (1, 1, 64, 64, 64), 1, "kernels"),
]


@pytest.mark.parametrize(("weight", "image", "groups", "expected"), CHOICES, ids=str)
def test_auto_takes_the_cheaper_way(weight, image, groups, expected) -> None:
    x, w = torch.empty(image, device="meta"), torch.empty(weight, device="meta")
    mixing = torch.empty(weight[0], 8, device="meta")
    assert choose_way(x, w, mixing, Geometry(len(weight) - 2, groups=groups)) == expected
    with torch.no_grad():  # a batch of another size is chosen for alike: compiled code stays one
        assert choose_way(x[:1], w, mixing, Geometry(len(weight) - 2, groups=groups)) == expected


def test_the_ways_are_really_two(monkeypatch) -> None:
    """features forms no kernel per sample, kernels goes through a strategy of hybrid_conv."""
    called = []
    for name, function in STRATEGIES.items():
        monkeypatch.setitem(STRATEGIES, name, lambda *a, f=function, n=name: (called.append(n), f(*a))[1])
    x, c, w = torch.randn(2, 3, 5, 5), torch.randn(2, 2), torch.randn(4, 3, 3, 3)
    more = (torch.randn(2, 3, 3, 3), torch.randn(4, 2), None, None, Geometry(2))
    y = lowrank_conv(x, c, w, *more, "features")
    assert called == []
    torch.testing.assert_close(lowrank_conv(x, c, w, *more, "kernels"), y, rtol=1e-4, atol=1e-4)
    assert len(called) == 1


def test_list_convs_shows_what_hybrid_and_lowrank_would_add() -> None:
    """The formulas of docs/methods.md, written out; a layer that cannot be fused has none."""
    weight_norm = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5), nn.Conv3d(8, 12, 3, groups=4), nn.ConvTranspose1d(6, 10, 4, groups=2), weight_norm
    )
    assert {(c.hybrid_parameters, c.lowrank_parameters) for c in fusionconv.list_convs(model)} == {(None, None)}
    convs = fusionconv.list_convs(model, num_covariates=7, rank=5)
    expected = [
        (7 * 8 * 3 * 25, 5 * (3 * 25 + 8 + 7)),
        (7 * 12 * 2 * 27, 5 * (2 * 27 + 12 + 7)),
        (7 * 6 * 5 * 4, 5 * (3 * 4 + 10 + 7)),
        (None, None),
    ]
    assert [(c.hybrid_parameters, c.lowrank_parameters) for c in convs] == expected
    assert "hybrid +4,200  lowrank +450" in str(convs[0])
    assert "lowrank" not in str(convs[3])
    for index, (hybrid, lowrank) in enumerate(expected[:3]):
        for method, options, count in (("hybrid", {}, hybrid), ("lowrank", {"rank": 5}, lowrank)):
            fused = fusionconv.fuse_into(
                nn.Sequential(*[nn.Identity(), *model[:3]]), index, 7, method=method, **options
            )
            assert sum(p.numel() for _, p in fused[index + 1].covariate_parameters()) == count
            fusionconv.unfuse(fused)
    with pytest.raises(ValueError, match="rank must be an integer of at least 1, got 0"):
        fusionconv.list_convs(model, 7, rank=0)
    with pytest.raises(ValueError, match="num_covariates must be"):
        fusionconv.list_convs(model, 0)
