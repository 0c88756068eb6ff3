"""What a formula runs: backbones for its operands, guides for its classifiers, and what holds for all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from arith.errors import OperandError, OptionError
from arith.language import Formula
from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import LLM
from arith.operands.loading import context_window, depth, end_ids, load_config, load_model
from arith.operands.manifest import contradictions
from arith.operands.precision import keeps_half
from arith.operands.token_texts import token_texts
from arith.operands.tokenizers import load_tokenizer
from arith.operands.vocabulary import Member, Vocabulary, common_vocabulary
from arith.runtime.answers import Facts
from arith.runtime.backbones.backbone import Backbone, make_backbone
from arith.runtime.fusion import Fusion, exits_of
from arith.runtime.guides import Guide, load_guides
from arith.runtime.options import Compile
from arith.runtime.plan import Plan
from arith.runtime.sampling.sampler import race_on
from arith.runtime.speculation.drafting import told_of_draft


class Models:
    """The models of a bound formula and of its draft, on one device: each distinct set of weights once.

    `operands` are the formula's, `declared` all that a draft may name, and `readers` those of them that are
    language models. Raises `FormulaError`, `OperandError` or `PlanError`, before loading whatever can be
    known before.
    """

    def __init__(self, formula: Formula, draft: Formula | None, device: torch.device, compile: Compile):
        program = formula.program
        self.compile = compile
        self.declared = together(formula, draft)
        self.plan = planned(formula, draft, device, download=True)
        self.readers = {name: one for name, one in self.declared.items() if isinstance(one, LLM)}
        self.operands = {name: self.readers[name] for name in program.operands}
        distinct = dict.fromkeys(self.readers.values())
        self.windows = {operand: context_window(load_config(operand.weights)) for operand in distinct}
        self.end_ids = {operand: end_ids(operand) for operand in distinct}
        vocabulary = vocabulary_of(self.operands)
        self.known = known_tokens(self.operands, self.readers, vocabulary.size)
        self.exits = exits_of([program] if draft is None else [program, draft.program], self.readers)
        refuse_missing_layers(self.exits, self.readers)
        self.plan.refuse_if_impossible()
        self.tokenizer = load_tokenizer(next(iter(self.operands.values())))
        classifiers = {n: one for n, one in self.declared.items() if isinstance(one, GuideOperand)}
        loaded = load_guides(classifiers.values(), self.tokenizer, device)
        guides = {name: loaded[operand] for name, operand in classifiers.items()}
        facts = Facts(partial(token_texts, self.tokenizer, vocabulary.size), guides, device)
        self.fusion = Fusion(formula, self.operands, vocabulary.size, device, facts, compile)
        self.fusion.refuse_unknown_tokens()
        self._drafts: dict[tuple[object, ...], Fusion] = {}
        if draft is not None:
            self.fusion_of(draft)
        self.race = race_on(device, compile)
        self.backbones = _load_backbones(self.plan, self.exits, self.known, device, compile)
        uncompiled = _uncompiled(self.backbones) if compile == "on" else []
        readers = {**self.readers, **classifiers}
        untrained = [note for name, one in readers.items() for note in contradictions(name, one)]
        narrower = _narrower(self.readers, self.known, vocabulary.size)
        slower = _slower(self.backbones, guides)
        self.notes = (*vocabulary.notes, *narrower, *untrained, *slower, *uncompiled)

    def fusion_of(self, draft: Formula) -> Fusion:
        """Evaluates a draft over models that are loaded. Raises `OptionError` for one that isn't, and
        `FormulaError` for a token that the vocabulary lacks."""
        key = (str(draft), *draft.bound_operands().items())
        if key not in self._drafts:
            self._drafts[key] = self._fusion_of(draft)
        return self._drafts[key]

    def _fusion_of(self, draft: Formula) -> Fusion:
        for name, operand in _meant(draft).items():
            if self.declared.get(name) != operand:
                raise OptionError(
                    f"speculate: the draft needs `{name}`, which this engine has not loaded",
                    "give `speculate` to the engine, and not only to the call",
                )
        operands = {name: self.readers[name] for name in draft.program.operands}
        for operand, exits in exits_of([draft.program], operands).items():
            if not set(exits) <= set(self.exits.get(operand, ())):
                raise OptionError(
                    "speculate: the draft asks for early layers that this engine was not made to tell",
                    "give `speculate` to the engine, and not only to the call",
                )
        own = self.fusion
        fusion = Fusion(draft, operands, own.vocabulary, own.device, own.facts, self.compile)
        with told_of_draft():
            fusion.refuse_unknown_tokens()
        return fusion

    def forget(self) -> None:
        """Ends all lanes, and gives back the memory of caches, but where compiled programs need it."""
        for backbone in dict.fromkeys(self.backbones.values()):
            backbone.forget()
        self.fusion.facts.reset()


def together(formula: Formula, draft: Formula | None) -> dict[str, LLM | GuideOperand]:
    """All operands by their names, but for those of the formula that would draft, and don't."""
    return {**_meant(formula), **({} if draft is None else _meant(draft))}


def planned(formula: Formula, draft: Formula | None, device: torch.device, *, download: bool = False) -> Plan:
    """The plan of a formula and of its draft; `download` as for `Plan.of`."""
    operands = together(formula, draft)
    return Plan.of(operands, device, download=download, drafters=operands.keys() - _meant(formula).keys())


def _meant(formula: Formula) -> dict[str, LLM | GuideOperand]:
    """The operands of what a formula means, by their names."""
    meant = {*formula.program.operands, *formula.program.classifiers}
    return {name: one for name, one in formula.bound_operands().items() if name in meant}


def vocabulary_of(operands: Mapping[str, LLM]) -> Vocabulary:
    """The vocabulary over which the operands are combined, from their configurations and tokenizers. Raises
    what `common_vocabulary` raises."""
    return common_vocabulary(_members(operands))


def _members(operands: Mapping[str, LLM]) -> dict[str, Member]:
    return {
        name: Member(load_tokenizer(o), load_config(o.weights).get_text_config().vocab_size, o.vocab)
        for name, o in operands.items()
    }


def known_tokens(operands: Mapping[str, LLM], readers: Mapping[str, LLM], vocabulary: int) -> dict[LLM, int]:
    """How many tokens of the formula's vocabulary each operand knows: all, or fewer where it only drafts.
    Raises `OperandError` for one whose tokens are others."""
    known = dict.fromkeys(operands.values(), vocabulary)
    for name, operand in readers.items():
        if operand not in known:
            members = _members({**operands, name: operand})
            common = common_vocabulary({one: replace(m, policy="common") for one, m in members.items()})
            known[operand] = min(vocabulary, common.size)
    return known


def refuse_missing_layers(exits: Mapping[LLM, Sequence[int]], names: Mapping[str, LLM]) -> None:
    """Raises `OperandError` for an early exit beyond the depth of its model, told from its configuration."""
    for operand, asked in exits.items():
        layers = depth(load_config(operand.weights))
        beyond = [k for k in asked if k > layers]
        if beyond:
            name = next(name for name, known in names.items() if known == operand)
            message = f"`layer({name}, {beyond[0]})`: {operand.model} has {layers} layers"
            raise OperandError(message, f"write a number from 0 (the embeddings) to {layers}")


def _load_backbones(
    plan: Plan,
    exits: Mapping[LLM, Sequence[int]],
    known: Mapping[LLM, int],
    device: torch.device,
    compile: Compile,
) -> dict[LLM, Backbone]:
    """Each operand's backbone, with the early exits that are asked of its operands, and logits of the tokens
    `known`."""
    backbones: dict[LLM, Backbone] = {}
    for planned in plan.backbones:
        model = load_model(planned.weights, device)
        asked = [k for _, operand in planned.lanes for k in exits.get(operand, ())]
        vocabulary = max(known[operand] for _, operand in planned.lanes)
        half = keeps_half(planned.weights, planned.adapters, load_config(planned.weights), device)
        backbone = make_backbone(model, planned.adapters, vocabulary, asked, compile, half=half)
        backbones.update((operand, backbone) for _, operand in planned.lanes)
    return backbones


def _slower(backbones: Mapping[LLM, Backbone], guides: Mapping[str, Guide]) -> list[str]:
    """Which models don't run as fast as others, and why."""
    lanes = [one.note for one in dict.fromkeys(backbones.values()) if one.note is not None]
    texts = {name: one.slower for name, one in guides.items() if one.slower}
    return [
        *lanes,
        *(f"`{name}` reads each candidate as a whole text: {why}" for name, why in texts.items()),
    ]


def _narrower(readers: Mapping[str, LLM], known: Mapping[LLM, int], vocabulary: int) -> list[str]:
    """Which operands know fewer tokens than the formula, as those may that only draft."""
    return [
        f"`{name}` knows {known[one]} of the {vocabulary} tokens: texts with others go on without its drafts"
        for name, one in readers.items()
        if known[one] < vocabulary
    ]


def _uncompiled(backbones: Mapping[LLM, Backbone]) -> list[str]:
    """Which models' steps can't be compiled, and why."""
    return [
        f"{one.name} runs without compiled steps: {one.slower or 'its early layers are asked'}"
        for one in dict.fromkeys(backbones.values())
        if not one.compiles
    ]
