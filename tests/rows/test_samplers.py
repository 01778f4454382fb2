"""Draws that keep to the classes' shares: what an epoch holds, for one network and for members."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from skorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

from skreweight import ReweightedClassifier
from skreweight._rows.samplers import SAMPLINGS, Sampler, class_shares
from skreweight.losses import effective_number_weights
from skreweight.weighting import WEIGHTINGS

COUNTS = torch.tensor([50.0, 20.0, 5.0, 0.0])
CODES = torch.repeat_interleave(torch.arange(4), COUNTS.long())
every_sampling = pytest.mark.parametrize("sampling", [*sorted(SAMPLINGS), 0.0, 0.3, 1])


def slow_shares(sampling, progress):
    """The definitions, class by class."""
    counts = COUNTS[:3].double().numpy()
    if sampling == "progressive":
        return (1 - progress) * counts / counts.sum() + progress / 3
    if sampling == "effective-number":
        sizes = counts * effective_number_weights(counts).numpy()
    else:
        sizes = counts ** {"balanced": 0, "sqrt": 0.5}.get(sampling, sampling)
    return sizes / sizes.sum()


@every_sampling
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_shares(sampling, progress):
    shares = class_shares(COUNTS, sampling, progress)
    np.testing.assert_allclose(shares[:3], slow_shares(sampling, progress), rtol=1e-12)
    assert shares[3] == 0
    both = class_shares(torch.stack([COUNTS, COUNTS.flip(0)]), sampling, progress)
    assert torch.equal(both[0], shares)
    torch.testing.assert_close(both[1], shares.flip(0))


@every_sampling
def test_an_epoch_keeps_to_the_shares_as_closely_as_whole_rows_can(sampling):
    shares = class_shares(COUNTS, sampling, 0.5)
    torch.manual_seed(0)
    for _ in range(20):
        drawn = Sampler(CODES, shares)()
        assert drawn.shape == (75,)
        by_class = torch.bincount(CODES[drawn], minlength=4)
        assert ((by_class - 75 * shares).abs() < 1).all()
        by_row = torch.bincount(drawn, minlength=75)
        for code in range(3):
            assert np.ptp(by_row[code == CODES].numpy()) <= 1


def test_natural_shares_are_a_shuffle():
    torch.manual_seed(0)
    first, second = (Sampler(CODES, class_shares(COUNTS, 1.0))() for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(75))
    assert not torch.equal(first, second)


def test_every_row_is_drawn_as_often_as_expected():
    """Over many epochs, sample weights included, to within five standard errors of rows that are drawn or not."""
    torch.manual_seed(0)
    weights = torch.rand(75, dtype=torch.float64) * 3
    sampler = Sampler(CODES, class_shares(COUNTS, "sqrt"), weights)
    expected = sampler.expected()
    assert float(expected.sum()) == pytest.approx(75)
    counts = sum(torch.bincount(sampler(), minlength=75) for _ in range(2000)) / 2000
    assert ((counts - expected).abs() <= 5 * 0.5 / 2000**0.5).all()


@every_sampling
def test_a_row_of_weight_two_is_expected_as_two_rows_are(sampling):
    weights = 1.0 + torch.arange(75) % 3
    repeated = CODES.repeat_interleave(weights.long())
    counts = torch.bincount(repeated, minlength=4).double()
    shares = class_shares(counts, sampling, 0.5)
    weighted = Sampler(CODES, shares, weights).expected() / 75
    of_rows = Sampler(repeated, shares).expected() / len(repeated)
    rows = torch.arange(75).repeat_interleave(weights.long())
    torch.testing.assert_close(weighted, torch.zeros(75, dtype=torch.float64).index_add(0, rows, of_rows))


def test_a_member_draws_what_one_network_would():
    shares = class_shares(torch.stack([COUNTS, COUNTS]), "balanced")
    codes = torch.stack([CODES, CODES.flip(0)])
    weights = torch.rand(2, 75)
    pack = Sampler(codes, shares, weights, [torch.Generator().manual_seed(k) for k in range(2)])
    for together in [pack(), pack()][:1]:
        for k in range(2):
            torch.manual_seed(k)
            assert torch.equal(together[k], Sampler(codes[k], shares[k], weights[k])())


# ---------------------------------------------------------------- through the estimator


class Drawn(Callback):
    """The classes of the rows of each epoch."""

    def __init__(self):
        self.epochs = []

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append(np.zeros(3))

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.epochs[-1] += np.bincount(batch[1].numpy(), minlength=3)


X, Y = make_classification(
    100, 5, n_informative=4, n_redundant=0, n_classes=3, weights=[0.7, 0.2], random_state=0
)
X = X.astype(np.float32)


def drawn(X=X, Y=Y, **settings):
    watch = Drawn()
    options = {
        "weighting": "none",
        "module__hidden": (4,),
        "warmup_epochs": 2,
        "max_epochs": 3,
        "batch_size": 16,
    }
    clf = ReweightedClassifier(**{**options, "random_state": 0, "callbacks": [watch], **settings}).fit(X, Y)
    return clf, np.array(watch.epochs)


NATURAL = np.bincount(Y)


@pytest.mark.parametrize("defer", [False, True])
def test_sampling_and_its_deferral(defer):
    _, counts = drawn(sampling="balanced", defer_sampling=defer)
    assert (counts.sum(1) == 100).all()
    assert (np.abs(counts[2 if defer else 0 :] - 100 / 3) < 1).all()
    assert (counts[: 2 if defer else 0] == NATURAL).all()


@pytest.mark.filterwarnings("ignore:The classes. numbers of rows are corrected")
@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_with_every_weighting(weighting, defer):
    """Two-phase trains stage 2 on the validation rows, which are balanced as they are."""
    clf, counts = drawn(weighting=weighting, sampling="balanced", defer_sampling=defer, validation_data=3)
    if defer:
        assert (counts[:2] == NATURAL - 3).all()
    else:
        assert (np.abs(counts[:2] - 91 / 3) < 1).all()
    stage_two = [3, 3, 3] if weighting == "two-phase" else [91 / 3] * 3
    assert (np.abs(counts[2:] - stage_two) < 1).all()
    assert clf.features(X).shape == (100, 4)


@pytest.mark.parametrize("defer", [False, True])
def test_progressive_sampling_goes_from_natural_to_balanced(defer):
    _, counts = drawn(sampling="progressive", defer_sampling=defer)
    first = 2 if defer else 0
    assert (counts[: first + 1] == NATURAL).all()
    assert (np.abs(counts[-1] - 100 / 3) < 1).all()
    assert (np.diff(counts[first:, 0]) < 0).all()


@pytest.mark.parametrize("weighting", ["crt", "lws"])
def test_a_method_that_draws_does_so_in_stage_two(weighting):
    _, counts = drawn(weighting=weighting, sampling="sqrt")
    shares = class_shares(torch.from_numpy(NATURAL), "sqrt").numpy()
    assert (np.abs(counts[:2] - 100 * shares) < 1).all()
    assert (np.abs(counts[2:] - 100 / 3) < 1).all()


@pytest.mark.parametrize("loader", [None, DataLoader])
@pytest.mark.parametrize("data", ["array", "dataset"])
def test_loaders_draw_too(data, loader):
    given = X if data == "array" else TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    module = torch.nn.Linear(5, 3)
    options = {"module": module, "iterator_train": loader, "sampling": "balanced"}
    watch = Drawn()
    ReweightedClassifier(
        weighting="none", warmup_epochs=1, max_epochs=1, batch_size=16, callbacks=[watch], **options
    ).fit(given, Y)
    assert (np.abs(np.array(watch.epochs) - 100 / 3) < 1).all()


def test_with_validation_rows_and_sample_weights():
    """Held-out rows and rows of weight 0 are not drawn; weights are chances and not counted again."""
    weights = np.ones(100)
    weights[:10] = 0
    clf, counts = drawn(sampling="balanced", validation_data=2)
    assert (np.abs(counts - 94 / 3) < 1).all()
    watch = Drawn()
    clf = ReweightedClassifier(
        weighting="none",
        sampling="balanced",
        warmup_epochs=1,
        max_epochs=1,
        callbacks=[watch],
        random_state=0,
    ).fit(X, Y, sample_weight=weights)
    assert (np.abs(np.array(watch.epochs) - 30) < 1).all()
    assert np.isnan(clf.example_weights_[:10]).all()


def test_two_fits_are_equal_and_one_goes_on_exactly():
    whole, _ = drawn(sampling="progressive", weighting="hu", validation_data=3)
    again, _ = drawn(sampling="progressive", weighting="hu", validation_data=3)
    np.testing.assert_array_equal(whole.predict_proba(X), again.predict_proba(X))


def test_both_saying_which_rows_is_an_error():
    with pytest.raises(ValueError, match=r"sampling='sqrt' and iterator_train__batch_sampler both"):
        drawn(sampling="sqrt", iterator_train__batch_sampler=[range(100)])
    with pytest.raises(ValueError, match="defers nothing"):
        drawn(defer_sampling=True)
    for wrong in ("squareroot", 1.5):
        with pytest.raises(ValueError, match="sampling"):
            drawn(sampling=wrong)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sampling": "balanced", "class_weight": "balanced"}, "class_weight='balanced'"),
        ({"sampling": "balanced", "class_weight": {0: 1.0, 1: 4.0}}, r"class_weight=\{0: 1.0, 1: 4.0\}"),
        ({"sampling": 0.5, "weighting": "proportion"}, "Proportion"),
        ({"sampling": "balanced", "weighting": "meta"}, "Meta"),
        ({"sampling": "sqrt", "criterion": "LogitAdjustedLoss"}, "LogitAdjustedLoss"),
        ({"weighting": "crt", "class_weight": "effective-number"}, "ClassifierRetraining"),
        ({"weighting": "logit-adjustment", "class_weight": "balanced"}, "LogitAdjustment"),
    ],
)
def test_correcting_twice_is_warned_of(settings, named):
    import skreweight.losses

    if "criterion" in settings:
        settings = {**settings, "criterion": getattr(skreweight.losses, settings["criterion"])}
    with pytest.warns(UserWarning, match=rf"corrected for twice: .*{named}"):
        drawn(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling": "balanced", "class_weight": {0: 1.0, 2: 1.0}},
        {"sampling": 1, "class_weight": "balanced"},
        {"class_weight": "balanced"},
        {"weighting": "crt", "weighting__sampling": "instance", "class_weight": "balanced"},
        {"sampling": "balanced", "weighting": "hu"},
    ],
)
def test_correcting_once_is_not_warned_of(settings, recwarn):
    drawn(**settings)
    assert not [w for w in recwarn if "corrected for twice" in str(w.message)]
