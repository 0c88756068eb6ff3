"""Memory that ran out: how one knows it from other failures."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# What CUDA's libraries and torch's allocators on the CPU say, for which torch has no exception of its own.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on an accelerator or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


@contextmanager
def left_where_memory_lacks() -> Iterator[None]:
    """What is done within it, to have memory later, is left where there is too little for it now."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
