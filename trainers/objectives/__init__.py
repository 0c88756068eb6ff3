"""Objectives: pure functions of the scores of answers, each in a file with its settings and its paper."""

from typing import Annotated

from pydantic import Field

from trainers.objectives.arm import Arm
from trainers.objectives.dpo import Dpo
from trainers.objectives.reward import Reward
from trainers.objectives.sft import Sft

AnyObjective = Annotated[Arm | Dpo | Sft | Reward, Field(discriminator="name")]
OBJECTIVES = {kind.model_fields["name"].default: kind for kind in (Arm, Dpo, Sft, Reward)}

__all__ = ["OBJECTIVES", "AnyObjective", "Arm", "Dpo", "Reward", "Sft"]
