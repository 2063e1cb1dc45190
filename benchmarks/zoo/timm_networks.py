"""A sample of timm's networks: one or more of every module, and of every name family in it, that holds convolutions.

The rule, which `choose` runs (about ten minutes, on the meta device), over all of ``timm.list_models()`` but the ones
named test_*: of each module of timm the network with the fewest parameters that holds a convolution; and of each name
family in a module (the letters that a name begins with) the one with the fewest parameters that holds at least three,
if those are no more than 100 million. NAMES is what it chose from timm 1.0.31.
"""

from __future__ import annotations

import re
from functools import partial

import torch
from torch import nn

from benchmarks.zoo.case import Case, Shape

__all__ = ["NAMES", "cases", "choose"]

NAMES = """
    beit_base_patch16_224 botnet26t_256 eca_botnext26ts_256 halo2botnet50ts_256 halonet_h1 haloregnetz_b
    lambda_resnet26t lamhalobotnet50ts_256 sebotnet33ts_256 sehalonet33ts bat_resnext26ts eca_resnext26ts
    gcresnet33ts gcresnext26ts gernet_s mobileone_s1 regnetz_b16 repvgg_a0 resnet32ts resnext26ts seresnet33ts
    seresnext26ts cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 convnext_zepto_rms convnextv2_atto
    cpubone_nano crossvit_9_dagger_240 crossvit_tiny_240 csatv2 cs3darknet_focus_s cspdarknet53 cspresnet50
    cspresnext50 darknet17 darknetaa53 sedarknet21 cspnext_tiny davit_tiny deepseek_vit_412m
    deit_tiny_patch16_224 densenet121 densenetblur121d dla46x_c dpn48b edgenext_xx_small efficientformer_l1
    efficientformerv2_s0 efficientnet_lite0 efficientnetv2_rw_t fbnetc_100 gc_efficientnetv2_rw_t mixnet_s
    mnasnet_small mobilenet_edgetpu_100 mobilenetv2_035 semnasnet_050 spnasnet_100 tf_mixnet_s tinynet_e
    efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
    focalnet_tiny_srf gcvit_xxtiny ghostnet_050 ghostnetv3_050 hardcorenas_b hgnet_tiny hgnetv2_b0
    hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2
    inception_v3 inception_v4 lcnetv2_small levit_128s lowformer_b0 mambaout_femto coatnet_pico_rw_224
    coatnext_nano_rw_224 maxvit_pico_rw_256 maxxvit_rmlp_nano_rw_256 maxxvitv2_nano_rw_256 caformer_s18
    convformer_s18 poolformer_s12 poolformerv2_s12 gmlp_ti16_224 fbnetv3_b lcnet_035 mobilenetv3_small_050
    tf_mobilenetv3_small_075 mobilenetv5_base mobilevit_xxs mobilevitv2_050 mvitv2_tiny nasnetalarge nest_tiny
    nextvit_small dm_nfnet_f0 eca_nfnet_l0 nf_regnet_b0 nfnet_l0 pit_ti_224 pnasnet5large pvt_v2_b0
    qwen3_vit_88m rdnet_tiny regnetv_040 regnetx_002 regnety_002 regnetz_005 repghostnet_050 repvit_m1
    res2next50 resnest14d ecaresnet26t ecaresnetlight ecaresnext26t_32x4d resnet10t resnetaa34d resnetblur18
    resnetrs50 resnext50_32x4d seresnet18 seresnetaa50d seresnext26t_32x4d seresnextaa101d_32x8d wide_resnet50_2
    resnetv2_18 rexnet_100 rexnetr_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18
    skresnext50_32x4d starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window16_256
    swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny
    vit_tiny_patch16_224 vit_small_r26_s32_224 vit_tiny_r_s16_p8_224 vit_srelpos_small_patch16_224
    samvit_base_patch16 samvit_base_patch16_224 vitamin_small_224 volo_d1_224 eca_vovnet39b
    ese_vovnet19b_slim_dw vovnet39a legacy_xception xception41p xcit_nano_12_p8_224
""".split()  # noqa: SIM905

SIZES = (48, 64, 96, 128, 160, 192, 224, 256)
LARGE = r"nasnet|deepseek|qwen3|mobilenetv5|samvit|vgg|dm_nfnet|aimv2|inception_resnet"
CHECKPOINTED = ("resnet10t", "efficientnet_lite0", "convnext_zepto_rms", "densenet121", "regnetx_002", "pvt_v2_b0")


def cases() -> list[Case]:
    """One case per name, and six networks again with timm's activation checkpointing switched on."""
    found = [
        Case("timm", _module(name), name, partial(_build, name), _shapes(name), large=_large(name)) for name in NAMES
    ]
    found += [
        Case(
            "timm",
            _module(name),
            f"{name} with set_grad_checkpointing",
            partial(_checkpointed, name),
            _shapes(name),
            note="activation checkpointing inside",
        )
        for name in CHECKPOINTED
    ]
    return found


def _large(name: str) -> bool:
    return re.search(LARGE, name) is not None


def _module(name: str) -> str:
    import timm

    return str(timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1])


def _shapes(name: str) -> tuple[Shape, ...]:
    """Squares from 48 pixels up to the size that the network was made for."""
    import timm

    config = timm.get_pretrained_cfg(name)
    channels, *_, own = config.input_size
    smallest = 64 if config.fixed_input_size else 48
    return tuple((channels, size, size) for size in (*(s for s in SIZES if smallest <= s < own), own))


def _build(name: str, shape: Shape) -> nn.Module:
    """The network for images of ``shape``; one that takes a single size is told it where its constructor has a word."""
    import timm

    if timm.get_pretrained_cfg(name).fixed_input_size:
        try:
            sized: nn.Module = timm.create_model(name, pretrained=False, img_size=shape[-1])
            return sized
        except TypeError:
            pass
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def _checkpointed(name: str, shape: Shape) -> nn.Module:
    model = _build(name, shape)
    model.set_grad_checkpointing()  # type: ignore[operator]
    return model


def choose() -> list[str]:
    """Apply the rule to the timm that is installed."""
    import timm

    chosen: set[str] = set()
    for module in timm.list_modules():
        sizes: dict[str, list[tuple[int, str]]] = {}
        for name in timm.list_models(module=module):
            if name.startswith("test_"):
                continue
            with torch.device("meta"):
                model = timm.create_model(name, pretrained=False)
            convolutions = sum(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())
            size = (sum(p.numel() for p in model.parameters()), name)
            family = re.match("[a-z]+", name)
            if convolutions:
                sizes.setdefault("", []).append(size)
            if convolutions >= 3 and size[0] <= 100e6 and family:
                sizes.setdefault(family.group(), []).append(size)
        chosen |= {min(of_family)[1] for of_family in sizes.values()}
    return sorted(chosen, key=lambda name: (_module(name), name))
