"""Training steps stay on the device of their rows: torch's "meta" device stands in for one that is not the CPU.

On it every read of a figure fails, and a watch of all operations sees where tensors of two devices meet. What it
cannot show is that the figures are right.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skreweight._rows.batches import TensorBatches
from skreweight._training.guard import FiniteGuard
from skreweight._training.step import Outcome, TrainingStep
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.products import ProductsFinder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.losses import FocalLoss
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS, NewState, get_weighting

META = torch.device("meta")
N_ROWS, N_FEATURES, BATCH = 40, 5, 16


class Scaled(MLP):
    """A parameter outside every layer with a rule: products come from autograd and forward mode."""

    def __init__(self, n_features: int, n_classes: int, hidden: tuple[int, ...]) -> None:
        super().__init__(n_features, n_classes, hidden)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, X: Tensor) -> Tensor:
        return super().forward(X) * self.scale


class OneDevice(TorchDispatchMode):
    """Fails where tensors of two devices meet; a CPU tensor of one number may join any other, as on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {t.device for t in tensors if t.dim() or t.device == META}
        moves = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
        if len(devices) > 1 and func not in moves:
            raise RuntimeError(f"{func} of tensors on two devices: {devices}")
        return func(*args, **(kwargs or {}))


class Unguarded(FiniteGuard):
    """The guard without its check of figures, which on a real device the fused optimisers do."""

    @property
    def halted(self) -> Tensor:
        return self._found

    def step(self, loss: Tensor, closure: Any = None) -> bool:
        self._optimizer.step()
        return True


def outcomes(step: TrainingStep) -> Iterator[Outcome]:
    x, targets = (
        torch.randn(N_ROWS, N_FEATURES, device=META),
        torch.zeros(N_ROWS, dtype=torch.int64, device=META),
    )
    for batch in TensorBatches(x, targets, torch.arange(N_ROWS, device=META), META, batch_size=BATCH):
        yield step(batch)


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("module", "criterion"), [(MLP, nn.CrossEntropyLoss), (MLP, FocalLoss), (Scaled, nn.CrossEntropyLoss)]
)
@pytest.mark.parametrize("weighted_rows", [False, True])
def test_a_step_stays_on_the_device_of_its_rows(
    weighting: str, n_classes: int, module: type[nn.Module], criterion: type[nn.Module], weighted_rows: bool
) -> None:
    net = module(N_FEATURES, n_classes, (8,)).to(META)
    optimizer = torch.optim.Adam(net.parameters(), foreach=True)
    loss = ExampleLoss(criterion(reduction="none"), torch.ones(n_classes, device=META))
    plain = ExampleLoss(criterion(reduction="none"))
    x_val, val_targets = (
        torch.randn(6, N_FEATURES, device=META),
        torch.zeros(6, dtype=torch.int64, device=META),
    )
    method = get_weighting(weighting)
    method.start(NewState(N_ROWS, torch.ones(n_classes)))
    method.load_state_dict({name: state.to(META) for name, state in method.state_dict().items()})
    model = Model(net)
    evaluation = model.evaluation()
    step = TrainingStep(
        model,
        optimizer,
        method,
        loss,
        Unguarded(model, optimizer, "raise"),
        # The first batch's comparison of fast and slow products reads figures, once a fit.
        ProductsFinder(model, trusting=True),
        ProductsFinder(evaluation, trusting=True),
        validation=ValidationLoss(evaluation, plain, x_val, val_targets, lp_norm=4, lp_coef=0.1),
        multiplicity=torch.ones(N_ROWS, device=META) if weighted_rows else None,
        penalised=weighting == "two-phase",
        network_is_fixed=method.trains_correction,
    )
    n_steps = 0
    with OneDevice():
        for total, weights, outputs, _ in outcomes(step):
            assert total.device == weights.device == outputs.device == META
            n_steps += 1
    assert n_steps == 3
    assert all(state.device == META for state in method.state_dict().values())
    assert all(p.device == META for p in net.parameters())


def test_the_stand_in_notices_a_tensor_of_the_cpu_and_a_read() -> None:
    with OneDevice(), pytest.raises(RuntimeError, match="two devices"):
        torch.mm(torch.ones(2, 2, device=META), torch.ones(2, 2))
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones((), device=META).item()
