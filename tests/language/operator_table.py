"""Formulas over four tokens whose probabilities are powers of one half, and their values worked out by hand.

The table gives what a formula's probabilities are in proportion to; 0 is a token outside the support.
"""

import math

import torch

F64 = torch.float64
A = [1 / 2, 1 / 4, 1 / 8, 1 / 8]
B = [1 / 8, 1 / 8, 1 / 4, 1 / 2]
C = [1 / 4, 1 / 4, 1 / 4, 1 / 4]
U = [1 / 2, 1 / 4, 1 / 4, 0]  # with tokens outside the support
V = [0, 1 / 2, 1 / 4, 1 / 4]
OPERANDS = {
    name: torch.tensor(p, dtype=F64).log() for name, p in {"a": A, "b": B, "c": C, "u": U, "v": V}.items()
}
PARAMETERS = {"zero": 0.0, "one": 1.0}
STEP = 2.0
ROOT = math.sqrt(2)
LN2 = math.log(2)
JS_AB = -(5 / 8) * math.log(5 / 16) - (3 / 8) * math.log(3 / 16) - 1.75 * LN2  # H((A+B)/2) - (H(A)+H(B))/2

JS_U = 0.5 * (0.75 * LN2 + 0.25 * math.log(2 / 5)) + 0.5 * math.log(8 / 5)  # of U and [0, 1, 0, 0]


def powers(left: list[float], right: list[float], exponent: float) -> list[float]:
    """left · right**exponent"""
    return [x * y**exponent for x, y in zip(left, right, strict=True)]


TABLE: list[tuple[str, list[float]]] = [
    # arithmetic: sums of log-weights are products of probabilities
    ("a", [4, 2, 1, 1]),
    ("a + b", [2, 1, 1, 2]),
    ("a - b", [16, 8, 2, 1]),
    ("2*a", [16, 4, 1, 1]),
    ("a*2", [16, 4, 1, 1]),
    ("-a", [1, 2, 4, 4]),
    ("a/2", [2, ROOT, 1, 1]),
    ("a + 3 - b*0.5/2*4", [16, 8, 2, 1]),
    ("b + t*a", [16, 4, 2, 4]),
    ("a + (b - a)", [1, 1, 2, 4]),
    ("a + p(b)", powers(A, [math.exp(p) for p in B], 1)),
    ("a + 1", [4, 2, 1, 1]),
    ("a + log(3)*(a > b)", [12, 6, 1, 1]),
    ("a - log(2)*(a > b)", [2, 1, 1, 1]),
    # max and min act on log-weights as they stand
    ("max(a, b)", [2, 1, 1, 2]),
    ("union(a, b, c)", [2, 1, 1, 2]),
    ("max(a, 2*b)", [4, 2, 1, 2]),
    ("max(a + log(2), b)", [4, 2, 1, 2]),
    ("max(normalize(a + b), a)", [6, 3, 2, 4]),
    ("min(a, b)", [1, 1, 1, 1]),
    ("intersection(a, c)", [2, 2, 1, 1]),
    ("min(a, b + log(4), c)", [2, 2, 1, 1]),
    ("log(max(p(a), p(b)))", [2, 1, 1, 2]),
    ("log(min(p(a), p(b)))", [1, 1, 1, 1]),
    ("log(0.5 + max(a > b, b > c))", [3, 3, 1, 3]),
    ("max(1, 2)*a", [16, 4, 1, 1]),
    ("min(one + 1, 3)*a", [16, 4, 1, 1]),
    # supports: the log-weights that stay are those of the first argument
    ("top_k(a, 1)", [1, 0, 0, 0]),
    ("top_k(a, 2)", [2, 1, 0, 0]),
    ("top_k(a, 3)", [4, 2, 1, 1]),
    ("top_k(a, k=9)", [4, 2, 1, 1]),
    ("top_k(-a, 1)", [0, 0, 1, 1]),
    ("top_k(a, 2) + b", [2, 1, 0, 0]),
    ("top_k(a, one + 1)", [2, 1, 0, 0]),
    ("top_p(a, 0.4)", [1, 0, 0, 0]),
    ("top_p(a, 0.6)", [2, 1, 0, 0]),
    ("top_p(a, p=0.8)", [4, 2, 1, 1]),
    ("top_p(a, 1)", [4, 2, 1, 1]),
    ("top_p(2*a, 0.7)", [1, 0, 0, 0]),
    ("top_p(top_k(a, 2), 0.6)", [1, 0, 0, 0]),
    ("min_p(a, 0.6)", [1, 0, 0, 0]),
    ("min_p(a, 0.4)", [2, 1, 0, 0]),
    ("min_p(a, p=0.2)", [4, 2, 1, 1]),
    ("min_p(a, 1)", [1, 0, 0, 0]),
    ("within(b, top_k(a, 2))", [1, 1, 0, 0]),
    ("within(a, b > a)", [0, 0, 1, 1]),
    ("within(b, p(a) < 0.2)", [0, 0, 1, 2]),
    ("within(b, entropy(a) > 1)", [1, 1, 2, 4]),
    # normalize, average, temper
    ("normalize(a - b)", [16, 8, 2, 1]),
    ("temper(a, 2)", [2, ROOT, 1, 1]),
    ("temper(a, T=-1)", [1, 2, 4, 4]),
    ("temper(a, one/2)", [16, 4, 1, 1]),
    ("average(2*a)", [4, 2, 1, 1]),
    ("average(2*a + 5)", [4, 2, 1, 1]),
    ("average(a + b)", [ROOT, 1, 1, ROOT]),
    ("average(a - 0.5*b)", [64, 16, 2, 1]),
    ("average(a - 2*b)", [1, 2, 16, 64]),  # W = -1
    ("average((a + b)/2)", [ROOT, 1, 1, ROOT]),
    ("average((one + one)*a + b/2 - b/2)", [4, 2, 1, 1]),
    ("average(a + p(b))", powers(A, [math.exp(p) for p in B], 1)),  # a vec counts 0
    ("average(temper(2*a, 0.5) + b)", powers(powers(C, A, 2), B, 0.5)),  # a call counts 1
    ("average(top_k(3*a, 4) + b)", powers(powers(C, A, 1.5), B, 0.5)),
    ("average(normalize(3*a) + b)", powers(powers(C, A, 1.5), B, 0.5)),
    ("average(where(a > b, 3*a, 3*a) + b)", powers(powers(C, A, 1.5), B, 0.5)),
    ("average(average(a + b) + b)", powers(powers(powers(C, A, 0.25), B, 0.25), B, 0.5)),
    ("m = 2*a\naverage(m + b)", powers(powers(C, A, 2 / 3), B, 1 / 3)),  # a definition is what it stands for
    ("m = max(a, 2*b)\naverage(m)", [4, 2, 1, 4]),
    ("average(max(a, 2*b))", [4, 2, 1, 4]),  # 1/2, 1/4, 1/8 from a; 2*b wins the last: (1/4)^(1/2)
    ("average(min(a, 2*b))", [1, 1, 2, 1]),
    ("average(-max(-a, -2*b))", [1, 1, 2, 1]),
    ("average(2*max(a, 2*b))", [4, 2, 1, 4]),
    ("average(max(a, 2*b) + b)", [1 / 4, 32**-0.5, 32**-0.5, 1 / 2]),  # 1/16, 1/32, 1/32, 1/8 over 2, 2, 2, 3
    ("average(max(max(a, 2*b), 0.75*c))", [2, 1, 1, 1]),
    ("average(max(a, b))", [2, 1, 1, 2]),
    # probabilities and back
    ("log(p(a))", [4, 2, 1, 1]),
    ("log(p(2*a))", [16, 4, 1, 1]),
    ("log(0.5*p(a) + 0.5*p(b))", [5, 3, 3, 5]),
    ("log(p(a) + p(a + b))", [3 + 2, 1.5 + 1, 0.75 + 1, 0.75 + 2]),  # p normalises: 1/3, 1/6, 1/6, 1/3
    ("log(p(a) - p(b))", [3, 1, 0, 0]),
    ("log(p(a)*p(b))", [2, 1, 1, 2]),
    ("log(p(a)/p(b))", [16, 8, 2, 1]),
    ("log(1/p(a))", [1, 2, 4, 4]),
    ("log(p(a)/4)", [4, 2, 1, 1]),
    ("log(exp(a + a))", [16, 4, 1, 1]),
    ("log(exp(2*a) + p(b))", [24, 12, 17, 33]),  # exp does not normalise: 1/4 + 1/8, 1/16 + 1/8, …
    ("log(exp(p(a)))", [math.exp(p) for p in A]),
    ("exp(log(2))*a", [16, 4, 1, 1]),
    # functions of one number
    ("abs(a)", [1, 2, 4, 4]),
    ("log(abs(p(a) - p(b)))", [3, 1, 1, 3]),
    ("abs(-2)*a", [16, 4, 1, 1]),
    ("clamp(a, min=-log(4))", [2, 1, 1, 1]),
    ("clamp(a, max=-log(4))", [2, 2, 1, 1]),
    ("log(clamp(p(a), 0.2, 0.3))", [0.3, 0.25, 0.2, 0.2]),
    ("clamp(5, max=one + 1)*a", [16, 4, 1, 1]),
    # choices and comparisons
    ("where(a > b, a, b)", [2, 1, 1, 2]),
    ("where(p(a) < 0.2, 2*a, a)", [32, 16, 1, 1]),
    ("where(entropy(a) < entropy(c), a, b)", [4, 2, 1, 1]),
    ("where(t > 3, a, b)", [1, 1, 2, 4]),
    ("where(t > one, 2, 3)*a", [16, 4, 1, 1]),
    ("log(where(a > b, p(a), p(c)))", [2, 1, 1, 1]),
    ("within(a, (a > b) < 1)", [0, 0, 1, 1]),
    ("within(a, (a > b) <= 0)", [0, 0, 1, 1]),
    ("within(a, (a > b) > 0)", [2, 1, 0, 0]),
    ("within(a, (a > b) >= 1)", [2, 1, 0, 0]),
    ("within(a, (a > b) == 0)", [0, 0, 1, 1]),
    ("within(a, (a > b) != 0)", [2, 1, 0, 0]),
    ("within(a, (a > b)*(a > c) > 0)", [1, 0, 0, 0]),
    ("within(a, -1 < a)", [1, 0, 0, 0]),
    ("within(a, a + b > -4.5*log(2))", [4, 0, 0, 1]),  # as they stand: 1/16, 1/32, 1/32, 1/16
    # reductions, in nats
    ("a + entropy(a)*b", powers(A, B, 1.75 * LN2)),
    ("a + entropy(2*c + 1)*b", powers(A, B, 2 * LN2)),
    ("a + kl(a, b)*b", powers(A, B, 0.875 * LN2)),
    ("a + kl(c, a)*b", powers(A, B, 0.25 * LN2)),
    ("c + kl_terms(a, b)", [2.0, 2**0.25, 2**-0.125, 2**-0.25]),
    ("c + kl_terms(u, c)", [ROOT, 1, 1, 1]),
    ("a + js(a, b)*b", powers(A, B, JS_AB)),
    ("a + js(b + 7, a - 7)*b", powers(A, B, JS_AB)),
    ("a + js(a, a)*b", [4, 2, 1, 1]),
    # operands with tokens outside: sums and differences intersect, whatever the sign
    ("u", [2, 1, 1, 0]),
    ("u + v", [0, 2, 1, 0]),
    ("c - u", [1, 2, 2, 0]),
    ("c - 5*u", [1, 32, 32, 0]),
    ("-u", [1, 2, 2, 0]),
    ("temper(u, -1)", [1, 2, 2, 0]),
    ("average(u - 3*v)", powers(powers([0, 1, 1, 0], [*U[:3], 1], -0.5), [1, *V[1:]], 1.5)),
    ("average(max(u, 3*v))", [2, 1, 1, 1]),
    ("average(min(u, 3*v))", [0, 2, 1, 0]),
    ("abs(u)", [2, 4, 4, 0]),
    ("clamp(u, min=-1)", [1 / 2, math.exp(-1), math.exp(-1), 0]),
    ("normalize(u - v)", [0, 1, 2, 0]),
    ("max(u, v)", [2, 2, 1, 1]),
    ("min(u, v)", [0, 1, 1, 0]),
    ("top_k(u, 4)", [2, 1, 1, 0]),
    ("top_p(u, 1)", [2, 1, 1, 0]),
    ("within(c, u)", [1, 1, 1, 0]),
    ("within(c, u + v)", [0, 1, 1, 0]),
    ("within(c, max(u, v))", [1, 1, 1, 1]),
    ("within(c, top_k(u, 4))", [1, 1, 1, 0]),
    ("within(c, zero*u)", [1, 1, 1, 1]),
    ("where(one > 0, u, v)", [2, 1, 1, 0]),
    ("where(one < 0, u, v)", [0, 2, 1, 1]),
    ("where(u > v, u, v)", [2, 2, 1, 1]),
    ("where(u < v, u, v)", [0, 1, 1, 0]),
    ("log(p(u) + p(v))", [2, 3, 2, 1]),
    ("log(p(u)*p(v))", [0, 2, 1, 0]),
    ("log(exp(u))", [2, 1, 1, 0]),
    ("c + p(u)", [math.exp(p) for p in U]),
    ("c + log(2)*(u > v)", [2, 1, 1, 1]),
    ("c + entropy(u)*b", powers(C, B, 1.5 * LN2)),
    ("c + kl(u, c)*b", powers(C, B, 0.5 * LN2)),
    ("c + js(u, top_k(v, 1))*b", powers(C, B, JS_U)),
    # a weight of exactly 0 contributes nothing, its support included
    ("c + 0*u", [1, 1, 1, 1]),
    ("c + zero*u", [1, 1, 1, 1]),
    ("c - zero*u/5", [1, 1, 1, 1]),
    ("c + zero*top_k(a, 1)", [1, 1, 1, 1]),
    ("c + (one - one)*u", [1, 1, 1, 1]),
    ("u + zero*(v - u)", [2, 1, 1, 0]),
    ("u + one*(v - u)", [0, 2, 1, 1]),  # equal terms are added up first: the weight of u is 0
    ("b + zero*log(p(a) - p(a))", [1, 1, 2, 4]),
    ("0*a", [1, 1, 1, 1]),
    # what folds to nothing keeps its type
    ("log(1 + 0*p(a))", [1, 1, 1, 1]),
    ("log(p(a) - p(a) + one)", [1, 1, 1, 1]),
    ("log((entropy(a) > 1) + 0*p(b))", [1, 1, 1, 1]),
    ("c + (t > one)*1", [1, 1, 1, 1]),
    ("max(a, 0*b + t/2 - 1)", [1, 1, 1, 1]),
]  # fmt: skip
