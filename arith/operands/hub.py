"""The model hub: whether it can be reached, and saying plainly why a model can't be read."""

import functools
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

from arith.errors import OperandError
from arith.operands.quiet import quiet

_PROBE_SECONDS = 5.0
_SHOWN_CHARACTERS = 300


@functools.cache
def hub_reachable() -> bool:
    """Whether the model hub answers; asked once, because transformers retries for minutes when it doesn't."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    probe = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(probe, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def may_be_hub_id(name: str) -> bool:
    """Whether the hub could have something of this name."""
    import huggingface_hub.utils
    from huggingface_hub.errors import HFValidationError

    utils: Any = huggingface_hub.utils
    try:
        utils.validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@contextmanager
def reading(what: str, model: str) -> Iterator[None]:
    """Read in silence; a failure of the libraries becomes one `OperandError` saying what can't be read."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    failures = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError)
    in_files = (EOFError, SafetensorError, StrictDataclassError, UnpicklingError)
    try:
        with quiet():
            yield
    except OperandError:
        raise
    except (*failures, *in_files) as error:
        if absent_from_hub(error):
            raise OperandError(*_absence(what, model)) from None
        raise OperandError(f"can't read {what} of {model}: {_first_words(error)}") from error


def absent_from_hub(error: BaseException) -> bool:
    """Whether `error`, or what led to it, says that the hub or its cache here holds no such model."""
    from huggingface_hub import errors

    return led_to(
        error,
        errors.GatedRepoError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
    )


def led_to(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    """Whether `error` or one of those it arose from is of one of `kinds`."""
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False


def _absence(what: str, model: str) -> tuple[str, str]:
    if hub_reachable():
        return (
            f"can't read {what} of {model}: there is no such folder here, and the hub doesn't give it out",
            "check the name and `revision`; a gated or private model needs `hf auth login`",
        )
    return (
        f"can't read {what} of {model}: there is no such folder here, it isn't in this machine's hub cache, "
        "and the hub can't be reached",
        "give a local folder, or download it first where there is a network",
    )


def _first_words(error: BaseException) -> str:
    """A library's message on one line; some run to pages."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _SHOWN_CHARACTERS else f"{words[:_SHOWN_CHARACTERS]} …"
