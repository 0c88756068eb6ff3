"""More formulas with values worked out by hand: the operators that published methods are made of.

The distributions are those of `operator_table`; in log-weights `a` is -log(2)*[1, 2, 3, 3], `b` is
-log(2)*[3, 3, 2, 1], and `t` is 2.
"""

import math

from tests.language.operator_table import LN2, ROOT, A, B, C, powers

E = math.e

TABLE: list[tuple[str, list[float]]] = [
    # functions of one number
    ("relu(a)", [1, 1, 1, 1]),
    ("relu(a + 2.5*log(2))", [2**1.5, ROOT, 1, 1]),
    ("relu(u + 1.5*log(2))", [ROOT, 1, 1, 0]),
    ("a + relu(p(a) - p(b))", [4 * E ** (3 / 8), 2 * E ** (1 / 8), 1, 1]),
    ("a + relu(-2)*b", [4, 2, 1, 1]),
    ("relu(one + 1)*a", [16, 4, 1, 1]),
    ("tanh(a)", [E ** (-3 / 5), E ** (-15 / 17), E ** (-63 / 65), E ** (-63 / 65)]),
    ("tanh(u)", [E ** (-3 / 5), E ** (-15 / 17), E ** (-15 / 17), 0]),
    ("c + tanh(log(2)*(a > b))", [E**0.6, E**0.6, 1, 1]),
    ("tanh(log(3))*a", powers(C, A, 0.8)),
    ("sign(a)", [1, 1, 1, 1]),
    ("sign(a + 1.5*log(2))", [E**2, 1, 1, 1]),
    ("sign(u + 1.5*log(2))", [E**2, 1, 1, 0]),
    ("c + sign((a > b) - 2*(p(a) > 0.3))", [1 / E, E, 1, 1]),
    ("sign(-2)*a", [1, 2, 4, 4]),
    ("log(sigmoid(a))", [1 / 3, 1 / 5, 1 / 9, 1 / 9]),
    ("log(sigmoid(2*a))", [1 / 5, 1 / 17, 1 / 65, 1 / 65]),  # not normalised: 1/4, 1/16, 1/64, 1/64
    ("log(sigmoid(u))", [5, 3, 3, 0]),
    ("log(sigmoid(log(3)*(a > b)))", [3, 3, 2, 2]),
    ("sigmoid(log(3))*a", powers(C, A, 0.75)),
    ("log(sqrt(p(a)*p(b)))", [ROOT, 1, 1, ROOT]),
    ("log(sqrt(p(u)))", [ROOT, 1, 1, 0]),
    ("sqrt(4)*a", [16, 4, 1, 1]),
    ("sqrt(one + 3)*a", [16, 4, 1, 1]),
    # reductions
    ("a + tv(a, b)*b", powers(A, B, 1 / 2)),
    ("a + tv(u + 1, v)*b", powers(A, B, 1 / 2)),
    ("a + tv(u, top_k(v, 1))*b", powers(A, B, 3 / 4)),
    ("a + tv(a, a)*b", [4, 2, 1, 1]),
    ("a + max_p(a + 7)*b", powers(A, B, 1 / 2)),
    ("a + max_p(2*a)*b", powers(A, B, 8 / 11)),
    ("a + max_p(top_k(b, 1))*b", powers(A, B, 1)),
    ("a + margin(a)*b", powers(A, B, 1 / 4)),
    ("a + margin(u - 1)*b", powers(A, B, 1 / 4)),
    ("a + margin(c)*b", [4, 2, 1, 1]),
    ("a + margin(top_k(b, 1))*b", powers(A, B, 1)),
    ("a + confidence(a)*b", powers(A, B, 1 / 8)),
    ("a + confidence(c)*b", [4, 2, 1, 1]),
    ("a + confidence(u)*b", powers(A, B, 1 / 4)),  # of the whole vocabulary, not of the support
    ("a + confidence(top_k(a, 1))*b", powers(A, B, 1)),
    ("a + cosine(a, b)*b", powers(A, B, 6 / 11)),
    ("a + cosine(u + 2, v)*b", powers(A, B, 1 / 2)),
    ("a + cosine(a, a)*b", powers(A, B, 1)),
    ("a + cosine(top_k(a, 1), v)*b", [4, 2, 1, 1]),
    # sums and extremes over all tokens
    ("a + total(p(a)*p(b))*b", powers(A, B, 3 / 16)),
    ("a + total(a > b)*b", powers(A, B, 2)),
    ("total(p(u))*a", [4, 2, 1, 1]),
    ("a + total(p(b)*log_p(a + 3))*b", powers(A, B, -(1 + 2 + 2 * 3 + 4 * 3) / 8 * LN2)),
    ("a - total(p(a)*clamp(log_p(u), min=-log(16)))*b", powers(A, B, (4 * 1 + 2 * 2 + 2 + 4) / 8 * LN2)),
    ("a + total(exp(c - u))*b", powers(A, B, 1 / 2 + 1 + 1)),
    ("a + largest(p(b))*b", powers(A, B, 1 / 2)),
    ("a + largest(p(a) - p(b))*b", powers(A, B, 3 / 8)),
    ("a + largest(a > b)*b", powers(A, B, 1)),
    ("a + largest(log_p(u))*b", powers(A, B, -LN2)),
    ("a + largest(exp(c - u))*b", powers(A, B, 1)),
    ("a + smallest(p(a))*b", powers(A, B, 1 / 8)),
    ("a + smallest(p(a) - p(b))*b", powers(A, B, -3 / 8)),
    ("a + smallest(log_p(a))*b", powers(A, B, -3 * LN2)),
    ("a + smallest(p(u))*b", [4, 2, 1, 1]),
    ("a + smallest(exp(c - u))*b", [4, 2, 1, 1]),
    ("where(smallest(log_p(u)) > -9, a, b)", [1, 1, 2, 4]),  # -inf
    # the farthest of some candidates, by Jensen-Shannon divergence
    ("farthest(a, b)", [1, 1, 2, 4]),
    ("farthest(a, c, b)", [1, 1, 2, 4]),
    ("farthest(a, b + 3, 2*a, c)", [1, 1, 2, 4]),
    ("c - farthest(a, a, b)", [4, 4, 2, 1]),
    ("farthest(c, a, u)", [2, 1, 1, 0]),
    ("farthest(top_k(b, 1), v, u - 1, a)", [2, 1, 1, 0]),
    ("max(farthest(c, b, 2*a), a)", [16 / 22, 1 / 4, 1 / 8, 1 / 8]),  # with its log-probabilities
    # weights that change with the step, or with another scalar
    ("ramp(t, 1, 3)*a", powers(C, A, 1 / 2)),
    ("ramp(t, 0, 8)*a", powers(C, A, 1 / 4)),
    ("ramp(t, 2, 3)*a + b", [1, 1, 2, 4]),
    ("ramp(t, 5, 6)*a + b", [1, 1, 2, 4]),
    ("ramp(t, 0, 2)*a", [4, 2, 1, 1]),
    ("ramp(t, -1, one)*a", [4, 2, 1, 1]),
    ("ramp(entropy(c), 0, log(16))*a", powers(C, A, 1 / 2)),
    ("ramp(1, 0, 4)*a", powers(C, A, 1 / 4)),
    ("decay(t, 2)*a", powers(C, A, 1 / 2)),
    ("decay(t, half_life=4)*a", powers(C, A, 1 / ROOT)),
    ("decay(t, one)*a", powers(C, A, 1 / 4)),
    ("decay(0, 3)*a", [4, 2, 1, 1]),
    ("decay(-1, 1)*a", [16, 4, 1, 1]),
    # a nucleus whose order is another's: that of b is the last token, the third, and two that tie
    ("top_p(a, 0.1, by=b)", [0, 0, 0, 1]),
    ("top_p(a, 0.2, by=b + 5)", [0, 0, 1, 1]),
    ("top_p(a, p=0.3, by=b)", [4, 2, 1, 1]),
    ("top_p(a, 1, b)", [4, 2, 1, 1]),
    ("top_p(a, 0.6, by=a)", [2, 1, 0, 0]),
    ("top_p(a, 0.1, by=-a)", [0, 0, 1, 1]),
    ("top_p(2*a, 0.2, by=v)", [0, 4, 1, 1]),  # 2/11, 1/22, 1/22
    ("top_p(a, 0.2, by=v)", [0, 1, 0, 0]),
    ("top_p(a, 0.9, by=v)", [0, 2, 1, 1]),  # all there is
    ("top_p(a, 1, by=v)", [0, 2, 1, 1]),
    ("top_p(u, 0.3, by=v)", [0, 1, 1, 0]),
    ("top_p(a, 0.1, by=c - u)", [0, 2, 1, 0]),
    ("max(top_p(a, 0.1, by=b), within(a, p(a) > 0.4))", [4, 0, 0, 1]),
    ("max(top_p(a, 0.1, by=b), within(a, p(a) > 0.6))", [0, 0, 0, 1]),
    # masks united and intersected
    ("within(c, (a > b) + (p(a) > 0.3) > 0)", [1, 1, 0, 0]),
    ("within(c, (a > b)*(p(a) > 0.3) > 0)", [1, 0, 0, 0]),
    # supports; the entropy of a is 1.75 log(2), so that its second token is the most typical one
    ("typical(a, 0.2)", [0, 1, 0, 0]),
    ("typical(a, 0.5)", [2, 1, 0, 0]),
    ("typical(a, p=0.8)", [4, 2, 1, 1]),
    ("typical(a, 1)", [4, 2, 1, 1]),
    ("typical(u, 1)", [2, 1, 1, 0]),
    ("typical(2*a, 0.7)", [1, 0, 0, 0]),  # 8/11, 2/11, 1/22, 1/22: their entropy is 1.19 log(2)
    ("typical(2*a, 0.8)", [4, 1, 0, 0]),
    ("typical(top_k(a, 2), 0.3)", [1, 0, 0, 0]),
    ("epsilon(a, 0.3)", [1, 0, 0, 0]),
    ("epsilon(a, 0.2)", [2, 1, 0, 0]),
    ("epsilon(a, p=0.1)", [4, 2, 1, 1]),
    ("epsilon(a, 0.9)", [1, 0, 0, 0]),
    ("epsilon(-a, 0.9)", [0, 0, 1, 1]),
    ("epsilon(2*a, 0.2)", [1, 0, 0, 0]),
    ("epsilon(u, 0.1)", [2, 1, 1, 0]),
    ("within(b, complement(top_k(a, 2)))", [0, 0, 1, 2]),
    ("within(a, complement(a > b))", [0, 0, 1, 1]),
    ("within(c, complement(u))", [0, 0, 0, 1]),
    ("within(c, complement(complement(u)))", [1, 1, 1, 0]),
    ("within(a, complement(entropy(a) > 9))", [4, 2, 1, 1]),
    ("c + log(3)*complement(v)", [3, 1, 1, 1]),
    ("a + complement(b)", [4, 2, 1, 1]),
    # mixtures
    ("mix(a, b, 0.5)", [5, 3, 3, 5]),
    ("mix(a, b, w=0.25)", [7, 5, 7, 13]),
    ("mix(a + 3, b, one)", [4, 2, 1, 1]),
    ("mix(a, b - 3, zero)", [1, 1, 2, 4]),
    ("mix(a + b, a, 0.5)", [20, 10, 7, 11]),  # 1/3, 1/6, 1/6, 1/3 and 1/2, 1/4, 1/8, 1/8
    ("mix(u, v, 0.5)", [2, 3, 2, 1]),
    ("mix(u, v, one)", [2, 1, 1, 0]),
    ("mix(u, v, zero)", [0, 2, 1, 1]),
    ("mix(top_k(a, 1), u, 0.5)", [6, 1, 1, 0]),
    ("mix(within(a, p(a) > one), b, zero)", [1, 1, 2, 4]),  # what has no weight need not have a value
    ("supersede(a, b)", [1, 1, 2, 4]),
    # log-probabilities as numbers
    ("c + log_p(a)", [4, 2, 1, 1]),
    ("c - log_p(2*a + 1)", [1, 4, 16, 16]),
    ("c + log_p(u)", [2, 1, 1, 0]),
    ("c + zero*log_p(u)", [1, 1, 1, 1]),
    ("c + clamp(log_p(u), min=-log(8))", [4, 2, 2, 1]),
    ("log(exp(log_p(a)) + p(b))", [5, 3, 3, 5]),
    ("within(c, log_p(a) < -1.5*log(2))", [0, 1, 1, 1]),
    # log-weights with the mean 0: those of a are log(2)*[5, 1, -3, -3]/4
    ("center(a)", [4, 2, 1, 1]),
    ("max(center(a + 5), center(c))", [2**1.25, 2**0.25, 1, 1]),
    ("relu(center(a))", [2**1.25, 2**0.25, 1, 1]),
    ("clamp(center(u), max=0)", [1, 2 ** (-1 / 3), 2 ** (-1 / 3), 0]),
    # of a token outside, the sign of whose log-weight has been turned, nothing comes back
    ("min(c - u, b)", [1, 1, 2, 0]),
    ("log(sigmoid(c - u))", [2, 3, 3, 0]),
    ("where(c - u > b, a, b)", [4, 2, 1, 4]),
    ("sign(-5*u)", [1, 1, 1, 0]),
    # a weight of log(3) on two tokens of the uniform distribution: KL = log(3)*3/4 - log(2)
    ("c + anchor(c, a > b, 0.75*log(3) - log(2), 5)*(a > b)", [3, 3, 1, 1]),
    ("c + anchor(c + 1, c + 2*(a > b), bound=0.75*log(3) - log(2), most=9)*(2*(a > b))", [3, 3, 1, 1]),
    ("c + anchor(c, -a, 9, most=0.5)*a", powers(C, A, 1 / 2)),
    ("c + anchor(c, u, 0.28, 3)*b", [1, 1, 1, 1]),  # without its last token c is log(4/3) = 0.288 away
    ("c + anchor(c, within(c, u), 0.29, 2)*b", powers(C, B, 2)),
    ("c + anchor(top_k(a, 1), top_k(b, 1), 9, 2)*b", [1, 1, 1, 1]),  # nothing in common
    ("c + anchor(u, v, one, 2)*0 + b", [1, 1, 2, 4]),
]  # fmt: skip
