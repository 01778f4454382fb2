"""What the networks for tables share: named layers, of which the first may bring columns to one scale."""

from typing import Self

from torch import Tensor, nn


class Layered(nn.Module):
    """A network that is the composition of its ``layers``."""

    layers: nn.Sequential

    def fit_scaling(self, x: Tensor) -> Self:
        """Take the scales of the columns from rows, where there is a layer ``scaling``.

        `ReweightedClassifier` calls it with the training rows.

        Parameters
        ----------
        x : Tensor of shape (N, n_features)
            The rows, finite.

        Returns
        -------
        self
        """
        scaling = getattr(self.layers, "scaling", None)
        if scaling is not None:
            scaling.fit(x)
        return self

    def sequential(self) -> nn.Sequential:
        """Return the layers whose composition `forward` is, which lets training take it apart."""
        return self.layers

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, shape (..., B, n_classes), of an input of shape (..., B, n_features).

        Parameters
        ----------
        X : torch.Tensor of shape (..., B, n_features)
        """
        return self.layers(X)
