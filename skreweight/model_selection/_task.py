"""One fit of a search: a candidate on a fold, as scikit-learn asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from joblib.logger import short_format_time
from sklearn.base import clone
from sklearn.model_selection._validation import _fit_and_score
from sklearn.pipeline import Pipeline

from skreweight._classifier import ReweightedClassifier
from skreweight._pack.failures import FAILURES
from skreweight._pack.suited import key_of, why_alone
from skreweight.model_selection._backend import Call


@dataclass(frozen=True, eq=False)
class Task:
    """A call of ``_fit_and_score``.

    Attributes
    ----------
    call : Call
        Its positional arguments are the estimator, X and y.
    """

    call: Call

    @property
    def settings(self) -> dict[str, Any]:
        """What the call says besides estimator and data."""
        return self.call[2]

    @property
    def rows(self) -> tuple[Any, ...]:
        """X and y."""
        return self.call[1][1:]

    def without(self, rows: tuple[Any, ...]) -> Task:
        """Return the task without its rows, where they are these: they travel beside it."""
        function, args, settings = self.call
        same = len(args) == 1 + len(rows) and all(a is b for a, b in zip(args[1:], rows, strict=True))
        return Task((function, (*args[:1], ...), settings)) if same else self

    def on(self, rows: tuple[Any, ...]) -> Task:
        """Return the task as it was before `without`."""
        function, args, settings = self.call
        return Task((function, (*args[:1], *rows), settings)) if args[-1:] and args[-1] is ... else self

    def run(self) -> dict[str, Any]:
        """Fit and score the plain way."""
        return self.as_if()

    def as_if(self, estimator: Any = None, X: Any = None, **changed: Any) -> dict[str, Any]:
        """Return the results with another estimator, other rows or settings in place of the search's."""
        function, (own, own_X, y), settings = self.call
        known = {name: value for name, value in changed.items() if name in settings}
        found: dict[str, Any] = function(
            own if estimator is None else estimator, own_X if X is None else X, y, **{**settings, **known}
        )
        return found

    def say(self, result: dict[str, Any]) -> None:
        """Print what scikit-learn prints for a verbosity above 1, with the time that this fit has really taken."""
        verbose = self.settings["verbose"]
        if verbose < 2:
            return
        parameters, split = self.settings.get("parameters") or {}, self.settings.get("split_progress")
        place = f" {split[0] + 1}/{split[1]}" if verbose > 2 and split else ""
        text = ", ".join(f"{name}={parameters[name]}" for name in sorted(parameters)) + ";" * bool(parameters)
        if verbose > 2:
            text += _scores_of(result)
        text += f" total time={short_format_time(result['fit_time'] + result['score_time'])}"
        begin = f"[CV{place}] END "
        print(begin + "." * (80 - len(begin) - len(text)) + text)

    @cached_property
    def estimator(self) -> Any:
        """The candidate: the search's estimator with its parameters."""
        own = clone(self.call[1][0])
        parameters = self.settings.get("parameters")
        return own.set_params(**clone(parameters, safe=False)) if parameters else own

    @property
    def last_step(self) -> tuple[str, Any]:
        """Name of the last step of nested pipelines, as `set_params` takes it ("": no pipeline), and the step."""
        path, step = "", self.estimator
        while isinstance(step, Pipeline):
            name, step = step.steps[-1]
            path = f"{path}__{name}" if path else name
        return path, step

    @property
    def unit(self) -> tuple[Any, ...]:
        """What candidates have in common that differ in their last step alone: fold, and all before that step."""
        path, _ = self.last_step
        parameters = self.settings.get("parameters") or {}
        before = [
            (name, key_of(value))
            for name, value in sorted(parameters.items())
            if path and name != path and not name.startswith(f"{path}__")
        ]
        train, fit_params = self.settings["train"], self.settings["fit_params"]
        return id(train), id(fit_params), path, tuple(before)


def _scores_of(result: dict[str, Any]) -> str:
    """Return the scores of a fit as scikit-learn prints them."""
    sides = [(side, result[f"{side}_scores"]) for side in ("train", "test") if f"{side}_scores" in result]
    if isinstance(result["test_scores"], dict):
        names = sorted(result["test_scores"])
        pairs = (", ".join(f"{side}={scores[name]:.3f}" for side, scores in sides) for name in names)
        return "".join(f" {name}: ({pair})" for name, pair in zip(names, pairs, strict=True))
    if len(sides) == 1:
        return f", score={result['test_scores']:.3f}"
    return f", score=({', '.join(f'{side}={score:.3f}' for side, score in sides)})"


def why_not_packed(task: Task) -> str | None:
    """Return why a task is fitted and scored the plain way, or None where it can be part of a pack."""
    function, args, settings = task.call
    if getattr(function, "function", None) is not _fit_and_score or len(args) != 3:
        return "it is no fit of a search"
    if getattr(settings.get("caller"), "_skl_callbacks", None):
        return "callbacks watch the search"
    try:
        _, step = task.last_step
    except FAILURES:
        return "its parameters cannot be set"
    if not isinstance(step, ReweightedClassifier):
        return f"its last step is {type(step).__name__}"
    return why_alone(step, args[1])
