"""Arms: what each word means, one start for all, which a network can have, and what they add."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from fusionconv.errors import StudyError, SurgeryError
from fusionconv.layers import METHODS as CLASSES
from fusionconv.study.arms import (
    METHODS,
    Arm,
    build_arm,
    count_parameters,
    find_arm,
    head_of_all,
    names_of,
    parse_arm,
    possible_arms,
    too_large,
)
from fusionconv.study.networks import build_network

K = 3


# ---- words ----


def test_the_methods_are_the_librarys():
    assert set(METHODS) == set(CLASSES)


@pytest.mark.parametrize(
    ("said", "name", "kind", "method", "where", "estimator"),
    [
        ("image", "image", "image", None, None, None),
        ("covariates", "covariates", "covariates", None, None, None),
        ("covariates:boosting", "covariates-boosting", "covariates", None, None, "boosting"),
        ("covariates:sklearn.svm.SVC", "covariates-sklearn.svm.SVC", "covariates", None, None, "sklearn.svm.SVC"),
        ("stacked", "stacked", "stacked", None, None, None),
        ("concat", "concat", "fusion", "concat", "last", None),
        ("concat-mlp", "concat-mlp", "fusion", "concat", "last", None),
        ("hybrid@first", "hybrid-first", "fusion", "hybrid", "first", None),
        ("hybrid", "hybrid", "fusion", "hybrid", "first", None),
        ("film@last", "film-last", "fusion", "film", "last", None),
        ("film@layer4", "film-layer4", "fusion", "film", "layer4", None),
        ("hybrid@features.0", "hybrid-features.0", "fusion", "hybrid", "features.0", None),
        ("hybrid@3", "hybrid-3", "fusion", "hybrid", 3, None),
        ("hybrid@-1", "hybrid--1", "fusion", "hybrid", -1, None),
        ("daft@head", "daft-head", "fusion", "daft", "head", None),
    ],
)
def test_what_a_word_means(said, name, kind, method, where, estimator):
    arm = parse_arm(said)
    assert (arm.name, arm.kind, arm.method, arm.where, arm.estimator) == (name, kind, method, where, estimator)
    assert arm.takes_image == (kind != "covariates")
    assert arm.takes_covariates == (kind != "image")


@pytest.mark.parametrize("method", sorted(CLASSES))
@pytest.mark.parametrize("where", ["first", "last", "all", "head", "0", "a.b"])
def test_every_method_is_an_arm(method, where):
    arm = parse_arm(f"{method}@{where}")
    assert (arm.method, str(arm.where)) == (method, where)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"arm": "hybrid@first", "rank": 2}, {"name": "hybrid-first-rank2", "options": {"rank": 2}}),
        ({"name": "small", "arm": "hybrid@first", "rank": 2}, {"name": "small", "options": {"rank": 2}}),
        ({"arm": "image", "lr": 0.01}, {"name": "image-lr0.01", "settings": {"lr": 0.01}, "options": {}}),
        ({"name": "a", "arm": "film@last", "lr": 1, "covariates": ["age"], "hidden": 4},
         {"settings": {"lr": 1, "covariates": ["age"]}, "options": {"hidden": 4}}),
        ({"arm": "hybrid", "where": [0, "layer4"]}, {"where": [0, "layer4"], "name": "hybrid-0+layer4"}),
        ({"arm": "covariates:boosting", "max_depth": 3}, {"estimator": "boosting", "options": {"max_depth": 3}}),
    ],
)  # fmt: skip
def test_a_dict_says_more(said, expected):
    arm = parse_arm(said)
    assert {key: getattr(arm, key) for key in expected} == expected
    assert parse_arm(arm) is arm
    assert parse_arm(arm.said) == arm


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("hybird@first", "did you mean hybrid@first"),
        ("Film@layer4", "did you mean film@layer4"),
        ("imge", "did you mean image"),
        ("concat-mpl", "did you mean concat-mlp"),
        ("tabular", "did you mean covariates"),
        ("xyz", "expected one of image, covariates, stacked, concat"),
        ("", "expected one of"),
        ("hybrid@", "a layer behind @"),
        ("covariates:", "expected one of"),
        ({"name": "x"}, "an entry arm"),
        ({"arm": "image", "rank": 2}, r"no options of a fusion.*\['rank'\]"),
        ({"arm": "image", "name": "../out"}, "letters, digits"),
        ({"arm": "image", "name": ".."}, "letters, digits"),
        ({"arm": "image", "name": "a" * 101}, "at most 100"),
        ({"arm": "image", "folds": 3}, "folds, which all arms of a comparison share"),
        ({"arm": "hybrid@first", "head": "mlp"}, "head, which all arms"),
        ({"arm": "hybrid@first", "where": [0]}, "where beside a method alone"),
        ({"arm": "image", "where": [0]}, "where beside a method alone"),
    ],
)
def test_what_is_no_arm_says_what_is(said, says):
    with pytest.raises(StudyError, match=says):
        parse_arm(said)


@pytest.mark.parametrize("name", ["hybrid@a/../../b", "film@..", "hybrid@C:\\x", "covariates:a/b", "hybrid@layer 1"])
def test_names_are_plain_folder_names(name):
    shown = parse_arm(name).name
    assert not set(shown) & set("/\\:@ ")
    assert not shown.startswith(".")


def test_an_arm_is_found_by_name_or_word():
    arms = [parse_arm(a) for a in ("image", "hybrid@first", {"name": "small", "arm": "hybrid@first", "rank": 2})]
    assert names_of(arms) == ["image", "hybrid-first", "small"]
    assert [find_arm(said, arms).name for said in ("hybrid@first", "hybrid-first", "small")] == [
        "hybrid-first", "hybrid-first", "small",
    ]  # fmt: skip
    with pytest.raises(StudyError, match="expected one of image, hybrid-first, small, got 'smal'; did you mean small"):
        find_arm("smal", arms)


def test_parsing_imports_no_library_of_networks():
    code = (
        "import sys, fusionconv.study.arms as a; a.parse_arm('hybrid@first'); "
        "print(sorted({'torchvision', 'timm', 'monai', 'sklearn', 'lightning'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_trials_are_as_many_for_each_arm_and_hold_what_it_has():
    tune = {"lr": [1, 2], "rank": [2, 4]}
    trials = {word: parse_arm(word).trials(tune) for word in ("image", "film@last", "hybrid@first", "covariates")}
    assert {len(t) for t in trials.values()} == {4}
    assert trials["hybrid@first"] == [
        {"lr": 1, "rank": 2},
        {"lr": 1, "rank": 4},
        {"lr": 2, "rank": 2},
        {"lr": 2, "rank": 4},
    ]
    assert trials["film@last"] == trials["image"] == [{"lr": 1}, {"lr": 1}, {"lr": 2}, {"lr": 2}]
    assert parse_arm("hybrid@first").with_options({"lr": 1, "rank": 4}).options == {"rank": 4}
    assert parse_arm("image").trials({}) == [{}]
    with pytest.raises(StudyError, match="got 'rnak'; did you mean rank"):
        parse_arm("hybrid@first").trials({"rnak": [1]})


# ---- networks ----

NETWORKS = {
    "torchvision:shufflenet_v2_x0_5": (3, (32, 32), {}),
    "timm:mobilenetv3_small_050": (3, (32, 32), {}),
    "monai:resnet10": (1, (16, 16, 16), {"widen_factor": 0.125}),
    "fusionconv:small_resnet": (1, (16, 16, 16), {}),
    "fusionconv:conv5_fc3": (1, (32, 32, 32), {"channels": (4, 4, 4, 8, 8)}),
    "torchvision:resnet18": (3, (32, 32), {}),
}
SMALL = [name for name in NETWORKS if name != "torchvision:resnet18"]


def plain(name, head="linear", seed=0):
    channels, size, options = NETWORKS[name]
    torch.manual_seed(seed)
    return build_network(name, num_outputs=2, in_channels=channels, image_size=size, options=options, head=head)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("name", SMALL)
def test_all_arms_begin_with_the_image_arms_weights_and_answers(name, head):
    channels, size, _ = NETWORKS[name]
    image = build_arm(parse_arm("image"), plain(name, head), K).double().eval()
    images = torch.randn(2, channels, *size, dtype=torch.double)
    expected, weights = image(images), image.state_dict()
    words = [f"{m}@{w}" for m in METHODS for w in ("first", "last", "head")]
    tried, possible = [], possible_arms(plain(name, head))
    for word in words:
        if word not in possible:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = plain(name, head)
            random = torch.get_rng_state()
            network = build_arm(parse_arm(word), network, K)
        assert torch.equal(torch.get_rng_state(), random)  # what follows (dropout, order) is the same in every arm
        network = network.double().eval()
        state = network.state_dict()
        assert all(torch.equal(state[key], value) for key, value in weights.items()), word
        s = torch.randn(2, K, dtype=torch.double)
        torch.testing.assert_close(network(images, s), expected, rtol=1e-8, atol=1e-8, msg=word)
        tried.append(word)
    assert {w.partition("@")[0] for w in tried} == set(METHODS)


def moved(network):
    """Every covariate parameter drawn at random."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "covariate" in name:
                parameter.normal_(0, 0.3)
    return network


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("word", ["concat", "hybrid@first", "film@last", "daft@first", "hybrid@head"])
def test_an_arm_uses_each_rows_own_covariates(name, word):
    channels, size, _ = NETWORKS[name]
    network = moved(build_arm(parse_arm(word), plain(name), K)).double().eval()
    images, s = torch.randn(1, channels, *size, dtype=torch.double).repeat(2, *[1] * (len(size) + 1)), torch.randn(2, K)
    both = network(images, s.double())
    assert not torch.allclose(both[0], both[1])
    torch.testing.assert_close(both[1:], network(images[1:], s[1:].double()))


@pytest.mark.parametrize("name", ["torchvision:resnet18", "fusionconv:small_resnet", "timm:mobilenetv3_small_050"])
@pytest.mark.parametrize("head", ["mlp:5", "norm:5"])
def test_concat_with_a_hidden_layer_joins_the_features_in_front_of_it(name, head):
    channels, size, _ = NETWORKS[name]
    network = moved(build_arm(parse_arm("concat-mlp"), plain(name, head), K)).double().eval()
    last = next(m for m in network.modules() if type(m).__name__ == "HiddenHead")
    seen = {}
    last.register_forward_hook(lambda _, args, out: seen.update(x=args[0]))
    images, s = torch.randn(4, channels, *size, dtype=torch.double), torch.randn(4, K, dtype=torch.double)
    out = network(images, s)
    features = last.norm(seen["x"]) if head.startswith("norm") else seen["x"]
    weight = torch.cat([last.hidden.weight, last.hidden.covariate_out_weight], 1)
    hidden = torch.relu(torch.cat([features, s], 1) @ weight.T + last.hidden.bias)
    torch.testing.assert_close(out, hidden @ last.output.weight.T + last.output.bias)


def test_concat_mlp_needs_the_hidden_layer_in_every_arm():
    arms = [parse_arm(word) for word in ("image", "concat-mlp", "hybrid@first")]
    assert head_of_all(arms) == "mlp"
    assert head_of_all(arms, "norm") == "norm"
    assert head_of_all(arms[:1]) == "linear"
    with pytest.raises(SurgeryError, match="build every arm's network with head=mlp"):
        build_arm(arms[1], plain("torchvision:resnet18"), K)


def test_where_names_the_layer_that_is_fused():
    def fused(arm, name="torchvision:resnet18"):
        return {
            n for n, m in build_arm(parse_arm(arm), plain(name), K).named_modules() if hasattr(m, "fusion_owner")
        } - {""}

    assert fused("hybrid@first") == {"conv1"}
    assert fused("hybrid@last") == {"layer4.1.conv2"}
    assert fused("film@layer2") == {"layer2.1.conv2"}
    assert fused("film@layer1.0.conv1") == {"layer1.0.conv1"}
    assert fused("hybrid@0") == {"conv1"}
    assert fused("concat") == fused("concat@last") == fused("hybrid@head") == {"fc"}
    assert fused({"arm": "film", "where": ["conv1", "layer4"]}) == {"conv1", "layer4.1.conv2"}
    assert len(fused("film@all")) == 17  # of 20 convolutions 3 are shortcuts


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        (
            "hybrid@layer9",
            r"arm hybrid-layer9: .*does not have.*this network can have hybrid@first, hybrid@last, hybrid@head",
        ),
        ("hybrid@99", "from -20 to 19.*hybrid@first"),
        ({"arm": "film@last", "rank": 2}, "layer options are hidden, got rank"),
        ({"arm": "hybrid@first", "rank": 0}, "rank must be"),
        ("covariates", "an arm with a network"),
    ],
)
def test_an_arm_that_a_network_cannot_have_says_which_it_can(arm, says):
    network = plain("torchvision:resnet18")
    before = list(network.state_dict())
    with pytest.raises(SurgeryError, match=says):
        build_arm(parse_arm(arm), network, K)
    assert list(network.state_dict()) == before


def test_networks_without_a_linear_layer_or_a_convolution_say_what_they_can_have():
    without_linear = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(SurgeryError, match=r"no nn.Linear.*this network can have hybrid@first"):
        build_arm(parse_arm("concat"), without_linear, K)
    without_conv = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(SurgeryError, match=r"no convolution.*this network can have hybrid@head"):
        build_arm(parse_arm("hybrid@first"), without_conv, K)
    with pytest.raises(SurgeryError, match="this network can have no arm but image"):
        build_arm(parse_arm("concat"), nn.Sequential(nn.ReLU()), K)


# ---- parameters ----


def test_parameters_are_counted():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    own = 3 * 8 * 9 + 8 + 8 * 2 + 2
    assert count_parameters(network) == {"parameters": own, "covariate_parameters": 0}
    counts = count_parameters(build_arm(parse_arm("hybrid@first"), network, K))
    assert counts == {"parameters": own + K * 3 * 8 * 9, "covariate_parameters": K * 3 * 8 * 9}


@pytest.mark.parametrize(
    ("arm", "covariates", "says"),
    [
        ("hybrid@first", 1, None),
        ("hybrid@first", 4, r"arm hybrid-first adds 864 parameters to the 242 .*{arm: hybrid@first, rank: 2}"),
        ({"arm": "hyper@first", "hidden": 99, "rank": 8}, 4, "a smaller rank or hidden"),
        ({"arm": "film@first", "hidden": 99}, 4, "a smaller hidden"),
        ("condconv@first", 4, "a smaller experts"),
        ("concat", 2, None),
    ],
)
def test_an_arm_that_adds_more_than_the_network_has_is_told(arm, covariates, says):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    arm = parse_arm(arm)
    text = too_large(arm, count_parameters(build_arm(arm, network, covariates)))
    if says is None:
        assert text is None
    else:
        import re

        assert text is not None
        assert re.search(says, text), text


def test_an_image_arm_is_never_too_large():
    assert too_large(Arm("image", "image"), {"parameters": 10, "covariate_parameters": 0}) is None
