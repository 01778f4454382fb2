"""The pipeline from sentences, on an encoder of a few parameters made here."""

import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.utils import check_random_state
from torch import nn

from skreweight.datasets import (
    TextEncoder,
    encode_sentences,
    fine_tune_encoder,
    imbalance,
    load_sst,
)

WORDS = ["film", "plot", "the", "a", "good", "fine", "bad", "dull"]
SENTENCES = ["a good film", "the plot a fine plot", "bad", "a dull bad film the plot"] * 5
LABELS = ["pos", "pos", "neg", "neg"] * 5


class Tokenizer:
    """Words to numbers, in the form of Hugging Face: 0 pads."""

    def __call__(self, sentences, padding, truncation, max_length, return_tensors):
        assert padding is True and truncation is True and return_tensors == "pt"
        rows = [[WORDS.index(word) + 1 for word in s.split()][:max_length] for s in sentences]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class Model(nn.Module):
    """A hidden state for each word; that of the padding is far off, so that it would be noticed."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS) + 1, 3)
        with torch.no_grad():
            self.embedding.weight[0] = 1e6
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.dropout(self.embedding(input_ids)))


@pytest.fixture
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextEncoder(Tokenizer(), Model(), device="cpu")


def mean_of_words(encoder, sentence):
    vectors = encoder.module.embedding.weight.detach().numpy()
    return np.mean([vectors[WORDS.index(word) + 1] for word in sentence.split()], axis=0)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_vector_is_the_mean_over_the_words(encoder, batch_size):
    X = encode_sentences(SENTENCES, encoder, batch_size=batch_size)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, [mean_of_words(encoder, s) for s in SENTENCES], rtol=1e-6)


def test_long_sentences_are_cut():
    encoder = TextEncoder(Tokenizer(), Model(), max_length=2, device="cpu")
    np.testing.assert_array_equal(encoder.encode(["a dull bad film"]), encoder.encode(["a dull"]))


def test_dropout_is_off_when_encoding():
    encoder = TextEncoder(Tokenizer(), Model(dropout=0.9), device="cpu")
    encoder.module.train()
    np.testing.assert_allclose(
        encode_sentences(["a film"], encoder)[0], mean_of_words(encoder, "a film"), rtol=1e-6
    )


def test_device_auto_is_one_of_the_machine():
    encoder = TextEncoder(Tokenizer(), Model())
    assert encoder.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert encoder.encode(["a film"]).shape == (1, 3)


def test_any_object_with_encode():
    sizes = []

    class Lengths:
        def encode(self, sentences):
            sizes.append(len(sentences))
            return [[len(s), 1.0] for s in sentences]

    X = encode_sentences(np.array(SENTENCES), Lengths(), batch_size=8)
    assert X[:, 0].tolist() == [len(s) for s in SENTENCES]
    assert sizes == [8, 8, 4]


def test_encoder_that_returns_something_else():
    class Flat:
        def encode(self, sentences):
            return [len(s) for s in sentences]

    with pytest.raises(ValueError, match=r"Flat.encode must return one row per sentence, got shape \(20,\)"):
        encode_sentences(SENTENCES, Flat())


def test_no_sentence(encoder):
    with pytest.raises(ValueError, match="no sentence"):
        encode_sentences([], encoder)


# Fine-tuning.


def accuracy_of_nearest_mean(X):
    y = np.array(LABELS)
    means = {label: X[y == label].mean(axis=0) for label in ("neg", "pos")}
    nearest = [min(means, key=lambda label: np.linalg.norm(x - means[label])) for x in X]
    return np.mean(np.array(nearest) == y)


def test_fine_tuning_separates_the_classes(encoder):
    with torch.no_grad():
        encoder.module.embedding.weight[1:] = 1.0  # no word says anything
    assert np.ptp(encode_sentences(SENTENCES, encoder), axis=0).max() < 1e-6
    tuned = fine_tune_encoder(encoder, SENTENCES, LABELS, epochs=10, lr=0.05, random_state=0)
    assert accuracy_of_nearest_mean(encode_sentences(SENTENCES, tuned)) == 1


def test_fine_tuning_leaves_the_encoder_and_the_generators_alone(encoder):
    before = {name: value.clone() for name, value in encoder.module.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), pickle.dumps(check_random_state(None))
    # A seed of its own: after another test's, an overwritten generator could look untouched.
    tuned = fine_tune_encoder(encoder, SENTENCES, LABELS, epochs=1, lr=0.1, random_state=123)
    for name, value in encoder.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not torch.equal(tuned.module.embedding.weight, encoder.module.embedding.weight)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert pickle.dumps(check_random_state(None)) == numpy_state
    assert not tuned.module.training


def test_fine_tuning_with_one_seed_is_one_result():
    encoder = TextEncoder(Tokenizer(), Model(dropout=0.5), device="cpu")

    def weights(seed):
        return fine_tune_encoder(
            encoder, SENTENCES, LABELS, lr=0.1, random_state=seed
        ).module.embedding.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_fine_tuning_takes_the_papers_number_of_steps(encoder, monkeypatch):
    """Liu et al., table 3: Adam(5e-6), 5 epochs, batches of 8."""
    made, steps = [], []

    class Adam(torch.optim.Adam):
        def __init__(self, params, lr):
            made.append(lr)
            super().__init__(params, lr=lr)

        def step(self):
            steps.append(1)
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    fine_tune_encoder(encoder, SENTENCES, LABELS, random_state=0)
    assert made == [5e-6]
    assert len(steps) == 5 * 3  # 20 sentences: 8, 8 and 4


def test_fine_tuning_prints_only_when_asked(encoder, capsys):
    fine_tune_encoder(encoder, SENTENCES, LABELS, epochs=2, random_state=0)
    assert capsys.readouterr().out == ""
    fine_tune_encoder(encoder, SENTENCES, LABELS, epochs=2, random_state=0, verbose=True)
    assert capsys.readouterr().out.startswith("epoch 1/2: mean loss 0.")


@pytest.mark.parametrize(
    ("y", "message"), [(LABELS[:3], "20 sentences but 3 labels"), (["pos"] * 20, "two classes, got 1")]
)
def test_labels_that_do_not_fit(encoder, y, message):
    with pytest.raises(ValueError, match=message):
        fine_tune_encoder(encoder, SENTENCES, y)


def test_whole_pipeline_of_the_docstring(encoder, tmp_path):
    y = np.array([1, 1, 0, 0] * 5)
    split = np.array(["train"] * 12 + ["dev"] * 4 + ["test"] * 4)
    tune = imbalance.subsample(y, 3, rows=np.flatnonzero(split == "train"), random_state=0)
    assert np.bincount(y[tune]).tolist() == [3, 3] and set(split[tune]) == {"train"}
    tuned = fine_tune_encoder(encoder, [SENTENCES[i] for i in tune], y[tune], epochs=1, random_state=0)
    kept = np.setdiff1d(np.arange(len(y)), tune)
    X = encode_sentences([SENTENCES[i] for i in kept], tuned)
    np.savez(tmp_path / "sst2_bert.npz", X=X, y=y[kept], split=split[kept])
    sst = load_sst(2, tmp_path, encoder="bert")
    np.testing.assert_array_equal(sst.data, X)
    assert (sst.split == "train").sum() == 12 - 6


# Names of models.


def fake_package(monkeypatch, name, **contents):
    package = ModuleType(name)
    vars(package).update(contents)
    monkeypatch.setitem(sys.modules, name, package)


def test_name_is_loaded_by_transformers(monkeypatch):
    loaded = []

    def loader(result):
        return SimpleNamespace(from_pretrained=lambda name: loaded.append(name) or result)

    fake_package(monkeypatch, "transformers", AutoTokenizer=loader(Tokenizer()), AutoModel=loader(Model()))
    assert encode_sentences(SENTENCES, "bert-base-uncased").shape == (20, 3)
    assert loaded == ["bert-base-uncased"] * 2


def test_name_is_loaded_by_sentence_transformers(monkeypatch):
    def model(name):
        assert name == "sentence-transformers/all-MiniLM-L6-v2"
        return SimpleNamespace(encode=lambda sentences: np.ones((len(sentences), 384)))

    fake_package(monkeypatch, "sentence_transformers", SentenceTransformer=model)
    assert encode_sentences(SENTENCES, "sentence-transformers/all-MiniLM-L6-v2").shape == (20, 384)


@pytest.mark.parametrize(
    ("name", "module", "distribution"),
    [
        ("bert-base-uncased", "transformers", "transformers"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence_transformers", "sentence-transformers"),
    ],
)
def test_missing_package_is_named(monkeypatch, name, module, distribution):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {distribution}"):
        encode_sentences(SENTENCES, name)


def test_real_bert_of_a_few_parameters(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=13, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    bert = TextEncoder.from_pretrained(str(tmp_path), device="cpu")
    one, many = (encode_sentences(SENTENCES, bert, batch_size=size) for size in (1, 20))
    np.testing.assert_allclose(one, many, atol=1e-5)  # padding does not matter
    tuned = fine_tune_encoder(bert, SENTENCES, LABELS, epochs=20, lr=1e-3, random_state=0)
    assert accuracy_of_nearest_mean(encode_sentences(SENTENCES, tuned)) == 1
