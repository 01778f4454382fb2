import numpy as np
import pandas as pd
import pytest

from skreweight.datasets import load_sst

SPLIT = np.array(["train", "train", "dev", "test", "train", "test"])


def save(path, k=2, **changes):
    arrays = {
        "X": np.arange(24, dtype=np.float16).reshape(6, 4) / 8,
        "y": np.arange(6, dtype=np.int8) % k,
        "split": SPLIT,
    }
    np.savez(path, **(arrays | changes))
    return path


@pytest.mark.parametrize("k", [2, 5])
def test_arrays(tmp_path, k):
    path = save(tmp_path / f"sst{k}_minilm.npz", k)
    sst = load_sst(k, tmp_path)
    np.testing.assert_array_equal(sst.data, np.arange(24, dtype=np.float32).reshape(6, 4) / 8)
    assert sst.data.dtype == np.float32 and sst.target.dtype == np.int64
    assert sst.target.tolist() == [i % k for i in range(6)]
    assert sst.split.tolist() == SPLIT.tolist()
    assert len(sst.target_names) == k and sst.frame is None
    assert sst.source == [str(path)]


@pytest.mark.parametrize(("split", "rows"), [("train", [0, 1, 4]), ("dev", [2]), ("test", [3, 5])])
def test_split(tmp_path, split, rows):
    save(tmp_path / "sst2_minilm.npz")
    every, part = load_sst(2, tmp_path), load_sst(2, tmp_path, split=split)
    np.testing.assert_array_equal(part.data, every.data[rows])
    np.testing.assert_array_equal(part.target, every.target[rows])
    assert set(part.split) == {split}


def test_frame_and_X_y(tmp_path):
    save(tmp_path / "sst2_minilm.npz")
    sst = load_sst(2, tmp_path, as_frame=True)
    assert list(sst.frame.columns) == [*sst.feature_names, "sentiment"]
    X, y = load_sst(2, tmp_path, as_frame=True, return_X_y=True)
    pd.testing.assert_frame_equal(X, sst.data)
    pd.testing.assert_series_equal(y, sst.target)
    assert isinstance(load_sst(2, tmp_path, return_X_y=True)[0], np.ndarray)


def test_features_of_another_encoder(tmp_path):
    save(tmp_path / "sst2_bert.npz", X=np.ones((6, 768), dtype=np.float32))
    assert load_sst(2, tmp_path, encoder="bert").data.shape == (6, 768)


def test_missing_file(tmp_path):
    with pytest.raises(OSError, match=r"sst5_minilm\.npz not found in .*encode_sentences"):
        load_sst(5, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"X": np.zeros(6)},
        {"X": np.zeros((5, 4))},
        {"y": np.arange(6)},
        {"y": np.array(list("aabbcc"))},
        {"split": np.array(["fit"] * 6)},
        {"split": np.array(["train"] * 6, dtype=object)},
    ],
    ids=["flat X", "rows", "classes", "letters", "split", "pickled objects"],
)
def test_foreign_arrays(tmp_path, changes):
    path = save(tmp_path / "sst2_minilm.npz", **changes)
    with pytest.raises(ValueError, match="damaged or foreign") as caught:
        load_sst(2, tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "npy", "missing array"])
def test_damaged_file(tmp_path, damage):
    path = tmp_path / "sst2_minilm.npz"
    content = bytearray(save(path).read_bytes())
    if damage == "cut":
        path.write_bytes(content[:200])
    elif damage == "flipped":
        content[150] ^= 0xFF
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("X,y,split\n")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        np.savez(path, X=np.zeros((6, 4)), y=np.zeros(6))
    with pytest.raises(ValueError, match="damaged or foreign"):
        load_sst(2, tmp_path)


@pytest.mark.parametrize(("argument", "value"), [("k", 3), ("split", "valid")])
def test_unknown_choice(tmp_path, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be one of"):
        load_sst(**{argument: value}, data_home=tmp_path)


@pytest.mark.parametrize(
    ("k", "sizes"),
    [(2, {"train": 6920, "dev": 872, "test": 1821}), (5, {"train": 8544, "dev": 1101, "test": 2210})],
)
def test_real_files(real_data, k, sizes):
    home = real_data(f"sst{k}_minilm.npz")
    for split, size in sizes.items():
        X, y = load_sst(k, home, split=split, return_X_y=True)
        assert X.shape == (size, 384) and len(y) == size and set(y) == set(range(k))
        np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-3)


def test_class_names_of_the_two_data_sets_agree(real_data):
    home = real_data("sst2_minilm.npz")
    real_data("sst5_minilm.npz")
    two, five = load_sst(2, home), load_sst(5, home)
    names = {x.tobytes(): five.target_names[y] for x, y in zip(five.data, five.target, strict=True)}
    for x, y in zip(two.data, two.target, strict=True):
        assert names[x.tobytes()].split()[-1] == two.target_names[y]
