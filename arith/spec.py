"""The YAML document: a formula, its operands, parameter values and generation options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arith.errors import OptionError, SpecError
from arith.runtime.options import PROMPT_LOOKUP, Compile, Sampling, Speculate
from arith.runtime.sweeping.keys import SweepKeys
from arith.spec_file import SpecFile, spec_in
from arith.spec_operand import declared_operand, operand_keys
from arith.spec_operators import import_operators, operator_folders, operator_paths
from arith.yaml_document import YamlDocument, read_yaml, write_yaml
from grammar.errors import FormulaError, nearest
from grammar.parse import parse

if TYPE_CHECKING:
    from arith.language import Formula
    from arith.runtime.sweeping.points import Point
    from arith.spec_operand import Operand

SPEC_NAME = "spec.yaml"


@dataclass(frozen=True)
class Spec:
    """A specification, checked: `source` is the file, `text` the formula, `operands` in the file's order."""

    source: str
    text: str
    operands: Mapping[str, "Operand"]
    params: Mapping[str, float]
    sampling: Sampling
    speculate: Speculate | None = None
    compile: Compile = "auto"
    sweep: SweepKeys | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Spec":
        """Read and check a YAML file, or the one that `save` wrote into a folder; no model is looked for yet.

        Raises `SpecError`, which names the file, the line and the key, for whatever is wrong in it.
        """
        file_path = Path(path)
        document = read_yaml(file_path / SPEC_NAME if file_path.is_dir() else file_path)
        file = spec_in(document)
        for section, names in (("operands", file.operands), ("params", file.params)):
            for name in names:
                _check_name(document, file, section, name)
        import_operators(document, file.operators, file.operator_folders)
        operands = {name: declared_operand(document, file, name) for name in file.operands}
        compared = (file.sweep and file.sweep.formula) or {}
        text = next(iter(compared.values()), None) if file.formula is None else file.formula
        if text is None:
            raise SpecError(f"{document.place(())}: the key `formula` is missing")
        options = (file.params, file.sampling, file.speculate, file.compile, file.sweep)
        spec = cls(document.source, text, operands, *options)
        checks: list[tuple[tuple[str, ...], Callable[[], object]]] = [
            (("formula",), spec.formula),
            (("speculate",), spec.drafting),
            *((("sweep", "formula", name), partial(spec._bound, one)) for name, one in compared.items()),
            (("sweep",), spec.check_sweep),
        ]
        for key, check in checks:
            try:
                check()
            except FormulaError as error:
                raise SpecError(f"{document.place(key)}: {'.'.join(key)}: {error}") from None
            except OptionError as error:  # of a sweep, and says so
                raise SpecError(f"{document.place(key)}: {error.message}", error.hint) from None
        return spec

    @classmethod
    def of(
        cls,
        formula: "Formula",
        sampling: Sampling,
        speculate: Speculate | None = None,
        draft: "Formula | None" = None,
        compile: Compile = "auto",
    ) -> "Spec":
        """The specification of a formula as it is bound; `draft` is the one that `speculate` has as text, in
        which no name stands for another thing."""
        operands: dict[str, Operand] = {}
        params: dict[str, float] = {}
        for one in (formula,) if draft is None else (formula, draft):
            operands |= one.bound_operands()
            params |= {name: one.bindings[name] for name in one.parameters if name in one.bindings}
        return cls(SPEC_NAME, str(formula), operands, params, sampling, speculate, compile)

    def save(self, folder: str | Path) -> None:
        """Writes `spec.yaml` into the folder, which is made if it isn't there. Raises as `dump` does."""
        text = self.dump()
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / SPEC_NAME).write_text(text, encoding="utf-8")

    def formula(self) -> "Formula":
        """The formula, with the operands and parameter values that it uses bound to their names.

        Raises `FormulaError` where it uses a name that nothing declares.
        """
        return self._bound(self.text)

    def drafting(self) -> object:
        """What `Engine` takes as `speculate`. Raises `FormulaError` where the draft uses a name that nothing
        declares, and `OptionError` where nothing says what drafts."""
        if self.speculate is None:
            return None
        if not self.speculate.drafts:
            return False
        draft: object = self.speculate.draft
        if draft is None and not self.speculate.lazy:
            return self._pace_of_superseded(self.speculate.tokens)
        if draft not in (None, PROMPT_LOOKUP):
            draft = self._bound(str(draft))
        chosen = {"lazy": self.speculate.lazy} if draft is None else {"draft": draft}
        return {**chosen, "tokens": self.speculate.tokens}

    def _pace_of_superseded(self, tokens: int | str) -> object:
        from arith.language.names import supersedes

        if not supersedes(parse(self.text)):
            hint = "or use `supersede` in the formula"
            raise OptionError("speculate: needs either `draft` or `lazy`", hint)
        return {"tokens": tokens}

    def swept(self) -> tuple["Formula", list["Point"]]:
        """What a sweep runs, and at which points: none where there is no `sweep`.

        Raises `FormulaError` and `OptionError` for a sweep that can't be run, or needs a value that isn't
        there.
        """
        if self.sweep is None:
            return self.formula(), []
        from arith.runtime.sweeping.points import points_of

        formula, sweep = self._joint(self.sweep)
        return formula, points_of(sweep, formula, self.params)

    @property
    def joint_formula(self) -> "Formula":
        """The formula that holds all that are swept."""
        return self.formula() if self.sweep is None else self._joint(self.sweep)[0]

    def check_sweep(self) -> None:
        """Raises `FormulaError` and `OptionError` for a sweep that can't be run, whatever values the names
        will have that have none yet."""
        if self.sweep is None:
            return
        from arith.runtime.sweeping.points import check_sweep

        formula, sweep = self._joint(self.sweep)
        check_sweep(sweep, formula)
        if not self.lacking:
            self.swept()

    @property
    def lacking(self) -> list[str]:
        """The names that a sweep needs a value of, and that have none."""
        if self.sweep is None:
            return []
        from arith.runtime.sweeping.points import names_beside

        return [name for name in names_beside(self.sweep, self.joint_formula) if name not in self.params]

    def _joint(self, sweep: SweepKeys) -> tuple["Formula", SweepKeys]:
        """The formula that holds all that are swept, and the sweep over them."""
        from arith.language.alternatives import alternatives

        if sweep.formula is None:
            return self.formula(), sweep
        formulas = {name: self._bound(text) for name, text in sweep.formula.items()}
        return alternatives(formulas), sweep.model_copy(update={"formula": formulas})

    def _bound(self, text: str) -> "Formula":
        from arith.language import Formula
        from arith.language.names import collect

        used = collect(parse(text)).free
        declared = {**self.operands, **self.params}
        formula = Formula(text, **{name: value for name, value in declared.items() if name in used})
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
        from arith.language.names import collect

        formulas = [self.formula(), self.joint_formula]
        if self.speculate is not None and self.speculate.draft not in (None, PROMPT_LOOKUP):
            formulas.append(self._bound(self.speculate.draft))
        used = {name for formula in formulas for name in (*formula.operands, *formula.parameters)}
        for link in () if self.sweep is None else self.sweep.links.values():
            used.update(collect(parse(link)).free)
        return tuple(name for name in (*self.operands, *self.params) if name not in used)

    @property
    def declared(self) -> dict[str, dict[str, object]]:
        """The keys that declare each operand; local paths are absolute."""
        return {name: operand_keys(operand) for name, operand in self.operands.items()}

    def dump(self) -> str:
        """The specification as YAML, with absolute paths; reading it again gives an equal one.

        Raises `SpecError` for an operator that can't be imported by its name, and for a function that
        forbids.
        """
        from arith.language.names import calls_in

        if any(callable(entry) for entry in self.sampling.forbid):
            raise SpecError(
                "sampling.forbid: a function can't be written to a file", "give it to each call: forbid=[…]"
            )
        compared = (self.sweep and self.sweep.formula) or {}
        texts = dict.fromkeys((self.text, *map(str, compared.values())))
        used = dict.fromkeys(call.function for text in texts for call in calls_in(parse(text)))
        content: dict[str, object] = {
            "formula": self.text,
            "operands": self.declared,
        }
        if self.params:
            content["params"] = dict(self.params)
        if paths := operator_paths(tuple(used)):
            content["operators"] = paths
            if folders := operator_folders(paths):
                content["operator_folders"] = folders
        if options := self.sampling.model_dump(mode="json", exclude_defaults=True):
            content["sampling"] = options
        if self.sweep is not None:
            content["sweep"] = self.sweep.model_dump(mode="json", exclude_defaults=True)
        if self.speculate is not None:
            written = self.speculate.model_dump(mode="json", exclude_unset=True)
            content["speculate"] = written if self.speculate.drafts else False
        if self.compile != "auto":
            content["compile"] = self.compile
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
