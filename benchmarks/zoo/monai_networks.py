"""Every network of monai.networks.nets that holds a convolution, in 2-D and in 3-D where it has both.

A few have no default options: those here are small and ordinary. Left out because they hold no convolution, or are
parts of another network: FullyConnectedNet, VarFullyConnectedNet, DecoderOnlyTransformer (no convolution), Bert* and
Pooler and MultiModal (parts of Transchex), PatchMerging* (of SwinUNETR), ResNetBlock and ResNetBottleneck (of ResNet),
HighResBlock (of HighResNet), Topology* (of DiNTS); NaViT has no convolution either.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.zoo.case import Case, Shape

__all__ = ["cases"]

Build = Callable[[Any, int, int], nn.Module]  # (monai.networks.nets, spatial dimensions, image size) -> network

STEPS = {"channels": (8, 16, 32), "strides": (2, 2)}
KL = {"channels": (8, 16), "num_res_blocks": 1, "norm_num_groups": 4, "attention_levels": (False, True)}
DIFFUSION = KL | {"num_head_channels": 8}
TRANSFORMER = {"hidden_size": 48, "mlp_dim": 96, "num_heads": 4}


def timesteps(n: int, shape: Shape) -> tuple[Tensor, ...]:
    """A different noise level for each sample."""
    return (torch.tensor([7, 300, 850])[:n],)


def timesteps_and_image(n: int, shape: Shape) -> tuple[Tensor, ...]:
    """Noise levels and a conditioning image."""
    return *timesteps(n, shape), torch.randn(n, *shape)


def timesteps_and_labels(n: int, shape: Shape) -> tuple[Tensor, ...]:
    """Noise levels and a one-hot map of two labels."""
    return *timesteps(n, shape), *label_map(n, shape)


def label_map(n: int, shape: Shape) -> tuple[Tensor, ...]:
    """A one-hot map of two labels."""
    one = (torch.randn(n, 1, *shape[1:]) > 0).float()
    return (torch.cat([one, 1 - one], 1),)


def second_image(n: int, shape: Shape) -> tuple[Tensor, ...]:
    """The fixed image of a registration."""
    return (torch.randn(n, *shape),)


# name -> (how to build it, dimensions, image sizes for 2-D and 3-D, input channels, further fields of Case)
NETWORKS: dict[str, tuple[Build, tuple[int, ...], tuple[int, int], int, dict[str, Any]]] = {
    "AHNet": (lambda m, d, s: m.AHNet(spatial_dims=d, psp_block_num=1), (2, 3), (64, 32), 1, {"large": True}),
    "AttentionUnet": (lambda m, d, s: m.AttentionUnet(d, 1, 2, **STEPS), (2, 3), (32, 16), 1, {}),
    "AutoEncoder": (lambda m, d, s: m.AutoEncoder(d, 1, 2, (8, 16), (2, 2)), (2, 3), (32, 16), 1, {}),
    "AutoencoderKL": (lambda m, d, s: m.AutoencoderKL(d, **KL), (2, 3), (32, 16), 1, {"quiet": True}),
    "AutoencoderKL reconstruct": (
        lambda m, d, s: m.AutoencoderKL(d, use_convtranspose=True, **KL), (2, 3), (32, 16), 1,
        {"method": "reconstruct", "note": "called as model.reconstruct inside fusionconv.covariates(model, s)"},
    ),
    "AutoencoderKL use_checkpoint": (
        lambda m, d, s: m.AutoencoderKL(d, use_checkpoint=True, **KL), (2, 3), (32, 16), 1,
        {"quiet": True, "note": "activation checkpointing inside"},
    ),
    "BasicUNet": (lambda m, d, s: m.BasicUNet(d), (2, 3), (64, 32), 1, {}),
    "BasicUNetPlusPlus": (lambda m, d, s: m.BasicUNetPlusPlus(d), (2, 3), (64, 32), 1, {}),
    "Classifier": (lambda m, d, s: m.Classifier((1, *(s,) * d), 3, **STEPS), (2, 3), (32, 16), 1, {}),
    "ControlNet": (
        lambda m, d, s: m.ControlNet(d, 1, conditioning_embedding_num_channels=(16,), **DIFFUSION), (2, 3), (16, 8), 1,
        {"extra": timesteps_and_image},
    ),
    "Critic": (lambda m, d, s: m.Critic((1, *(s,) * d), **STEPS), (2, 3), (32, 16), 1, {}),
    "DAF3D": (lambda m, d, s: m.DAF3D(1, 2), (3,), (0, 32), 1, {}),
    "DenseNet121": (lambda m, d, s: m.DenseNet121(d, 1, 3), (2, 3), (32, 32), 1, {}),
    "DenseNet169": (lambda m, d, s: m.DenseNet169(d, 1, 3), (2, 3), (32, 32), 1, {"large": True}),
    "DenseNet201": (lambda m, d, s: m.DenseNet201(d, 1, 3), (2, 3), (32, 32), 1, {"large": True}),
    "DenseNet264": (lambda m, d, s: m.DenseNet264(d, 1, 3), (2, 3), (32, 32), 1, {"large": True}),
    "DiNTS": (
        lambda m, d, s: m.DiNTS(
            m.TopologyInstance([np.ones((2, 4)), np.ones((2, 4))], num_blocks=2, num_depths=2, spatial_dims=d),
            1, 2, spatial_dims=d,
        ), (2, 3), (32, 16), 1, {},
    ),
    "DiNTS TopologySearch": (
        lambda m, d, s: m.DiNTS(m.TopologySearch(num_blocks=2, num_depths=2, spatial_dims=d), 1, 2, spatial_dims=d),
        (2, 3), (32, 16), 1, {},
    ),
    "DiffusionModelUNet": (
        lambda m, d, s: m.DiffusionModelUNet(d, 1, 1, **DIFFUSION), (2, 3), (16, 8), 1, {"extra": timesteps},
    ),
    "Discriminator": (lambda m, d, s: m.Discriminator((1, *(s,) * d), **STEPS), (2, 3), (32, 16), 1, {}),
    "DynUNet": (
        lambda m, d, s: m.DynUNet(d, 1, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, res_block=True), (2, 3), (32, 16), 1, {},
    ),
    "DynUNet deep_supervision": (
        lambda m, d, s: m.DynUNet(d, 1, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, deep_supervision=True, deep_supr_num=2),
        (2, 3), (32, 16), 1, {"root_training": True, "note": "the root in training mode, so that the deep heads count"},
    ),
    "EfficientNetBN": (
        lambda m, d, s: m.EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=d, in_channels=1),
        (2, 3), (64, 32), 1, {},
    ),
    "EfficientNetBNFeatures": (
        lambda m, d, s: m.EfficientNetBNFeatures("efficientnet-b0", pretrained=False, spatial_dims=d, in_channels=1),
        (2, 3), (64, 32), 1, {},
    ),
    "EfficientNetEncoder": (
        lambda m, d, s: m.EfficientNetEncoder("efficientnet-b0", pretrained=False, spatial_dims=d, in_channels=1),
        (2, 3), (64, 32), 1, {},
    ),
    "FlexibleUNet efficientnet": (
        lambda m, d, s: m.FlexibleUNet(1, 2, "efficientnet-b0", pretrained=False, spatial_dims=d),
        (2, 3), (64, 32), 1, {},
    ),
    "FlexibleUNet resnet": (
        lambda m, d, s: m.FlexibleUNet(1, 2, "resnet18", pretrained=False, spatial_dims=d), (2, 3), (64, 32), 1, {},
    ),
    "Generator": (
        lambda m, d, s: m.Generator((s,), (8, *(4,) * d), (8, 4), (2, 2)), (2, 3), (10, 10), 0, {},
    ),
    "GlobalNet": (
        lambda m, d, s: m.GlobalNet([s] * d, d, 2, 8, 2), (2, 3), (32, 16), 2, {},
    ),
    "HighResNet": (lambda m, d, s: m.HighResNet(d), (2, 3), (24, 16), 1, {}),
    "HoVerNet": (lambda m, d, s: m.HoVerNet(out_classes=5), (2,), (256, 0), 3, {"large": True}),
    "HyenaNDUNETR": (
        lambda m, d, s: m.HyenaNDUNETR(1, 2, (True, True, False, False), 12, spatial_dims=d), (2, 3), (64, 64), 1, {},
    ),
    "LocalNet": (lambda m, d, s: m.LocalNet(d, 2, 8, [0, 1, 2]), (2, 3), (32, 16), 2, {}),
    "MILModel": (
        lambda m, d, s: m.MILModel(2, pretrained=False), (2,), (32, 0), 3,
        {"rows": 2, "bag": True, "note": "bags of 2 images: the row of a bag is given once for each of its images"},
    ),
    "MaskedAutoEncoderViT": (
        lambda m, d, s: m.MaskedAutoEncoderViT(
            1, s, 8, num_layers=2, decoder_hidden_size=48, decoder_mlp_dim=96, decoder_num_layers=1,
            decoder_num_heads=4, spatial_dims=d, **TRANSFORMER
        ), (2, 3), (32, 16), 1, {"same_noise": True, "note": "every sample gets the same mask"},
    ),
    "MedNeXt": (lambda m, d, s: m.MedNeXt(d, init_filters=8), (2, 3), (32, 32), 1, {}),
    "MedNeXt deep_supervision": (
        lambda m, d, s: m.MedNeXt(d, init_filters=8, deep_supervision=True, global_resp_norm=True), (2, 3), (32, 32), 1,
        {"root_training": True, "note": "the root in training mode, so that the deep heads count"},
    ),
    "MedNeXtS": (lambda m, d, s: m.MedNeXtS(spatial_dims=d), (2, 3), (32, 32), 1, {}),
    "MedNeXtB": (lambda m, d, s: m.MedNeXtB(spatial_dims=d), (2, 3), (32, 32), 1, {"large": True}),
    "MedNeXtM": (lambda m, d, s: m.MedNeXtM(spatial_dims=d), (2, 3), (32, 32), 1, {"large": True}),
    "MedNeXtL": (lambda m, d, s: m.MedNeXtL(spatial_dims=d), (2, 3), (32, 32), 1, {"large": True}),
    "MultiScalePatchDiscriminator": (
        lambda m, d, s: m.MultiScalePatchDiscriminator(2, 2, d, 8, 1, minimum_size_im=s), (2, 3), (64, 64), 1, {},
    ),
    "NetAdapter": (
        lambda m, d, s: m.NetAdapter(
            m.resnet18(spatial_dims=d, n_input_channels=1), 3, dim=d, use_conv=True, pool=None
        ),
        (2, 3), (32, 16), 1, {},
    ),
    "PatchDiscriminator": (lambda m, d, s: m.PatchDiscriminator(d, 8, 1), (2, 3), (32, 32), 1, {}),
    "Quicknat": (lambda m, d, s: m.Quicknat(num_classes=3, num_filters=16), (2,), (32, 0), 1, {}),
    "RegUNet": (lambda m, d, s: m.RegUNet(d, 2, 8, 2), (2, 3), (32, 16), 2, {}),
    "Regressor": (lambda m, d, s: m.Regressor((1, *(s,) * d), (2,), **STEPS), (2, 3), (32, 16), 1, {}),
    **{
        f"ResNet {depth}": (
            partial(lambda depth, m, d, s: getattr(m, f"resnet{depth}")(spatial_dims=d, n_input_channels=1), depth),
            (2, 3), (32, 16), 1, {"large": depth > 34},
        )
        for depth in (10, 18, 34, 50, 101, 152, 200)
    },
    "ResNetEncoder": (
        lambda m, d, s: m.ResNetEncoder("resnet18", pretrained=False, spatial_dims=d), (2, 3), (32, 16), 1, {},
    ),
    "ResNetFeatures": (
        lambda m, d, s: m.ResNetFeatures("resnet18", pretrained=False, spatial_dims=d), (2, 3), (32, 16), 1, {},
    ),
    **{
        name: (
            partial(lambda name, m, d, s: getattr(m, name)(spatial_dims=d, in_channels=1, num_classes=3), name),
            (2, 3), (48, 32), 1, {"large": name != "SEResNet50"},
        )
        for name in ("SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101", "SENet154")
    },
    "SPADEAutoencoderKL": (
        lambda m, d, s: m.SPADEAutoencoderKL(d, 2, **KL), (2, 3), (32, 16), 1, {"extra": label_map, "quiet": True},
    ),
    "SPADEDiffusionModelUNet": (
        lambda m, d, s: m.SPADEDiffusionModelUNet(d, 1, 1, 2, **DIFFUSION), (2, 3), (16, 8), 1,
        {"extra": timesteps_and_labels},
    ),
    "SPADENet": (
        lambda m, d, s: m.SPADENet(d, 1, 1, 2, [s] * d, [16, 8], 8, is_vae=True), (2, 3), (32, 16), 1,
        {"extra": label_map, "quiet": True, "swap": True},
    ),
    "SegResNet": (lambda m, d, s: m.SegResNet(d), (2, 3), (32, 16), 1, {}),
    "SegResNetDS": (lambda m, d, s: m.SegResNetDS(d, init_filters=8, norm="instance"), (2, 3), (32, 32), 1, {}),
    "SegResNetDS2": (lambda m, d, s: m.SegResNetDS2(d, init_filters=8, norm="instance"), (2, 3), (32, 32), 1, {}),
    "SegResNetVAE": (lambda m, d, s: m.SegResNetVAE([s] * d, spatial_dims=d), (2, 3), (32, 16), 1, {}),
    "SegResNetVAE training": (
        lambda m, d, s: m.SegResNetVAE([s] * d, spatial_dims=d, vae_estimate_std=True), (2, 3), (32, 16), 1,
        {"root_training": True, "quiet": True, "note": "the root in training mode, so that its VAE runs"},
    ),
    "SwinUNETR": (lambda m, d, s: m.SwinUNETR(1, 2, feature_size=12, spatial_dims=d), (2, 3), (64, 64), 1, {}),
    "SwinUNETR use_checkpoint": (
        lambda m, d, s: m.SwinUNETR(1, 2, feature_size=12, spatial_dims=d, use_checkpoint=True, use_v2=True),
        (2, 3), (64, 64), 1, {"note": "activation checkpointing inside; v2, convolutions in each stage"},
    ),
    "TorchVisionFCModel": (lambda m, d, s: m.TorchVisionFCModel("resnet18", 3), (2,), (32, 0), 3, {}),
    "Transchex": (
        lambda m, d, s: m.Transchex(
            3, (s, s), (16, 16), 2, 1, 1, 1, hidden_size=48, num_attention_heads=4, intermediate_size=96, vocab_size=50,
            chunk_size_feed_forward=0, is_decoder=False, add_cross_attention=False,
        ), (2,), (32, 0), 3, {"text": True, "note": "the images are vision_feats"},
    ),
    "UNETR": (lambda m, d, s: m.UNETR(1, 2, s, 8, spatial_dims=d, **TRANSFORMER), (2, 3), (32, 32), 1, {}),
    "UNet": (lambda m, d, s: m.UNet(d, 1, 2, num_res_units=2, **STEPS), (2, 3), (32, 16), 1, {}),
    "VISTA3D": (
        lambda m, d, s: m.vista3d132(encoder_embed_dim=24), (3,), (0, 64), 1,
        {"classes": True, "large": True, "note": "one class prompt; it takes one volume at a time"},
    ),
    "VISTA3D image_encoder": (
        lambda m, d, s: m.vista3d132(encoder_embed_dim=24).image_encoder, (3,), (0, 32), 1, {},
    ),
    "VNet": (lambda m, d, s: m.VNet(d), (2, 3), (32, 32), 1, {}),
    "VQVAE": (
        lambda m, d, s: m.VQVAE(
            d, 1, 1, (8, 8), 1, (8, 8), ((2, 4, 1, 1),) * 2, ((2, 4, 1, 1, 0),) * 2, embedding_dim=8
        ),
        (2, 3), (32, 16), 1, {},
    ),
    "VarAutoEncoder": (
        lambda m, d, s: m.VarAutoEncoder(d, (1, *(s,) * d), 1, 8, (8, 16), (2, 2), use_mean_at_inference=True),
        (2, 3), (32, 16), 1, {"note": "with its mean at inference: without, the plain network takes no gradient"},
    ),
    "ViT": (lambda m, d, s: m.ViT(1, s, 8, num_layers=2, spatial_dims=d, **TRANSFORMER), (2, 3), (32, 16), 1, {}),
    "ViTAutoEnc": (
        lambda m, d, s: m.ViTAutoEnc(1, s, 8, num_layers=2, spatial_dims=d, **TRANSFORMER), (2, 3), (32, 16), 1, {},
    ),
    "VoxelMorph": (lambda m, d, s: m.VoxelMorph(spatial_dims=d), (2, 3), (64, 32), 1, {"extra": second_image}),
    "VoxelMorphUNet": (
        lambda m, d, s: m.VoxelMorphUNet(d, 2, 8, (8, 8, 16, 16), (8,)), (2, 3), (32, 16), 2, {},
    ),
}  # fmt: skip


def cases() -> list[Case]:
    """One case per network and number of dimensions."""
    found = []
    for name, (build, dimensions, sizes, channels, fields) in NETWORKS.items():
        for d in dimensions:
            size = sizes[d - 2]
            shape = (channels, *(size,) * d) if channels else (size,)
            label = name if len(dimensions) == 1 else f"{name} {d}-D"
            found.append(Case("monai", f"{d}-D", label, partial(_build, build, d, size), (shape,), **_fields(fields)))
    return found


def _build(build: Build, d: int, size: int, shape: Shape) -> nn.Module:
    import monai.networks.nets

    return build(monai.networks.nets, d, size)


def _fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The marks that say how a network takes its inputs, as fields of Case."""
    fields = dict(fields)
    if fields.pop("bag", False):  # (N, 2, C, H, W)
        fields["pack"] = lambda tensors: (torch.stack([tensors[0], tensors[0].flip(-1)], 1),)
    if fields.pop("swap", False):  # (segmentation, image)
        fields |= {"pack": lambda tensors: (tensors[1], tensors[0]), "keywords": ("x",)}
    if fields.pop("text", False):  # (words, image)
        fields |= {"pack": lambda tensors: (_words(len(tensors[0])), tensors[0]), "keywords": ("vision_feats",)}
    if fields.pop("classes", False):
        fields |= {"pack": lambda tensors: (tensors[0], torch.tensor([[3]])), "keywords": ("class_vector",)}
    return fields


def _words(n: int) -> Tensor:
    return torch.arange(6).repeat(n, 1) + 1
