"""The six tasks: images, covariates s and a label y in {0, 1}, and the accuracy of the ideal observer of each.

Five of them show one number, the brightness ``a`` (or ``v``) of the image, of which the best estimate is
``z = a + TAU n`` (`bright_images`); ``n`` is standard normal, and so is ``a``. Then

    E[a | z] = rho^2 z,   rho = corr(a, z) = 1 / sqrt(1 + TAU^2),

and, since for two jointly normal variables of mean 0 and correlation r the signs agree with probability
``1 - arccos(r) / pi``, the sign of a is told from z with that accuracy at r = rho: .922 at TAU = .25.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import integrate, stats
from torch import Tensor

from benchmarks.phantoms.images import NOISE, TAU, bright_images, grating_basis, grating_images, pixels

__all__ = ["TASKS", "Batch", "Task", "bayes_shortcut_learned", "make_task", "signs_agree"]

EFFECT = 1.0  # b of the additive task
INTERCEPT = 1.0  # c of the atrophy task
HEAD = {-1: 0.75, 1: 1.25}  # head size by sex
TRUST = 0.9  # how often s names y in the shortcut's training data
NUISANCES = 8  # covariates of the null task


class Batch(NamedTuple):
    r"""``images`` (N, 1, \*spatial), ``covariates`` (N, K), ``target`` (N,) of 0 and 1."""

    images: Tensor
    covariates: Tensor
    target: Tensor


@dataclass(frozen=True)
class Task:
    """One task in 2-D or 3-D.

    Attributes:
        dims: 2 or 3.
        num_covariates: K.
        bayes: the accuracy of the ideal observer on test data.
        covariates_only: the accuracy of the ideal observer of the covariates alone.
        constant: the covariates' mean, (K,), for the control "constant".
        sample: ``sample(n, generator, test=False)`` -> `Batch`.
    """

    name: str
    dims: int
    num_covariates: int
    bayes: float
    covariates_only: float
    constant: Tensor
    sample: Callable[..., Batch]


def signs_agree(r: float) -> float:
    """The probability that two jointly normal variables of mean 0 and correlation ``r`` have one sign."""
    return 1 - math.acos(r) / math.pi


RHO_SQUARED = 1 / (1 + TAU**2)
SIGN_OF_BRIGHTNESS = signs_agree(math.sqrt(RHO_SQUARED))


def additive(dims: int) -> Task:
    """``y = 1[a + b s > 0]``, s standard normal, b = 1.

    Given z and s the sum is normal around ``m = rho^2 z + b s``: the best answer is the sign of m. Sum and m are
    jointly normal; ``cov(a + b s, m) = var(m) = rho^2 + b^2``, so that their correlation is
    ``sqrt((rho^2 + b^2) / (1 + b^2))``. From s alone: ``corr(a + b s, s) = b / sqrt(1 + b^2)``.
    """

    def sample(n: int, generator: torch.Generator, test: bool = False) -> Batch:
        a, s = torch.randn(2, n, generator=generator)
        return Batch(bright_images(a, dims, generator), s[:, None], (a + EFFECT * s > 0).long())

    r = math.sqrt((RHO_SQUARED + EFFECT**2) / (1 + EFFECT**2))
    alone = signs_agree(EFFECT / math.sqrt(1 + EFFECT**2))
    return Task("additive", dims, 1, signs_agree(r), alone, torch.zeros(1), sample)


def xor(dims: int) -> Task:
    """``y = 1[a s > 0]``, s = -1 or 1 with equal probability.

    The best answer is ``sign(z) sign(s)``, right as often as sign(z) is sign(a): ``1 - arccos(rho) / pi``. Image alone
    and covariates alone tell nothing: 1/2. A head that adds, ``logit = f(x) + g(s)``, has its least cross-entropy at
    f + g = 0 (the loss is convex in f + g, and the task is its own mirror image), which is 1/2 again. This is a
    statement on what is learned, not on what could be: an additive head that gives up s = 1 (always "y = 1" there) and
    answers by the image at s = -1 is right in half of ``1/2 + (1 - arccos(rho) / pi)``, .71.
    """

    def sample(n: int, generator: torch.Generator, test: bool = False) -> Batch:
        a, s = torch.randn(n, generator=generator), _coins(n, generator)
        return Batch(bright_images(a, dims, generator), s[:, None], (a * s > 0).long())

    return Task("xor", dims, 1, SIGN_OF_BRIGHTNESS, 0.5, torch.zeros(1), sample)


def selection(dims: int, count: int | None = None) -> Task:
    """``y`` = is grating s in the image? K gratings, each present with probability 1/2; s is one of K (one-hot).

    The phase is random, so that the sufficient statistic for one grating in white noise is the length R of its
    projection on its cos and sin; with P pixels and amplitude 1, R^2 / (noise^2 P / 2) is noncentral chi-square with 2
    degrees of freedom and noncentrality ``d^2 = P / (2 noise^2)`` (0 without the grating). The likelihood ratio,
    ``exp(-d^2 / 2) I0(d R)``, rises with R: a threshold where it is 1 is best, and
    ``(P[R <= t | absent] + P[R > t | present]) / 2`` is the Bayes rate of an observer who knows the other gratings. It
    bounds the ideal observer from above; at d = 24 it is 1 to nine digits. Who does not know the others can fit all 2 K
    waves by least squares and threshold, and the tests find that observer right in every one of 10,000 images: so the
    Bayes rate is 1.000. Covariates alone: 1/2. Image alone: who counts n gratings is right with probability
    ``E max(n / K, 1 - n / K)``, n binomial: .637 for K = 8, .656 for K = 6. With another's covariates:
    ``1/2 + 1/(2 K)``, when a drawn row may name the same grating. A network whose K features pass a bottleneck of fewer
    channels cannot keep them all apart; only one that knows s in front of the bottleneck can leave the others out.
    """
    K = count or {2: 8, 3: 6}[dims]
    basis = grating_basis(dims, K)

    def sample(n: int, generator: torch.Generator, test: bool = False) -> Batch:
        present = torch.randint(2, (n, K), generator=generator).float()
        asked = torch.randint(K, (n, 1), generator=generator)
        s = torch.zeros(n, K).scatter_(1, asked, 1.0)
        target = present.gather(1, asked)[:, 0].long()
        return Batch(grating_images(present, dims, basis, generator), s, target)

    return Task("selection", dims, K, bayes_grating(dims), 0.5, torch.full((K,), 1 / K), sample)


def bayes_grating(dims: int) -> float:
    """The Bayes rate for one grating of random phase in white noise, the others known: see `selection`."""
    squared = pixels(dims) / (2 * NOISE**2)
    d = math.sqrt(squared)
    # ln I0(x) ~ x - ln(2 pi x) / 2: the ratio is 1 at d R = x with x - ln(2 pi x) / 2 = d^2 / 2
    x = squared / 2
    for _ in range(50):
        x = squared / 2 + math.log(2 * math.pi * x) / 2
    t = (x / d) ** 2
    return float((stats.chi2.cdf(t, 2) + stats.ncx2.sf(t, 2, squared)) / 2)


def atrophy(dims: int) -> Task:
    """Tissue loss beyond what is normal for the age, seen in heads of two sizes; s = (age, sex).

    ``loss = c + age + delta`` with age and delta standard normal and c = 1; ``y = 1[loss > f(age)]`` with
    ``f(age) = c + age``, the norm. The image shows ``v = h loss``, where the head's size h is .75 or 1.25 by sex. So
    ``z / h - f(age) = delta + (TAU / h) n``: its sign is the best answer, right with probability
    ``1 - arccos(1 / sqrt(1 + TAU^2 / h^2)) / pi``, and the Bayes rate is the mean over both sizes. Image, age and size
    are all needed: the rule is a threshold on z at ``h (c + age)``, a product. Covariates alone: 1/2.
    """

    def sample(n: int, generator: torch.Generator, test: bool = False) -> Batch:
        age, delta = torch.randn(2, n, generator=generator)
        sex = _coins(n, generator)
        head = torch.where(sex > 0, HEAD[1], HEAD[-1])
        shown = head * (INTERCEPT + age + delta)
        return Batch(bright_images(shown, dims, generator), torch.stack([age, sex], 1), (delta > 0).long())

    rate = sum(signs_agree(1 / math.sqrt(1 + (TAU / h) ** 2)) for h in HEAD.values()) / 2
    return Task("atrophy", dims, 2, rate, 0.5, torch.zeros(2), sample)


def null(dims: int) -> Task:
    """``y = 1[a > 0]``; s, eight standard normal numbers, has nothing to do with it: ``1 - arccos(rho) / pi``."""

    def sample(n: int, generator: torch.Generator, test: bool = False) -> Batch:
        a = torch.randn(n, generator=generator)
        s = torch.randn(n, NUISANCES, generator=generator)
        return Batch(bright_images(a, dims, generator), s, (a > 0).long())

    return Task("null", dims, NUISANCES, SIGN_OF_BRIGHTNESS, 0.5, torch.zeros(NUISANCES), sample)


def shortcut(dims: int) -> Task:
    """``y = 1[a > 0]``; in training s = -1 or 1 names y in 90 % of the cases, at test it is a coin.

    On test data s tells nothing, and the ideal observer there has ``1 - arccos(rho) / pi``. One that has learned the
    training data perfectly believes s and is worse at test: `bayes_shortcut_learned`.
    """

    def sample(n: int, generator: torch.Generator, test: bool = False) -> Batch:
        a = torch.randn(n, generator=generator)
        target = (a > 0).long()
        agree = torch.rand(n, generator=generator) < (0.5 if test else TRUST)
        s = torch.where(agree, 1.0, -1.0) * (2.0 * target - 1)
        return Batch(bright_images(a, dims, generator), s[:, None], target)

    return Task("shortcut", dims, 1, SIGN_OF_BRIGHTNESS, 0.5, torch.zeros(1), sample)


def bayes_shortcut_learned() -> tuple[float, float]:
    """Accuracy of the shortcut's ideal observer *of the training data*: on such data, and on test data.

    Given z, ``p = P[a > 0 | z] = Phi(z rho / TAU)`` (a has mean rho^2 z and sd rho TAU). Training data: s is
    independent of z given y, the log odds are ``ln p / (1 - p) + s ln 9``, and the answer is their sign. So s = 1 moves
    the threshold on p from 1/2 to 1 - .9. By symmetry take s = 1: y = 1 is answered where p > .1. On training data s =
    1 stands with y = 1 at odds 9 : 1; at test with p as it is. Both are integrals over z, of variance 1 + TAU^2.
    """
    rho, sd = math.sqrt(RHO_SQUARED), math.sqrt(1 + TAU**2)
    threshold = stats.norm.ppf(1 - TRUST) * TAU / rho  # p > .1 where z is above this

    def share(right: Callable[[float], float], low: float, high: float) -> float:
        return float(integrate.quad(lambda z: right(z) * stats.norm.pdf(z, scale=sd), low, high)[0])

    def p(z: float) -> float:
        return float(stats.norm.cdf(z * rho / TAU))

    yes, no = share(p, threshold, np.inf), share(lambda z: 1 - p(z), -np.inf, threshold)
    return 2 * (TRUST * yes + (1 - TRUST) * no), yes + no


def _coins(n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (n,), generator=generator) * 2.0 - 1


TASKS: dict[str, Callable[..., Task]] = {f.__name__: f for f in (additive, xor, selection, atrophy, null, shortcut)}


def make_task(name: str, dims: int, count: int | None = None) -> Task:
    """The task ``name``; ``count``: K of the selection task."""
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name](dims) if count is None else TASKS[name](dims, count)
