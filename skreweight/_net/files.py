"""What ``save_params(f_weighting=...)`` stores: all that `partial_fit` needs to go on exactly."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, nullcontext
from json import JSONDecodeError
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.exceptions import SkorchException
from skorch.history import History
from skorch.utils import _check_f_arguments
from torch import Tensor, nn

from skreweight._net.checkpoint import replacing
from skreweight._rows.carve import shown

_NO_SUCH_PART = (
    "You are trying to {verb} 'f_{name}' but for that to work, the net needs to have an attribute called 'net.{name}_' "
    "that is a PyTorch Module or Optimizer; make sure that it exists and check for typos."
)
_ARRAYS = ("class_counts", "validation_indices", "example_weights")


class ResumeFile:
    """State of training and what was learned of X and y, as plain values and tensors.

    It holds nothing that ``torch.load(weights_only=True)`` refuses, so that loading runs no code. skorch sees in
    it a component with a state dict.

    Parameters
    ----------
    attributes : mutable mapping
        The net's, for what was learned.
    training : callable () -> dict
        Returns the state of training.
    load_training : callable (dict) -> torch.Tensor or None
        Takes it over, and returns the stored weights that it has.
    in_training : bool
        Whether training is under way: example weights are then still those of an earlier fit.
    """

    def __init__(
        self,
        attributes: MutableMapping[str, Any],
        training: Callable[[], dict[str, Any]],
        load_training: Callable[[Mapping[str, Any]], Tensor | None],
        *,
        in_training: bool,
    ) -> None:
        self._attributes, self._in_training = attributes, in_training
        self._training, self._load_training = training, load_training

    def state_dict(self) -> dict[str, Any]:
        """Return the state for saving."""
        learned = _saved(self._attributes)
        if self._in_training:
            learned["example_weights"] = None
        return {**self._training(), "learned": learned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state; nothing is, where it does not fit."""
        stored = self._load_training(state)
        self._attributes.update(learned(state))
        figures = self._attributes.get("example_weights_")
        if stored is not None and figures is not None and len(stored) >= len(figures):
            current = stored.detach().cpu().double().numpy()[: len(figures)]
            self._attributes["example_weights_"] = np.where(np.isnan(figures), np.nan, current)


def check_names(net: Any, verb: str, **files: Any) -> None:
    """Raise skorch's TypeError or AttributeError for the name of a file that belongs to nothing."""
    kinds, _ = _check_f_arguments(f"{verb}_params", **files)
    for name in kinds if net.initialized_ else ():
        if not hasattr(net, name):
            NeuralNet._get_module(net, name, _NO_SUCH_PART.format(verb=verb, name=name[:-1]))


@contextmanager
def reading(**files: Any) -> Iterator[None]:
    """Context in which what is wrong with a file is a ValueError that names the files; None stands for no file."""
    try:
        yield
    except (SkorchException, ImportError):
        raise
    except Exception as error:
        spoken = isinstance(error, ValueError) and not isinstance(error, JSONDecodeError | UnicodeDecodeError)
        if spoken or (isinstance(error, OSError) and error.filename is not None):  # these say what is wrong
            raise
        named = ", ".join(f"{name}={file!r}" for name, file in files.items() if file is not None)
        reason = " ".join(str(error).split())[:300]
        if isinstance(error, UnpicklingError):  # torch's advice is to run the code
            reason = "it holds more than tensors and plain values, and no code is run"
        raise ValueError(
            "A file cannot be loaded: it is truncated, empty, or not what save_params wrote for such an estimator, got "
            f"{named} ({type(error).__name__}{': ' if reason else ''}{reason})."
        ) from error


def prepare_for(net: Any, checkpoint: Any, file: Any) -> None:
    """Initialise a net with the sizes that a file of ``f_weighting`` names, or check them against its own.

    Parameters
    ----------
    net : ReweightedClassifier
    checkpoint : skorch.callbacks.Checkpoint or None
        Names the file where `file` is None.
    file : path, file or None

    Raises
    ------
    ValueError
        Where the net is initialised and was fitted on other columns or classes.
    """
    if file is None and getattr(checkpoint, "f_weighting", None) is not None:
        in_history = checkpoint.f_history is not None
        net.history_ = History.from_file(checkpoint.f_history_) if in_history else History()
        file = checkpoint.get_formatted_files(net)["f_weighting"]
    if file is None:
        return
    state = torch.load(file, map_location="cpu", weights_only=True)
    if hasattr(file, "seek"):
        file.seek(0)
    found = learned(state)
    if net.initialized_:
        check_same_data(found, net.__dict__)
        return
    net.__dict__.update(found)
    net.initialize()


def learned(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that the saved estimator had learned of X and y: classes, columns, weights."""
    saved = state["learned"]
    found: dict[str, Any] = {f"{n}_": saved[n].cpu().numpy() for n in _ARRAYS if saved[n] is not None}
    if saved["classes"] is not None:
        found["classes_inferred_"] = np.asarray(saved["classes"], dtype=saved["classes_dtype"])
    if saved["n_features_in"] is not None:
        found["n_features_in_"] = saved["n_features_in"]
    if saved["feature_names_in"] is not None:
        found["feature_names_in_"] = np.asarray(saved["feature_names_in"], dtype=object)
    return found


def check_same_data(learned: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise a ValueError where a file tells of other columns or classes than an estimator's own.

    Parameters
    ----------
    learned : mapping
        As `learned` returned it.
    own : mapping
        The estimator's attributes; what it has not learned may be anything.
    """
    for name, what in (
        ("n_features_in_", "columns"),
        ("feature_names_in_", "columns"),
        ("classes_inferred_", "classes"),
    ):
        there, here = learned.get(name), own.get(name)
        if there is not None and here is not None and not np.array_equal(there, here):
            raise ValueError(
                f"f_weighting tells of other {what} than the estimator was fitted on: {shown(there)} instead of "
                f"{shown(here)}. Load it into a new estimator (sklearn.base.clone)."
            )


def _saved(attributes: Mapping[str, Any]) -> dict[str, Any]:
    classes, columns = attributes.get("classes_inferred_"), attributes.get("feature_names_in_")
    arrays = {name: attributes.get(f"{name}_") for name in _ARRAYS}
    return {
        "classes": None if classes is None else _plain_list(classes),
        "classes_dtype": None if classes is None else classes.dtype.str,
        "n_features_in": attributes.get("n_features_in_"),
        "feature_names_in": None if columns is None else _plain_list(columns),
        **{name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()},
    }


def _plain_list(array: NDArray[Any]) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in array.tolist()]


#: Under this name files say what training, and which epoch of it, they are of.
STAMP = "skreweight_epoch"


class Stamped:
    """A module or optimiser whose saved state says of which epoch it is.

    Parameters
    ----------
    part : object with ``state_dict`` and ``load_state_dict``
    stamp : list of int
        The training's seed and how many epochs its history has.
    read : list
        Where the stamps of loaded states are put.
    """

    def __init__(self, part: Any, stamp: list[int], read: list[Any]) -> None:
        self._part, self._stamp, self._read = part, stamp, read

    def state_dict(self) -> Any:
        """Return the state; the stamp lies where loading it elsewhere does not look."""
        state = self._part.state_dict()
        if hasattr(state, "_metadata"):
            state._metadata[STAMP] = {"stamp": self._stamp}
        else:
            state[STAMP] = self._stamp
        return state

    def load_state_dict(self, state: Any) -> None:
        """Take over a saved state, and remember its stamp."""
        of_module = hasattr(state, "_metadata")
        self._read.append(
            state._metadata.pop(STAMP, {}).get("stamp") if of_module else state.pop(STAMP, None)
        )
        self._part.load_state_dict(state)


def check_of_one_epoch(stamps: list[Any], n_epochs: int | None) -> None:
    """Raise a ValueError where files that were loaded together are of different epochs.

    Parameters
    ----------
    stamps : list of (seed, number of epochs) or None
        None of a file that has no stamp, as those of version 0.1.0.
    n_epochs : int or None
        Epochs of the history that was loaded with them, if one was.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    epochs = {int(stamp[1]) for stamp in known}
    if known and n_epochs is not None:
        epochs.add(n_epochs)
    if len(epochs) > 1 or len({int(stamp[0]) for stamp in known}) > 1:
        found = " and ".join(map(str, sorted(epochs))) if len(epochs) > 1 else "one number, of different fits"
        raise ValueError(
            f"The files are not of one moment (epochs: {found}): saving was cut short in between. Train anew, or with "
            "checkpoint=, which is one file."
        )


@contextmanager
def tensors_unchanged_on_error(net: Any) -> Iterator[None]:
    """Context that leaves modules and optimisers as they were if it fails."""
    own = vars(net)
    modules = [own[f"{n}_"] for n in getattr(net, "_modules", ()) if isinstance(own.get(f"{n}_"), nn.Module)]
    optimizers = [own[f"{n}_"] for n in getattr(net, "_optimizers", ()) if f"{n}_" in own]
    tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    saved = [t.detach().clone() for t in tensors]
    states = [copy.deepcopy(o.state_dict()) for o in optimizers]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, old in zip(tensors, saved, strict=True):
                tensor.copy_(old)
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        raise


def save_whole(save: Callable[..., None], targets: Mapping[str, Any], *, use_safetensors: bool) -> None:
    """Save each target; a file under a path is written whole, or what is there stays.

    Parameters
    ----------
    save : callable
        skorch's ``save_params``.
    targets : mapping of ``f_<name>`` to path, file or None
    use_safetensors : bool

    Warns
    -----
    UserWarning
        Where a file cannot be written, before the error is raised: skorch's ``Checkpoint`` keeps that to itself.
    """
    for name, target in targets.items():
        if target is None:
            continue
        if not isinstance(target, str | os.PathLike):
            save(**{name: target}, use_safetensors=use_safetensors)
            continue
        try:
            with (
                replacing(Path(target)) as temporary,
                # Text goes by its path; with a path torch 2.6 says nothing of a full disk.
                nullcontext(str(temporary)) if name == "f_history" else open(temporary, "wb") as file,
            ):
                save(**{name: file}, use_safetensors=use_safetensors)
        except (OSError, RuntimeError) as error:  # torch's of a full disk is a RuntimeError
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"{name}={str(target)!r} was not saved, what was there is left as it was: {reason}.",
                stacklevel=4,
            )
            raise
