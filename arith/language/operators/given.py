"""Operators whose values come from the run: other outputs of the operands' models, and classifiers."""

import torch

from arith.language.argument import ClassifierName, Constant, Domain, Flag, OperandName
from arith.language.inputs import Inputs
from arith.language.operators.support import WHOLE
from arith.language.registry import operator
from arith.language.values import Dist, Scalar, Type, Vec
from arith.language.vocabulary import refuse_more

DEPTH = Domain("a whole number: 0 for the embeddings, k for block k", lambda k: k >= 0 and k % 1 == 0)


@operator(
    "layer",
    example="base - layer(base, 10)",
    domains={"k": DEPTH},
    unnormalized=True,
    source="Chuang et al. 2024, DoLa: Decoding by Contrasting Layers",
)
def layer(inputs: Inputs, operand: OperandName, k: Constant) -> Dist:
    """The operand's early exit: what its output layer makes of the state after block `k` of `1…n`.

    `k` = 0 takes the embeddings. The model's final norm is applied to the early state, and `layer(base, n)`
    is `base`. It comes from the forward that `base` needs anyway.
    """
    return Dist(inputs.asked.layer(operand, int(k)))


@operator(
    "log_likelihood",
    example="base + log(sigmoid((log_likelihood(pro) + pro - log_likelihood(anti) - anti)/(t + 1)))",
    source="Krause et al. 2021, GeDi: Generative Discriminator Guided Sequence Generation",
)
def log_likelihood(inputs: Inputs, operand: OperandName) -> Scalar:
    """The log-probability that the operand gives to all tokens generated so far, in nats; 0 before the first.

    `log_likelihood(a) + a` is that of the text with each next token.
    """
    return inputs.asked.log_likelihood(operand)


@operator("strength", example="base + strength(formal)*(arm - base)")
def strength(inputs: Inputs, classifier: ClassifierName, prompt: Flag = False) -> Scalar:
    """How much the text so far is what a classifier looks for: the probability of its label, or the reward.

    With `prompt=true` it is that of the prompt alone.
    """
    return inputs.asked.strength(classifier, prompt=prompt)


@operator(
    "guide",
    example="base + 2*guide(formal, on=base, k=50)",
    domains={"k": WHOLE},
    switches={"restrict": Type.DIST},
    absorbs_shift=["on"],
    source="Yang and Klein 2021, FUDGE; Khanov et al. 2024, ARGS",
)
def guide(
    inputs: Inputs,
    classifier: ClassifierName,
    on: Dist,
    k: Constant,
    bayes: Flag = True,
    restrict: Flag = False,
) -> Vec | Dist:
    """What a classifier or a reward model says of the text with each of the `k` most likely tokens of `on`.

    In the Bayes form (the default) that is relative to the text without a further token,
    `log P(label | text, token) - log P(label | text)`, and other tokens count 0. With `bayes=false` it is the
    log-probability (or the reward) as it is, and other tokens have that of the text without a further token.
    With `restrict=true` other tokens are outside. Where fewer than `k` tokens are in the support of `on`,
    these are the candidates.
    """
    scores = on.masked
    refuse_more(int(k), inputs.vocabulary)
    ranked = scores.topk(int(k), dim=-1)
    inside = ranked.values > -torch.inf
    values, without = (value.to(scores) for value in inputs.asked.guide(classifier, ranked.indices))
    rest = torch.zeros_like(without) if bayes else without
    values = torch.where(inside, values - without if bayes else values, rest)
    spread = rest.expand_as(scores).scatter(-1, ranked.indices, values)
    if not restrict:
        return spread
    candidates = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, ranked.indices, inside)
    return Dist(spread, candidates)


@operator("uniform", example="0.9*base + 0.1*uniform()", unnormalized=True)
def uniform(inputs: Inputs) -> Dist:
    """The distribution that gives every token of the vocabulary the same probability."""
    return Dist(torch.zeros(inputs.row_count, inputs.vocabulary, dtype=inputs.dtype, device=inputs.device))


@operator("supersede", example="supersede(small, large)", passes_shift=["small", "large"])
def supersede(small: Dist, large: Dist) -> Dist:
    """The distribution of `large`, whose tokens are drafted by `small`: operands that stand in `small` alone
    change neither texts nor the vocabulary, and results hold nothing of them."""
    return large
