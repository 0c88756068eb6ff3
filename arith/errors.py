"""What can go wrong outside the text of a formula, each with one message and, where there is one, the fix."""

from grammar.errors import FormulaError


class ArithError(ValueError):
    """Base of the package's errors. `message` says what is wrong and where, `hint` how to mend it."""

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class OperandError(ArithError):
    """An operand can't be declared, found, loaded, or combined with the others of its formula."""


class PromptError(ArithError):
    """A prompt can't be rendered for an operand, or doesn't fit its context window."""


class OptionError(ArithError):
    """A generation option, parameter value or argument is outside what it may be."""


class SpecError(ArithError):
    """A YAML specification or an input or output file can't be used; names the file, the line and the key."""


class PlanError(ArithError):
    """The models and their caches don't fit the machine; holds the figures."""


class EndpointError(ArithError):
    """A service on the network can't be reached, refuses to answer, or doesn't speak the protocol."""


class EvaluationError(FormulaError):
    """A formula has no value at some row and step: an empty support, a division by zero, a NaN from a
    model."""


def reason_of(error: OSError) -> str:
    """Why the system refused, in the middle of a sentence: `no such file or directory`."""
    return (error.strerror or str(error)).lower()
