"""What a user would pick: the point at which an expression over the scores is largest."""

from collections.abc import Mapping

from arith.errors import OptionError
from arith.language.scalar import Scalar
from arith.point_text import point_text
from grammar.errors import FormulaError


class Preference:
    """An expression in the language of formulas over names of scores, such as `helpful + 2*harmless`; the
    larger its value, the better."""

    def __init__(self, text: str):
        """Raises `FormulaError` for what isn't an expression, `OptionError` for one that is empty or names no
        score."""
        if not text.strip():
            raise OptionError("the preference is empty", "write it over scores: helpful + 2*harmless")
        self.text = text
        self._scalar = Scalar(text)
        if not self.names:
            raise OptionError(
                f"the preference `{text}` names no score", "write it over scores: helpful + 2*harmless"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The scores that it needs, in order of first use."""
        return self._scalar.names

    def value(self, scores: Mapping[str, float]) -> float:
        """Its value at a point, given the point's mean scores.

        Raises `OptionError`, with the point's scores, for a score that isn't there and where there is no
        finite value, as in a division by zero.
        """
        try:
            return self._scalar.value(scores)
        except FormulaError as error:
            raise OptionError(f"the preference, at a point with {point_text(scores)}: {error}") from None
