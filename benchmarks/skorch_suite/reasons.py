"""Why a test of skorch's suite fails with our class: a pattern of its name or of its failure, and the reason."""

from __future__ import annotations

import re

UNEXPLAINED = "unexplained"

#: The first that fits: (pattern of the name, pattern of the failure, reason); an empty pattern fits everything.
REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "could_not_be_inferred|stratified_without_explicit_y",
        "DID NOT RAISE",
        "labels are read from a Dataset where y is None: `classes_` and a stratified split have them",
    ),
    (
        "no_grad_during",
        "",
        "the loss that `on_batch_end` is given is a figure: the step has used its graph",
    ),
    ("repr", "", "`repr` is scikit-learn's: the parameters that differ from their defaults"),
    (
        "dunder|unknown_argument|unknown_set_params|undeclared_param|compile_missing",
        "",
        "names that nothing takes are refused in our words, most by `fit`, which knows the components",
    ),
    (
        "",
        r"takes no argument|Regex pattern did not match.*fit ta",
        "`fit` and `partial_fit` take no further arguments, for `forward` or a split: unread ones are an error",
    ),
    (
        "",
        "would never be called",
        "`get_loss`, `infer`, `train_step` and the like are not called in training, and overriding them is refused",
    ),
    (
        "",
        "NLLLoss takes log-prob",
        "what `NLLLoss` is given must be probabilities or their logarithms; these modules return neither",
    ),
    (
        "takes_log|takes_no_log|callback_with_name|callback_set_params|criterion_non_module|criterion_is_not_a|",
        "one loss p|reduction=|criterion must be a class or an object|cannot take outputs",
        "a criterion is a module that gives one loss per row: those of these tests are not",
    ),
    (
        "",
        "dataset is not used|history is no parameter",
        "`dataset=` and `history=` are refused: nothing would use them",
    ),
    (
        "classes|class",
        r"classes must|no classes_|DID NOT RAISE AttributeError|at least two classes",
        "`classes` are two labels or more, sorted; before `fit` there are none",
    ),
    ("", r"no classes_ before fit", "`initialize` alone knows no labels: `predict` and scores need `fit`"),
    ("", "at least two classes", "y must have two classes"),
    (
        "batch_count|is_called|accumulator|whole_dataset|fit_predict_proba|lr_callback_batch|pass_through",
        r"batch_size' was not found|batch_count|call_count|must be a string or a real|not subscriptable|valid_batch",
        "the history holds batches only where a callback listens to them, and all validation rows are one",
    ),
    (
        "criterion_training|training_mode_set",
        "",
        "validation rows are judged through a copy of the module, the criterion as it is",
    ),
    (
        "trimmed",
        "",
        "`trim_for_prediction` keeps the criterion, which reads the outputs, and the optimiser's name",
    ),
    (
        "initialization_is_effective|nonlinearity_type_error",
        "InvalidParameter",
        "parameters are checked by `fit`, with scikit-learn's error: `lr` must be above 0",
    ),
    ("", "device=", "a device that torch does not know is an error"),
    (
        "custom_loader|variable|fit_predict_proba|stratified_without",
        "y to be passed|Unknown label|dim N|inconsistent|cannot take a batch|Found array|DID NOT RAISE|Found input",
        "X is rows of numbers (a frame is one array, not an argument a column), y class labels known before training",
    ),
    (
        "modules_reinit|criteria_reinit|is_init_when|module_reinit|custom_non_default",
        "",
        "objects given as module or criterion are copied, and the user's stay; a net without a `module_` is none",
    ),
    (
        "collides|keeps_order",
        "",
        "there are two default callbacks, `epoch_timer` and `print_log`: losses need none",
    ),
    ("sparse", "", "sparse X is refused with the way to make it dense"),
    ("one_item|three_items|one_dimensional", "", "the same is refused in other words"),
    (
        "steps_called|predict_nonlinearity_called|multioutput_forward|predefined_split",
        "",
        "mocks of a split, a loader or a function, or a number of batches: 1,024 rows are predicted at a time",
    ),
    (
        "weights_restore",
        "",
        "`random_state` decides what is drawn, `torch.manual_seed` nothing",
    ),
)


def reason_of(test: str, message: str) -> str:
    """Return the reason, by the name of the test and what it failed with."""
    for name, failure, reason in REASONS:
        if re.search(name, test) and re.search(failure, message):
            return reason
    return UNEXPLAINED
