"""What a run is said to have come to."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainers.output.metrics import MetricsFile, read_metrics
from trainers.output.progress import in_words
from trainers.output.report import draw_curve, operand_line, table, wilson_interval

REPORTS: list[dict[str, Any]] = [
    {"step": 0, "eval_loss": 0.7, "eval_accuracy": 0.5, "epoch": 0.0},
    {"step": 5, "loss": 0.65, "accuracy": 0.6, "tokens_per_second": 1234.5, "grad_norm": 1.0},
    {"step": 10, "eval_loss": 0.6, "eval_accuracy": 0.8, "epoch": 1.0},
]


def test_the_interval_of_a_share() -> None:
    """8 of 10: (0.8 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10) with z = 1.96 is 0.4902 to 0.9433."""
    assert wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = wilson_interval(0.0, 5)
    assert low == pytest.approx(0, abs=1e-12) and 0 < high < 1


def test_the_table_compares_the_validation_before_with_that_after() -> None:
    shown = table(REPORTS, validation_rows=10).splitlines()
    assert shown[0].split() == ["validation", "(10", "rows)", "step", "0", "step", "10"]
    assert shown[2].split() == [
        "accuracy",
        "50.0%",
        "(23.7%",
        "to",
        "76.3%)",
        "80.0%",
        "(49.0%",
        "to",
        "94.3%)",
    ]
    assert len(shown) == 3, "epoch and step are no figures"
    assert "0.6500" in table(REPORTS[1:2], validation_rows=0)
    assert "no report" in table([], 0)


def test_a_report_in_words_names_step_and_figures() -> None:
    assert in_words(REPORTS[1], 10) == "step 5/10 training: loss 0.65, accuracy 0.6, 1,234 tokens/s"
    assert in_words(REPORTS[2], 10) == "step 10/10 validation: loss 0.6, accuracy 0.8"


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    draw_curve(REPORTS, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_the_operand_line_is_yaml_of_a_specification() -> None:
    assert (
        operand_line(Path("/a/b-c"), adapter=True, reward=False) == "operands:\n  b_c:\n    adapter: /a/b-c"
    )
    reward = operand_line(Path("/a/r"), adapter=True, reward=True)
    assert reward == "operands:\n  r:\n    kind: reward_model\n    model: /a/r"


def test_reports_behind_the_checkpoint_of_a_run_are_written_anew(tmp_path: Path) -> None:
    state = SimpleNamespace(global_step=3, is_world_process_zero=True)
    file = MetricsFile(tmp_path, 0)
    for step in (1, 2, 3):
        state.global_step = step
        file.on_log(None, state, None, {"loss": step / 10, "eval_runtime": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')  # cut off in the middle
    again = MetricsFile(tmp_path, 2)
    again.on_log(None, state, None, {"loss": math.nan})
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
        {"step": 3, "loss": None},
    ]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line) for line in lines)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("my-arm", "my_arm"), ("2024 arm.v1", "arm_v1"), ("average", "trained"), ("42", "trained")],
)
def test_the_printed_operand_has_a_name_that_formulas_take(folder: str, name: str) -> None:
    from arith import Formula

    assert f"  {name}:" in operand_line(Path("arms") / folder, adapter=True, reward=False)
    assert Formula(f"base + 0.5*{name}").operands == ("base", name)
