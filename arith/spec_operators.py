"""Operators of one's own, as a specification names them: `package.module:function`."""

import importlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from arith.errors import SpecError
from arith.yaml_document import YamlDocument


def import_operators(document: YamlDocument, paths: Sequence[str], folders: Sequence[str]) -> None:
    """Imports the functions, which registers them; modules are also looked for beside the file, and in the
    folders, which are seen from there.

    Raises `SpecError` for a module or function that isn't there, and for a function that is no operator.
    """
    from arith.language.registry import REGISTRY

    for number, path in enumerate(paths):
        module_name, _, name = path.partition(":")
        place = document.place(("operators", number))
        beside = Path(document.source).parent
        others = [beside / Path(folder).expanduser() for folder in folders]
        module = imported(module_name, beside, *others, place=f"{place}: ")
        function = getattr(module, name, None)
        if function is None:
            raise SpecError(f"{place}: there is no `{name}` in `{module_name}` ({module.__file__})")
        if not any(known.function is function for known in REGISTRY.values()):
            raise SpecError(f"{place}: `{path}` is no operator", "decorate it with @arith.operator(...)")


def operator_paths(used: Sequence[str]) -> list[str]:
    """The import paths of those of the operators used that are not the language's own.

    Raises `SpecError` for one that can't be imported by a path.
    """
    from arith.language.registry import REGISTRY

    paths = []
    for name in used:
        function = REGISTRY[name].function
        if function.__module__.partition(".")[0] == "arith":
            continue
        if function.__module__ == "__main__" or function.__qualname__ != function.__name__:
            raise SpecError(
                f"the operator `{name}` can't be named in a file: `{function.__qualname__}` of "
                f"`{function.__module__}` can't be imported",
                "move it to the top level of a module of its own",
            )
        paths.append(f"{function.__module__}:{function.__name__}")
    return list(dict.fromkeys(paths))


def operator_folders(paths: Sequence[str]) -> list[str]:
    """The folders that the modules of these operators were imported from, those of installed ones aside."""
    installed = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    found = []
    for path in paths:
        file = sys.modules[path.partition(":")[0].partition(".")[0]].__file__
        if file is not None:
            folder = Path(file).resolve().parent
            found.append(folder.parent if Path(file).stem == "__init__" else folder)
    return [str(folder) for folder in dict.fromkeys(found) if folder not in installed]


def imported(module_name: str, *folders: Path, place: str = "") -> ModuleType:
    """The module, which is also looked for in the folders, after Python's own path.

    Raises `SpecError`, which begins with `place`, where it isn't there, fails when it is imported, or where
    another module of its name was found first.
    """
    with _modules_beside(*folders):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever the module's own code does
            reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise SpecError(f"{place}can't import `{module_name}`: {reason}") from error
    there = [folder / f"{module_name.replace('.', '/')}.py" for folder in folders]
    file = module.__file__
    meant = next((path for path in there if path.exists()), None)
    if (
        meant is not None
        and file is not None
        and Path(file).resolve() not in [path.resolve() for path in there]
    ):
        message = f"{place}`{module_name}` is {file} here, and not {meant}"
        raise SpecError(message, "give the file another name")
    return module


@contextmanager
def _modules_beside(*folders: Path) -> Iterator[None]:
    added = [str(folder.resolve()) for folder in folders]
    sys.path += added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
