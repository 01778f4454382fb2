"""Checks that every weighting of the registry passes; a new entry is found by itself."""

import inspect
import io
import pickle
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from numpydoc.docscrape import ClassDoc
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skreweight import ReweightedClassifier
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS, Weighting, get_weighting

N_ROWS = 96
N_FEATURES = 5

# Settings with which a method draws nothing at random in stage 2.
WITHOUT_DRAWS = {
    "crt": {"weighting__sampling": "instance", "weighting__new_classifier": False},
    "lws": {"weighting__sampling": "instance"},
}

every_weighting = pytest.mark.parametrize("name", WEIGHTINGS)
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=no_cuda)])


class ConvNet(nn.Module):
    """Images of shape (1, 6, 6) through a convolution."""

    def __init__(self, n_classes: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, n_classes)
        )

    def forward(self, X):
        return self.layers(X)


class NormNet(nn.Module):
    """BatchNorm and dropout, which differ between training and evaluation."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, n_classes)
        )

    def forward(self, X):
        return self.layers(X)


class PartlyFrozen(nn.Module):
    """The first layer is as it was made; only the second learns."""

    def __init__(self, n_features: int = N_FEATURES, n_classes: int = 2) -> None:
        super().__init__()
        self.body = nn.Linear(n_features, 8).requires_grad_(False)
        self.head = nn.Linear(8, n_classes)

    def forward(self, X):
        return self.head(torch.relu(self.body(X)))


class Interrupt(Callback):
    """Press Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def rows(n_classes=2, seed=0):
    """Return X and imbalanced string labels; about a fifth of the rows are of the rarest class."""
    shares = [0.8, 0.2] if n_classes == 2 else [0.5, 0.3, 0.2]
    X, y = make_classification(
        N_ROWS, N_FEATURES, n_informative=4, n_redundant=0, n_classes=n_classes, weights=shares,
        flip_y=0, class_sep=2.0, random_state=seed,
    )  # fmt: skip
    return X.astype(np.float32), np.array(["ant", "bee", "cow"])[y]


def of_each_class(y, n_each):
    """Balanced rows."""
    return np.concatenate([np.flatnonzero(y == label)[:n_each] for label in np.unique(y)])


def images():
    X, y = rows()
    padded = np.resize(X, (len(X), 1, 6, 6)).astype(np.float32)
    return padded, y


def make(name, **changed):
    options = {
        "warmup_epochs": 1, "max_epochs": 2, "batch_size": 32, "random_state": 0, "device": "cpu", "lr": 1e-2,
        "validation_data": 3 if WEIGHTINGS[name].needs_validation else None,
    } | changed  # fmt: skip
    if options.get("module") is None:
        # As the columns are, few steps do something; scales are the subject of test_scaling.py.
        options = {"module__hidden": (8,), "module__scaled": False, **options}
    return ReweightedClassifier(weighting=name, **options)


def settings_of(net):
    """Return the parameters without the callbacks' own objects, which skorch makes anew."""
    return {key: value for key, value in net.get_params().items() if not key.startswith("callbacks__")}


def parameters_of(net):
    return {name: value.detach().cpu().clone() for name, value in net.module_.state_dict().items()}


def assert_same_fit(one, other):
    for name, value in parameters_of(one).items():
        assert torch.equal(value, parameters_of(other)[name]), name
    np.testing.assert_array_equal(one.example_weights_, other.example_weights_)


def assert_sound(net, X, y):
    """Assert what holds after every fit."""
    assert all(value.isfinite().all() for value in parameters_of(net).values())
    probabilities = net.predict_proba(X)
    assert probabilities.shape == (len(y), len(np.unique(y)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert set(net.predict(X)) <= set(net.classes_) == set(y)
    weights = net.example_weights_
    assert weights.shape == (len(y),)
    held = np.zeros(len(y), dtype=bool)
    if net.validation_indices_ is not None:
        held[net.validation_indices_] = True
    np.testing.assert_array_equal(np.isnan(weights), held)
    assert np.isfinite(weights[~held]).all() and (weights[~held] >= 0).all()


# ---------------------------------------------------------------- fit


@every_device
@every_weighting
@pytest.mark.parametrize("n_classes", [2, 3])
def test_fits_and_predicts(name, n_classes, device):
    X, y = rows(n_classes)
    # Where stage 2 leaves the network as it is, stage 1 must have learned the classes.
    n_warmup = 30 if WEIGHTINGS[name].trains_correction else 5
    net = make(name, device=device, warmup_epochs=n_warmup, max_epochs=20, lr=0.02).fit(X, y)
    assert_sound(net, X, y)
    assert net.decision_function(X).shape == ((len(y),) if n_classes == 2 else (len(y), 3))
    assert [row["stage"] for row in net.history_] == [1] * n_warmup + [2] * 20
    recall = [(net.predict(X)[y == label] == label).mean() for label in net.classes_]
    assert np.mean(recall) > 0.75, "separable classes are learned"


@every_weighting
def test_same_seed_same_fit_other_seed_other_fit(name):
    X, y = rows(3)
    before = torch.random.get_rng_state()
    one, other = make(name).fit(X, y), make(name).fit(X, y)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left as it was"
    assert_same_fit(one, other)
    torch.manual_seed(12)
    assert_same_fit(one, make(name).fit(X, y))
    assert not np.array_equal(one.predict_proba(X), make(name, random_state=1).fit(X, y).predict_proba(X))


@every_weighting
def test_fit_again_begins_anew(name):
    X, y = rows()
    net = make(name).fit(X, y)
    assert_same_fit(make(name).fit(X, y), net.fit(X, y))
    assert len(net.history_) == 3


@every_weighting
def test_weights_of_training_rows_do_not_depend_on_the_order_of_batches(name):
    """Rows are looked up by index: with all rows in one batch, the order they come in changes only rounding."""
    X, y = rows()
    held = of_each_class(y, 5)
    options = {"batch_size": -1, "validation_data": (X[held], y[held]), "module": MLP(N_FEATURES, 2, (8,))}
    X, y = np.delete(X, held, 0), np.delete(y, held)
    shuffled, ordered = (
        make(name, iterator_train__shuffle=s, **options).fit(X, y).example_weights_ for s in (True, False)
    )
    np.testing.assert_allclose(shuffled, ordered, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- batches


@every_device
@every_weighting
def test_class_missing_in_a_batch(name, device):
    X, y = rows(3)
    held = of_each_class(y, 5)
    validation = (X[held], y[held])
    X, y = np.delete(X, held, 0), np.delete(y, held)
    by_class = [np.flatnonzero(y == label) for label in np.unique(y)]
    net = make(name, device=device, validation_data=validation, iterator_train__batch_sampler=by_class)
    assert_sound(net.fit(X, y), X, y)
    if net.weighting_.weights_of_untouched_rows() == 1:
        assert [row["train_batch_count"] for row in net.history_] == [3, 3, 3]


@every_device
@every_weighting
def test_batch_of_one_row(name, device):
    X, y = rows()
    assert_sound(make(name, device=device, batch_size=1, max_epochs=1).fit(X, y), X, y)


@every_weighting
def test_last_short_batch(name):
    X, y = rows()
    net = make(name, validation_data=3, batch_size=89).fit(X, y)  # 90 rows are left: 89 and 1
    assert_sound(net, X, y)
    assert net.history_[0]["train_batch_count"] == 2


@every_weighting
def test_drop_last(name):
    X, y = rows()
    net = make(name, validation_data=3, batch_size=40, iterator_train__drop_last=True)
    on_validation = WEIGHTINGS[name]().weights_of_untouched_rows() == 0
    if on_validation:  # six validation rows make no batch of 40
        net.set_params(batch_size=5)
    net.fit(X, y)
    assert net.history_[0]["train_batch_count"] == (18 if on_validation else 2)
    weights = net.example_weights_
    assert (weights[~np.isnan(weights)] >= 0).all()
    if net.weighting_.stored_weights is not None or on_validation:
        assert_sound(net, X, y)


# ---------------------------------------------------------------- scikit-learn


@every_weighting
def test_clone(name):
    X, y = rows()
    net = make(name).fit(X, y)
    twin = clone(net)
    assert not twin.initialized_ and not hasattr(twin, "example_weights_")
    assert settings_of(twin) == settings_of(net)
    assert_same_fit(net, twin.fit(X, y))


@every_weighting
def test_parameters_come_and_go(name):
    defaults = get_weighting(name).get_params()
    net = make(name)
    assert {k: net.get_params()[f"weighting__{k}"] for k in defaults} == defaults
    assert net.get_params(deep=False).get("weighting") == name
    twin = ReweightedClassifier().set_params(**net.get_params())
    assert settings_of(twin) == settings_of(net)
    X, y = rows()
    net.fit(X, y)
    assert net.weighting_.get_params() == defaults
    for parameter, value in defaults.items():
        net.set_params(**{f"weighting__{parameter}": value})
    assert net.weighting_.get_params() == defaults
    assert hasattr(net.weighting_, "state_"), "setting a parameter does not lose the learned state"


@every_weighting
def test_class_and_object_as_weighting(name):
    X, y = rows()
    kind = WEIGHTINGS[name]
    mine = kind()
    by_name = make(name).fit(X, y)
    assert_same_fit(by_name, make(name).set_params(weighting=kind).fit(X, y))
    assert_same_fit(by_name, make(name).set_params(weighting=mine).fit(X, y))
    assert vars(mine) == vars(kind()), "the user's object is never changed"


@every_weighting
def test_unknown_parameter(name):
    with pytest.raises(ValueError, match="no_such"):
        make(name, weighting__no_such=1).fit(*rows())
    with pytest.raises(ValueError, match="no_such"):
        make(name).set_params(weighting__no_such=1)


@every_weighting
def test_pickle(name):
    X, y = rows()
    net = make(name).fit(X, y)
    again = pickle.loads(pickle.dumps(net))
    assert_same_fit(net, again)
    np.testing.assert_array_equal(net.predict(X), again.predict(X))
    assert again.weighting_.get_params() == net.weighting_.get_params()
    assert again.weighting_.state_.keys() == net.weighting_.state_.keys()
    assert_same_fit(net.partial_fit(X, y), again.partial_fit(X, y))


@every_weighting
def test_grid_search(name):
    X, y = rows()
    grid = {"lr": [1e-3, 1e-2]}
    tunable = {k: v for k, v in get_weighting(name).get_params().items() if isinstance(v, float)}
    if tunable:
        parameter, value = next(iter(tunable.items()))
        grid[f"weighting__{parameter}"] = [value, value / 2]
    search = GridSearchCV(make(name), grid, cv=2, scoring="balanced_accuracy", error_score="raise").fit(X, y)
    best = search.best_estimator_
    assert_sound(best, X, y)
    chosen = {k: v for k, v in search.best_params_.items() if k.startswith("weighting__")}
    assert {f"weighting__{k}": v for k, v in best.weighting_.get_params().items()}.items() >= chosen.items()


@every_weighting
def test_sample_weight(name):
    X, y = rows()
    counts = np.random.RandomState(0).randint(1, 4, len(y)).astype(float)
    uniform = make(name).fit(X, y, sample_weight=np.full(len(y), 2.0))
    for key, value in parameters_of(make(name).fit(X, y)).items():
        torch.testing.assert_close(value, parameters_of(uniform)[key], rtol=1e-3, atol=1e-4)
    counts[:5] = 0
    net = make(name).fit(X, y, sample_weight=counts)
    assert np.isnan(net.example_weights_[:5]).all(), "a row of weight 0 is left out"
    assert np.isnan(net.example_weights_).sum() == 5 + (
        0 if net.validation_indices_ is None else len(net.validation_indices_)
    )


# ---------------------------------------------------------------- persistence


@every_device
@every_weighting
def test_state_is_found_again_after_save_and_load_params(name, device, tmp_path):
    X, y = rows(3)
    sizes = {"module__n_features": N_FEATURES, "module__n_classes": 3, "device": device}
    net = make(name, **sizes).fit(X, y)
    files = {f"f_{part}": str(tmp_path / part) for part in ("params", "optimizer", "history", "weighting")}
    net.save_params(**files)
    loaded = make(name, **sizes).initialize()
    loaded.load_params(**files)
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    assert loaded.weighting_.state_.keys() == net.weighting_.state_.keys()
    for key, value in net.weighting_.state_.items():
        assert torch.equal(value, loaded.weighting_.state_[key]), key
        assert loaded.weighting_.state_[key].device == value.device
    np.testing.assert_array_equal(loaded.example_weights_, net.example_weights_)
    assert_same_fit(net.partial_fit(X, y), loaded.partial_fit(X, y))


@every_weighting
@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_training_goes_on_where_it_stopped(name, epoch, tmp_path):
    """Stopped after stage 1, or in the middle of stage 2, and loaded into another process's estimator."""
    X, y = rows()
    options = {"max_epochs": 5, "lr": 0.1, "module__n_features": N_FEATURES, "module__n_classes": 2}
    whole = make(name, **options).fit(X, y)
    stopped = make(name, callbacks=[Interrupt(epoch)], **options).fit(X, y)
    assert len(stopped.history_) == epoch
    files = {f"f_{part}": str(tmp_path / part) for part in ("params", "optimizer", "history", "weighting")}
    stopped.save_params(**files)
    resumed = make(name, **options).initialize()
    resumed.load_params(**files)
    resumed.partial_fit(X, y)
    assert len(resumed.history_) == len(whole.history_)
    assert_same_fit(whole, resumed)


# ---------------------------------------------------------------- modules and data


@every_weighting
def test_module_as_none_class_and_instance(name):
    X, y = rows(3)
    assert_sound(make(name, module=None).fit(X, y), X, y)
    assert_sound(make(name, module=MLP, module__hidden=(4,)).fit(X, y), X, y)
    instance = MLP(N_FEATURES, 3, hidden=(4,))
    before = {key: value.clone() for key, value in instance.state_dict().items()}
    assert_sound(make(name, module=instance).fit(X, y), X, y)
    assert all(torch.equal(value, before[key]) for key, value in instance.state_dict().items())


@every_device
@every_weighting
def test_images_through_a_convolution(name, device):
    X, y = images()
    assert_sound(make(name, module=ConvNet, device=device).fit(X, y), X, y)


@every_weighting
@pytest.mark.parametrize("loader", [None, DataLoader])
def test_dataset(name, loader):
    X, y = images()
    codes = np.unique(y, return_inverse=True)[1]
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(codes))
    net = make(name, module=ConvNet, iterator_train=loader).fit(dataset)
    assert_sound(net, dataset, codes)
    assert_sound(make(name, module=ConvNet, iterator_train=loader).fit(dataset, y), dataset, y)
    # Rows in the order they lie in: a Dataset and the array of its items give the same fit.
    ordered = {"module": ConvNet, "iterator_train__shuffle": False, **WITHOUT_DRAWS.get(name, {})}
    from_array = make(name, **ordered).fit(X, codes)
    assert_same_fit(make(name, iterator_train=loader, **ordered).fit(dataset), from_array)


VALIDATION_DATA = {
    "none": lambda X, y: None,
    "rows per class": lambda X, y: 4,
    "share of the rarest class": lambda X, y: 0.25,
    "splitter": lambda X, y: StratifiedKFold(4),
    "ValidSplit": lambda X, y: ValidSplit(4, stratified=True),
    "pair": lambda X, y: rows(seed=0)[0:2],
}


@every_weighting
@pytest.mark.parametrize("form", VALIDATION_DATA)
def test_forms_of_validation_data(name, form):
    X, y = rows()
    held = of_each_class(y, 4)
    X_val, y_val = X[held], y[held]
    X, y = np.delete(X, held, 0), np.delete(y, held)
    data = (X_val, y_val) if form == "pair" else VALIDATION_DATA[form](X, y)
    needed = WEIGHTINGS[name].needs_validation
    stratified = form in ("splitter", "ValidSplit")
    with pytest.warns(UserWarning, match="not balanced") if needed and stratified else nullcontext():
        net = make(name, validation_data=data).fit(X, y)
    assert_sound(net, X, y)
    assert (net.validation_indices_ is not None) == (form != "pair" and (needed or form != "none"))
    assert ("valid_loss" in net.history_[-1]) == (needed or form != "none")
    if form == "rows per class":
        assert np.unique(y[net.validation_indices_], return_counts=True)[1].tolist() == [4, 4]
    given = make(name, validation_data=data).fit(X, y, X_val=X_val, y_val=y_val)
    assert given.validation_indices_ is None, "what is passed to fit wins"
    if form == "pair":
        assert_same_fit(net, given)


@every_weighting
def test_batch_norm_and_dropout(name):
    X, y = rows()
    net = make(name, module=NormNet).fit(X, y)
    assert_sound(net, X, y)
    assert_same_fit(net, make(name, module=NormNet).fit(X, y))
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(X))
    stage_two_steps = 2 * (1 if WEIGHTINGS[name]().weights_of_untouched_rows() == 0 else 3)
    last = make(name, module=NormNet, keep_best=False).fit(X, y)
    if name in ("crt", "lws"):  # the layers before the last are frozen there
        stage_two_steps = 0
    # One forward pass in training mode a step: validation and virtual steps leave the statistics alone.
    assert int(last.module_.layers[1].num_batches_tracked) == 3 + stage_two_steps


@every_weighting
def test_frozen_parameters_stay(name):
    X, y = rows()
    module = PartlyFrozen()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    net = make(name, module=module).fit(X, y)
    assert_sound(net, X, y)
    after = net.module_.state_dict()
    assert torch.equal(after["body.weight"], before["body.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


@no_cuda
@every_weighting
def test_trained_on_a_gpu_read_without_one(name):
    X, y = rows()
    net = make(name, device="cuda").fit(X, y)
    assert all(p.is_cuda for p in net.module_.parameters())
    assert all(t.is_cuda for t in net.weighting_.state_.values())
    buffer = io.BytesIO()
    net.save_params(f_params=buffer)
    buffer.seek(0)
    on_cpu = make(name, module__n_features=N_FEATURES, module__n_classes=2).initialize()
    on_cpu.load_params(f_params=buffer)
    torch.testing.assert_close(
        torch.from_numpy(on_cpu.forward(X).numpy()).softmax(1), torch.from_numpy(net.predict_proba(X))
    )


# ---------------------------------------------------------------- documentation


@every_weighting
def test_docstring(name):
    kind = WEIGHTINGS[name]
    doc = ClassDoc(kind)
    documented = [part for entry in doc["Parameters"] for part in entry.name.split(", ")]
    accepted = list(inspect.signature(kind).parameters)
    assert documented == accepted, "every parameter, in the order of the signature"
    assert doc["Examples"], "an example that the doctests run"
    for entry in doc["Parameters"]:
        assert entry.desc and (entry.type or entry.desc[0].startswith("As in")), entry.name
    assert doc["Summary"][0].endswith(".")
    for method in ("weigh",):
        assert inspect.getdoc(getattr(kind, method))


def test_docstring_of_the_estimator():
    documented = {
        part for entry in ClassDoc(ReweightedClassifier)["Parameters"] for part in entry.name.split(", ")
    }
    assert documented == set(inspect.signature(ReweightedClassifier).parameters) - {"kwargs"} | {"**kwargs"}
    for name in WEIGHTINGS:
        assert f'"{name}"' in ReweightedClassifier.__doc__


def test_pages_have_the_registry_in_their_tables():
    root = Path(__file__).parents[1]
    methods = (root / "docs" / "methods.md").read_text("utf-8")
    table = dict(
        re.findall(r'^\| \[`"([\w-]+)"`\]\(methods/\1\.md\) \|[^|]*\| (yes|no) \|', methods, re.MULTILINE)
    )
    assert table == {name: "yes" if kind.needs_validation else "no" for name, kind in WEIGHTINGS.items()}
    families = (root / "README.md").read_text("utf-8").partition("## The weightings")[2].partition("\n\n[")[0]
    named = re.findall(
        r'`"([\w-]+)"`', "".join(line for line in families.splitlines() if "sampling=" not in line)
    )
    assert sorted(named) == sorted(WEIGHTINGS)


def test_registry_is_found_by_name():
    for name, kind in WEIGHTINGS.items():
        assert issubclass(kind, Weighting) and isinstance(get_weighting(name), kind)
