"""From sentences to features: an encoder, and its fine-tuning as in Liu et al. (2022), section 4.1."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn


class TextEncoder:
    """A tokenizer and a torch module that turn a sentence into one vector.

    The vector is the mean of the module's last hidden states over the tokens of the sentence, padding left
    out.

    Parameters
    ----------
    tokenizer : callable
        `tokenizer(sentences, padding=True, truncation=True, max_length=..., return_tensors="pt")` returns a
        mapping of tensors with `attention_mask` of shape (n_sentences, n_tokens) among them, as the
        tokenizers of Hugging Face do.
    module : torch.nn.Module
        Called with that mapping as keyword arguments; its output has `last_hidden_state` of shape
        (n_sentences, n_tokens, n_dimensions).
    max_length : int, default=128
        Longer sentences are cut to so many tokens.
    device : str or torch.device, default="auto"
        Where the module runs, and is moved to; "auto" is CUDA where there is one, else the CPU.

    Attributes
    ----------
    device : torch.device

    Examples
    --------
    >>> from skreweight.datasets import TextEncoder
    >>> encoder = TextEncoder.from_pretrained("bert-base-uncased")  # doctest: +SKIP
    >>> encoder.encode(["A fine film.", "Dull."]).shape  # doctest: +SKIP
    (2, 768)
    """

    def __init__(
        self,
        tokenizer: Callable[..., Any],
        module: nn.Module,
        *,
        max_length: int = 128,
        device: str | torch.device = "auto",
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.module = module.to(self.device)
        self.max_length = max_length

    @classmethod
    def from_pretrained(
        cls, name: str = "bert-base-uncased", *, max_length: int = 128, device: str | torch.device = "auto"
    ) -> TextEncoder:
        """Load a model of Hugging Face Transformers by its name or folder, as that library does.

        Parameters
        ----------
        name : str, default="bert-base-uncased"
            The default is the model of Liu et al. (2022).
        max_length : int, default=128
            As in the class.
        device : str or torch.device, default="auto"
            As in the class.

        Returns
        -------
        encoder : TextEncoder

        Raises
        ------
        ImportError
            If the package transformers is not installed.
        OSError
            If the model is neither on this machine nor can be downloaded.
        """
        transformers = _optional("transformers", "transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        module = transformers.AutoModel.from_pretrained(name)
        return cls(tokenizer, module, max_length=max_length, device=device)

    def embed(self, sentences: Sequence[str]) -> Tensor:
        """Return the vectors of one batch as a tensor that gradients flow through.

        Parameters
        ----------
        sentences : sequence of str

        Returns
        -------
        vectors : Tensor of shape (n_sentences, n_dimensions)
            On the encoder's device.
        """
        inputs = self.tokenizer(
            list(sentences), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        states = self.module(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of one batch, with dropout off.

        Parameters
        ----------
        sentences : sequence of str

        Returns
        -------
        vectors : ndarray of shape (n_sentences, n_dimensions), float32
        """
        self.module.eval()
        with torch.inference_mode():
            return self.embed(sentences).float().cpu().numpy()


def encode_sentences(
    sentences: Sequence[str], encoder: Any = "bert-base-uncased", *, batch_size: int = 32
) -> NDArray[np.float32]:
    """Turn sentences into features.

    Parameters
    ----------
    sentences : sequence of str of length n_sentences
    encoder : str or object, default="bert-base-uncased"
        A name that begins with ``sentence-transformers/`` is loaded by the package sentence-transformers,
        with that model's own pooling; any other name by :meth:`TextEncoder.from_pretrained`. An object needs
        a method `encode(sentences)` that takes a list of str and returns an array with one row for each: a
        TextEncoder, a `SentenceTransformer`, a bert-as-service client.
    batch_size : int, default=32
        Sentences per call of `encode`.

    Returns
    -------
    X : ndarray of shape (n_sentences, n_dimensions), float32

    Raises
    ------
    ImportError
        If a name is given and the package that loads it is not installed.
    ValueError
        If `encode` does not return one row per sentence, or there is no sentence.

    Notes
    -----
    The features of Liu et al. (2022), section 4.1, from sentences, labels and splits that you have, for
    instance from the data sets `SetFit/sst2` and `SetFit/sst5` of the Hugging Face hub: 500 training
    sentences of each class fine-tune BERT and are not used again ::

        train = np.flatnonzero(split == "train")
        tune = imbalance.subsample(y, 500, rows=train, random_state=0)
        bert = fine_tune_encoder(
            TextEncoder.from_pretrained("bert-base-uncased"), [sentences[i] for i in tune], y[tune]
        )
        kept = np.setdiff1d(np.arange(len(y)), tune)
        X = encode_sentences([sentences[i] for i in kept], bert)
        np.savez("sst2_bert.npz", X=X, y=y[kept], split=split[kept])

    and ``load_sst(2, data_home=".", encoder="bert")`` reads them back. The paper takes its vectors from
    bert-as-service, whose default is the mean over the tokens of the last layer but one; here it is that of
    the last layer, which is the one that fine-tuning shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from skreweight.datasets import encode_sentences
    >>> class Lengths:
    ...     def encode(self, sentences):
    ...         return np.array([[len(sentence), sentence.count(" ") + 1] for sentence in sentences])
    >>> encode_sentences(["a fine film", "dull"], Lengths())
    array([[11.,  3.],
           [ 4.,  1.]], dtype=float32)
    """
    sentences = list(sentences)
    if not sentences:
        raise ValueError("encode_sentences got no sentence.")
    if isinstance(encoder, str):
        encoder = _load(encoder)
    batches = [sentences[start : start + batch_size] for start in range(0, len(sentences), batch_size)]
    X = np.concatenate([np.asarray(encoder.encode(batch), dtype=np.float32) for batch in batches])
    if X.ndim != 2 or len(X) != len(sentences):
        raise ValueError(
            f"{type(encoder).__name__}.encode must return one row per sentence, got shape {X.shape} for "
            f"{len(sentences)} sentences."
        )
    return X


def fine_tune_encoder(
    encoder: TextEncoder,
    sentences: Sequence[str],
    y: ArrayLike,
    *,
    epochs: int = 5,
    lr: float = 5e-6,
    batch_size: int = 8,
    random_state: int | np.random.RandomState | None = None,
    verbose: bool = False,
) -> TextEncoder:
    """Train an encoder to classify sentences, so that its vectors suit them.

    A linear layer on top of the vectors and the encoder are trained together, by Adam on the cross-entropy;
    the linear layer is then thrown away. The defaults are those of Liu et al. (2022), section 4.1 and table
    3, which takes 500 sentences of each class.

    Parameters
    ----------
    encoder : TextEncoder
        Left as it is; a copy is trained. Of a `SentenceTransformer` named `model` it is
        ``TextEncoder(model.tokenizer, model[0].auto_model)``.
    sentences : sequence of str of length n_sentences
    y : array-like of shape (n_sentences,)
        Their classes.
    epochs : int, default=5
    lr : float, default=5e-6
        Adam's learning rate.
    batch_size : int, default=8
    random_state : int, RandomState instance or None, default=None
        Order of the sentences, start of the linear layer and dropout.
    verbose : bool, default=False
        Print the mean loss of each epoch.

    Returns
    -------
    tuned : TextEncoder

    Raises
    ------
    ValueError
        If the numbers of sentences and labels differ, or there are fewer than two classes.

    Examples
    --------
    >>> from skreweight.datasets import TextEncoder, fine_tune_encoder
    >>> bert = TextEncoder.from_pretrained("bert-base-uncased")  # doctest: +SKIP
    >>> tuned = fine_tune_encoder(bert, ["A fine film.", "Dull."], [1, 0])  # doctest: +SKIP
    """
    sentences = list(sentences)
    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    if len(sentences) != len(codes):
        raise ValueError(f"{len(sentences)} sentences but {len(codes)} labels: give one label per sentence.")
    if len(classes) < 2:
        raise ValueError(f"fine_tune_encoder needs sentences of at least two classes, got {len(classes)}.")
    rng = check_random_state(random_state)
    tuned = copy.copy(encoder)
    tuned.module = copy.deepcopy(encoder.module)
    targets = torch.as_tensor(codes, device=tuned.device)
    # Dropout draws from torch's global generators, which are put back as they were.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(rng.randint(2**31 - 1))
        n_dimensions = tuned.encode([sentences[0]]).shape[1]
        head = nn.Linear(n_dimensions, len(classes)).to(tuned.device)
        optimizer = torch.optim.Adam([*tuned.module.parameters(), *head.parameters()], lr=lr)
        tuned.module.train()
        for epoch in range(epochs):
            losses = []
            order = rng.permutation(len(sentences))
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                logits = head(tuned.embed([sentences[i] for i in batch]))
                loss = nn.functional.cross_entropy(logits, targets[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            if verbose:
                print(f"epoch {epoch + 1}/{epochs}: mean loss {torch.stack(losses).mean().item():.4f}")
    tuned.module.eval()
    return tuned


def _load(name: str) -> Any:
    """Return the encoder that a name stands for."""
    if name.startswith("sentence-transformers/"):
        package = _optional("sentence_transformers", "sentence-transformers")
        return package.SentenceTransformer(name)
    return TextEncoder.from_pretrained(name)


def _optional(module: str, distribution: str) -> ModuleType:
    """Import an optional package, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"Encoding sentences by the name of a model needs {distribution}: pip install {distribution}."
        ) from error
