"""The options of each command of ``fusionconv`` that are no settings of a study."""

from __future__ import annotations

from typing import Any

__all__ = ["OWN", "POSITIONAL", "WITH_SETTINGS"]

#: options of the commands that are no settings: name -> (default, help). None is the default of a text. A type in its
#: place: no default, a value of that type; object: the command itself checks what it is.
OWN: dict[str, dict[str, tuple[Any, str]]] = {
    "inspect": {},
    "compare": {
        "arms": (
            ["image", "covariates", "concat", "hybrid@first"],
            "image, covariates, stacked, concat, METHOD@WHERE (hybrid@first, film@last, ...), or {arm: ..., rank: 2}",
        ),
        "out": (None, "folder of everything that is written (needed)"),
        "overwrite": (False, "throw away what an earlier comparison left there"),
        "part": ("1/1", "do the K-th of N parts of the runs, such as 2/3; machines may share --out"),
        "launcher": ("local", "local, ray or slurm"),
        "jobs": (1, "runs at the same time; with ray and slurm 1 is as many as there is room for"),
        "launcher_options": ({}, "of ray or slurm, such as time=2:00:00 partition=gpu"),
        "minutes": (float, "choose the number of epochs so that the whole takes about so long"),
    },
    "fit": {
        "arm": ("hybrid@first", "the arm to train, such as film@last, or {arm: ..., rank: 2}"),
        "out": (None, "folder of everything that is written (needed)"),
        "overwrite": (False, "throw away what an earlier run left there"),
    },
    "predict": {
        "study": (None, "folder of a finished comparison (needed)"),
        "arm": (None, "whose networks answer (needed); those of all folds are averaged"),
        "table": (None, "rows to predict (needed); the study's columns, no target"),
        "images": (None, "folder of their images; default: the table's folder"),
        "out": ("predictions.csv", "file of the answers"),
        "decimal": (None, "mark of the numbers in a text table, . or , (61,5); default: the study's"),
    },
    "report": {
        "out": (None, "folder of a comparison (needed); with --against also of one arm, OUT/runs/ARM"),
        "against": (None, "another one on the same rows and folds: paired tests of each arm, in against-NAME.csv"),
    },
    "explain": {
        "study": (None, "folder of a finished comparison (needed)"),
        "arm": (None, "whose network is looked at (needed)"),
        "fold": (None, "which fold's network; default: the first"),
        "rows": (6, "so many test images"),
        "layer": (None, "layer whose feature maps are drawn too, such as layer4.1"),
        "out": (None, "folder of the figures; default: STUDY/explain/ARM"),
        "difference": ([], "images out: a covariate and two values, such as age 60 80: what it changes in the answer"),
        "nifti": (False, "3-D: also write the attributions as NIfTI, on the voxels of the images' files"),
        "method": (
            "integrated_gradients",
            "of the attributions: integrated_gradients, grad_cam, guided_backprop or occlusion",
        ),
    },
    "diagram": {
        "network": (None, "network to draw, such as torchvision:resnet18, timm:resnet18 or package.module:function"),
        "study": (None, "folder of a finished comparison, in place of --network: its network and its covariates"),
        "arm": ("image", "the arm that is drawn, such as hybrid@first, or {arm: ..., rank: 2}"),
        "covariates": ([], "names of the covariates, in the order of the vector"),
        "image_size": ([224, 224], "height and width, or three sizes in 3-D"),
        "channels": (3, "of the images"),
        "num_outputs": (1, "of the last layer"),
        "network_options": ({}, "further arguments of the network, such as depth=18"),
        "title": (None, "above the drawing; default: none"),
        "out": ("network.svg", "file: .svg, .pdf or .png"),
    },
    "serve": {
        "study": (None, "folder of a finished comparison; default: the demo study, made here if it is not there"),
        "arm": (None, "the arm that is shown first; default: the first hybrid one"),
        "host": ("127.0.0.1", "address to listen at; another one shows the images to whoever reaches this machine"),
        "port": (object, "default: the first free one from 7860 on"),
    },
    "lr-find": {
        "arm": ("image", "the arm that is trained for a few steps, or {arm: ..., rank: 2}"),
        "out": (None, "folder of lr_find.csv and lr_find.png (needed)"),
        "steps": (100, "how many rates are tried, one a step"),
        "min_lr": (1e-8, "the first rate"),
        "max_lr": (1.0, "the last rate"),
    },
    "robustness": {
        "study": (None, "folder of a finished comparison (needed)"),
        "arm": (None, "whose networks are judged (needed)"),
        "step": (15.0, "degrees from one angle to the next"),
        "rows": (int, "only the first so many test rows of each fold; default: all"),
        "seed": (0, "of the shuffling"),
        "out": (None, "folder of robustness.csv and robustness.png; default: STUDY/robustness/ARM"),
    },
    "demo": {
        "dims": (2, "2 or 3"),
        "out": (None, "folder of the study; default: runs/demo-2d or runs/demo-3d"),
        "seed": (0, "of the images, splits and weights"),
        "overwrite": (False, "throw away an earlier demo"),
    },
}
#: a command -> the option that its first word is, without a flag
POSITIONAL = {"report": "out", "explain": "study", "robustness": "study", "serve": "study"}
#: the commands that take a study's options too
WITH_SETTINGS = ("inspect", "compare", "fit", "lr-find")
