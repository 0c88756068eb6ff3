"""What the backbones of an engine did since the last reset."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from arith.runtime.plan import Plan
from arith.runtime.rewinding.rewind import RewindStats
from arith.runtime.speculation.speculation import SpeculationStats

if TYPE_CHECKING:
    from arith.operands.llm import LLM
    from arith.runtime.backbones.backbone import Backbone, BackboneStats


class EngineStats(Mapping[str, "BackboneStats"]):
    """The counts of each backbone by its model, numbered where one model has several; and their sums."""

    def __init__(self, plan: Plan, backbones: "Mapping[LLM, Backbone]"):
        self._stats: dict[str, BackboneStats] = {}
        for number, planned in enumerate(plan.backbones, start=1):
            model = planned.weights.model
            name = model if model not in self._stats else f"{model} ({number})"
            self._stats[name] = backbones[planned.lanes[0][1]].stats
        self.speculation = SpeculationStats()
        self.rewinding = RewindStats()
        self.rows_at_once = 0
        """How many rows of the last call were let in together, as far as memory was known before it."""
        self.lowered_to: int | None = None
        """How many rows memory left in flight, where it ran out in a call."""

    def __getitem__(self, name: str) -> "BackboneStats":
        return self._stats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)

    @property
    def forwards(self) -> int:
        """Forward passes."""
        return sum(stats.forwards for stats in self._stats.values())

    @property
    def tokens_run(self) -> int:
        """Tokens that went through a model, padding included."""
        return sum(stats.tokens_run for stats in self._stats.values())

    @property
    def tokens_useful(self) -> int:
        """Tokens that had to go through a model: those run without the padding."""
        return sum(stats.tokens_useful for stats in self._stats.values())

    @property
    def drafted(self) -> int:
        """Tokens that a draft proposed."""
        return self.speculation.drafted

    @property
    def accepted(self) -> int:
        """Drafted tokens that were kept."""
        return self.speculation.accepted

    @property
    def forwards_per_token(self) -> float:
        """Forwards of the whole formula for each token of a row: 1 without speculation."""
        return self.speculation.forwards_per_token

    @property
    def rewinds(self) -> int:
        """How often rows went back from what guards forbid."""
        return self.rewinding.rewinds

    def reset(self) -> None:
        """Counts from zero again."""
        for stats in self._stats.values():
            stats.reset()
        self.speculation.reset()
        self.rewinding.reset()
        self.rows_at_once = 0
        self.lowered_to = None

    def __repr__(self) -> str:
        return f"EngineStats({self._stats}, {self.speculation}, {self.rewinding})"
