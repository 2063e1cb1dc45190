"""Every fusion method saved and loaded: fusion.json names the method and its options, and other ones are refused."""

from __future__ import annotations

import json

import pytest
import torch

import fusionconv
from fusionconv.errors import CheckpointError
from fusionconv.layers import METHODS, CovariateLayer
from tests.helpers.checkpoints import edit, everything
from tests.helpers.methods import CASES, IDS, fused_net, net_by_hand, where
from tests.helpers.networks import data, small_net


@pytest.mark.parametrize(("method", "options"), CASES, ids=IDS)
def test_round_trip(tmp_path, method, options) -> None:
    net = fused_net(method, options)
    path = fusionconv.save(net, tmp_path)
    saved = json.loads((path / "fusion.json").read_text())
    assert saved["version"] == 1
    assert [(e["name"], e["method"]) for e in saved["layers"]] == [(str(i), method) for i in where(method)]
    complete = METHODS[method].check_options(2, options)
    for entry in saved["layers"]:
        assert {k: v for k, v in entry.items() if k not in ("name", "kind", "method")} == complete
    again, _ = fusionconv.load(path, small_net().double().eval())
    assert [type(m) for m in again] == [type(m) for m in net]
    for mine, theirs in zip(again, net, strict=True):
        if isinstance(mine, CovariateLayer):
            assert mine.layer_options() == theirs.layer_options() == complete
    x, s = data(1)
    assert torch.equal(again(x, s), net(x, s))
    torch.testing.assert_close(again(x, s), net_by_hand(net, method, options, x, s), rtol=1e-9, atol=1e-9)
    backbone = small_net().double()
    state = torch.get_rng_state()
    fusionconv.load(path, backbone)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("method", "options", "change", "words"),
    [
        ("film", {}, {"hidden": 3}, "covariate_hidden_weight|shape"),
        ("film", {}, {"hidden": "3"}, "the field 'hidden' must be int or null, got '3'"),
        ("film", {}, {"method": "concat"}, "'concat' takes only|shape"),
        ("film", {}, {"method": "flim"}, "method must be one of 'hybrid'.*got 'flim', which a newer"),
        ("film", {}, {"method": "daft"}, "the field 'bottleneck' is missing"),
        ("daft", {}, {"activation": "os.system"}, "activation must be one of"),
        ("daft", {}, {"bottleneck": 0}, "bottleneck must be"),
        ("daft", {}, {"scale": False, "shift": False}, "at least one of scale and shift"),
        ("condconv", {"ignore_covariates": True}, {"ignore_covariates": False}, "ignore_covariates=True"),
        ("hyper", {"hidden": 3}, {"rank": 9}, "from 1 to hidden = 3, got 9"),
    ],
)
def test_edited_manifests_are_refused_and_nothing_changes(tmp_path, method, options, change, words) -> None:
    path = fusionconv.save(fused_net(method, options), tmp_path)
    edit(path, lambda m: m["layers"][0].update(change))
    backbone = small_net().double()
    before = everything(backbone)
    with pytest.raises(CheckpointError, match=words):
        fusionconv.load(path, backbone)
    assert everything(backbone) == before


def test_a_file_of_the_first_format_loads(tmp_path) -> None:
    """What fusionconv wrote when hybrid was the only method: the options beside the name, in another order."""
    net = fused_net("hybrid", {"rank": 1, "covariate_bias": True})
    path = fusionconv.save(net, tmp_path)

    def as_before(manifest):
        manifest["layers"] = [
            {
                "name": name,
                "kind": kind,
                "covariate_bias": True,
                "rank": 1,
                "init": "zeros",
                "strategy": "auto",
                "method": "hybrid",
            }
            for name, kind in (("0", "Conv2d"), ("5", "Conv2d"), ("8", "Linear"))
        ]

    edit(path, as_before)
    again, _ = fusionconv.load(path, small_net().double().eval())
    x, s = data(1)
    assert torch.equal(again(x, s), net(x, s))
