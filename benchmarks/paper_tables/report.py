"""A table as Markdown, CSV and figure."""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from benchmarks.paper_tables import ranks
from benchmarks.paper_tables.figures import Drawn, critical_differences, of_table
from benchmarks.paper_tables.published import PUBLISHED
from benchmarks.paper_tables.selection import (
    at_defaults,
    best_on_test,
    best_on_validation,
    mean_and_std,
    tuned,
    with_tuned_rows,
)
from benchmarks.paper_tables.tables import TABLES, TRIAL_SETS
from benchmarks.versions import in_words

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "g_mean": "G-mean",
    "average_precision": "average precision",
}
PACKAGES = ("torch", "skorch", "scikit-learn", "imbalanced-learn", "numpy")


def write_report(table: str, rows: pd.DataFrame, out: Path, command: str) -> Path:
    """Write ``<table>.md``, ``<table>_summary.csv`` and most often ``<table>.png``; return the first's path."""
    make = {"benchmark": _benchmark_body, "trials": _trials_body, "restart": _trials_body}.get(
        table, _table_body
    )
    body, summary = make(table, rows, out)
    summary.to_csv(out / f"{table}_summary.csv", index=False, float_format="%.6f")
    path = out / f"{table}.md"
    path.write_text(
        f"# {TABLES[table].title}\n\n{_about(rows, command)}\n{_note(table)}{body}{_failures(rows)}"
    )
    return path


def _about(rows: pd.DataFrame, command: str) -> str:
    """How, when and on what the table was made."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"`{command}`\n\n"
        f"{date.today().isoformat()}; {rows['seed'].nunique()} seeds, {len(rows)} fits, "
        f"{rows['seconds'].sum() / 60:.0f} minutes of fitting in all; {platform.machine()}, {cores} cores, "
        f"{device}; Python {platform.python_version()}, {in_words(PACKAGES)}.\n"
    )


def _note(table: str) -> str:
    note = TABLES[table].note
    return f"{note}\n\n" if note else ""


def _table_body(table: str, rows: pd.DataFrame, out: Path) -> tuple[str, pd.DataFrame]:
    everything = with_tuned_rows(rows, TABLES[table].tuned)
    validated = rows["val_accuracy"].notna().any()
    honest, papers_way = best_on_validation(everything), best_on_test(everything)
    n_settings = everything.groupby(["task", "method"])["config"].nunique()
    parts, summaries = [], []
    for task in rows["task"].unique():
        columns = {}
        if validated:
            columns = {name: _cells(honest, task, key) for key, name in METRICS.items()}
        columns["accuracy, default setting"] = _cells(at_defaults(everything), task, "accuracy")
        columns["accuracy, setting chosen on test"] = _cells(papers_way, task, "accuracy")
        columns["settings"] = n_settings[task].astype(str)
        published = PUBLISHED.get(table, {}).get(task)
        if published:
            columns["published accuracy"] = pd.Series({m: _cell(*figure) for m, figure in published.items()})
        methods = everything.loc[everything["task"] == task, "method"].unique()
        block = pd.DataFrame(columns).reindex(methods).fillna("–")
        parts.append(f"## {task}\n\n{_markdown(block)}\n")
        summaries.append(_summary(honest, task, "validation"))
        summaries.append(_summary(papers_way, task, "test"))
    summary = pd.concat(summaries, ignore_index=True)
    chosen_on = "validation" if validated else "test"
    shown = summary[(summary["metric"] == "accuracy") & (summary["chosen_on"] == chosen_on)]
    figure = _figure(of_table(table, shown, out / f"{table}.png"), table)
    legend = (
        "Per cent, mean ± standard deviation over seeds. Each seed draws its own rows; every column that does not "
        "say otherwise is of the setting that was best on the seed's validation rows (accuracy, then loss). "
        "Settings chosen on test are what the paper reports, and too good.\n\n"
    )
    return figure + legend + "\n".join(parts), summary


def _figure(drawn: Drawn, table: str) -> str:
    return f"{drawn.markdown(f'{table}.png')}\n\n"


def _cells(chosen: pd.DataFrame, task: str, metric: str) -> pd.Series:
    figures = mean_and_std(chosen, metric).loc[task]
    return figures.apply(lambda row: _cell(row["mean"], row["std"]) if row["n"] else "failed", axis=1)


def _cell(mean: float, std: float = float("nan")) -> str:
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def _summary(chosen: pd.DataFrame, task: str, chosen_on: str) -> pd.DataFrame:
    parts = [
        mean_and_std(chosen, key).loc[task].reset_index().assign(task=task, chosen_on=chosen_on, metric=key)
        for key in METRICS
    ]
    return pd.concat(parts)[["task", "method", "chosen_on", "metric", "mean", "std", "n"]]


def _markdown(block: pd.DataFrame) -> str:
    lines = [["method", *block.columns], ["---"] * (1 + block.shape[1])]
    lines += [[name, *cells] for name, *cells in block.itertuples()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _failures(rows: pd.DataFrame) -> str:
    failed = rows[rows["error"].fillna("") != ""]
    if failed.empty:
        return ""
    lines = [
        f"- {row.task}, {row.method} {row.config}, seed {row.seed}: {row.error}"
        for row in failed.itertuples()
    ]
    return "\n## Failures\n\n" + "\n".join(lines) + "\n"


def _trials_body(table: str, rows: pd.DataFrame, out: Path) -> tuple[str, pd.DataFrame]:
    """Every setting's score on every task: nothing is selected."""
    score = rows["accuracy"].where(~rows["task"].isin(TRIAL_SETS), rows["g_mean"])
    labelled = rows.assign(method=rows["method"] + rows["config"].map(_settings_in_words), score=score)
    figures = mean_and_std(labelled, "score")
    order = labelled["method"].unique()
    columns = {
        task: figures.loc[task].apply(lambda row: _cell(row["mean"], row["std"]), axis=1).reindex(order)
        for task in rows["task"].unique()
    }
    means = figures["mean"].groupby("method").mean().reindex(order)
    block = pd.DataFrame({**columns, "mean of the tasks": means.map(_cell)})
    legend = "Per cent, mean ± standard deviation over draws. Every row is one setting.\n\n"
    return legend + _markdown(block), figures.reset_index()


def _settings_in_words(config: str) -> str:
    settings = {name.removeprefix("weighting__"): value for name, value in json.loads(config).items()}
    if settings.get("keep_best") == "step":
        del settings["keep_best"]
    return "".join(f", {name}={value!r}" for name, value in settings.items())


def _benchmark_body(table: str, rows: pd.DataFrame, out: Path) -> tuple[str, pd.DataFrame]:
    """Average ranks by metric and decision, and every set's scores."""
    decisions = {"default decision": rows, "threshold tuned on validation rows": tuned(rows)}
    of_panels = {
        f"{METRICS[key]}, {decision}": (decided, key)
        for decision, decided in decisions.items()
        for key in ("g_mean", "macro_f1")
    }
    of_panels[METRICS["average_precision"]] = (rows, "average_precision")
    panels = {title: _scores(*of) for title, of in of_panels.items()}
    spreads = {title: _scores(*of, statistic="std") for title, of in of_panels.items()}
    columns = {title: ranks.average_ranks(scores) for title, scores in panels.items()}
    order = rows["method"].unique()
    block = pd.DataFrame(columns).loc[order].map("{:.1f}".format)
    n_methods, n_sets = len(order), len(next(iter(panels.values())))
    text = (
        f"Average ranks over {n_sets} sets (1 is best), of the mean over folds. Two methods differ at the level "
        f"of 5 % where their ranks differ by more than {ranks.critical_difference(n_methods, n_sets):.1f} "
        f"(Nemenyi).\n\n{_markdown(block)}\nThe scores, per cent, mean ± standard deviation over folds:\n\n"
    )
    for title, scores in panels.items():
        p = (
            f"Friedman p = {ranks.friedman_p(scores):.2g}"
            if min(n_sets, n_methods) > 2
            else "too few to test"
        )
        cells = {
            task: [
                _cell(100 * m, 100 * s)
                for m, s in zip(scores.loc[task], spreads[title].loc[task], strict=True)
            ]
            for task in scores.index
        }
        text += f"## {title} ({p})\n\n{_markdown(pd.DataFrame(cells, index=scores.columns))}\n"
    if n_methods > 1:
        text = _figure(critical_differences(panels, out / f"{table}.png"), table) + text
    summary = pd.concat(
        scores.reset_index()
        .melt("task", value_name="mean")
        .assign(std=spreads[title].reset_index().melt("task")["value"], metric=title)
        for title, scores in panels.items()
    )
    return text, summary


def _scores(rows: pd.DataFrame, metric: str, statistic: str = "mean") -> pd.DataFrame:
    """Return means (or "std") over folds, one row per set and one column per method; a failed fit counts as 0."""
    filled = best_on_validation(rows).fillna({metric: 0.0})
    scores = (
        filled.groupby(["task", "method"], sort=False)[metric].agg(statistic).unstack("method", sort=False)
    )
    scores.columns.name = None
    return scores[list(rows["method"].unique())]
