"""The YAML document: a formula, its operands, parameter values and generation options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arith.errors import SpecError
from arith.runtime.options import Sampling
from arith.spec_file import SpecFile, validated
from arith.spec_operand import declared_operand, operand_keys
from arith.spec_operators import import_operators, operator_paths
from arith.yaml_document import YamlDocument, read_yaml, write_yaml
from grammar.errors import FormulaError, nearest
from grammar.parse import parse

if TYPE_CHECKING:
    from arith.language import Formula
    from arith.spec_operand import Operand


@dataclass(frozen=True)
class Spec:
    """A specification, checked: `source` is the file, `text` the formula, `operands` in the file's order."""

    source: str
    text: str
    operands: Mapping[str, "Operand"]
    params: Mapping[str, float]
    sampling: Sampling

    @classmethod
    def load(cls, path: str | Path) -> "Spec":
        """Read and check a YAML file; no model is looked for yet.

        Raises `SpecError`, which names the file, the line and the key, for whatever is wrong in it.
        """
        document = read_yaml(Path(path))
        file = validated(document)
        for section, names in (("operands", file.operands), ("params", file.params)):
            for name in names:
                _check_name(document, file, section, name)
        import_operators(document, file.operators)
        operands = {name: declared_operand(document, file, name) for name in file.operands}
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

    def dump(self) -> str:
        """The specification as YAML, with absolute paths; reading it again gives an equal one.

        Raises `SpecError` for an operator that can't be imported by its name.
        """
        from arith.language.names import calls_in

        used = dict.fromkeys(call.function for call in calls_in(parse(self.text)))
        content: dict[str, object] = {
            "formula": self.text,
            "operands": {name: operand_keys(operand) for name, operand in self.operands.items()},
        }
        if self.params:
            content["params"] = dict(self.params)
        if paths := operator_paths(tuple(used)):
            content["operators"] = paths
        if options := self.sampling.model_dump(mode="json", exclude_defaults=True):
            content["sampling"] = options
        return write_yaml(content)


def _check_name(document: YamlDocument, file: SpecFile, section: str, name: str) -> None:
    from arith.language.names import refuse_reserved

    place = document.place((section, name))
    if section == "params" and name in file.operands:
        raise SpecError(f"{place}: `{name}` is an operand already", "a parameter needs a name of its own")
    try:
        refuse_reserved(name)
    except FormulaError as error:
        raise SpecError(f"{place}: {section}: {error.message}", error.hint) from None
