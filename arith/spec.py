"""The YAML document: a formula, its operands, parameter values and generation options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arith.errors import OperandError, SpecError
from arith.runtime.options import Sampling
from arith.spec_file import OperandKeys, SpecFile, validated
from arith.yaml_document import YamlDocument, read_yaml
from grammar.errors import FormulaError, nearest
from grammar.parse import parse

if TYPE_CHECKING:
    from arith.language import Formula
    from arith.operands import LLM
    from arith.runtime import Engine


@dataclass(frozen=True)
class Spec:
    """A specification, checked: `source` is the file, `text` the formula, `operands` in the file's order."""

    source: str
    text: str
    operands: Mapping[str, "LLM"]
    params: Mapping[str, float]
    sampling: Sampling

    @classmethod
    def load(cls, path: str | Path) -> "Spec":
        """Read and check a YAML file; no model is looked for yet.

        Raises `SpecError`, which names the file, the line and the key, for whatever is wrong in it.
        """
        document = read_yaml(Path(path))
        file = validated(document)
        folder = Path(path).parent
        for section, names in (("operands", file.operands), ("params", file.params)):
            for name in names:
                _check_name(document, file, section, name)
        operands = {name: _operand(document, file, name, folder) for name in file.operands}
        spec = cls(document.source, file.formula, operands, file.params, file.sampling)
        try:
            spec.formula()
        except FormulaError as error:
            raise SpecError(f"{document.place(('formula',))}: formula: {error}") from None
        return spec

    def formula(self) -> "Formula":
        """The formula, with the operands and parameter values that it uses bound to their names.

        Raises `FormulaError` where it uses a name that nothing declares.
        """
        from arith.language import Formula
        from arith.language.names import collect

        used = collect(parse(self.text)).free
        declared = {**self.operands, **self.params}
        formula = Formula(self.text, **{name: value for name, value in declared.items() if name in used})
        try:
            formula.bound_operands()
        except FormulaError as error:
            unknown = next(name for name in formula.operands if name not in declared)
            close = nearest(unknown, declared)
            hint = f"did you mean `{close}`?" if close else "declare it under `operands`"
            raise FormulaError(error.message, error.span, hint) from None
        return formula

    @property
    def unused(self) -> tuple[str, ...]:
        """The operands and parameters that are declared, but not used by the formula (and so not loaded)."""
        formula = self.formula()
        used = {*formula.operands, *formula.parameters}
        return tuple(name for name in (*self.operands, *self.params) if name not in used)

    def engine(self, *, max_rows: int | None = None, device: str | None = None) -> "Engine":
        """An engine for the formula, options as those of `Engine`."""
        from arith.runtime import Engine

        return Engine(self.formula(), max_rows=max_rows, device=device)


def _check_name(document: YamlDocument, file: SpecFile, section: str, name: str) -> None:
    from arith.language.names import refuse_reserved

    place = document.place((section, name))
    if section == "params" and name in file.operands:
        raise SpecError(f"{place}: `{name}` is an operand already", "a parameter needs a name of its own")
    try:
        refuse_reserved(name)
    except FormulaError as error:
        raise SpecError(f"{place}: {section}: {error.message}", error.hint) from None


def _operand(document: YamlDocument, file: SpecFile, name: str, folder: Path) -> "LLM":
    from arith.operands import LLM

    own = file.operands[name] or OperandKeys()
    values = file.defaults.model_dump(exclude_unset=True) | own.model_dump(exclude_unset=True)
    where = document.place(("operands", name))
    if values.get("model") is None:
        message = f"{where}: the operand `{name}` has no `model`"
        raise SpecError(message, "give it one here or under `defaults`")
    for key in ("model", "adapter"):
        if values.get(key) is not None:
            values[key] = _seen_from(folder, values[key])
    try:
        return LLM(**values)
    except OperandError as error:
        # Types and choices are checked by now: what is left concerns the template.
        shared = "template" not in own.model_fields_set and "template" in values
        home = ("defaults",) if shared else ("operands", name)
        place = document.place((*home, "template"))
        message = f"{place}: operand `{name}`: {error.message.removeprefix('operand: ')}"
        raise SpecError(message, error.hint) from None


def _seen_from(folder: Path, path: str) -> str:
    """A relative local path, as seen from the folder of the file that names it; others as they are."""
    relative = path.startswith(("./", "../"))
    there = folder / path
    return str(there) if relative or (not path.startswith("~") and there.exists()) else path
