"""The house: which folder may import which, what an import may load, and how long a file may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = frozenset({"torch", "transformers", "peft", "datasets", "accelerate", "gguf", "lark"})

# Each stage, and the stages and heavy packages that it may import. A module's stage is the longest that fits.
STAGES: dict[str, set[str]] = {
    "grammar": {"lark"},
    "arith.errors": {"grammar"},
    "arith.characters": set(),
    "arith.language": {"torch", "grammar", "arith.errors"},
    "arith.operands": {
        "torch", "transformers", "peft", "gguf", "grammar", "arith.characters", "arith.errors",
        "arith.language", "arith.whole_file",
    },
    "arith.runtime.options": {"grammar", "arith.errors"},
    "arith.runtime.sweeping.keys": {"grammar", "arith.errors", "arith.runtime.options"},
    "arith.yaml_document": {"grammar", "arith.characters", "arith.errors"},
    "arith.validation": {"grammar", "arith.errors", "arith.runtime.options", "arith.yaml_document"},
    "arith.spec_file": {
        "grammar", "arith.errors", "arith.runtime.options", "arith.runtime.sweeping.keys", "arith.validation",
        "arith.yaml_document",
    },
    "arith.spec": {
        "grammar", "arith.errors", "arith.language", "arith.operands", "arith.runtime.options",
        "arith.runtime.sweeping.keys", "arith.runtime.sweeping.points", "arith.spec_file",
        "arith.spec_operand", "arith.spec_operators", "arith.yaml_document",
    },
    "arith.spec_operand": {
        "grammar", "arith.errors", "arith.language", "arith.local_path", "arith.operands", "arith.spec_file",
        "arith.yaml_document",
    },
    "arith.spec_operators": {"grammar", "arith.errors", "arith.language", "arith.yaml_document"},
    "arith.local_path": set(),
    "arith.point_text": set(),
    "arith.whole_file": {"grammar", "arith.errors"},
    "arith.json_lines": {"arith.characters", "arith.errors"},
    "arith.prompts_file": {"grammar", "arith.errors", "arith.json_lines"},
    "arith.params_file": {"grammar", "arith.errors", "arith.whole_file", "arith.yaml_document"},
    "arith.results_file": {"grammar", "arith.errors"},
    # Points of a sweep are made of a formula and parameters alone: a specification has them too.
    "arith.runtime.sweeping.points": {
        "torch", "grammar", "arith.errors", "arith.language", "arith.point_text",
        "arith.runtime.sweeping.keys",
    },
    "arith.runtime": {
        "torch", "transformers", "peft", "grammar", "arith.characters", "arith.errors", "arith.language",
        "arith.operands", "arith.runtime.options", "arith.runtime.sweeping.keys",
        "arith.runtime.sweeping.points", "arith.spec",
    },
    "arith.study": {
        "torch", "transformers", "peft", "grammar", "arith", "arith.errors", "arith.json_lines",
        "arith.language", "arith.local_path", "arith.operands", "arith.point_text", "arith.prompts_file",
        "arith.results_file", "arith.runtime", "arith.runtime.options", "arith.runtime.sweeping.points",
        "arith.spec", "arith.spec_file", "arith.spec_operators", "arith.validation", "arith.whole_file",
        "arith.yaml_document",
    },
    "arith.cli": {
        "torch", "transformers", "grammar", "trainers", "arith.characters", "arith.errors",
        "arith.language", "arith.operands", "arith.runtime", "arith.runtime.options",
        "arith.runtime.sweeping.points", "arith.spec", "arith.spec_file", "arith.prompts_file",
        "arith.params_file", "arith.results_file", "arith.study", "arith.whole_file",
    },
    "arith.__main__": {"arith.cli"},
    "arith": {"grammar", "arith.errors", "arith.language", "arith.operands", "arith.runtime", "arith.spec"},
    "trainers": {
        "torch", "transformers", "peft", "datasets", "accelerate", "grammar", "arith", "arith.errors",
        "arith.json_lines", "arith.language", "arith.local_path", "arith.operands", "arith.params_file",
        "arith.prompts_file", "arith.runtime", "arith.runtime.options", "arith.spec_file",
        "arith.spec_operand", "arith.validation", "arith.whole_file", "arith.yaml_document",
    },
    "trainers.__main__": {"arith.cli"},
}  # fmt: skip
SOURCES = sorted(
    path for folder in ("grammar", "arith", "trainers") for path in (ROOT / folder).rglob("*.py")
)
EVERYTHING = sorted(
    path
    for folder in ("grammar", "arith", "trainers", "benchmarks", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def stage(module: str) -> str:
    """The stage a module belongs to; a package from outside stands for itself."""
    fits = [name for name in STAGES if module == name or module.startswith(name + ".")]
    return max(fits, key=len) if fits else module.partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Each module that the file imports, inside functions too; `from a import b` gives `a.b` if it is one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the module's full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


@pytest.mark.parametrize("module", MODULES)
def test_a_stage_imports_only_stages_above_it(module: str) -> None:
    own = stage(module)
    allowed = STAGES[own] | {own}
    ours = {name.partition(".")[0] for name in STAGES}
    judged = {
        stage(name): name for name in imports(MODULES[module]) if name.partition(".")[0] in ours | HEAVY
    }
    wrong = {name for home, name in judged.items() if home not in allowed}
    assert not wrong, f"{module} belongs to {own} and must not import {sorted(wrong)}"


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {
        module: {name for name in top_level_imports(path) if name in MODULES}
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for following in sorted(graph[module]):
                visit(following, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def top_level_imports(path: Path) -> Iterator[str]:
    """What importing the file imports at once: imports outside functions and outside `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def loaded_by(statement: str) -> set[str]:
    """The modules in a fresh Python after `statement`."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_grammar_loads_neither_torch_nor_arith() -> None:
    assert loaded_by("import grammar").isdisjoint({"torch", "transformers", "numpy", "arith"})


def test_importing_arith_loads_neither_transformers_nor_the_trainers() -> None:
    assert loaded_by("import arith").isdisjoint({"torch", "transformers", "peft", "datasets", "trainers"})


def test_a_formula_of_declared_operands_loads_no_model_code() -> None:
    loaded = loaded_by("from arith import LLM, Formula; Formula('a - 0.5*b', a=LLM('x'), b=LLM('y'))")
    assert loaded.isdisjoint({"transformers", "peft", "datasets", "trainers"})


def test_the_command_line_answers_without_torch() -> None:
    heavy = {"torch", "transformers", "peft", "datasets", "trainers"}
    assert loaded_by("import arith.cli.app").isdisjoint(heavy)


def test_every_public_name_can_be_imported() -> None:
    import arith

    assert all(getattr(arith, name) is not None for name in arith.__all__)
    assert set(arith.__all__) <= set(dir(arith))
    with pytest.raises(AttributeError, match="Enigne"):
        _ = arith.Enigne  # type: ignore[attr-defined]


@pytest.mark.parametrize("shadow", ["grammar.py", "grammar/__init__.py"])
def test_a_shadowing_grammar_is_named(tmp_path: Path, shadow: str) -> None:
    path = tmp_path / shadow
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import arith"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and str(path) in last and str(ROOT / "grammar") in last


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_over_300_lines_and_no_function_over_60(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{path}:{node.lineno}: `{node.name}` has {lines} lines"
