"""What of a net is put into files and pickles, and what stays when something fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from skreweight._net import files
from skreweight._net.predicting import PredictingNet
from skreweight._net.schedules import schedules_of, settings_of


class StoringNet(PredictingNet):
    """The half of a net that is kept: files, pickles, the state before an error."""

    _params_to_validate: set[str]
    # What loaded files say of their epochs.
    _stamps_read: ClassVar[list[Any]] = []
    # Whether predictions are class codes: callbacks score while labels are codes.
    _answers_in_codes = False

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Context that leaves the attributes, and what changes in place under them, as they were if it fails."""
        optimizer = self.__dict__.get("optimizer_")
        settings = [] if optimizer is None else settings_of(optimizer)
        states = [(part, dict(vars(part))) for part in (self, *self._changed_in_place())]
        names = set(self._params_to_validate)
        try:
            yield
        except BaseException:
            for part, state in states:
                part.__dict__.clear()
                part.__dict__.update(state)
            self._params_to_validate = names
            if optimizer is not None:
                for group, old in zip(optimizer.param_groups, settings, strict=True):
                    group.update(old)
            raise

    def _changed_in_place(self) -> list[Any]:
        """What setting a parameter may change without replacing it."""
        return [callback for _, callback in self.__dict__.get("callbacks_", []) if callback is not None]

    def load_params(
        self,
        f_params: Any = None,
        f_optimizer: Any = None,
        f_criterion: Any = None,
        f_history: Any = None,
        checkpoint: Any = None,
        use_safetensors: bool = False,
        *,
        f_weighting: Any = None,
        **kwargs: Any,
    ) -> None:
        """Load what `save_params` (or a ``Checkpoint``) stored; no code in the files is run.

        An estimator that is not initialised yet is, where ``f_weighting`` says how many columns and classes
        there are.

        Parameters
        ----------
        f_params, f_optimizer, f_criterion, f_history : path, file or None, default=None
            As in skorch.
        checkpoint : skorch.callbacks.Checkpoint or None, default=None
            Load what this callback saved.
        use_safetensors : bool, default=False
        f_weighting : path, file or None, default=None
            State of the weighting, of both stages, and what was learned of X and y, which must be what a fitted
            estimator has learned itself. With ``f_params`` and
            ``f_optimizer`` it is all that `partial_fit` needs to go on exactly where training stood.
        **kwargs
            ``f_<name>`` of further components of a subclass.
        """
        if f_weighting is not None:
            kwargs["f_weighting"] = f_weighting
        requested = self.__dict__["device"]
        files.check_names(self, "load", f_params=f_params, **kwargs)
        given = {"f_params": f_params, "f_optimizer": f_optimizer, "f_criterion": f_criterion}
        given |= {"f_history": f_history, "checkpoint": checkpoint, **kwargs}
        with files.reading(**given), self._unchanged_on_error(), files.tensors_unchanged_on_error(self):
            files.prepare_for(self, checkpoint, f_weighting)
            read: list[Any] = []
            self.__dict__["_stamps_read"] = read
            super().load_params(
                f_params, f_optimizer, f_criterion, f_history, checkpoint, use_safetensors, **kwargs
            )
            with_history = checkpoint is not None and checkpoint.f_history is not None and f_history is None
            files.check_of_one_epoch(read, len(self.history) if with_history else None)
            del self.__dict__["_stamps_read"]
        if requested == "auto":
            self.device = "auto"

    def save_params(
        self,
        f_params: Any = None,
        f_optimizer: Any = None,
        f_criterion: Any = None,
        f_history: Any = None,
        use_safetensors: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save parts of the estimator, each to a file of its own that is written whole or not at all.

        Parameters
        ----------
        f_params, f_optimizer, f_criterion, f_history : path, file or None, default=None
            As in skorch.
        use_safetensors : bool, default=False
        **kwargs
            ``f_weighting`` (see `load_params`), and ``f_<name>`` of further components of a subclass.
        """
        files.check_names(self, "save", f_params=f_params, **kwargs)
        targets = {"f_params": f_params, "f_optimizer": f_optimizer, "f_criterion": f_criterion}
        targets |= {**kwargs, "f_history": f_history}
        files.save_whole(super().save_params, targets, use_safetensors=use_safetensors)

    def _get_module(self, name: str, msg: str) -> Any:
        if not self.initialized_:
            return super()._get_module(name, msg)
        if name == "weighting_":
            progress = self.progress_
            part: Any = files.ResumeFile(
                self.__dict__,
                lambda: progress.state_dict(schedules_of(self.callbacks_)),
                lambda state: progress.load_state_dict(state, self.device),
                in_training=self._answers_in_codes,
            )
        else:
            part = super()._get_module(name, msg)
        return files.Stamped(part, [self.progress_.seed, len(self.history)], self._stamps_read)

    def trim_for_prediction(self) -> None:
        """Drop what prediction does not need: optimiser, history, callbacks, validation rows, what training stored.

        The parameters stay, so that ``sklearn.base.clone`` makes an estimator that can be fitted; this one cannot.
        """
        self.check_is_fitted()
        kept = {
            name: self.__dict__[name] for name in ("criterion", "criterion_", "optimizer", "iterator_train")
        }
        if isinstance(callbacks := self.__dict__["callbacks"], list):
            self.__dict__["callbacks"] = list(callbacks)  # skorch empties it, and it is the user's
        super().trim_for_prediction()
        self.__dict__.update(kept)
        if isinstance(self.__dict__.get("validation_data"), tuple | list):
            self.validation_data = None
        for name in ("example_weights_", "validation_indices_"):
            self.__dict__.pop(name, None)
        for parameter in (*self.module_.parameters(), *self.criterion_.parameters()):
            parameter.grad = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling; tensors on a GPU can be loaded without one."""
        state = super().__getstate__()
        state.pop("_answers_in_codes", None)  # a callback may pickle in the middle of training
        state["requested_device"] = state["device"]
        state["device"] = self.device
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled state, on the CPU where the GPU it was trained on is missing."""
        requested = state.pop("requested_device")
        if requested == "auto" and not torch.cuda.is_available():
            state["device"] = "cpu"
        super().__setstate__(state)
        if requested == "auto":
            self.device = "auto"
        if isinstance(optimizer := self.__dict__.get("optimizer_"), torch.optim.LBFGS):
            # torch leaves these out of its pickles.
            vars(optimizer).setdefault("_params", optimizer.param_groups[0]["params"])
            vars(optimizer).setdefault("_numel_cache", None)
