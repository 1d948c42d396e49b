"""The checks of exercises: of each a right answer and wrong ones, each of which is told by its mistake."""

import re

import jax
import numpy as np
import optax
import oracle
import pytest

import lectopt as lo
from lectopt import exercises
from lectopt.exercises.rules import MISTAKES, RULES


def loop(update, *zeros):
    """A student's answer: the lecture's loop, with a line for the update."""

    def descend(gradient, w, steps):
        memory, path = [0.0 * w for _ in zeros], []
        for k in range(steps):
            step, *memory = update(gradient, w, k + 1, *memory)
            w = w + step
            path.append(w)
        return path

    return descend


def adam(correct=True, inside=False, sign=-1):
    def update(gradient, w, t, s, r):
        g = gradient(w)
        s, r = 0.9 * s + 0.1 * g, 0.999 * r + 0.001 * g**2
        s_hat, r_hat = (s / (1 - 0.9**t), r / (1 - 0.999**t)) if correct else (s, r)
        return sign * 0.1 * s_hat / (np.sqrt(r_hat + 1e-8) if inside else np.sqrt(r_hat) + 1e-8), s, r

    return loop(update, 0, 0)


def nesterov(ahead=0.9, rate=0.1, kept=0.9):
    def update(gradient, w, t, v):
        v = kept * v - rate * gradient(w + ahead * v)
        return v, v

    return loop(update, 0)


OPTIMIZERS = [
    (adam(), "adam", ""),
    (adam(correct=False), "adam", "Both bias corrections are missing"),
    (adam(inside=True), "adam", "here it stands inside of the root"),
    (adam(sign=1), "adam", "The sign is wrong"),
    (adam(sign=0.5), "adam", None),
    (nesterov(), "nesterov", ""),
    (nesterov(ahead=0.0), "nesterov", "is taken at w"),
    (nesterov(rate=1.0), "nesterov", "The learning rate is missing"),
    (nesterov(), "momentum", "which is Nesterov momentum"),
    (nesterov(rate=np.nan), "nesterov", "not finite"),
    (optax.sgd(0.1), "sgd", ""),
    (optax.adagrad(0.1, initial_accumulator_value=0, eps=1e-7), "adagrad", "here it stands inside of the root"),
    (lo.momentum(0.1), "momentum", ""),
    (lo.nesterov(0.1), "nesterov", ""),
    (lo.adam(0.1), "adam", ""),
]


@pytest.mark.parametrize(("answer", "rule", "hint"), OPTIMIZERS)
def test_optimizers(answer, rule, hint):
    verdict = exercises.check_optimizer(answer, rule)
    assert verdict.right == (hint == "")
    assert verdict.hint == "" if not hint else hint in verdict.hint


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_the_oracle_and_its_mistakes_are_told(rule):
    """A student's loop is our own oracle, which never imports lectopt."""
    numbers = {"learning_rate": 0.03}
    numbers |= {"decay": 0.8} if "rms" in rule else {}
    numbers |= {"momentum": 0.7} if rule in ("momentum", "nesterov", "rmsprop_nesterov") else {}
    numbers |= {"eps": 1e-5} if rule in ("adagrad", "rmsprop", "rmsprop_nesterov") else {}
    numbers |= {"b1": 0.8, "b2": 0.95, "eps": 1e-5} if rule == "adam" else {}
    constants = {name: (lambda k, number=number: number) for name, number in numbers.items()}

    def answer(gradient, w, steps):
        return [w for w, _ in getattr(oracle, rule)(lambda k, w: gradient(w), w, steps, **constants)]

    assert exercises.check_optimizer(answer, rule, **numbers).right
    for sentence, mistaken in MISTAKES[rule]:

        def wrong(gradient, w, steps, mistaken=mistaken):
            return [w for w, _ in (point for point, _ in zip(mistaken(gradient, w, **numbers), range(steps)))]  # noqa: B905

        verdict = exercises.check_optimizer(wrong, rule, **numbers)
        assert (verdict.right, verdict.hint) == (False, sentence)


def test_a_verdict_says_where_and_by_how_much():
    late = loop(lambda gradient, w, t: ((-0.1 if t < 4 else 0.1) * gradient(w),))
    assert str(exercises.check_optimizer(late, "sgd")) == (
        "Not yet: it departs from sgd at step k = 3, where weight 0 is at 0.698, and by the rule at 0.87."
    )


def decay(k, ends=100, first=0.1, last=0.001):
    return first + (last - first) * min(k / ends, 1)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (decay, ""),
        (lambda k: decay(k + 1), "a step ahead"),
        (lambda k: decay(max(k - 1, 0)), "a step behind"),
        (lambda k: 0.1 - 0.099 * k / 100, "It goes on after the last step"),
        (lambda k: 0.101 - decay(k), "It runs the other way"),
        (lambda k: 0.1, "It does not change"),
        (lambda k: decay(k, ends=90), None),
    ],
)
def test_schedules(answer, hint):
    verdict = exercises.check_schedule(answer, lo.linear_decay(0.1, transition_steps=100), steps=150)
    assert verdict.right == (hint == "")
    assert verdict.hint == "" if not hint else hint in verdict.hint


def normalise(axis, ddof=0, inside=1e-5, outside=0.0, power=0.5):
    def answer(z):
        return (z - z.mean(axis, keepdims=True)) / ((z.var(axis, ddof=ddof, keepdims=True) + inside) ** power + outside)

    return answer


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (normalise, ""),
        (lambda axis: normalise(1 - axis), "It runs over"),
        (lambda axis: normalise(axis, ddof=1), "ddof=0"),
        (lambda axis: normalise(axis, inside=0.0, outside=1e-5), "here it is added to the root"),
        (lambda axis: normalise(axis, inside=0.0), "is missing"),
        (lambda axis: normalise(axis, power=1), "divides by its root"),
        (lambda axis: lambda z: z, None),
    ],
)
@pytest.mark.parametrize("rule", ["batch", "layer"])
def test_norms(answer, hint, rule):
    verdict = exercises.check_norm(answer(["batch", "layer"].index(rule)), rule)
    assert verdict.right == (hint == "")
    assert verdict.hint == "" if not hint else hint in verdict.hint


def uniform(limit):
    return lambda key, shape: np.random.default_rng(int(jax.random.key_data(key)[1])).uniform(
        -limit(*shape), limit(*shape), shape
    )


def sparse(key, shape, axis=0, exactly=True, sd=1.0):
    random = np.random.default_rng(int(jax.random.key_data(key)[1]))
    drawn = random.uniform(size=shape)
    kept = drawn.argsort(axis).argsort(axis) < 15 if exactly else drawn < 15 / shape[0]
    return np.where(kept, random.normal(0, sd, shape), 0)


@pytest.mark.parametrize(
    ("answer", "rule", "hint"),
    [
        (uniform(lambda m, n: m**-0.5), "fan_in_uniform", ""),
        (uniform(lambda m, n: n**-0.5), "fan_in_uniform", "the rule counts the inputs"),
        (uniform(lambda m, n: 1 / m), "fan_in_uniform", "the root is missing"),
        (lambda key, shape: 0.05 * jax.random.normal(key, shape), "fan_in_uniform", "a normal distribution"),
        (uniform(lambda m, n: 0.123), "fan_in_uniform", None),
        (lo.initializers.glorot_uniform(), "glorot_uniform", ""),
        (uniform(lambda m, n: 6 / (m + n) ** 0.5), "glorot_uniform", "a slip"),
        (jax.random.uniform, "glorot_uniform", "on both sides of 0"),
        (lambda key, shape: np.full(shape, 0.1), "glorot_uniform", "The key is not used"),
        (sparse, "sparse", ""),
        (lambda key, shape: sparse(key, shape, axis=1), "sparse", "the incoming ones"),
        (lambda key, shape: sparse(key, shape, exactly=False), "sparse", "exactly k of each unit"),
        (lambda key, shape: sparse(key, (shape[0], 1)) * np.ones((1, shape[1])), "sparse", "the same inputs"),
        (lambda key, shape: sparse(key, shape, sd=2.0), "sparse", None),
    ],
)
def test_initializers(answer, rule, hint):
    verdict = exercises.check_initializer(answer, rule)
    assert verdict.right == (hint == "")
    assert verdict.hint == "" if not hint else hint in verdict.hint


def folds(split=np.array_split, shuffle=True, kept=np.setdiff1d):
    def answer(n, m, random):
        order = random.permutation(n) if shuffle else np.arange(n)
        return [(kept(order, part), part) for part in split(order, m)]

    return answer


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (folds(), "each of 23 examples is held out once"),
        (folds(kept=lambda order, part: order), "of fold 0, 5 examples that are held out are learned from as well"),
        (
            folds(kept=lambda order, part: np.setdiff1d(order, part)[1:]),
            "of fold 0, some examples are neither held out",
        ),
        (folds(kept=lambda order, part: np.tile(np.setdiff1d(order, part), 2)), "of fold 0, .* are learned from twice"),
        (folds(split=lambda order, m: [order[:5]] * m), r"example \d+ is held out (0|5) times"),
        (folds(split=lambda order, m: np.split(order, (3, 8, 13, 18))), "5 examples .* one fold and 3 in another"),
        (folds(split=lambda order, m: np.array_split(order[1:], m)), r"example \d+ is held out 0 times"),
        (
            folds(lambda order, m: [part[::-1] for part in np.array_split(order, m)], shuffle=False),
            "neighbours are held",
        ),
        (folds(split=lambda order, m: np.array_split(np.r_[:5, order[order >= 5]], m)), "each of"),
    ],
)
def test_folds(answer, evidence):
    verdict = exercises.check_folds(answer)
    assert verdict.right == evidence.startswith("each")
    assert re.match(evidence, verdict.evidence)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exercises.check_folds(5), TypeError, "answer must be a function of n, m and a random gen.*; got 5"),
        (lambda: exercises.check_folds(folds(), m=1), ValueError, "m must be at least 2; got 1"),
        (lambda: exercises.check_folds(folds(), n=4), ValueError, "n must be at least 5; got 4"),
        (lambda: exercises.check_folds(lambda *_: [[[0], [1]]]), ValueError, "answer must return 5 pairs of indices"),
        (lambda: exercises.check_folds(lambda *_: [[[0], [23]]] * 5), ValueError, "from 0 to 22; got"),
        (lambda: exercises.check_folds(lambda *_: [[[0.0], [1]]] * 5), ValueError, "from 0 to 22; got"),
        (
            lambda: exercises.check_optimizer(adam(), "adamax"),
            ValueError,
            "rule must be one of 'sgd', .*; got 'adamax'",
        ),
        (
            lambda: exercises.check_optimizer(adam(), "sgd", momentum=0.9),
            ValueError,
            "of sgd are learning_rate; got mom",
        ),
        (lambda: exercises.check_optimizer(adam(), "rmsprop", momentum=0.9), ValueError, "decay, eps; got momentum"),
        (lambda: exercises.check_optimizer(0.1, "adam"), TypeError, "answer must be a function, or a pair"),
        (lambda: exercises.check_optimizer(lambda *_: [0], "adam"), ValueError, r"of 20 steps; got shape \(1,\)"),
        (lambda: exercises.check_schedule(0.1, decay), TypeError, "answer must be a function of the step; got 0.1"),
        (lambda: exercises.check_norm(len, "group"), ValueError, "rule must be one of 'batch', 'layer'; got 'group'"),
        (lambda: exercises.check_norm(np.mean, "batch"), ValueError, r"answer must return \(8, 6\) numbers"),
        (lambda: exercises.check_initializer(lambda *_: np.ones(3), "sparse"), ValueError, r"shape \(400, 100\)"),
        (lambda: exercises.check_initializer(sparse, "he"), ValueError, "rule must be one of 'fan_in_uniform'"),
    ],
)
def test_nonsense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
