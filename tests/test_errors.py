"""What cannot be trained, loaded or predicted is said in one sentence that names the cause, and changes nothing."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import SliceDataset, predefined_split
from torch import nn
from torch.utils.data import TensorDataset

from skreweight import ReweightedClassifier

R = np.random.RandomState(0)
Y = (R.rand(100) < 0.3).astype(int)
X = (R.randn(100, 5) + Y[:, None]).astype(np.float32)


def classifier(module: Any = None, **parameters: Any) -> ReweightedClassifier:
    defaults = {"weighting": "none", "warmup_epochs": 1, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    hidden = {"module__hidden": (4,)} if module is None else {}
    return ReweightedClassifier(module, **{**defaults, **hidden, **parameters})


class Linear(nn.Module):
    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class InDouble(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).double()


class Fixed(nn.Module):
    """Nine columns, whatever X has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(9, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Normalised(nn.Module):
    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 4), nn.BatchNorm1d(4), nn.Linear(4, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Nothing:
    def split(self, X: Any, y: Any) -> Any:
        return iter(())


WITH_NAN = X.copy()
WITH_NAN[3, 2] = np.nan

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "3-D tensor without a module": (
        lambda: classifier().fit(torch.tensor(X).reshape(100, 5, 1), Y),
        ValueError,
        r"dim 3.*got shape \(100, 5, 1\).*flatten",
    ),
    "sparse tensor": (
        lambda: classifier().fit(torch.tensor(X).to_sparse(), Y),
        TypeError,
        r"X\.to_dense\(\)",
    ),
    "complex tensor": (
        lambda: classifier().fit(torch.tensor(X).to(torch.complex64), Y),
        ValueError,
        "Complex data",
    ),
    "module__n_features": (
        lambda: classifier(module__n_features=9).fit(X, Y),
        ValueError,
        "number of columns of X, 5, got 9",
    ),
    "module of another width": (
        lambda: classifier(Fixed).fit(X, Y),
        ValueError,
        r"cannot take a batch of X, got shape \(2, 5\) of torch.float32: mat1.*n_features",
    ),
    "module without such a key": (
        lambda: classifier(Fixed).fit({"other": X}, Y),
        ValueError,
        r"got a mapping of 'other' \(shape \(2, 5\).*unexpected keyword",
    ),
    "integer tensor for a module of numbers": (
        lambda: classifier(Linear).fit(torch.tensor(X).long(), Y),
        ValueError,
        r"Pass X\.float\(\)",
    ),
    "numbers for an embedding": (
        lambda: classifier(nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(10, 2))).fit(abs(X), Y),
        ValueError,
        "integers, which stay integers",
    ),
    "module in double": (
        lambda: classifier(InDouble, weighting="hu").fit(X, Y),
        ValueError,
        "torch.float32, got torch.float64: cast them",
    ),
    "last batch of one row": (
        lambda: classifier(Normalised, batch_size=33).fit(X, Y),
        ValueError,
        "batch of one row.*drop_last=True",
    ),
    "empty splitter": (lambda: classifier(validation_data=Nothing()).fit(X, Y), ValueError, "gives no split"),
    "empty batch": (
        lambda: classifier(iterator_train__batch_sampler=[[]]).fit(X, Y),
        ValueError,
        "batch_sampler gives an empty batch",
    ),
    "batch of rows held out": (
        lambda: classifier(iterator_train__batch_sampler=[[0, 99]], validation_data=5).fit(X, Y),
        ValueError,
        "gives position 99, and there are 90 training rows.*without the rows held out",
    ),
    "batch of rows held out, by a loader": (
        lambda: classifier(
            iterator_train=torch.utils.data.DataLoader,
            iterator_train__batch_sampler=[[0, 99]],
            validation_data=5,
        ).fit(X, Y),
        ValueError,
        "gives position 99, and there are 90 training rows",
    ),
    "labels of two kinds": (
        lambda: classifier().fit(X, np.array(["a" if v else 1 for v in Y], dtype=object)),
        ValueError,
        r"more than one kind, got 1 \(number\) and 'a' \(str\)",
    ),
    "a number as callback": (lambda: classifier(callbacks=[3]).fit(X, Y), ValueError, "EarlyStopping.*got 3"),
    "a callback's name": (
        lambda: classifier(callbacks=[("stop", "EarlyStopping")]).fit(X, Y),
        ValueError,
        r"got \('stop', 'EarlyStopping'\)",
    ),
    "early stopping without validation rows": (
        lambda: classifier(callbacks=[EarlyStopping()]).fit(X, Y),
        ValueError,
        "'EarlyStopping' watches 'valid_loss'.*set validation_data=",
    ),
    "checkpoint without validation rows": (
        lambda: classifier(callbacks=[Checkpoint()]).fit(X, Y),
        ValueError,
        "'Checkpoint' watches 'valid_loss_best'",
    ),
    "the best of no epochs": (
        lambda: classifier(
            callbacks=[EarlyStopping(monitor="train_loss", load_best=True)], warmup_epochs=0, max_epochs=0
        ).fit(X, Y),
        ValueError,
        "best of no epochs",
    ),
    "meta tensor": (
        lambda: classifier().fit(torch.empty(100, 5, device="meta"), Y),
        ValueError,
        "holds no figures",
    ),
    "label smoothing of 2": (
        lambda: classifier(criterion__label_smoothing=2.0).fit(X, Y),
        ValueError,
        "criterion cannot take outputs.*label_smoothing must be between",
    ),
    "a reduction": (
        lambda: classifier(criterion__reduction="mean").fit(X, Y),
        ValueError,
        "criterion__reduction must be left out, got 'mean'",
    ),
    "a criterion that is no module": (
        lambda: classifier(criterion=lambda reduction: len).fit(X, Y),
        ValueError,
        "criterion must be a class or an object of torch.nn.Module",
    ),
    "a dropout of NaN": (
        lambda: classifier(module__dropout=float("nan")).fit(X, Y),
        ValueError,
        "dropout must lie in",
    ),
    "validation rows with NaN in a Dataset": (
        lambda: classifier(weighting="hu", validation_data=predefined_split(SkorchDataset(WITH_NAN, Y))).fit(
            X, Y
        ),
        ValueError,
        "X_val contains NaN",
    ),
    "no validation rows in a Dataset": (
        lambda: classifier(weighting="hu", validation_data=predefined_split(SkorchDataset(X[:0], Y[:0]))).fit(
            X, Y
        ),
        ValueError,
        "empty",
    ),
    "a split into rows of its own": (
        lambda: classifier(validation_data=lambda rows, y: (rows, list(rows))).fit(X, Y),
        ValueError,
        "must return subsets of the rows it is given, got a list",
    ),
    "NaN in a Dataset": (
        lambda: classifier(Linear).fit(TensorDataset(torch.tensor(WITH_NAN), torch.tensor(Y)), None),
        ValueError,
        "item 3 of the Dataset holds NaN",
    ),
    "epochs that are no number": (
        lambda: classifier().partial_fit(X, Y, epochs=1.5),
        ValueError,
        r"epochs must be None or a whole number, at least 0, got 1\.5",
    ),
    "eval_set": (
        lambda: classifier().fit(X, Y, eval_set=[(X, Y)]),
        TypeError,
        "'eval_set': pass X_val= and y_val=",
    ),
    "an unknown argument": (
        lambda: classifier().partial_fit(X, Y, foo=1),
        TypeError,
        "takes no argument 'foo'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_cause_is_named(case):
    do, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message) as caught:
        do()
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "name", ["predict", "predict_proba", "decision_function", "forward", "features", "score"]
)
def test_before_fit(name):
    call = getattr(classifier(), name)
    with pytest.raises(ValueError, match=r"not (fitted|initialized) yet"):  # NotFittedError is one
        call(X, Y) if name == "score" else call(X)


def test_rows_that_are_to_blame_leave_the_estimator_as_it_was():
    net = classifier(Linear).fit(X, Y)
    proba = net.predict_proba(X)
    with pytest.raises(ValueError, match="item 3 of the Dataset"):
        net.fit(TensorDataset(torch.tensor(WITH_NAN), torch.tensor(Y)), None)
    np.testing.assert_array_equal(net.predict_proba(X), proba)


@pytest.mark.parametrize("name", ["load_params", "save_params"])
def test_files_of_nothing(name, tmp_path):
    net = classifier().fit(X, Y)
    with pytest.raises(AttributeError, match=r"attribute called 'net.nothing_'"):
        getattr(net, name)(f_nothing=tmp_path / "x.pt")
    with pytest.raises(TypeError, match="please choose one"):
        getattr(net, name)(f_params=tmp_path / "x.pt", f_module=tmp_path / "y.pt")


# ---------------------------------------------------------------- what works now


def test_validation_rows_of_skorchs_predefined_split():
    net = classifier(weighting="hu", validation_data=predefined_split(SkorchDataset(X[:40], Y[:40]))).fit
    with pytest.warns(UserWarning, match="not balanced"):
        ours = net(X[40:], Y[40:])
    with pytest.warns(UserWarning, match="not balanced"):
        theirs = classifier(weighting="hu").fit(X[40:], Y[40:], X_val=X[:40], y_val=Y[:40])
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_outputs_of_fewer_rows_than_X():
    class First(ReweightedClassifier):
        def forward_iter(self, X, training=False, device="cpu"):
            yield next(super().forward_iter(X[:7], training, device))

    net = First(**classifier().get_params(deep=False)).fit(X, Y)
    assert net.predict_proba(X).shape == (7, 2)


def test_a_slice_of_a_dataset_is_rows():
    sliced = SliceDataset(SkorchDataset(X, Y), 0)
    ours, array = (classifier().fit(rows, Y) for rows in (sliced, X))
    np.testing.assert_array_equal(ours.predict_proba(sliced), array.predict_proba(X))


def test_a_callback_that_is_set_to_none():
    net = classifier(callbacks=[("stop", EarlyStopping(monitor="train_loss"))]).fit(X, Y)
    net.set_params(callbacks__stop=None).set_params(lr=0.1).fit(X, Y)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_tensors_that_are_no_floats_are_what_arrays_of_them_are(dtype):
    rows = (torch.tensor(X) > 0).to(dtype)
    ours, arrays = (classifier().fit(x, Y) for x in (rows, rows.numpy()))
    np.testing.assert_array_equal(ours.predict_proba(rows), arrays.predict_proba(rows.numpy()))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)])
def test_multi_margin_is_torchs_and_can_be_derived_twice(p, weight):
    torch.manual_seed(0)
    logits = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    from skreweight._net.criterion import per_example_criterion

    ours = per_example_criterion(nn.MultiMarginLoss, {"p": p, "weight": weight, "margin": 0.7}, None)
    theirs = nn.MultiMarginLoss(p=p, weight=weight, margin=0.7, reduction="none")
    torch.testing.assert_close(ours(logits, targets), theirs(logits, targets), rtol=1e-14, atol=1e-14)
    assert torch.autograd.gradgradcheck(lambda z: ours(z, targets), logits)


@pytest.mark.parametrize("weighting", ["ren", "hu", "ours"])
def test_multi_margin_through_normalisation(weighting):
    net = classifier(Normalised, criterion=nn.MultiMarginLoss, weighting=weighting).fit(X, Y)
    assert np.isfinite(net.predict_proba(X)).all()


def test_lbfgs_goes_on_after_a_pickle():
    net = classifier(optimizer=torch.optim.LBFGS, batch_size=-1).fit(X, Y)
    copy = pickle.loads(pickle.dumps(net))
    for one in (net, copy):
        one.partial_fit(X, Y)
    np.testing.assert_array_equal(copy.predict_proba(X), net.predict_proba(X))


def test_warm_start_after_initialize():
    net = classifier(Fixed, warm_start=True).initialize()
    start = net.module_.layer.weight.detach().clone()
    wide = np.c_[X, X[:, :4]]
    net.set_params(lr=1e-9).fit(wide, Y)
    assert len(net.history_) == 2
    torch.testing.assert_close(net.module_.layer.weight.detach(), start, atol=1e-5, rtol=0)


def test_partial_fit_of_so_many_epochs():
    net = classifier(max_epochs=5)
    for _ in range(3):
        net.partial_fit(X, Y, epochs=2)
    whole = classifier(max_epochs=5).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), whole.predict_proba(X))
    assert net.history_[:, "stage"] == [1, 2, 2, 2, 2, 2]
    assert len(net.partial_fit(X, Y, epochs=0).history_) == 6


def test_forward_in_training_mode():
    net = classifier(Normalised).fit(X, Y)
    outputs = net.forward(X, training=True)
    assert net.module_.training
    assert outputs.requires_grad
    own = net.module_(torch.tensor(X))
    torch.testing.assert_close(outputs, own)
    assert not net.forward(X).requires_grad


class Passing(ReweightedClassifier):
    def __init__(self, module: Any = None, *, mine: int = 1, **kwargs: Any) -> None:
        super().__init__(module, **kwargs)
        self.mine = mine


def test_a_subclass_that_passes_arguments_on():
    parameters = {"weighting": "none", "warmup_epochs": 1, "max_epochs": 1, "random_state": 0}
    net = Passing(mine=2, **parameters).fit(X, Y)
    net.set_params(callbacks=[EarlyStopping(monitor="train_loss")], lr=0.1, mine=3)
    net.fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'nine'"):
        net.set_params(nine=1)


# ---------------------------------------------------------------- files


class Malicious:
    def __reduce__(self) -> Any:
        return (print, ("run by a file",))


BAD_FILES: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "text": lambda whole: b"hello\n",
    "malicious": lambda whole: pickle.dumps(Malicious(), protocol=2),
}


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("name", ["f_params", "f_optimizer", "f_history", "f_weighting"])
def test_files_that_cannot_be_read(name, kind, fitted, tmp_path, capsys):
    net, path = classifier().fit(X, Y), tmp_path / "file"
    net.save_params(**{name: path})
    path.write_bytes(BAD_FILES[kind](path.read_bytes()))
    proba, history = net.predict_proba(X), list(net.history_)
    fresh = classifier(module__n_features=5, module__n_classes=2)
    target = net if fitted else fresh.initialize()
    with pytest.raises(ValueError, match=f"truncated, empty, or not what save_params wrote.*got {name}="):
        target.load_params(**{name: path})
    np.testing.assert_array_equal(net.predict_proba(X), proba)
    assert list(net.history_) == history
    assert "run by a file" not in capsys.readouterr().out


def test_a_file_that_is_not_there_stays_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        classifier().fit(X, Y).load_params(f_params=tmp_path / "none.pt")


def test_parameters_of_another_module(tmp_path):
    classifier(module__hidden=(3,)).fit(X, Y).save_params(f_params=tmp_path / "p.pt")
    net = classifier().fit(X, Y)
    proba = net.predict_proba(X)
    with pytest.raises(ValueError, match="size mismatch"):
        net.load_params(f_params=tmp_path / "p.pt")
    np.testing.assert_array_equal(net.predict_proba(X), proba)


# ---------------------------------------------------------------- trimmed for prediction


@pytest.mark.parametrize("weighting", ["hu", "logit-adjustment"])
def test_trimmed_it_predicts_and_cannot_be_trained(weighting):
    stop = EarlyStopping(monitor="train_loss")
    callbacks = [stop]
    held = np.r_[np.flatnonzero(Y == 0)[:9], np.flatnonzero(Y == 1)[:9]]
    net = classifier(
        weighting=weighting, module__hidden=(200,), validation_data=(X[held], Y[held]), callbacks=callbacks
    )
    net.fit(np.delete(X, held, axis=0), np.delete(Y, held))
    net.score(X, Y)
    proba, whole = net.predict_proba(X), len(pickle.dumps(net))
    net.trim_for_prediction()
    assert callbacks == [stop]
    parameters = sum(p.nbytes for p in net.module_.parameters())
    assert len(pickle.dumps(net)) < parameters + 20_000 < whole
    for one in (net, pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(one.predict_proba(X), proba)
        one.predict(X), one.decision_function(X), one.features(X), one.get_params(), repr(one)
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=r"trimmed for prediction.*sklearn\.base\.clone"):
                getattr(one, method)(X, Y)
        np.testing.assert_array_equal(one.predict_proba(X), proba)
    assert clone(net).fit(X, Y).predict(X).shape == Y.shape


def test_trimmed_its_criterion_still_reads_the_outputs():
    net = classifier(nn.Sequential(nn.Linear(5, 2), nn.Softmax(1)), criterion=nn.NLLLoss).fit(X, Y)
    proba = net.predict_proba(X)
    net.trim_for_prediction()
    np.testing.assert_array_equal(net.predict_proba(X), proba)
