"""Fits in threads equal serial ones bit for bit, and torch's global generator stays where it was."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight.core.random_state import Draws, Stream, drawing, own_generator

GENERATOR = np.random.default_rng(0)
Y = (GENERATOR.random(120) < 0.2).astype(int)
X = (GENERATOR.normal(size=(120, 4)) + Y[:, None]).astype(np.float32)
CPU = torch.device("cpu")


class Generic(nn.Module):
    """No chain: the forward pass draws from torch's global generator, which dropout alone can."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_classes)
        )

    def forward(self, x):
        hidden = nn.functional.dropout(self.layers[0](x), 0.3, self.training)
        if self.training:
            hidden = hidden + 0.01 * torch.randn_like(hidden)
        return self.layers[1:](hidden)


class Noise(Callback):
    """Draws from the global generator in the middle of training."""

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for _, parameter in named_parameters:
            parameter.grad.add_(torch.randn_like(parameter), alpha=1e-3)


CASES = {
    "chain": {},
    "dropout of a chain": dict(module__dropout=0.3),
    "any module": dict(module=Generic),
    "a callback": dict(callbacks=[Noise()]),
    "a loader": dict(iterator_train=DataLoader),
    "sampling": dict(sampling="balanced", validation_batch_size=2),
    "a best step": dict(keep_best="step", validation_data=3),
}


def fitted(seed, weighting, params):
    net = ReweightedClassifier(
        weighting=weighting,
        warmup_epochs=1,
        max_epochs=2,
        batch_size=16,
        random_state=seed,
        device="cpu",
        **params,
    )
    return net.fit(X, Y).predict_proba(X)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighting", ["none", "hu", "ours"])
def test_threads_equal_serial(weighting, case):
    serial = [fitted(seed, weighting, CASES[case]) for seed in range(4)]
    state = torch.get_rng_state()
    threads = Parallel(n_jobs=4, backend="threading")(
        delayed(fitted)(seed, weighting, CASES[case]) for seed in range(4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(serial, threads, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ensembles_in_threads_equal_serial():
    def ensemble(seed):
        return ReweightedEnsembleClassifier(n_steps=20, n_folds=2, random_state=seed).fit(X, Y).oof_proba_

    serial = [ensemble(seed) for seed in range(2)]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        threads = list(pool.map(ensemble, range(2)))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(serial, threads)


@pytest.mark.parametrize("case", CASES)
def test_a_fit_does_not_depend_on_the_global_generator(case):
    torch.manual_seed(1)
    one = fitted(0, "hu", CASES[case])
    torch.manual_seed(2)
    np.testing.assert_array_equal(fitted(0, "hu", CASES[case]), one)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(2))


# ---------------------------------------------------------------- the stream


def test_a_stream_draws_what_the_global_generator_would():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = [torch.randperm(9), torch.rand(3).bernoulli_(0.3), torch.randn(4), torch.randperm(9)]
    stream = Stream(CPU, {}, 7)
    with stream.present():
        found = [torch.randperm(9, generator=own_generator(CPU))]
        with drawing():
            found.append(torch.rand(3).bernoulli_(0.3))
            with drawing():
                assert own_generator(CPU) is None
                found.append(torch.randn(4))
        found.append(torch.randperm(9, generator=own_generator(CPU)))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert own_generator(CPU) is None


def test_a_stream_goes_on_from_its_state_in_the_middle_of_drawing():
    stream = Stream(CPU, {}, 3)
    with stream.present(), drawing():
        torch.rand(2)
        states = stream.states()
        expected = torch.rand(2)
    with Stream(CPU, states, 0).present(), drawing():
        assert torch.equal(torch.rand(2), expected)


def test_streams_within_streams():
    inner, outer = Stream(CPU, {}, 1), Stream(CPU, {}, 2)
    with outer.present(), drawing():
        first = torch.rand(2)
        with inner.present():
            kept = Draws().kept(torch.zeros(4), 0.5)
            with drawing():
                torch.rand(2)
        second = torch.rand(2)
    generator = torch.Generator().manual_seed(2)
    assert torch.equal(torch.cat([first, second]), torch.rand(4, generator=generator))
    assert torch.equal(kept, torch.zeros(4).bernoulli_(0.5, generator=torch.Generator().manual_seed(1)))


def test_streams_are_those_of_their_thread():
    found = []
    with Stream(CPU, {}, 0).present():
        thread = threading.Thread(target=lambda: found.append(own_generator(CPU)))
        thread.start()
        thread.join()
    assert found == [None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_another_thread():
    """Workers that are forked while a thread draws would wait for ever for a lock that nobody gives back."""
    begun, end = threading.Event(), threading.Event()

    def hold():
        with Stream(CPU, {}, 0).present(), drawing():
            begun.set()
            end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(20)
    pid = os.fork()
    if pid == 0:
        with Stream(CPU, {}, 0).present(), drawing():
            os._exit(0)
    found = 0
    for _ in range(200):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        end.wait(0.05)
    end.set()
    thread.join()
    if not found:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert found == pid
    assert status == 0
