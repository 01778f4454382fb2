"""Pickles and files of parameters, from which training goes on."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from skorch.history import History

from skreweight._net.components import Components
from skreweight._resume import ResumeState, learn


class Persistence(Components):
    """Pickling, and `load_params` with the state of the weighting."""

    cuda_dependent_attributes_: ClassVar[list[str]] = ["weighting_", "progress_"]

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
            State of the weighting, of both stages, and what was learned of X and y. With ``f_params`` and
            ``f_optimizer`` it is all that `partial_fit` needs to go on exactly where training stood.
        **kwargs
            ``f_<name>`` of further components of a subclass.
        """
        if f_weighting is not None:
            kwargs["f_weighting"] = f_weighting
        if not self.initialized_:
            self._initialize_from(checkpoint, f_weighting)
        requested = self.__dict__["device"]
        super().load_params(
            f_params, f_optimizer, f_criterion, f_history, checkpoint, use_safetensors, **kwargs
        )
        if requested == "auto":
            self.device = "auto"

    def _initialize_from(self, checkpoint: Any, file: Any) -> None:
        """Initialise with the sizes that a file of ``f_weighting`` names."""
        if file is None and getattr(checkpoint, "f_weighting", None) is not None:
            in_history = checkpoint.f_history is not None
            self.history_ = History.from_file(checkpoint.f_history_) if in_history else History()
            file = checkpoint.get_formatted_files(self)["f_weighting"]
        if file is None:
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
        if hasattr(file, "seek"):
            file.seek(0)
        learn(self, state)
        self.initialize()

    def _get_module(self, name: str, msg: str) -> Any:
        if name == "weighting_" and self.initialized_:
            return ResumeState(self)
        return super()._get_module(name, msg)

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
