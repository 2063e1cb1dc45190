"""Tiny networks for the tests of the study engine, named as users name theirs: package.module:function."""

from torch import nn


def image_network(num_outputs, in_channels, image_size):
    conv = getattr(nn, f"Conv{len(image_size)}d")
    return nn.Sequential(conv(in_channels, 6, 3, padding=1), nn.ReLU(), conv(6, num_outputs, 3, padding=1))


def network(num_outputs, in_channels, image_size):
    dims = len(image_size)
    conv, pool = getattr(nn, f"Conv{dims}d"), getattr(nn, f"AdaptiveAvgPool{dims}d")
    return nn.Sequential(conv(in_channels, 4, 3), nn.ReLU(), conv(4, 4, 3), nn.ReLU(), nn.Dropout(0.1), pool(1), nn.Flatten(),
                         nn.Linear(4, num_outputs))  # fmt: skip
