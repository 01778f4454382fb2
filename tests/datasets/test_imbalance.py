from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skreweight.datasets.imbalance import (
    Draw,
    draw_counts,
    flip_labels,
    long_tailed_counts,
    step_counts,
    subsample,
)

# Labels as users have them: strings, gaps, signs, booleans, floats.
ALPHABETS = (["neg", "pos"], [0, 1, 2], [-1, 1], [3, 10, 7, 40], [False, True], [0.5, 1.5])


@st.composite
def problems(draw):
    """Labels in random order, and counts per class that fit into them."""
    alphabet = draw(st.sampled_from(ALPHABETS))
    counts = {label: draw(st.tuples(*[st.integers(0, 6)] * 4)) for label in alphabet}
    labels = [label for label, asked in counts.items() for _ in range(sum(asked) + 1)]
    y = np.array(draw(st.permutations(labels)))
    train, validation, test = ({label: asked[i] for label, asked in counts.items()} for i in range(3))
    return y, train, validation, test


def count(y, rows):
    return Counter(y[rows].tolist())


seeds = st.integers(0, 2**32 - 1)


@given(problems(), seeds)
def test_draw_has_the_exact_counts_and_no_row_twice(problem, seed):
    y, train, validation, test = problem
    draw = draw_counts(y, train, validation=validation, test=test, random_state=seed)
    assert [count(y, rows) for rows in draw] == [Counter(train), Counter(validation), Counter(test)]
    rows = np.concatenate(draw)
    assert len(set(rows.tolist())) == len(rows)
    assert all(np.all(np.diff(part) > 0) for part in draw)


@given(problems(), seeds)
def test_same_seed_same_draw(problem, seed):
    y, train, validation, test = problem
    one, two = (draw_counts(y, train, validation=validation, test=test, random_state=seed) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@given(problems(), seeds)
def test_draws_at_several_ratios_are_paired(problem, seed):
    y, train, validation, test = problem
    fewer = {label: n // 2 for label, n in train.items()}
    large = draw_counts(y, train, validation=validation, test=test, random_state=seed)
    small = draw_counts(y, fewer, validation=validation, test=test, random_state=seed)
    np.testing.assert_array_equal(large.validation, small.validation)
    np.testing.assert_array_equal(large.test, small.test)
    assert set(small.train.tolist()) <= set(large.train.tolist())


@given(problems(), seeds, st.data())
def test_fixed_test_rows(problem, seed, data):
    y, *_ = problem
    test_rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(y) - 1)))), dtype=int)
    rest = np.setdiff1d(np.arange(len(y)), test_rows)
    train = {label: data.draw(st.integers(0, n)) for label, n in count(y, rest).items()}
    draw = draw_counts(y, train, test_rows=test_rows, random_state=seed)
    named = [row for row in test_rows.tolist() if y[row].item() in train]
    assert draw.test.tolist() == named
    assert count(y, draw.train) == Counter(train)
    assert not set(draw.train.tolist()) & set(test_rows.tolist())


@given(problems(), seeds)
def test_subsample_is_the_training_part(problem, seed):
    y, train, *_ = problem
    np.testing.assert_array_equal(
        subsample(y, train, random_state=seed), draw_counts(y, train, random_state=seed).train
    )


@given(problems(), seeds)
def test_row_of_a_fitting_count_is_every_row(problem, seed):
    y, *_ = problem
    assert subsample(y, count(y, slice(None)), random_state=seed).tolist() == list(range(len(y)))


def test_every_row_is_as_likely():
    """Also that of a class where others have been passed over, and in every part."""
    y = np.repeat(["a", "b"], [10, 5])
    hits = np.zeros((3, 15))
    for seed in range(2000):
        for part, rows in enumerate(draw_counts(y, 2, validation=1, test=1, random_state=seed)):
            hits[part, rows] += 1
    expected = np.outer([2, 1, 1], np.repeat([1 / 10, 1 / 5], [10, 5])) * 2000
    # Five standard deviations of a binomial count.
    assert (np.abs(hits - expected) < 5 * np.sqrt(expected)).all()


Y = np.repeat(["neg", "pos"], [20, 8])


def sizes(draw):
    return [[count(Y, rows)[label] for label in ("neg", "pos")] for rows in draw]


def test_counts_in_three_forms():
    for train in ({"neg": 6, "pos": 3}, [6, 3], np.array([6, 3]), pd.Series([6, 3]).to_numpy()):
        assert sizes(draw_counts(Y, train)) == [[6, 3], [0, 0], [0, 0]]
    assert sizes(draw_counts(Y, 3, validation=2, test=np.int64(1))) == [[3, 3], [2, 2], [1, 1]]


def test_one_number_is_for_the_classes_named_in_train():
    draw = draw_counts(Y, {"neg": 5}, validation=2, test=3)
    assert sizes(draw) == [[5, 0], [2, 0], [3, 0]]
    assert sizes(draw_counts(Y, {"neg": 5, "pos": 0}, validation=2)) == [[5, 0], [2, 2], [0, 0]]


def test_rows_limit_the_draw():
    mask = np.arange(len(Y)) % 2 == 0
    for rows in (mask, np.flatnonzero(mask), np.flatnonzero(mask).tolist()):
        draw = draw_counts(Y, {"neg": 8, "pos": 3}, validation=1, rows=rows, random_state=0)
        assert all(mask[part].all() for part in draw)


def test_test_rows_are_never_trained_on_even_if_named_among_rows():
    draw = draw_counts(Y, {"neg": 10, "pos": 4}, rows=np.arange(28), test_rows=np.arange(0, 28, 2))
    assert not set(draw.train) & set(draw.test)


def test_fixed_test_rows_of_the_named_classes_only():
    draw = draw_counts(Y, {"pos": 2}, test_rows=np.arange(15, 23))
    assert draw.test.tolist() == [20, 21, 22]
    draw = draw_counts(Y, {"pos": 2, "neg": 0}, test_rows=np.arange(15, 23))
    assert draw.test.tolist() == list(range(15, 23))


def test_balanced_test_drawn_from_fixed_rows():
    draw = draw_counts(Y, 2, test=3, test_rows=np.arange(10, 25), random_state=0)
    assert sizes(draw)[2] == [3, 3]
    assert set(draw.test.tolist()) <= set(range(10, 25))
    with pytest.raises(ValueError, match=r"Class 'pos' has 5 rows to draw from; asked for 6 \(test\)"):
        draw_counts(Y, 2, test=6, test_rows=np.arange(10, 25))


def test_papers_aps_protocol(real_data):
    """Liu et al., table 8, with the test set that the partial files allow."""
    from skreweight.datasets import fetch_aps_failure

    aps = fetch_aps_failure(real_data("aps_failure"), "all", download_if_missing=False)
    y = aps.target.to_numpy()
    n_test = 1000 if (y == "pos").sum() > 1300 else 300
    draw = draw_counts(aps.target, {"neg": 10_000, "pos": 10}, validation=5, test=n_test, random_state=0)
    assert [len(rows) for rows in draw] == [10_010, 10, 2 * n_test]


def test_types():
    draw = draw_counts(pd.Series(Y, index=np.arange(28) + 100), 2)
    assert isinstance(draw, Draw)
    assert all(rows.dtype == np.intp for rows in draw)


def test_random_state_may_be_a_generator_state():
    rng = np.random.RandomState(0)
    first, second = (subsample(Y, 4, random_state=rng) for _ in range(2))
    np.testing.assert_array_equal(first, subsample(Y, 4, random_state=0))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": {"neg": 5, "pos": 4}, "validation": 3, "test": 2},
         r"Class 'pos' has 8 rows to draw from; asked for 2 \(test\) \+ 3 \(validation\) \+ 4 \(train\)"),
        ({"train": {"neg": 5}, "rows": [1, 2]}, r"Class 'neg' has 2 rows to draw from; asked for .*5 \("),
        ({"train": {"maybe": 5}}, r"train names the class 'maybe'.*\['neg', 'pos'\]"),
        ({"train": 2, "validation": {1: 5}}, "validation names the class 1"),
        ({"train": [1, 2, 3]}, "train has 3 counts; y has 2 classes"),
        ({"train": 2, "test": -1}, "test asks for -1 rows"),
        ({"train": 2, "rows": [0, 28]}, "rows must be from 0 to 27, got 0 to 28"),
        ({"train": 2, "test_rows": [-1]}, "test_rows must be from 0 to 27"),
        ({"train": 2, "rows": [True, False]}, r"rows is a mask of shape \(2,\); y has 28 rows"),
    ],
)  # fmt: skip
def test_impossible_draws_say_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_counts(Y, **arguments)


@pytest.mark.parametrize("arguments", [{"train": 1.5}, {"train": [1.0, 2.0]}, {"train": 1, "rows": [0.5]}])
def test_fractions_are_no_counts(arguments):
    with pytest.raises(TypeError):
        draw_counts(Y, **arguments)


# Profiles of counts.


def test_long_tail_of_cifar10():
    """The counts of the data set that Qi et al. trained on, as made by Cao et al. (2019)."""
    assert long_tailed_counts(5000, 100, 10).tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_long_tail_of_the_real_file(real_data):
    from skreweight.datasets import load_cifar

    y = load_cifar("cifar10-lt100", real_data("cifar10_lt100.npz")).target
    assert np.bincount(y).tolist() == long_tailed_counts(5000, 100, 10).tolist()


@given(st.integers(1, 500), st.integers(1, 300), st.integers(2, 200))
def test_long_tail_falls_from_n_max_to_the_ratio(last, ratio, n_classes):
    counts = long_tailed_counts(last * ratio, ratio, n_classes)
    assert counts[0] == last * ratio and counts[-1] == last and len(counts) == n_classes
    assert (np.diff(counts) <= 0).all()
    for i, n in enumerate(counts.tolist()):
        # n_i = n_0 ρ^(-i/(C-1)) rounded down, in whole numbers: n^(C-1) ρ^i <= n_0^(C-1) < (n+1)^(C-1) ρ^i.
        power = (last * ratio) ** (n_classes - 1)
        assert n ** (n_classes - 1) * ratio**i <= power < (n + 1) ** (n_classes - 1) * ratio**i


@given(st.integers(1, 500), st.integers(1, 300), st.integers(2, 200), st.data())
def test_steps(last, ratio, n_classes, data):
    n_minority = data.draw(st.integers(1, n_classes - 1))
    counts = step_counts(last * ratio, ratio, n_classes, n_minority=n_minority)
    assert counts.tolist() == [last * ratio] * (n_classes - n_minority) + [last] * n_minority


def test_half_of_the_classes_are_rare():
    assert step_counts(10, 3, 5).tolist() == [10, 10, 10, 3, 3]


@pytest.mark.parametrize("profile", [long_tailed_counts, step_counts])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 2, 1), "n_classes must be at least 2"),
        ((10, 0.5, 3), "ratio must be at least 1"),
        ((10, 20, 3), "The rarest class would get no row"),
    ],
)
def test_impossible_profiles(profile, arguments, message):
    with pytest.raises(ValueError, match=message):
        profile(*arguments)


@pytest.mark.parametrize("n_minority", [0, 3])
def test_impossible_number_of_minority_classes(n_minority):
    with pytest.raises(ValueError, match="n_minority must be from 1 to 2"):
        step_counts(10, 2, 3, n_minority=n_minority)


# Label noise.


@pytest.mark.parametrize("classes", ALPHABETS, ids=str)
def test_symmetric_noise(classes):
    y = np.repeat(classes, 4000)
    noisy = flip_labels(y, 0.3, random_state=0)
    assert noisy.dtype == y.dtype
    for label in np.unique(y):
        found = noisy[y == label]
        for other in np.unique(y):
            expected = 0.7 if other == label else 0.3 / (len(classes) - 1)
            assert (found == other).mean() == pytest.approx(expected, abs=0.03)


def test_given_transition():
    transition = np.array([[0.5, 0.5, 0], [0, 1, 0], [0.1, 0.2, 0.7]])
    y = np.tile(["c", "a", "b"], 5000)
    noisy = flip_labels(y, transition, random_state=0)
    found = [[(noisy[y == a] == b).mean() for b in "abc"] for a in "abc"]
    np.testing.assert_allclose(found, transition, atol=0.03)
    assert (np.array(found)[transition == 0] == 0).all()


@given(problems(), seeds)
def test_no_noise_and_certain_noise(problem, seed):
    y, *_ = problem
    np.testing.assert_array_equal(flip_labels(y, 0, random_state=seed), y)
    if len(np.unique(y)) > 1:
        assert (flip_labels(y, 1, random_state=seed) != y).all()


@given(problems(), seeds, st.floats(0, 1))
def test_same_seed_same_noise_and_y_untouched(problem, seed, rate):
    y, *_ = problem
    before = y.copy()
    one, two = (flip_labels(y, rate, random_state=seed) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(y, before)
    assert set(one.tolist()) <= set(y.tolist())


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (1.5, "noise must be from 0 to 1, got 1.5"),
        (-0.1, "noise must be from 0 to 1"),
        ([0.5, 0.5], r"noise has shape \(2,\); y has 2 classes"),
        (np.eye(3), r"noise has shape \(3, 3\)"),
        ([[0.5, 0.4], [0, 1]], "sum to 1"),
        ([[1.5, -0.5], [0, 1]], "probabilities"),
    ],
)
def test_impossible_noise(noise, message):
    with pytest.raises(ValueError, match=message):
        flip_labels(Y, noise)


def test_wrong_labels_need_another_class():
    with pytest.raises(ValueError, match="at least two classes; y has 1"):
        flip_labels(["a", "a"], 0.1)
