"""Recorded runs of methods that are none of the registry, replayed by weightings as a user would write them.

Why they are none: hard mining for two classes and self-paced learning are simpler or worse than ``"top-loss"``; classes
within annotators need a column that no estimator has; groups that are drawn are batches of a sampler; constrained
instance weighting is for label noise, and its case α = 1 is ``"absgd"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skreweight import ReweightedClassifier
from skreweight.weighting import NewState, Step, Weighting, hyperparameters, number
from tests.golden import EpochBatches, Weights, assert_parameters, load, replay
from tests.test_golden_more import PLAIN_SGD, OneLogit, Theta, assert_weights


class HardMining(Weighting):
    """All rows of classes 1 and 2, as many of the largest losses of class 0, all with the same weight (Ren et al.)."""

    def weigh(self, step: Step) -> Tensor:
        rare = step.targets > 0
        order = torch.where(rare, -torch.inf, step.losses).argsort(descending=True, stable=True)
        kept = rare.clone()
        kept[order[: int(min(rare.sum(), (~rare).sum()))]] = True
        return kept.to(step.losses) / kept.sum()


@hyperparameters
class SelfPaced(Weighting):
    """Rows whose loss is below an age that grows from epoch to epoch: all alike, or less the nearer they are to it."""

    linear: float = number(0.0)

    def start(self, new: NewState) -> None:
        self.state_ = {"n_steps": torch.zeros(1)}

    def weigh(self, step: Step) -> Tensor:
        age = 1.5 ** int(self.state_["n_steps"].item() // 3)  # three steps an epoch
        self.state_["n_steps"] += 1
        kept = (1 - step.losses / age).clamp(min=0) if self.linear else (step.losses < age).to(step.losses)
        return kept / step.size


@hyperparameters
class ConstrainedInstances(Weighting):
    """max((1 − α) f + λ, 0)^(1/(α − 1)), normalised over the batch (Kumar and Amid)."""

    alpha: float = number(2.0)
    lam: float = number(1.0)

    def weigh(self, step: Step) -> Tensor:
        w = ((1 - self.alpha) * step.losses + self.lam).clamp(min=0) ** (1 / (self.alpha - 1))
        return w / step.sum(w)


WRITTEN: dict[tuple[str, str], Weighting] = {
    ("ohem", "hard_mining_ren"): HardMining(),
    ("ohem", "spl_hard"): SelfPaced(),
    ("ohem", "spl_linear"): SelfPaced(linear=1.0),
    ("eg", "ciw_alpha2"): ConstrainedInstances(alpha=2.0, lam=3.0),
    ("eg", "ciw_alpha05"): ConstrainedInstances(alpha=0.5, lam=1.0),
}


@pytest.mark.parametrize(("file", "name"), WRITTEN)
def test_derived_runs(file: str, name: str) -> None:
    golden = load(file)
    recorded = golden.run(name)
    recorder, used = replay(golden, **PLAIN_SGD, weighting=WRITTEN[file, name])
    assert_weights(used, recorded["weights"])
    assert_parameters(recorder, recorded)


class ClassesInAnnotators(Weighting):
    """The tilt of the annotators' losses, each the tilt of the losses of its classes (Li et al., mixed_level2.py)."""

    t_class, t_annotator = 5.0, -2.0
    annotator = torch.from_numpy(load("term").arrays["lin/annotator"])

    def weigh(self, step: Step) -> Tensor:
        groups = self.annotator[step.rows]
        of_class, of_annotator = torch.zeros_like(step.losses), torch.zeros_like(step.losses)
        for a in groups.unique():
            mine = groups == a
            for c in step.targets[mine].unique():
                both = mine & (step.targets == c)
                of_class[both] = step.losses[both].mean()
            of_annotator[mine] = (self.t_class * of_class[mine]).exp().mean().log() / self.t_class
        risk = (self.t_annotator * of_annotator).exp().mean().log() / self.t_annotator
        tilt = self.t_annotator * (of_annotator - risk) + self.t_class * (of_class - of_annotator)
        return tilt.exp() / step.size


def test_classes_in_annotators() -> None:
    """The authors' full-batch program; its gradients have no weights, those recorded were derived from them."""
    golden = load("term")
    meta, recorded = golden.meta["class_in_annotator"], golden.run("class_in_annotator")
    assert (meta["t_class"], meta["t_annotator"]) == (5.0, -2.0)
    theta, weights = Theta(), Weights()
    ReweightedClassifier(
        OneLogit(),
        weighting=ClassesInAnnotators(),
        optimizer=torch.optim.SGD,
        lr=meta["lr"],
        batch_size=-1,
        iterator_train__shuffle=False,
        warmup_epochs=0,
        max_epochs=12,
        keep_best=False,
        callbacks=[theta, weights],
    ).fit(golden.arrays["lin/X"], golden.arrays["lin/y"].astype(int))
    np.testing.assert_allclose(theta.found, recorded["theta"], rtol=1e-10, atol=1e-14)
    assert_weights(weights.used, recorded["derived_weights"])


class DrawnGroups(Weighting):
    """The plain mean over a group, and the groups' averages e^{tL_g} by which the next one is drawn."""

    t, share = -2.0, 0.2

    def __init__(self, groups: Any = None) -> None:
        self.groups = groups

    def start(self, new: NewState) -> None:
        self.state_ = {
            "weights": new.per_row(1.0),
            "estimates": torch.full((100,), 0.01, dtype=torch.float64),
        }
        self.left = list(self.groups)

    def weigh(self, step: Step) -> Tensor:
        estimates, g = self.state_["estimates"], self.left.pop(0)
        loss = (step.uniform() * step.losses).sum()
        estimates[g] = (1 - self.share) * estimates[g] + self.share * (self.t * loss).exp()
        return step.uniform()


def test_groups_that_are_drawn() -> None:
    """The authors' noisy_annotator program: their draws, and the chances of the next one."""
    golden = load("term")
    meta, recorded = golden.meta["sampled_groups"], golden.run("sampled_groups")
    batches = EpochBatches(golden)
    batches.batches = recorded["rows_of_group"][recorded["group"]].reshape(4, 3, 4)
    recorder, _ = replay(
        golden,
        **{**PLAIN_SGD, "lr": meta["lr"]},
        weighting=DrawnGroups(groups=tuple(recorded["group"])),
        batches=batches,
    )
    assert_parameters(recorder, recorded)
    estimates = np.array([state["estimates"] for state in recorder.states])
    np.testing.assert_allclose(estimates, recorded["estimates"], rtol=1e-10)
    chances = estimates / estimates.sum(1, keepdims=True)
    np.testing.assert_allclose(chances, recorded["group_probability"], rtol=1e-10)
