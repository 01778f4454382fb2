import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from skreweight.datasets import load_cifar


class Python2:
    """Pickles dicts, lists, ints, strings and uint8 arrays as Python 2 with NumPy 1 did for CIFAR's files."""

    def __init__(self, value):
        self.bytes = b"\x80\x02" + self.of(value) + b"."

    def of(self, value):
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, str):
            return b"T" + struct.pack("<i", len(value)) + value.encode("latin1")
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, list):
            return b"](" + b"".join(map(self.of, value)) + b"e"
        items = b"".join(self.of(key) + self.of(item) for key, item in value.items())
        return b"}(" + items + b"u"

    def array(self, value):
        empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + self.of("b") + b"tR"
        dtype = b"cnumpy\ndtype\n(" + self.of("u1") + b"K\x00K\x01tR"
        dtype += b"(K\x03" + self.of("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        shape = b"(" + b"".join(map(self.of, value.shape)) + b"t"
        return empty + b"(K\x01" + shape + dtype + b"\x89" + self.of(value.tobytes().decode("latin1")) + b"tb"


def python_2(value):
    return Python2(value).bytes


def python_3(value):
    return pickle.dumps(value, protocol=4)


def write_cifar(home: Path, name: str, dump=python_2) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Write a data set of 3 images a file and return the planes and labels of each split."""
    rng = np.random.default_rng(0)
    hundred = name == "cifar100"
    folder = home / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    folder.mkdir()
    files = ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    labels_key = "fine_labels" if hundred else "labels"
    names = [f"class {i}" for i in range(100 if hundred else 10)]
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(
        dump({"fine_label_names" if hundred else "label_names": names})
    )
    splits: dict = {"train": ([], []), "test": ([], [])}
    for file in files:
        data = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
        labels = rng.integers(0, len(names), 3).tolist()
        content = {"data": data, labels_key: labels, "filenames": ["a.png"] * 3}
        (folder / file).write_bytes(dump(content))
        planes, kept = splits["test" if "test" in file else "train"]
        planes.append(data.reshape(3, 3, 32, 32))
        kept.extend(labels)
    return {split: (np.concatenate(planes), labels) for split, (planes, labels) in splits.items()}


@pytest.mark.parametrize("dump", [python_2, python_3])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_python_version(tmp_path, name, split, dump):
    planes, labels = write_cifar(tmp_path, name, dump)[split]
    cifar = load_cifar(name, tmp_path, split=split)
    assert cifar.data.dtype == np.uint8 and cifar.target.dtype == np.int64
    for image, channels in zip(cifar.data, planes, strict=True):
        for channel in range(3):
            np.testing.assert_array_equal(image[:, :, channel], channels[channel])
    assert cifar.target.tolist() == labels
    assert cifar.target_names[:2] == ["class 0", "class 1"]
    assert len(cifar.source) == (5 if (name, split) == ("cifar10", "train") else 1)


def test_emulated_python_2_is_what_pickle_reads():
    value = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2], "names": ["é", ""]}
    read = pickle.loads(python_2(value), encoding="latin1")
    np.testing.assert_array_equal(read.pop("data"), value.pop("data"))
    assert read == value


def test_scaled_images_are_float_planes(tmp_path):
    planes, _ = write_cifar(tmp_path, "cifar100")["train"]
    X, y = load_cifar("cifar100", tmp_path, scaled=True, return_X_y=True)
    assert X.dtype == np.float32 and X.flags.c_contiguous and len(y) == 3
    np.testing.assert_array_equal(X, planes.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("scaled", [False, True])
def test_npz(tmp_path, scaled):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / "cifar100_apple_fish.npz"
    labels = np.array([0, 1, 1], dtype=np.int8)
    np.savez(
        path,
        X_train=images[:3],
        y_train=labels,
        X_test=images[3:],
        y_test=labels[:1],
        classes=np.array(["apple", "fish"]),
    )
    cifar = load_cifar("cifar100-apple-fish", tmp_path, scaled=scaled)
    expected = images[:3].transpose(0, 3, 1, 2) / 255 if scaled else images[:3]
    np.testing.assert_allclose(cifar.data, expected, rtol=1e-6)
    assert cifar.target.tolist() == [0, 1, 1] and cifar.target.dtype == np.int64
    assert cifar.target_names == ["apple", "fish"]
    assert cifar.source == [str(path)]
    assert len(load_cifar("cifar100-apple-fish", tmp_path, split="test").data) == 1


def test_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "cifar10_lt100.npz", X_train=np.zeros((2, 3)), y_train=np.zeros(2), classes=["a"])
    with pytest.raises(ValueError, match=r"damaged or foreign: uint8 images.*are expected, got"):
        load_cifar("cifar10-lt100", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar100-apple-fish", "cifar10-lt100"])
def test_missing_files(tmp_path, name):
    with pytest.raises(OSError, match=r"not found in .*SKREWEIGHT_DATA") as caught:
        load_cifar(name, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_one_missing_batch_is_named(tmp_path):
    write_cifar(tmp_path, "cifar10")
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(OSError, match="data_batch_4"):
        load_cifar("cifar10", tmp_path)


@pytest.mark.parametrize(("argument", "value"), [("name", "mnist"), ("split", "valid")])
def test_unknown_choice(tmp_path, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be one of"):
        load_cifar(**{argument: value}, data_home=tmp_path)


class Attack:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.mkdir, eval, __import__, getattr], ids=lambda call: call.__name__)
def test_pickle_that_asks_for_code_is_refused(tmp_path, call):
    write_cifar(tmp_path, "cifar100")
    mark = tmp_path / "mark"
    code = Attack(call, f"__import__('os').mkdir({str(mark)!r})" if call is eval else str(mark))
    (tmp_path / "cifar-100-python" / "train").write_bytes(python_3({"data": code, "fine_labels": []}))
    with pytest.raises(ValueError, match=f"damaged or foreign .*it asks for .*{call.__name__}"):
        load_cifar("cifar100", tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        python_2({"data": np.zeros((3, 3072), np.uint8), "fine_labels": [0, 1]}),
        python_2({"data": np.zeros((2, 30), np.uint8), "fine_labels": [0, 1]}),
        python_2({"data": [1, 2], "fine_labels": [0, 1]}),
        python_2({"fine_labels": [0, 1]}),
        python_2([1, 2]),
        python_2({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 1]})[:3000],
        *(np.random.default_rng(seed).bytes(500) for seed in range(20)),
    ],
)
def test_damaged_or_foreign_pickle(tmp_path, content):
    write_cifar(tmp_path, "cifar100")
    path = tmp_path / "cifar-100-python" / "train"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or foreign") as caught:
        load_cifar("cifar100", tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("cifar100-apple-fish", [500, 500], [100, 100]),
        ("cifar10-lt100", [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50], [500] * 10),
    ],
)
def test_real_files(real_data, name, train, test):
    home = real_data(name.replace("-", "_") + ".npz")
    for split, counts in (("train", train), ("test", test)):
        cifar = load_cifar(name, home, split=split)
        assert np.bincount(cifar.target).tolist() == counts
        assert cifar.data.shape == (sum(counts), 32, 32, 3)
        assert 80 < cifar.data.mean() < 180
