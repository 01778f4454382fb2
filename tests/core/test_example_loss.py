"""The curvature of a criterion in the outputs, and one loss per row."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from skreweight.core.example_loss import ExampleLoss, softmax_factor
from tests.cases import CASES


def product(factor: Tensor) -> Tensor:
    """Σ_r c_r c_rᵀ, row by row."""
    return torch.einsum("rbi,rbj->bij", factor, factor)


@given(logits=st.lists(st.lists(st.floats(-300, 300), min_size=3, max_size=3), min_size=1, max_size=4))
def test_softmax_factor(logits: list[list[float]]) -> None:
    z = torch.tensor(logits, dtype=torch.float64)
    p = torch.softmax(z, 1)
    expected = torch.diag_embed(p) - p.unsqueeze(1) * p.unsqueeze(2)
    factor = softmax_factor(z)
    assert factor.shape == (2, len(z), 3)
    torch.testing.assert_close(product(factor), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_factor_of_many_classes_and_extreme_logits(n_classes: int, dtype: torch.dtype) -> None:
    z = 50 * torch.randn(20, n_classes, dtype=dtype, generator=torch.Generator().manual_seed(0))
    p = torch.softmax(z, 1)
    factor = softmax_factor(z)
    assert factor.isfinite().all()
    expected = torch.diag_embed(p) - p.unsqueeze(1) * p.unsqueeze(2)
    torch.testing.assert_close(product(factor), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    "name",
    [
        "class weights",
        "criterion with weights",
        "focal",
        "ldam",
        "one logit",
        "logit adjusted",
        "two classes, smoothed labels",
    ],
)
def test_hessian_factor(name: str) -> None:
    loss = CASES[name].loss()
    generator = torch.Generator().manual_seed(0)
    n_classes = 2 if "two" in name else 3
    z = 3 * torch.randn(6, n_classes, generator=generator, dtype=torch.float64)
    if name == "one logit":
        z = z[:, 0]
    y = torch.arange(6) % 2
    hessians = [
        torch.autograd.functional.hessian(lambda row, t=t: loss(row[None], t[None])[0], row)
        for row, t in zip(z, y, strict=True)
    ]
    H = torch.stack(hessians).reshape(6, max(1, z[0].numel()), -1)
    values, vectors = torch.linalg.eigh(H)
    positive_part = vectors @ torch.diag_embed(values.clamp(min=0)) @ vectors.mT
    factor = loss.hessian_factor(z, y)
    assert factor.shape[1:] == z.shape
    torch.testing.assert_close(
        product(factor.reshape(len(factor), 6, -1)), positive_part, rtol=1e-10, atol=1e-12
    )
    assert (values < -1e-9).any() == (name == "focal"), "only focal loss is not convex in the logits"


def test_a_loss_without_curvature() -> None:
    class Margin(nn.Module):
        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return -outputs.gather(1, targets.unsqueeze(1)).squeeze(1)

    factor = ExampleLoss(Margin()).hessian_factor(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    assert not factor.any()


def test_class_weights_multiply() -> None:
    z, y = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    plain = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))(z, y)
    scaled = ExampleLoss(nn.CrossEntropyLoss(reduction="none"), torch.tensor([0.5, 3.0]))(z, y)
    assert torch.equal(scaled, plain * torch.tensor([0.5, 3.0, 3.0, 0.5]))


def test_one_column_is_squeezed() -> None:
    class Column(nn.Module):
        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return outputs[:, :1]

    assert ExampleLoss(Column())(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)).shape == (4,)


def test_a_criterion_that_reduces() -> None:
    with pytest.raises(ValueError, match="needs one loss per row"):
        ExampleLoss(nn.CrossEntropyLoss())(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
