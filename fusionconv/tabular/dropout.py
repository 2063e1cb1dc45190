"""CovariateDropout: while training, covariates go missing at random, so that a model also answers without them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusionconv.errors import CovariateError, TableError
from fusionconv.tabular.encoder import CovariateEncoder

__all__ = ["CovariateDropout", "drop_covariates"]


def drop_covariates(
    covariates: Tensor,
    missing: Tensor,
    group: Tensor,
    p_row: float,
    p_value: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Make whole rows missing with probability ``p_row``, and single columns of a row with ``p_value``, independently.

    So a column of a row is missing with probability 1 - (1 - p_row)(1 - p_value). All covariates of a column (its
    one-hot covariates, its flags, its indicator) go together, and become what the encoder gives for a missing value.

    Args:
        covariates: (N, K).
        missing: (K,), the covariates of a row of which nothing is known.
        group: (K,) int64, for each covariate the number of its column, from 0 on.
        p_row: probability of a missing row.
        p_value: probability of a missing column in a row.
        generator: where the random numbers come from, on its own device; by default torch's generator for the
            covariates' device.

    Returns:
        (N, K) of the covariates' dtype; a new tensor. No gradient flows to what was dropped.

    Example:
        >>> import torch
        >>> from fusionconv.tabular.dropout import drop_covariates
        >>> s, nothing = torch.tensor([[0.5, 1.0]]), torch.tensor([0.0, 0.0])
        >>> drop_covariates(s, nothing, torch.tensor([0, 1]), p_row=1.0, p_value=0.0)
        tensor([[0., 0.]])
    """
    where = covariates.device if generator is None else generator.device
    draws = torch.rand(len(covariates), int(group.max()) + 2, generator=generator, device=where).to(covariates.device)
    gone = (draws[:, 1:] < p_value) | (draws[:, :1] < p_row)
    return torch.where(gone[:, group], missing.to(covariates.dtype), covariates)


class CovariateDropout(nn.Module):
    r"""Covariates that go missing while training; in evaluation mode they pass unchanged.

    The encoder must take missing values in every column, best with ``missing="mean", indicator="always"``: then the
    model sees in training what :meth:`CovariateEncoder.missing_vector` gives it later for a patient without covariates.

    Args:
        encoder: the fitted encoder, which knows what belongs together and what a missing value becomes. It is not kept.
        p_row: probability with which a whole row becomes missing.
        p_value: probability with which a column of a row becomes missing, independently of ``p_row``.
        generator: for reproducible draws apart from torch's global seed.

    Shapes: (N, K) to (N, K). The module has no parameters and nothing in its state dict.

    Raises:
        TableError: the encoder is not fitted, or one of its columns refuses missing values.
        CovariateError: a probability outside 0 to 1; covariates that are not (N, K) floating-point numbers.

    >>> import pandas as pd
    >>> train = pd.DataFrame({"age": [60, 70, 80], "sex": ["F", "M", "M"]})
    >>> encoder = CovariateEncoder(["age", "sex"], missing="mean", indicator="always").fit(train)
    >>> dropout = CovariateDropout(encoder, p_row=0.1, p_value=0.2)
    >>> dropout(torch.from_numpy(encoder.transform(train))).shape
    torch.Size([3, 4])
    """

    missing: Tensor
    group: Tensor

    def __init__(
        self,
        encoder: CovariateEncoder,
        p_row: float = 0.1,
        p_value: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, CovariateEncoder):
            raise TableError(f"expected a fitted CovariateEncoder, got {type(encoder).__name__}")
        probabilities: Mapping[str, float] = {"p_row": p_row, "p_value": p_value}
        for name, p in probabilities.items():
            if not 0 <= p <= 1:
                raise CovariateError(f"expected {name} between 0 and 1, got {p!r}")
        self.p_row, self.p_value, self.generator = float(p_row), float(p_value), generator
        groups = encoder.groups.values()
        numbers = [number for number, place in enumerate(groups) for _ in range(place.start, place.stop)]
        self.register_buffer("missing", torch.from_numpy(encoder.missing_vector()), persistent=False)
        self.register_buffer("group", torch.tensor(numbers, dtype=torch.int64), persistent=False)

    def forward(self, covariates: Tensor) -> Tensor:
        """The covariates, some of them missing in training mode.

        Raises:
            CovariateError: they are not (N, K) floating-point numbers.
        """
        if covariates.ndim != 2 or covariates.shape[1] != len(self.group) or not covariates.is_floating_point():
            raise CovariateError(
                f"expected floating-point covariates of shape (N, {len(self.group)}), got {tuple(covariates.shape)} "
                f"of {covariates.dtype}; give what the encoder's transform made"
            )
        if not self.training or (self.p_row == 0 and self.p_value == 0):
            return covariates
        return drop_covariates(covariates, self.missing, self.group, self.p_row, self.p_value, self.generator)

    def extra_repr(self) -> str:
        """The probabilities and K."""
        return f"p_row={self.p_row:g}, p_value={self.p_value:g}, num_covariates={len(self.group)}"
