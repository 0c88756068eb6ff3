"""What a run came to: a table, a picture of its curve, and the line that uses the new operand."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arith.language.names import refuse_reserved
from arith.yaml_document import write_yaml
from grammar.errors import FormulaError
from trainers.output.metrics import Report

CURVE_NAME = "curve.png"
_LEVEL = 1.96  # of a 95% interval


def table(reports: Sequence[Report], validation_rows: int) -> str:
    """The validation's figures before the first and after the last step, in lines; without validation, the
    training's first and last ones."""
    validations = [report for report in reports if "eval_loss" in report]
    prefix, chosen = ("eval_", validations) if validations else ("", [r for r in reports if "loss" in r])
    if not chosen:
        return "no figures: the run has no report"
    first, last = chosen[0], chosen[-1]
    skipped = ("step", "epoch", "grad_norm", "learning_rate", "tokens_per_second", "rows_per_second")
    names = [name for name in last if name not in skipped and name in first]
    title = f"validation ({validation_rows} rows)" if validations else "training"
    rows = [(title, f"step {first['step']}", f"step {last['step']}")]
    for name in names:
        label = name.removeprefix(prefix).replace("_", " ")
        before, after = (_cell(name, report[name], validation_rows) for report in (first, last))
        rows.append((label, before, after))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{left:<{widths[0]}}  {before:>{widths[1]}}  {after:>{widths[2]}}" for left, before, after in rows
    )


def _cell(name: str, value: float | None, rows: int) -> str:
    if value is None:
        return "none"
    if name == "eval_accuracy" and rows:
        low, high = wilson_interval(value, rows)
        return f"{value:.1%} ({low:.1%} to {high:.1%})"
    return f"{value:.4f}"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95% confidence interval of a share of `count` independent rows. Wilson (1927), JASA 22."""
    square = _LEVEL**2 / count
    middle = (share + square / 2) / (1 + square)
    spread = _LEVEL / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return middle - spread, middle + spread


def draw_curve(reports: Sequence[Report], path: Path) -> None:
    """The loss, and the accuracy of pairs, over the steps: of training and of validation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in ("loss", "accuracy") if any(name in report for report in reports)]
    figure = Figure(figsize=(5 * max(len(names), 1), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(names, start=1):
        axes: Any = figure.add_subplot(1, len(names), number)
        for prefix, label, style in (("", "training", "-"), ("eval_", "validation", "o-")):
            points = [(r["step"], r[prefix + name]) for r in reports if r.get(prefix + name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=label, markersize=4, linewidth=1.2)
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)


def operand_line(folder: Path, *, adapter: bool, reward: bool) -> str:
    """The YAML by which a formula uses what was trained."""
    if reward:
        keys: dict[str, str] = {"kind": "reward_model", "model": str(folder)}
    else:
        keys = {"adapter" if adapter else "model": str(folder)}
    return write_yaml({"operands": {_operand_name(folder): keys}}).rstrip()


def _operand_name(folder: Path) -> str:
    """What a formula can call it: the folder's name, where that is a name."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", folder.name).lstrip("0123456789_")
    try:
        refuse_reserved(name)
    except FormulaError:
        name = ""
    return name or "trained"
