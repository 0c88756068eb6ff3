"""Guides: classifiers and reward models reading rows' texts with each candidate for the next token."""

from arith.runtime.guides.context import Context
from arith.runtime.guides.guide import Guide
from arith.runtime.guides.load import load_guides
from arith.runtime.guides.stats import GuideStats

__all__ = ["Context", "Guide", "GuideStats", "load_guides"]
