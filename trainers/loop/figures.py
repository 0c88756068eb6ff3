"""Figures of a batch and of many: what reports show of the scores."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.objectives.objective import Objective, Scores


def row_figures(objective: Objective, scores: Scores) -> dict[str, Tensor]:
    """For each row, `[rows]`: its loss and, of a pair, whether the chosen answer is preferred (a tie counts
    one half), by how much, and the scores of both answers; of a single answer its score."""
    found = {"loss": objective.losses(scores)}
    score = "reward" if objective.rewards_texts else "log_prob"
    if not objective.pairs:
        return found | {score: scores.values[:, 0]}
    rewards = objective.rewards(scores)
    margin = rewards[:, 0] - rewards[:, 1]
    return found | {
        "accuracy": (torch.sign(margin) + 1) / 2,
        "margin": margin,
        f"chosen_{score}": scores.values[:, 0],
        f"rejected_{score}": scores.values[:, 1],
    }


def means(figures: Mapping[str, Tensor], weights: Tensor) -> dict[str, float]:
    """The mean of each figure over rows; of the loss with the rows' weights."""
    found = {name: values.double().mean().item() for name, values in figures.items()}
    weights = weights.double()
    found["loss"] = ((figures["loss"].double() * weights).sum() / weights.sum()).item()
    return found
