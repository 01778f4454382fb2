"""Parameters of an estimator, or of each estimator of a list, as parameters of what they are parts of."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator

from skreweight._classifier import ReweightedClassifier
from skreweight._training.processes import refuse_to_nest


class ParametersOfEstimators(BaseEstimator):
    """scikit-learn's parameters, where ``estimator`` may be a list: ``estimator__0__lr``."""

    estimator: Any

    def _validate_params(self) -> None:
        super()._validate_params()
        refuse_to_nest(type(self).__name__, self.estimator)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with ``deep`` those of each estimator of a list too (``estimator__0__lr``).

        Parameters
        ----------
        deep : bool, default=True
            Whether the parameters of the estimators are among them.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        if deep and isinstance(self.estimator, list):
            for k, net in enumerate(self.estimator):
                params[f"estimator__{k}"] = net
                own = net.get_params() if hasattr(net, "get_params") else {}  # `fit` says what is wrong
                params |= {f"estimator__{k}__{name}": v for name, v in own.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of an estimator in a list as ``estimator__0__<name>``.

        Parameters
        ----------
        **params
            New values by name.
        """
        if "estimator" in params:
            self.estimator = params.pop("estimator")
        if isinstance(self.estimator, list):
            for name in [name for name in params if name.startswith("estimator__")]:
                number, _, rest = name.removeprefix("estimator__").partition("__")
                if not number.isdigit() or int(number) >= len(self.estimator):
                    raise ValueError(
                        f"Invalid parameter {name!r} for {type(self).__name__}: estimator is a list of "
                        f"{len(self.estimator)}, whose parameters are set as estimator__0__<name>."
                    )
                if rest:
                    self.estimator[int(number)].set_params(**{rest: params.pop(name)})
                else:
                    self.estimator[int(number)] = params.pop(name)
        super().set_params(**params)
        return self


def kinds_in(estimator: Any) -> list[ReweightedClassifier]:
    """Return the kinds of members that a parameter `estimator` names.

    Raises
    ------
    TypeError, ValueError
        Where it names something else, or none.
    """
    own = estimator if isinstance(estimator, list) else [estimator]
    for net in own:
        if not isinstance(net, ReweightedClassifier):
            raise TypeError(
                f"estimator must be a ReweightedClassifier or a list of them, got {type(net).__name__}."
            )
    if not own:
        raise ValueError("estimator is an empty list: give at least one, or None for the recipe.")
    return own
