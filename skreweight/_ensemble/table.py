"""The recipe's members, trained as one pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from torch import Tensor, nn

from skreweight._classifier import ReweightedClassifier
from skreweight._ensemble import recipe
from skreweight._ensemble.folds import Split
from skreweight._ensemble.kinds import Kind, balanced_weights, judging_weights, stacked_weights
from skreweight._ensemble.probabilities import FloatArray
from skreweight._ensemble.progress import MembersProgress
from skreweight._ensemble.rows import Table
from skreweight._ensemble.spread import cut, spread
from skreweight._net.checkpoint import CheckpointFile
from skreweight._net.predict import class_codes
from skreweight._pack import optimizer as optimizers
from skreweight._pack.resuming import go_on_from, state_of
from skreweight._pack.rows import judged_rows
from skreweight._rows.check import Columns
from skreweight._rows.place import Judged, Rows
from skreweight._rows.prepare import Learned
from skreweight._rows.streams import Streams
from skreweight._training.guard import NonFiniteError
from skreweight._training.members_guard import MembersGuard
from skreweight._training.run import Run
from skreweight._training.schedule import Schedule
from skreweight._training.stage import Plan, Stage
from skreweight._training.state import TrainingState
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.random_state import SixteenBitDraws
from skreweight.weighting import NoWeighting


def train(
    table: Table,
    splits: Sequence[Split],
    labels: NDArray[Any],
    *,
    n_steps: int | None,
    device: Any,
    random_state: np.random.RandomState,
    progress: MembersProgress,
    checkpoint: CheckpointFile | None = None,
    n_jobs: int | None = None,
    max_pack_size: int | None = None,
) -> list[Kind]:
    """Train members of both kinds on every split, all of them at once in each process.

    Parameters
    ----------
    table : Table
    splits : sequence of Split
    labels : ndarray of shape (C,)
    n_steps : int or None
        Steps of the optimiser; None: by the number of rows.
    device : str or torch.device
    random_state : RandomState
    progress : MembersProgress
    checkpoint : CheckpointFile or None, default=None
    n_jobs : int or None, default=None
    max_pack_size : int or None, default=None
        The most members that are trained at once; None: all, or all of a process's part of them.

    Raises
    ------
    NonFiniteError
        Where a member's loss is not finite.
    KeyboardInterrupt
        Before the members were judged for the first time; later on what is trained by then is kept, but not of several
        packs.
    """
    n_rows = max(len(split.train) for split in splits)
    n_steps = recipe.n_steps_for(n_rows) if n_steps is None else n_steps
    n_looks = min(recipe.N_LOOKS, n_steps)
    n_batches = -(-n_steps // n_looks)
    n_rarest = np.bincount(table.codes, table.weights > 0, minlength=len(labels)).min()
    both = [(name, split) for name in recipe.KINDS for split in splits]
    seeds = random_state.randint(np.iinfo(np.int32).max, size=len(both)).tolist()
    pack = Pack(
        labels,
        n_rarest,
        device,
        -(-n_steps // n_batches),
        n_batches,
        recipe.batch_size_for(n_rows),
    )
    parts = cut(len(both), n_jobs, max_pack_size)
    if len(parts) == 1:
        return _trained(table, both, seeds, pack, progress, checkpoint)
    if effective_n_jobs(n_jobs) == 1:
        return _joined(_whole(table, both[part], seeds[part], pack, progress, checkpoint) for part in parts)
    common = (table.x, replace(table, x=None), pack)
    jobs = [(both[part], seeds[part]) for part in parts]
    what = f"{len(both)} networks"
    return _joined(spread(_trained_elsewhere, common, jobs, n_jobs=n_jobs, what=what, progress=progress))


@dataclass(frozen=True)
class Pack:
    """What all members agree in, however many of them are trained at once.

    Attributes
    ----------
    labels : ndarray of shape (C,)
    n_rarest : float
    device : str or torch.device
    n_looks, n_batches : int
        Epochs, and batches in each.
    batch_size : int
    """

    labels: NDArray[Any]
    n_rarest: float
    device: Any
    n_looks: int
    n_batches: int
    batch_size: int


def _trained_elsewhere(
    x: Any, rest: Table, pack: Pack, both: Sequence[tuple[str, Split]], seeds: Sequence[int]
) -> list[Kind]:
    """Train some members in another process."""
    return _whole(replace(rest, x=x), both, seeds, pack, MembersProgress(0), None)


def _whole(
    table: Table,
    both: Sequence[tuple[str, Split]],
    seeds: Sequence[int],
    pack: Pack,
    progress: MembersProgress,
    checkpoint: CheckpointFile | None,
) -> list[Kind]:
    """Train one of several packs to its end: without the others it is of no use."""
    kinds = _trained(table, both, seeds, pack, progress, checkpoint)
    if progress.was_interrupted:
        raise KeyboardInterrupt
    return kinds


def _joined(parts: Iterable[list[Kind]]) -> list[Kind]:
    """Put the members of each kind together."""
    joined = []
    for of_name in zip(*parts, strict=True):
        first = of_name[0]
        nets = [net for kind in of_name for net in kind.estimators]
        splits = [split for kind in of_name for split in kind.splits]
        joined.append(Kind(first.name, nets, splits, stacked_weights(of_name), first.prior))
    return joined


def _trained(
    table: Table,
    both: Sequence[tuple[str, Split]],
    seeds: Sequence[int],
    pack: Pack,
    progress: MembersProgress,
    checkpoint: CheckpointFile | None,
) -> list[Kind]:
    """Train members at once."""
    nets = [recipe.network(pack.n_rarest, seed, pack.device, pack.n_looks) for seed in seeds]
    for net, (_, split) in zip(nets, both, strict=True):
        _begin(net, table, pack.labels, split)
    model = Model(*[net.module_ for net in nets], stacked=True)
    model.draws = SixteenBitDraws()  # torch's masks would take a third of a step
    optimizer = optimizers.packed(nets[0].optimizer_, nets[0].module_, model)
    weights = _row_weights(table, both)
    streams = Streams(
        [_pools(table, name, split) for name, split in both],
        pack.batch_size,
        pack.n_batches,
        seeds,
    )
    stage = Stage(
        1,
        nets[0].warmup_epochs,
        NoWeighting(),
        ExampleLoss([net.criterion_ for net in nets]),
        keep_best="epoch",
        learning_rate=Schedule(optimizer, recipe.coslog4),
    )
    plan = Plan(
        model,
        optimizer,
        [stage],
        ExampleLoss(nn.CrossEntropyLoss(reduction="none")),
        codes_of=class_codes,
        labels=pack.labels,
        batches={"batch_sampler": streams},
        trusts_products=True,
    )
    state = TrainingState(seeds[0], members=seeds)
    progress.watch(nets, stage.n_epochs)
    part = None if checkpoint is None else checkpoint.next_run()
    sharing = [[net] for net in nets]
    if part is not None and part.saved is not None:
        go_on_from(part.saved, model, optimizer, state, sharing)
        streams.load_state_dict(part.saved["streams"])
    rows = _rows(table, both, weights, torch.device(nets[0].device))
    run = Run(lambda: plan, rows, state, progress)
    if part is not None:

        def saved() -> dict[str, Any]:
            own = state_of(model, optimizer, state, run.guard, sharing)
            return {**own, "streams": streams.state_dict()}

        progress.save = lambda last: part.after_epoch(saved, last=last)
    _run(run, nets[0], stage.n_epochs, None if part is None else part.saved)
    if not state.best.tensors:
        raise KeyboardInterrupt
    shown = weights if weights is not None else np.ones((len(both), len(table.codes)))
    return _given_back(both, nets, model, state, _example_weights(table, both, shown))


def _begin(net: ReweightedClassifier, table: Table, labels: NDArray[Any], split: Split) -> None:
    """Do what a fit of the member on its own does before it trains."""
    counts = np.bincount(
        table.codes[split.train], table.weights[split.train], minlength=table.n_classes
    ).astype(np.float64)
    net._check_parameters()
    net.progress_ = net._new_state()
    net._learn(Learned(labels, Columns(table.x.shape[1]), counts, split.held))
    net._initialize_components()


def _pools(table: Table, name: str, split: Split) -> list[Tensor]:
    """The training rows as one pool, or class by class."""
    if name == "natural":
        return [torch.from_numpy(split.train)]
    codes = table.codes[split.train]
    return [torch.from_numpy(split.train[codes == code]) for code in np.unique(codes)]


def _row_weights(table: Table, both: Sequence[tuple[str, Split]]) -> FloatArray | None:
    """What each row's loss is multiplied with, of mean 1 over the pool it is drawn from; None where that is 1."""
    if (table.weights == table.weights[0]).all():
        return None
    scaled = np.zeros((len(both), len(table.codes)))
    for of_member, (name, split) in zip(scaled, both, strict=True):
        own, codes = table.weights[split.train], table.codes[split.train]
        if name == "natural":
            of_member[split.train] = own / own.mean()
        else:
            mean = np.bincount(codes, own) / np.maximum(np.bincount(codes), 1)
            of_member[split.train] = own / mean[codes]
    return scaled


def _rows(
    table: Table, both: Sequence[tuple[str, Split]], weights: FloatArray | None, device: torch.device
) -> Rows:
    x, codes = torch.from_numpy(table.x).to(device), torch.from_numpy(table.codes).to(device)
    counts = [np.bincount(table.codes[s.train], minlength=table.n_classes) for _, s in both]
    return Rows(
        x=x,
        targets=codes,
        train=None,
        validation=None,
        multiplicity=None if weights is None else torch.from_numpy(weights).float().to(device),
        class_counts=torch.from_numpy(np.stack(counts)).float().to(device),
        n_given=len(codes),
        device=device,
        dtype=torch.float32,
        judged=_judged(table, both, x, codes),
    )


def _judged(table: Table, both: Sequence[tuple[str, Split]], x: Tensor, codes: Tensor) -> Judged:
    """The rows that stop each member: its own held-out ones, or validation rows that are the same for all."""
    if table.validation is not None:
        x_val, val_codes = table.validation
        shares = np.bincount(table.codes, table.weights, minlength=table.n_classes)
        counts = np.bincount(val_codes, minlength=table.n_classes)
        factors = {"natural": shares / np.maximum(counts, 1), "balanced": 1 / np.maximum(counts, 1)}
        judging = np.stack([factors[name][val_codes] for name, _ in both])
        own_x = torch.from_numpy(x_val).to(x.device).expand(len(both), *x_val.shape)
        own_codes = torch.from_numpy(val_codes).to(x.device).expand(len(both), -1)
        return Judged(own_x, own_codes, torch.from_numpy(judging).float().to(x.device))
    own = [
        (held, judging_weights(table.codes[held], table.weights[held], balanced=name == "balanced"))
        for name, held in ((name, split.held) for name, split in both)
    ]
    judged = judged_rows(own, x, codes)
    assert judged is not None
    return judged


def _run(run: Run, net: ReweightedClassifier, n_epochs: int, saved: Mapping[str, Any] | None = None) -> None:
    """Train all members; one that diverges is one too many."""
    guard = run.guard
    assert isinstance(guard, MembersGuard)
    if saved is not None:
        guard.load_state_dict(saved["guard"])
    with suppress(NonFiniteError):  # every member has failed
        run.train(n_epochs - run.state.epochs_done)
    for epoch, batch in guard.failed.tolist():
        if batch:
            error = NonFiniteError(batch)
            error.explain(epoch, 0.0, net.lr)
            raise error


def _example_weights(table: Table, both: Sequence[tuple[str, Split]], scaled: FloatArray) -> FloatArray:
    """What a row weighs with each member, how often it is drawn included; 1: as in the plain mean."""
    weights = np.full(scaled.shape, np.nan)
    for of_member, own, (name, split) in zip(weights, scaled, both, strict=True):
        drawn = np.ones(len(split.train))
        if name == "balanced":
            drawn = balanced_weights(table.codes[split.train], drawn)
        of_member[split.train] = own[split.train] * drawn
    return weights


def _given_back(
    both: Sequence[tuple[str, Split]],
    nets: Sequence[ReweightedClassifier],
    model: Model,
    state: TrainingState,
    weights: FloatArray,
) -> list[Kind]:
    for k, net in enumerate(nets):
        model.member(k)
        net.module_.double().eval()  # a row's probabilities do not depend on the rows beside it but by rounding
        net.example_weights_ = weights[k]
        net.progress_.epochs_done = state.epochs_done
    kinds = []
    for name in recipe.KINDS:
        mine = [k for k, (own, _) in enumerate(both) if own == name]
        prior = cast(Literal["natural", "balanced"], name)
        kinds.append(Kind(name, [nets[k] for k in mine], [both[k][1] for k in mine], weights[mine], prior))
    return kinds
