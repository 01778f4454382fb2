"""Which parameters a stage trains, and ``requires_grad`` of the others while it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from skreweight._training.stage import Stage
from skreweight._training.state import TrainingState
from skreweight.core.model import Model
from skreweight.core.output_layer import OutputLayer

#: What stands for the layer that makes the logits among patterns of parameter names.
CLASSIFIER = "classifier"


def needs_classifier(stage: Stage) -> bool:
    """Whether a stage must know which layer makes the logits."""
    return stage.resets_classifier or stage.weighting.needs_classifier or CLASSIFIER in (stage.trains or ())


def chosen(patterns: Sequence[str], names: Sequence[str], classifier: Callable[[], OutputLayer]) -> list[str]:
    """Return the parameters that glob patterns name.

    Parameters
    ----------
    patterns : sequence of str
    names : sequence of str
        Of all parameters.
    classifier : callable () -> OutputLayer
        Asked where ``"classifier"`` is one of the patterns.

    Raises
    ------
    ValueError
        For a pattern that names none.
    """
    taken: set[str] = set()
    for pattern in patterns:
        if pattern == CLASSIFIER:
            layer = classifier()
            found = {n for n in names if layer.owns(n)}
        else:
            found = {n for n in names if fnmatchcase(n, pattern)}
        if not found:
            raise ValueError(
                f"stage_two_trainable names {pattern!r}, which is no parameter of the module (there are: "
                f"{', '.join(names)})."
            )
        taken |= found
    return [n for n in names if n in taken]


def freeze(model: Model, names: Sequence[str], state: TrainingState) -> Model:
    """Return the model with these parameters trained and, of one network, the others frozen.

    Raises
    ------
    ValueError
        Where nothing is left to train.
    """
    _unfreeze(model, state)
    if model.shape:
        left = [n for n in model.names if n in names]
    else:
        own = dict(model.module.named_parameters())
        left = [n for n, p in own.items() if n in names and p.requires_grad]
    if not left:
        raise ValueError(
            f"Stage 2 would train nothing: of {', '.join(names)} no parameter requires gradients. Leave them "
            "unfrozen, or let stage_two_trainable name others."
        )
    if not model.shape:
        for name, parameter in own.items():
            if parameter.requires_grad and name not in left:
                parameter.requires_grad_(False)
                state.frozen.add(name)
    return model.training_only(left)


def thaw(model: Model, state: TrainingState) -> None:
    """Give back what `freeze` took away, the modes of normalisation layers included."""
    if state.frozen:
        _unfreeze(model, state)
        if model.module.training:
            model.module.train()


def _unfreeze(model: Model, state: TrainingState) -> None:
    for name, parameter in model.module.named_parameters():
        if name in state.frozen:
            parameter.requires_grad_(True)
    state.frozen.clear()
