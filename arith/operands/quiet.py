"""Loading without chatter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What these libraries say during loading is either progress, or is checked for here and reported as an error.
_LOGGERS = ("transformers", "huggingface_hub", "accelerate", "peft")


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back progress bars (but those of downloads), log lines and warnings of transformers and peft."""
    import huggingface_hub.utils
    import transformers.utils.logging

    bars: Any = transformers.utils.logging
    download_bars: Any = huggingface_hub.utils
    bars_shown = bars.is_progress_bar_enabled()
    download_bars_shown = not download_bars.are_progress_bars_disabled()
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    bars.disable_progress_bar()
    if download_bars_shown:
        download_bars.enable_progress_bars()
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars_shown:
            bars.enable_progress_bar()
