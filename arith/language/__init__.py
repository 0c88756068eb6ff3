"""Formulas: the tree checked, compiled, and evaluated on plain tensors."""

from arith.language.formula import Algebra as Algebra
from arith.language.formula import Formula as Formula
