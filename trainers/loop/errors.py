"""What can go wrong in a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from arith.errors import ArithError
from arith.runtime.backbones.memory import out_of_memory

_SHOWN_CHARACTERS = 400


class TrainingError(ArithError):
    """Training can't start or go on: a setting that a library refuses, a loss, a gradient or a weight that is
    no number, memory that ran out, or nothing that was saved."""


@contextmanager
def starting() -> Iterator[None]:
    """Raises `TrainingError` for whatever goes wrong inside: the libraries that a run's settings lead to have
    no error in common for a package, a device or a value that they lack."""
    try:
        yield
    except ArithError:
        raise
    except Exception as error:
        raise cannot_start(error) from error


def cannot_start(error: Exception) -> TrainingError:
    """The error that keeps a run from its first step, in words."""
    if out_of_memory(error):
        return no_memory("before the first step")
    words = " ".join(str(error).split())
    shown = words if len(words) <= _SHOWN_CHARACTERS else f"{words[:_SHOWN_CHARACTERS]} …"
    return TrainingError(
        f"training can't start: {type(error).__name__}: {shown}",
        "nothing was trained: the same command begins again once the recipe, or what it needs, is mended",
    )


def no_memory(when: str) -> TrainingError:
    """Memory that ran out."""
    return TrainingError(
        f"memory ran out {when}",
        "activation_checkpointing: true under `training`, a smaller per_device_train_batch_size (with more "
        "gradient_accumulation_steps) and a smaller data.max_length take less",
    )
