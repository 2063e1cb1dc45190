"""Every network that torchvision lists: classification, segmentation, detection and its backbones, video, optical flow.

All come from ``torchvision.models.list_models()``; a network that a later torchvision adds is tried as an image
classifier. Weights are random; inputs are as small as a network takes (SHAPES and the exceptions below).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.zoo.case import Case, Shape

__all__ = ["cases"]

SHAPES = ((3, 48, 48), (3, 64, 64), (3, 96, 96), (3, 128, 128), (3, 224, 224))
# networks of which the constructor is told the input size, or that take one size only
EXCEPTIONS: dict[str, tuple[Shape, ...]] = {
    "deeplabv3": ((3, 32, 32),),
    "fcn": ((3, 32, 32),),
    "lraspp": ((3, 64, 64),),
    "raft": ((3, 128, 128),),
    "maxvit": ((3, 224, 224),),
    "mvit": ((3, 4, 224, 224),),
    "s3d": ((3, 16, 224, 224),),
    "swin3d": ((3, 4, 64, 64),),
    "r3d": ((3, 4, 48, 48),),
    "mc3": ((3, 4, 48, 48),),
    "r2plus1d": ((3, 4, 48, 48),),
    "ssd300": ((3, 300, 300),),
    "ssdlite": ((3, 320, 320),),
}
LARGE = (
    r"regnet_y_(128|32|16)gf|regnet_x_32gf|vit_[hl]|vgg|efficientnet_(b[67]|v2_l)|convnext_(base|large)|s3d|mvit|"
    r"swin3d_b|ssd300|resnet101|_64x4d|wide_resnet101"
)


def cases() -> list[Case]:
    """One case per network; for each detector also its backbone, and GoogLeNet and Inception with auxiliary heads."""
    import torchvision

    found = [_case(name) for name in torchvision.models.list_models()]
    found += [_backbone(case) for case in found if case.group == "detection"]
    found += [_auxiliary(name) for name in ("googlenet", "inception_v3")]
    found.append(_checkpointed("densenet121"))
    return found


def _group(name: str) -> str:
    import torchvision

    for group in ("segmentation", "detection", "video", "optical_flow", "quantization"):
        module = getattr(torchvision.models, group)
        if name in torchvision.models.list_models(module=module):
            return {"optical_flow": "optical flow", "quantization": "classification"}.get(group, group)
    return "classification"


def _case(name: str) -> Case:
    group = _group(name)
    usual = ((3, 64, 64),) if group == "detection" else SHAPES
    shapes = next((shapes for prefix, shapes in EXCEPTIONS.items() if name.startswith(prefix)), usual)
    large = re.search(LARGE, name) is not None
    make: Callable[..., Case] = partial(Case, "torchvision", group, name, partial(_build, name), shapes, large=large)
    if group == "detection":
        return make(pack=lambda tensors: (list(tensors[0]),), per_image=True, double=name != "ssd300_vgg16")
    if group == "optical flow":
        return make(extra=lambda n, shape: (torch.randn(n, *shape),))
    if name.startswith("quantized_"):
        return make(note="built in float, before quantization")
    return make()


def _options(name: str, shape: Shape) -> dict[str, Any]:
    """Constructor options that make the network small enough, or keep every detection."""
    options: dict[str, Any] = {"weights": None}
    if _group(name) in ("segmentation", "detection"):
        options["weights_backbone"] = None
    if re.match(r"vit_", name):
        options["image_size"] = shape[-1] - shape[-1] % 14 if name == "vit_h_14" else shape[-1]
    if re.match(r"(googlenet|inception_v3|quantized_(googlenet|inception))", name):
        options["init_weights"] = False  # scipy's truncated normal takes minutes
    if re.match(r"quantized_(googlenet|inception)", name):
        del options["init_weights"]
    if name.startswith("mvit"):
        options["temporal_size"] = shape[1]
    if _group(name) == "detection":
        options |= _keep_every_box(name, shape)
    return options


def _keep_every_box(name: str, shape: Shape) -> dict[str, Any]:
    """Few classes and proposals, and no choice among boxes by score or overlap, which rounding would decide."""
    few = 6 if re.match("mask|keypoint", name) else 30
    options: dict[str, Any] = {"num_classes": 2, "trainable_backbone_layers": 6 if "mobilenet" in name else 5}
    if "rcnn" in name:
        options |= {"rpn_nms_thresh": 1.0, "rpn_pre_nms_top_n_test": few, "rpn_post_nms_top_n_test": few}
        options |= {"box_score_thresh": 0.0, "box_nms_thresh": 1.0, "box_detections_per_img": 10_000}
    else:
        options |= {"score_thresh": 0.0, "nms_thresh": 1.0, "detections_per_img": 10_000, "topk_candidates": 10_000}
    return options if "ssd" in name else options | {"min_size": shape[-1], "max_size": shape[-1]}


def _build(name: str, shape: Shape) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, **_options(name, shape))
    return model


def _backbone(detector: Case) -> Case:
    def build(shape: Shape) -> nn.Module:
        backbone: Any = detector.build(shape).backbone
        return backbone

    return Case(
        "torchvision", "detection backbone", f"{detector.name}.backbone", build, detector.shapes, large=detector.large
    )


def _auxiliary(name: str) -> Case:
    return Case(
        "torchvision",
        "classification",
        f"{name} with auxiliary heads",
        partial(_build, name),
        ((3, 96, 96), (3, 128, 128), (3, 224, 224), (3, 299, 299)),
        root_training=True,
        note="the root in training mode, so that its auxiliary heads run",
    )


def _checkpointed(name: str) -> Case:
    def build(shape: Shape) -> nn.Module:
        import torchvision

        model: nn.Module = torchvision.models.get_model(name, weights=None, memory_efficient=True)
        return model

    return Case(
        "torchvision",
        "classification",
        f"{name} memory_efficient",
        build,
        SHAPES,
        note="activation checkpointing inside",
    )
