"""The benchmark of speed times the same work for everybody, and its command line holds."""

import json
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import Adam

import skreweight
from benchmarks.timing import hu_peers
from benchmarks.timing.cli import main
from benchmarks.timing.contestants import contestants
from benchmarks.timing.epochs import Line, measure
from benchmarks.timing.loops import StepFunction, Timing, time_loop
from benchmarks.timing.memory import MemoryCase, measure_memory
from benchmarks.timing.operations import count_operations
from benchmarks.timing.problems import LEARNING_RATE, Data, problems
from benchmarks.timing.report import epochs_table
from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS

N_STEPS = 3


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(problems(quick=True)["mlp-10"], torch.device("cpu"), time.perf_counter)


def batches(data: Data) -> list[Tensor]:
    return list(torch.arange(data.problem.n_rows).split(data.problem.batch_size)[:N_STEPS])


def trained(data: Data, make_step: Callable[..., StepFunction]) -> list[Tensor]:
    """Parameters after a few steps on batches in their order."""
    module = data.module()
    step = make_step(data, module, Adam(module.parameters(), lr=LEARNING_RATE, fused=True))
    for rows in batches(data):
        step(data.x[rows], data.y[rows], rows)
    return [p.detach() for p in module.parameters()]


@pytest.mark.parametrize("way", ["double_backward_autograd", "vmap_gradients", "backpack_gradients"])
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_the_peers_of_hu_do_the_same_work(data: Data, way: str) -> None:
    if way == "backpack_gradients":
        pytest.importorskip("backpack", reason="BackPACK is not installed: `make bench` does it")
    expected = trained(data, hu_peers.double_backward_func)
    for found, wanted in zip(trained(data, getattr(hu_peers, way)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_peers_of_hu_do_the_work_of_ours(data: Data) -> None:
    clf = ReweightedClassifier(
        data.module(),
        weighting="hu",
        validation_data=(data.x_val, data.y_val),
        warmup_epochs=0,
        max_epochs=1,
        lr=LEARNING_RATE,
        keep_best=False,
        random_state=0,
        iterator_train__batch_sampler=[rows.numpy() for rows in batches(data)],
    ).fit(data.x, data.y)
    expected = trained(data, hu_peers.double_backward_func)
    for found, wanted in zip(clf.module_.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-3, atol=1e-5)


def test_the_per_example_loop_leaves_network_and_optimiser_to_the_real_step(data: Data) -> None:
    module = data.module()
    optimizer = Adam(module.parameters(), lr=LEARNING_RATE, fused=True)
    before = [p.detach().clone() for p in module.parameters()]
    first = hu_peers._own_step(module, optimizer, data.x[:1], data.y[:1])
    again = hu_peers._own_step(module, optimizer, data.x[:1], data.y[:1])
    assert not optimizer.state
    for p, old, a, b in zip(module.parameters(), before, first, again, strict=True):
        assert torch.equal(p, old)
        assert torch.equal(a, b)
        # Adam's first step moves every parameter with a gradient by the learning rate.
        assert float(a.abs().max()) == pytest.approx(LEARNING_RATE, rel=1e-2)


def test_a_part_of_an_epoch_is_scaled_up_by_its_rows() -> None:
    ticks = iter(range(100))
    data = Data(problems(quick=True)["mlp"], torch.device("cpu"), lambda: float(next(ticks)))
    taken: list[int] = []
    timing = time_loop(data, lambda *_: lambda x, y, rows: taken.append(len(rows)), n_batches=2)
    assert taken == [32, 32, 32]  # one batch of warm-up, two timed ones
    assert timing == Timing(256 / 64, rows=64)


def test_ratios_are_those_of_the_same_round() -> None:
    line = Line("p", "n", "label", "ours")
    line.add(Timing(2.0, fixed=0.5), floor=1.0)
    line.add(Timing(8.0, fixed=0.7), floor=2.0)
    line.add(Timing(9.0, fixed=0.9), floor=3.0)
    assert line.ratio == 3.0
    assert line.milliseconds == 8000.0
    assert line.fixed_milliseconds == pytest.approx(700)
    assert "| label | 3.00 | 2.00 to 4.00 | 8000.0 | 700.0 |" in epochs_table("title", [line])


def test_a_contestant_without_its_package_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    every = contestants()
    lacking = every["peer-absgd"].__class__("x", "x", "peer", every["none"].run, needs=("no_such_package",))
    lines = measure(
        problems(quick=True)["mlp"], [every["floor"], lacking], n_rounds=1, device=torch.device("cpu")
    )
    assert [line.name for line in lines] == ["floor"]
    assert "x left out, no no_such_package" in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["skorch", "none", "ours", "hu-loop"]
    main(["--quick", "--problems", "mlp", "--only", *chosen, "--json", str(tmp_path / "speed.json")])
    printed = capsys.readouterr().out
    assert "## 171-100-100-2, N = 256, batch 32" in printed
    assert "versions: skreweight" in printed
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert [line["name"] for line in figures["epochs"]] == ["floor", *chosen]
    assert all(np.isfinite(line["seconds"]).all() and len(line["ratios"]) == 1 for line in figures["epochs"])


def test_every_weighting_is_timed(data: Data) -> None:
    """But two-phase, which trains on other rows."""
    every = contestants()
    assert {name for name in WEIGHTINGS if name != "two-phase"} <= set(every)
    for name in ("meta-weight-net", "crt", "lws"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="With two classes weighting")
            assert every[name].run(data).epoch > 0


def test_a_step_of_hu_takes_fewer_operations_than_double_backward() -> None:
    counts = {o.label: o for o in count_operations("mlp")}
    floor, double = counts["hand-written loop"], counts["Hu by double backward, torch.autograd"]
    sizes = [(171, 100), (100, 100), (100, 2)]
    products = [128 * n * m for n, m in sizes]
    # Forward, weights' and activations' gradients, the input's aside: two flops a product.
    assert floor.megaflops == pytest.approx(2 * (3 * sum(products) - products[0]) / 1e6)
    assert counts['weighting="none"'].megaflops == floor.megaflops
    assert counts['weighting="hu"'].megaflops < 0.8 * double.megaflops


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["none", "ours"])
@pytest.mark.parametrize(
    ("dtype", "n_rows", "most"),
    [("float32", 100_000, 0.3), ("float64", 100_000, 1.3), ("float16", 1_000_000, 1.3)],
)
def test_a_fit_copies_no_rows(weighting: str, dtype: str, n_rows: int, most: float) -> None:
    figures = measure_memory(MemoryCase(n_rows, dtype=dtype, weighting=weighting))
    assert figures.array_mb == n_rows * 50 * np.dtype(dtype).itemsize / 1e6
    assert figures.peak_mb > 0
    # The limit is 1.3 (2.3) times the array, the array itself counted; 16 MB are for buffers of any size of X.
    assert figures.peak_mb <= most * figures.array_mb + 16


@pytest.mark.slow
def test_a_memory_mapped_array_is_not_read_into_memory() -> None:
    figures = measure_memory(MemoryCase(200_000, weighting="hu", storage="memory-map"))
    assert (
        figures.own_peak_mb <= 0.25 * figures.array_mb + 16
    )  # figures per row, and buffers of any size of X


def test_packs_are_timed_beside_the_floor(tmp_path: Path) -> None:
    main(
        ["--quick", "--packs", "--json", str(tmp_path / "packs.json"), "--report", str(tmp_path / "packs.md")]
    )
    assert (tmp_path / "packs.md").read_text().startswith("# Many networks at once")
    lines = json.loads((tmp_path / "packs.json").read_text())["packs"]
    assert {line["problem"] for line in lines} == {"mlp", "mlp-wide"}
    assert {line["name"] for line in lines} >= {"floor", "products", "none x1", "none x2", "ours x2"}
    assert all(line["seconds"][0] > 0 for line in lines)


def test_searches_take_turns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["--search", "--searches", "absgd", "--quick", "--report", str(tmp_path / "search.md")])
    written = (tmp_path / "search.md").read_text()
    assert written.startswith("# Searches")
    today, version = date.today().isoformat(), skreweight.__version__
    assert f"\n\n**Measured on {today} with skreweight {version}" in written
    for who in (
        "`PackedGridSearchCV`",
        "`GridSearchCV`, the same classifier",
        "`GridSearchCV`, stock skorch",
    ):
        assert f"12 λ of `absgd`, 5 folds: {who}" in written
    assert "## Searches" in capsys.readouterr().out
