"""The page of all operators, written from the registry: `python -m arith.language.operators.page`."""

from arith.language.operators import REGISTRY, Operator

TITLES = {
    "combine": "Choosing between values",
    "shape": "Distributions as a whole",
    "support": "Supports",
    "vocabulary": "Tokens by what they are",
    "probability": "Log-weights and probabilities",
    "reduce": "One number for each row",
    "anchor": "A weight found from the distributions",
    "schedule": "Weights that change with the position",
    "elementwise": "Functions of one number",
    "given": "What the run supplies",
}
INTRODUCTION = """# Operators

Every operator of the language; `arith operators NAME` shows one of them. A signature gives the types of the
arguments (`*` takes any number of them, `?` may be left out) and that of the result. Types, supports and what
scalars are made of besides are explained in [language.md](language.md).
"""


def page() -> str:
    """The page as Markdown."""
    entries = {one.name: one for one in REGISTRY.values()}.values()
    parts = [INTRODUCTION]
    for module, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [_entry(one) for one in entries if one.function.__module__.rpartition(".")[2] == module]
    return "\n".join(parts)


def _entry(operator: Operator) -> str:
    aliases = f" (also `{'`, `'.join(operator.aliases)}`)" if operator.aliases else ""
    source = f"\n\nSource: {operator.source}." if operator.source else ""
    domains = [
        f"`{argument.name}` is {argument.domain.words}"
        for argument in operator.arguments
        if argument.domain is not None
    ]
    limits = f"\n\n{'; '.join(domains)}." if domains else ""
    heading = f"### `{operator.name}`{aliases}"
    block = f"```\n{operator.signature}\n{operator.example}\n```"
    return f"{heading}\n\n{block}\n\n{operator.doc}{limits}{source}\n"


if __name__ == "__main__":
    print(page(), end="")
