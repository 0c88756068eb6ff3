"""The search, and the objectives, on functions whose values are known by hand."""

import math

import pytest
import torch
from torch import Tensor

from arith import EvaluationError
from trainers.fitting.objective import OBJECTIVES
from trainers.fitting.search import minimise, unbounded

F64 = torch.float64


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=F64)


def totals(*probabilities: float) -> Tensor:
    return values(*probabilities).log()


def rosenbrock(at: Tensor) -> tuple[float, Tensor]:
    x, y = at.tolist()
    slope = values(-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x))
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2, slope


def falling(at: Tensor) -> tuple[float, Tensor]:
    """exp(-x), which has no least value."""
    return math.exp(-at.item()), -torch.exp(-at)


def steep(at: Tensor) -> tuple[float, Tensor]:
    """5x - log x, only for x > 0: least at 1/5. From 1 the slope is 4, so a step of length 1 leads to 0."""
    x = at.item()
    if x <= 0:
        raise EvaluationError("there is no logarithm of this")
    return 5 * x - math.log(x), values(5 - 1 / x)


def test_the_narrow_valley_of_rosenbrock_ends_at_1_1() -> None:
    found = minimise(rosenbrock, values(-1.2, 1.0))
    assert found.settled and found.value == pytest.approx(0, abs=1e-9)
    assert found.values.tolist() == pytest.approx([1, 1], abs=1e-4)
    assert unbounded(rosenbrock, values(-1.2, 1.0), found) == []


@pytest.mark.parametrize("start", [0.001, 1.0, 40.0])
def test_a_step_to_where_there_is_no_value_is_made_shorter(start: float) -> None:
    found = minimise(steep, values(start))
    assert found.values.item() == pytest.approx(0.2, abs=1e-5) and found.settled
    assert unbounded(steep, values(start), found) == []


@pytest.mark.parametrize("start", [0.3, 1.0, 7.0])
def test_what_falls_to_the_edge_of_where_it_has_values_ends_there(start: float) -> None:
    def edged(at: Tensor) -> tuple[float, Tensor]:
        if at.item() < 0:
            raise EvaluationError("nothing below 0")
        return at.item() + at.item() ** 2, 1 + 2 * at

    found = minimise(edged, values(start))
    assert 0 <= found.values.item() < 1e-6 and found.settled
    assert unbounded(edged, values(start), found) == []


def test_a_start_without_a_value_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no logarithm"):
        minimise(steep, values(-1.0))


@pytest.mark.parametrize("start", [0.0, 30.0])
def test_a_function_without_a_least_value_is_noticed(start: float) -> None:
    """At 30 it is as good as flat, so that the search doesn't move at all."""
    found = minimise(falling, values(start))
    assert unbounded(falling, values(start), found) == [0]


def test_only_the_value_that_has_no_best_is_named() -> None:
    def mixed(at: Tensor) -> tuple[float, Tensor]:
        x, y = at.tolist()
        return (x - 2) ** 2 + math.exp(-y), values(2 * (x - 2), -math.exp(-y))

    found = minimise(mixed, values(0.0, 0.0))
    assert found.values[0].item() == pytest.approx(2, abs=1e-3)
    assert unbounded(mixed, values(0.0, 0.0), found) == [1]


def test_a_search_that_is_cut_off_has_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.fitting.search.ITERATIONS", 3)
    found = minimise(rosenbrock, values(-1.2, 1.0))
    assert not found.settled and found.value < rosenbrock(values(-1.2, 1.0))[0]


def test_the_likelihood_objective_is_a_mean_over_tokens() -> None:
    """Texts of probability 1/2 (one token) and 1/16 (three): -(ln 1/2 + ln 1/16)/4 = 5/4 ln 2."""
    objective = OBJECTIVES["likelihood"]
    given = totals(1 / 2, 1 / 16), values(1, 3)
    assert objective.loss(*given).item() == pytest.approx(1.25 * math.log(2))
    assert objective.report(*given) == {
        "log-likelihood of a token (nats)": pytest.approx(-1.25 * math.log(2))
    }


def test_the_preference_objective_is_that_of_bradley_and_terry() -> None:
    """Chosen three times as likely as rejected: sigmoid(ln 3) = 3/4. Half as likely: sigmoid(-ln 2) = 1/3.
    Equal: 1/2, and not ranked right. The mean of ln 4/3, ln 3 and ln 2 is ln 8 / 3 = ln 2."""
    objective = OBJECTIVES["preference"]
    given = totals(3 / 8, 1 / 8, 1 / 8, 1 / 4, 1 / 5, 1 / 5), values(*[1] * 6)
    assert objective.loss(*given).item() == pytest.approx(math.log(2))
    assert objective.report(*given)["pairs ranked right"] == pytest.approx(1 / 3)
    assert objective.report(*given)["-log sigmoid(margin) of a pair"] == pytest.approx(math.log(2))


def test_margins_of_any_size_have_a_finite_loss() -> None:
    objective = OBJECTIVES["preference"]
    given = values(-9000.0, 0.0).requires_grad_()
    loss = objective.loss(given, values(1, 1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 9000 and given.grad is not None and given.grad.tolist() == [-1, 1]
