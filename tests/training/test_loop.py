"""The training loop against one written by hand in float64 NumPy, with its own derivatives and optimizers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from digits_mlp import TRAIN, VALID, X, Y, apply, init, poison

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

BATCH = 32  # two full batches of 77 examples, and one of 13
ALL = np.ones(77)


# The oracle -----------------------------------------------------------------------------------------------------------


def scores(w, x, y):
    """Cross-entropy and hits of each example, and what the derivatives need."""
    hidden = np.tanh(x @ w["a"])
    logits = hidden @ w["b"]
    logits = logits - logits.max(axis=1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -logp[np.arange(len(y)), y], logits.argmax(axis=1) == y, hidden, np.exp(logp)


def loss_and_gradient(w, x, y, weights):
    losses, _, hidden, p = scores(w, x, y)
    d = (p - np.eye(10)[y]) * weights[:, None] / len(y)
    gradient = {"b": hidden.T @ d, "a": x.T @ (d @ w["b"].T * (1 - hidden**2))}
    return np.sum(losses * weights) / len(y), gradient


class Optimizer:
    """Momentum and Nesterov momentum as the lecture writes them: v <- alpha_k v - eps_k g; w <- w + v."""

    def __init__(self, rate, momentum, lookahead):
        self.rate, self.momentum, self.lookahead, self.k, self.v = rate, momentum, lookahead, 0, None

    def point(self, w):
        """Where the gradient is taken."""
        return {n: w[n] + self.momentum(self.k) * self.v[n] for n in w} if self.lookahead and self.v else w

    def step(self, w, g):
        v = self.v or dict.fromkeys(w, 0.0)
        self.v = {n: self.momentum(self.k) * v[n] - self.rate(self.k) * g[n] for n in w}
        self.k += 1
        return {n: w[n] + self.v[n] for n in w}


def by_hand(w, optimizer, batches_of_epoch, steps, weights=ALL):
    """Histories and the weights after each epoch."""
    x, y = TRAIN[0].astype(np.float64), TRAIN[1]
    losses, norms, rates, means, valid, kept = [], [], [], [], [], []
    epoch = 0
    while len(losses) < steps:
        met = []
        for rows in batches_of_epoch(epoch)[: steps - len(losses)]:
            loss, g = loss_and_gradient(optimizer.point(w), x[rows], y[rows], weights[rows])
            losses, met = [*losses, loss], [*met, (loss, len(rows))]
            norms.append(np.sqrt(sum(np.sum(v**2) for v in g.values())))
            rates.append(optimizer.rate(optimizer.k))
            w = optimizer.step(w, g)
        means.append(sum(loss * n for loss, n in met) / sum(n for _, n in met))
        value, hits, *_ = scores(w, VALID[0].astype(np.float64), VALID[1])
        valid.append((value.mean(), hits.mean()))
        kept.append(w)
        epoch += 1
    steps = {"loss": losses, "gradient_norm": norms, "learning_rate": rates}
    return (
        steps,
        {"train_loss": means, "valid_loss": np.array(valid)[:, 0], "valid_accuracy": np.array(valid)[:, 1]},
        kept,
    )


def real_batches(key, shuffle):
    """The examples of each batch of an epoch, in turn, without what fills up."""

    def of_epoch(epoch):
        batches = lo.minibatches(TRAIN, BATCH, key=jax.random.fold_in(key, 0), epoch=epoch, shuffle=shuffle)
        return [np.asarray(rows)[np.asarray(w) > 0] for rows, w in zip(*batches, strict=True)]

    return of_epoch


def rate(k):
    return 0.4 * (1 - k / 20) + 0.1 * k / 20


def alpha(k):
    return 0.5 + 0.4 * min(k, 10) / 10


def schedules():
    return lo.linear_decay(0.4, 20, 0.1), lo.momentum_ramp(0.5, 0.9, 10)


OPTIMIZERS = {
    "momentum": (lambda: lo.momentum(0.3, 0.8), lambda: Optimizer(lambda k: 0.3, lambda k: 0.8, False)),
    "nesterov": (lambda: lo.nesterov(*schedules()), lambda: Optimizer(rate, alpha, True)),
}
LENGTHS = {
    "epochs": ({"epochs": 3}, 9),
    "whole passes": ({"steps": 6}, 6),
    "a pass and a bit": ({"steps": 5}, 5),
    "less than a pass": ({"steps": 2}, 2),
}


@pytest.fixture(scope="module")
def task():
    return lo.classification((init, apply))


def assert_close(ours, theirs, rtol):
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=rtol, atol=rtol * np.abs(value).max(), err_msg=name)


# The loop -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("optimizer", "length", "shuffle", "call"),
    [
        pytest.param("momentum", "epochs", True, lo.fit, marks=pytest.mark.slow),
        ("momentum", "whole passes", False, lo.fit),
        pytest.param("momentum", "a pass and a bit", True, lo.train, marks=pytest.mark.slow),
        pytest.param("nesterov", "epochs", True, lo.train, marks=pytest.mark.slow),
        ("nesterov", "a pass and a bit", False, lo.train),
        ("nesterov", "a pass and a bit", True, lo.fit),
        pytest.param("nesterov", "less than a pass", True, lo.fit, marks=pytest.mark.slow),
    ],
)
def test_equals_a_loop_by_hand(task, optimizer, length, shuffle, call, x64):
    ours, theirs = OPTIMIZERS[optimizer]
    duration, steps = LENGTHS[length]
    key = jax.random.key(3)
    start, _ = init(jax.random.key(7), None)
    options = {"valid": VALID, "batch_size": BATCH, "shuffle": shuffle, "key": key, "start": start}
    train = functools.partial(call, task, ours(), TRAIN, **duration, **options)
    run = train() if call is lo.fit else jax.jit(train)()
    rule = theirs()
    records, epochs, kept = by_hand(jax.tree.map(np.asarray, start), rule, real_batches(key, shuffle), steps)
    assert run.history.steps["loss"].shape == (steps,)
    assert_close(run.history.steps, records, 2e-7)  # recorded in float32
    assert_close(run.history.epochs, epochs, 2e-7)
    assert_close(run.metrics, {name: values[-1] for name, values in epochs.items()}, 2e-7)
    assert_close(run.params, kept[-1], 1e-12)
    assert_close(run.lookahead_params, rule.point(kept[-1]), 1e-12)
    assert run.diverged_at == -1


@pytest.mark.parametrize("call", ["fit", "jitted train"])
def test_equals_a_loop_by_hand_compiled_in_float32(task, call, full_precision):
    start, _ = init(jax.random.key(7), None)
    key = jax.random.key(3)

    def train(call):
        options = {"batch_size": BATCH, "steps": 14, "key": key, "start": start}
        return call(task, lo.nesterov(*schedules()), TRAIN, valid=VALID, **options)

    run = train(lo.fit) if call == "fit" else jax.jit(lambda: train(lo.train))()
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), start)
    records, epochs, kept = by_hand(w, OPTIMIZERS["nesterov"][1](), real_batches(key, True), 14)
    assert_close(run.history.steps, records, 2e-5)
    assert_close(run.history.epochs, epochs, 2e-5)
    assert_close(run.params, kept[-1], 2e-5)


def test_one_batch_of_all(task, x64):
    start, _ = init(jax.random.key(7), None)
    with pytest.warns(UserWarning, match="batch_size 100 is larger than the 77 training examples"):
        run = lo.fit(task, lo.sgd(0.5), TRAIN, batch_size=100, epochs=3, key=0, start=start)
    rule = Optimizer(lambda k: 0.5, lambda k: 0.0, False)
    records, _, kept = by_hand(jax.tree.map(np.asarray, start), rule, lambda epoch: [np.arange(77)], 3)
    assert_close(run.history.steps, records, 2e-7)
    assert_close(run.params, kept[-1], 1e-12)


@pytest.mark.slow
def test_the_gradient_norm_is_taken_before_clipping(task):
    options = {"batch_size": BATCH, "steps": 1, "key": 0}
    clipped = lo.fit(task, optax.chain(lo.clip_by_norm(1e-3), lo.sgd(0.1)), TRAIN, **options)
    plain = lo.fit(task, lo.sgd(0.1), TRAIN, **options)
    assert clipped.history.steps["gradient_norm"] == plain.history.steps["gradient_norm"]
    moved = jax.tree.map(
        lambda a, b: np.sum((np.float64(a) - np.float64(b)) ** 2),
        clipped.params,
        lo.fit(task, lo.sgd(0), TRAIN, **options).params,
    )
    np.testing.assert_allclose(np.sqrt(sum(moved.values())), 1e-4, rtol=1e-3)


def test_the_rate_is_recorded_only_where_it_is_known(task):
    options = {"batch_size": BATCH, "steps": 2, "key": 0}
    assert "learning_rate" not in lo.fit(task, optax.sgd(0.1), TRAIN, **options).history.steps
    two = optax.chain(lo.sgd(0.1), lo.sgd(0.1))
    assert "learning_rate" not in lo.fit(task, two, TRAIN, **options).history.steps


@pytest.mark.slow
# Going on -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "optimizer", [lo.nesterov(*schedules()), pytest.param(lo.adam(lo.linear_decay(0.05, 12)), marks=pytest.mark.slow)]
)
def test_going_on_equals_an_unbroken_run(task, optimizer):
    options = {"valid": VALID, "batch_size": BATCH, "shuffle": False, "key": 0}
    whole = lo.fit(task, optimizer, TRAIN, epochs=5, **options)
    first = lo.fit(task, optimizer, TRAIN, epochs=2, **options)
    second = lo.fit(task, optimizer, TRAIN, epochs=3, start=first, **options)
    for record in ("steps", "epochs"):
        assert_close(getattr(second.history, record), getattr(whole.history, record), 1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), second.params, whole.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), second.opt_state, whole.opt_state)


def test_going_on_leaves_the_run_as_it_was(task):
    options = {"batch_size": BATCH, "epochs": 1, "key": 0}
    first = lo.fit(task, lo.nesterov(0.1), TRAIN, **options)
    before = jax.tree.map(np.array, (first.params, first.opt_state))
    lo.fit(task, lo.nesterov(0.1), TRAIN, start=first, **options)
    jax.tree.map(np.testing.assert_array_equal, (first.params, first.opt_state), before)


@pytest.mark.slow
def test_starting_from_parameters_starts_the_optimizer_afresh(task):
    options = {"batch_size": BATCH, "shuffle": False, "key": 0}
    first = lo.fit(task, lo.momentum(0.1), TRAIN, epochs=1, **options)
    again = lo.fit(task, lo.momentum(0.1), TRAIN, steps=1, start=first.params, **options)
    rate_times_gradient = jax.tree.map(lambda a, b: (a - b) / 0.1, first.params, again.params)
    np.testing.assert_allclose(optax.tree.norm(rate_times_gradient), again.history.steps["gradient_norm"][0], rtol=1e-4)


# Weights --------------------------------------------------------------------------------------------------------------
def test_example_weights(task, x64):
    start, _ = init(jax.random.key(7), None)
    weights = np.random.default_rng(0).uniform(0, 3, 77) * (np.arange(77) % 5 > 0)
    key = jax.random.key(3)
    run = lo.fit(task, lo.momentum(0.3, 0.8), TRAIN, batch_size=BATCH, epochs=3, key=key, start=start, weights=weights)
    scaled = np.float64(np.float32(weights))
    records, epochs, kept = by_hand(
        jax.tree.map(np.asarray, start), OPTIMIZERS["momentum"][1](), real_batches(key, True), 9, scaled / scaled.mean()
    )
    assert_close(run.history.steps, records, 1e-6)
    assert_close(run.history.epochs, {"train_loss": epochs["train_loss"]}, 1e-6)
    assert_close(run.params, kept[-1], 1e-6)


MOMENTUM = lo.momentum(0.3)


def final(task, train=TRAIN, **options):
    return lo.fit(task, MOMENTUM, train, batch_size=BATCH, epochs=2, key=0, **options).params


def assert_same(a, b, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), a, b)


def assert_different(a, b):
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), a, b))) > 1e-3


@pytest.mark.slow
def test_weights_by_class_are_weights_of_examples(task):
    by_class = {0: 3.0, 1: 0, 7: np.float32(0.5)}
    one_by_one = np.array([by_class.get(label, 1.0) for label in TRAIN[1]])
    assert_same(final(task, weights=by_class), final(task, weights=one_by_one))
    assert_different(final(task, weights=by_class), final(task))


@pytest.mark.slow
def test_the_scale_of_weights_does_not_matter(task):
    weights = np.random.default_rng(0).uniform(0.5, 2, 77)
    assert_same(final(task, weights=weights), final(task, weights=1000 * weights))
    assert_same(final(task, weights=np.full(77, 5.0)), final(task))


@pytest.mark.slow
def test_an_example_of_weight_0_does_not_count(task):
    x, y = TRAIN[0].copy(), TRAIN[1].copy()
    weights = np.arange(77) % 2
    x[weights == 0], y[weights == 0] = 1.0, 3
    assert_same(final(task, weights=weights), final(task, (x, y), weights=weights))
    assert_different(final(task), final(task, (x, y)))


def test_a_loss_that_is_not_finite_does_not_count_without_weight():
    def spoilt(outputs, targets):  # a constant, so that only the value, and not its derivative, is infinite
        return jnp.sum(outputs**2, axis=-1) + jnp.where(targets == 3, jnp.inf, 0)

    run = lo.fit(lo.Task((init, apply), spoilt), lo.sgd(0.1), TRAIN, batch_size=BATCH, epochs=1, key=0, weights={3: 0})
    assert np.isfinite(run.history.steps["loss"]).all()


def test_weights_follow_the_examples_of_a_subset(task):
    rows = np.random.default_rng(0).permutation(110)[:77]
    weights = np.random.default_rng(1).uniform(0, 2, 110)
    arrays = tuple(map(jnp.asarray, (X, Y)))
    part = lo.Subset(arrays, jnp.asarray(rows), jnp.int32(77), least=77)
    assert_same(final(task, part, weights=weights), final(task, (X[rows], Y[rows]), weights=weights[rows]))


# Divergence and patience ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad_step", "diverged_at"),
    [(6, 7), (5, 5), *(pytest.param(*steps, marks=pytest.mark.slow) for steps in ((0, 1), (11, 11)))],
)
def test_a_diverged_run_is_frozen_at_its_last_finite_epoch(task, bad_step, diverged_at):
    """NaN weights show in the next loss, or, after the last step of an epoch, at once."""
    options = {"valid": VALID, "batch_size": BATCH, "key": 0}
    epoch = diverged_at // 3
    if epoch:
        last_finite = lo.fit(task, MOMENTUM, TRAIN, epochs=epoch, **options).params
    else:
        last_finite = lo.fit(task, lo.momentum(0.0), TRAIN, epochs=1, **options).params
    with pytest.warns(UserWarning, match=f"not finite at step {diverged_at}"):
        fitted = lo.fit(task, poison(bad_step), TRAIN, epochs=4, **options)
    trained = jax.jit(lambda: lo.train(task, poison(bad_step), TRAIN, epochs=4, **options))()
    for run, steps, epochs in ((fitted, 3 * (epoch + 1), epoch + 1), (trained, 12, 4)):
        assert run.diverged_at == diverged_at
        assert_same(run.params, last_finite)
        assert all(np.isnan(value) for value in run.metrics.values())
        losses = run.history.steps["loss"]
        assert losses.shape == (steps,)
        met = diverged_at + (bad_step == diverged_at)  # where only the weights are NaN, the loss was still met
        np.testing.assert_array_equal(np.isfinite(losses), np.arange(steps) < met)
        assert np.isnan(run.history.steps["gradient_norm"][3 * (epoch + 1) :]).all()
        for values in run.history.epochs.values():
            np.testing.assert_array_equal(np.isfinite(values), np.arange(epochs) < epoch)


def test_a_validation_loss_that_is_not_finite_is_no_divergence_and_is_said():
    spoilt = lo.Task((init, apply), lambda outputs, y: jnp.sum(outputs**2, -1) + jnp.where(y > 9, jnp.inf, 0))
    options = {"valid": (X, np.append(Y[1:], 11)), "batch_size": BATCH, "epochs": 2, "key": 0}
    with pytest.warns(UserWarning, match=r"^the validation loss was not finite after 2 of 2 epochs, .* epoch 1\. Look"):
        run = lo.fit(spoilt, lo.sgd(0.1), TRAIN, **options)
    assert run.diverged_at == -1
    assert run.metrics["valid_loss"] == np.inf


NAN, INF = np.nan, np.inf
CODES = {100.0: NAN, 200.0: INF, -200.0: -INF}  # since examples must be finite


def told(w, targets):
    """A training loss whose gradient is -1, and a validation loss that is the number in the targets' column w."""
    row = targets[:, 1:][:, w[0].astype(int)]
    for code, number in CODES.items():
        row = jnp.where(row == code, number, row)
    return jnp.where(targets[:, 0] == 1, row, -w)


# One weight, which counts the epochs: each is one step of gradient descent at rate 1.
COUNTER = lo.Task(
    (lambda key, x: (jnp.zeros(()), ()), lambda w, state, x, key, training: (w + 0 * x[:, 0], state)), told
)


def validated_as(losses, **options):
    """A training of 7 epochs, with these validation losses at w = 0, 1, ..., 7."""
    row = [next((c for c, n in CODES.items() if np.array_equal(n, x, equal_nan=True)), x) for x in losses]
    valid = (np.zeros((2, 1)), np.tile([1.0, *row], (2, 1)))
    train = (np.zeros((2, 1)), np.zeros((2, 9)))
    rate = {"learning_rate": 1.0}
    return lo.fit(COUNTER, lo.sgd, train, valid=valid, hyperparameters=rate, batch_size=2, epochs=7, key=0, **options)


VALIDATIONS = {  # losses after each epoch, patience, how many epochs it trains, the one whose weights it returns
    "always NaN": ([NAN] * 7, 3, 3, 3),
    "always NaN, to the end": ([NAN] * 7, 9, 7, 7),
    "always infinite": ([INF] * 7, 3, 3, 3),
    "NaN at first": ([NAN, NAN, 3, 2, 4, 5, 1], 3, 7, 7),
    "NaN at first, then worse": ([NAN, INF, 3, 4, 5, 6, 1], 3, 6, 3),
    "NaN in between": ([4, NAN, 3, NAN, NAN, 1, 2], 3, 7, 6),
    "NaN at last": ([3, 4, NAN, NAN, NAN, NAN, NAN], 9, 7, 1),
    "infinitely low": ([3, -INF, 2, 4, 5, 1, 1], 3, 7, 6),
}


@pytest.mark.parametrize(("losses", "patience", "epochs", "best"), VALIDATIONS.values(), ids=VALIDATIONS)
def test_patience_with_validations_that_are_not_finite(losses, patience, epochs, best):
    bad = np.sum(~np.isfinite(losses[:epochs]))
    with pytest.warns(
        UserWarning, match=f"not finite after {bad} of {epochs} epochs, .* patience; the run holds "
    ) as w:
        run = validated_as([7, *losses], patience=patience)
    assert len(w) == 1
    assert ("what was trained last" in str(w[0].message)) == (not np.isfinite(losses[:epochs]).any())
    assert run.params == best
    assert run.diverged_at == -1
    np.testing.assert_array_equal(run.metrics["valid_loss"], np.float32(losses[best - 1]))
    np.testing.assert_array_equal(run.history.epochs["valid_loss"], np.float32(losses[:epochs]))
    assert np.isfinite(run.history.epochs["train_loss"]).all()


@pytest.mark.parametrize(("at_start", "then", "best"), [(2.0, NAN, 0), (2.0, 1, 1), (NAN, NAN, 3)])
def test_a_start_has_to_be_beaten_where_its_validation_is_finite(at_start, then, best):
    with pytest.warns(UserWarning, match="not finite after"):
        run = validated_as([at_start, then, *[NAN] * 6], patience=3, start=jnp.float32(0))
    assert run.params == best
    assert np.isnan(run.metrics["train_loss"]) == (best == 0)


@pytest.fixture(scope="module")
def noisy(task):
    """A training of so many epochs, so fast that the validation loss goes up and down."""

    optimizer = lo.nesterov(1.5, 0.6)

    @functools.cache
    def train(epochs, call=lo.fit, patience=None):
        options = {"valid": VALID, "batch_size": BATCH, "key": 8, "patience": patience}
        run = functools.partial(call, task, optimizer, TRAIN, epochs=epochs, **options)
        return run() if call is lo.fit else jax.jit(run)()

    return train


@pytest.mark.parametrize(
    ("call", "patience"),
    [
        (lo.fit, 1),
        (lo.train, 2),
        pytest.param(lo.fit, 2, marks=pytest.mark.slow),
        pytest.param(lo.train, 1, marks=pytest.mark.slow),
    ],
)
def test_patience(noisy, call, patience):
    losses = noisy(7).history.epochs["valid_loss"]
    best, last = {1: (1, 2), 2: (3, 5)}[patience]
    assert (np.diff(losses[:6]) < 0).tolist() == [True, False, True, False, True]
    assert losses[5] > losses[3]  # so epochs 2, 4 and 5 are failures, and 3 is the best of all before
    wanted, run = noisy(best + 1), noisy(7, call, patience)
    for name in ("params", "opt_state", "lookahead_params"):
        assert_same(getattr(run, name), getattr(wanted, name))
    assert_close(run.metrics, wanted.metrics, 1e-5)
    assert_close(run.evaluate(VALID), {"loss": losses[best]}, 1e-5)
    assert len(run.history.epochs["valid_loss"]) == (last + 1 if call is lo.fit else 7)
    np.testing.assert_allclose(run.history.epochs["valid_loss"][: last + 1], losses[: last + 1], rtol=1e-5)
    assert np.isnan(run.history.epochs["valid_loss"][last + 1 :]).all()
    assert np.isnan(run.history.steps["loss"][3 * (last + 1) :]).all()


def test_patience_ends_where_nothing_changes(task):
    options = {"valid": VALID, "batch_size": BATCH, "epochs": 5, "key": 0}
    run = lo.fit(task, poison(100, rate=0.0), TRAIN, patience=2, **options)
    assert run.history.epochs["valid_loss"].shape == (3,)
    assert run.opt_state[1] == 3  # steps: the first of equals is the best


@pytest.mark.slow
def test_patience_keeps_the_best_although_a_later_step_diverges(task):
    options = {"valid": VALID, "batch_size": BATCH, "key": 0}
    wanted = lo.fit(task, MOMENTUM, TRAIN, epochs=2, **options)
    with pytest.warns(UserWarning, match="diverged"):
        run = lo.fit(task, poison(7), TRAIN, epochs=4, patience=4, **options)
    assert_same(run.params, wanted.params)
    assert np.isnan(run.metrics["valid_loss"])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_before_any_update_is_not_the_rates_fault():
    """From the weights, the loss, or what augment makes of the examples."""
    options = {"batch_size": BATCH, "steps": 2, "key": 0}
    nan = jax.tree.map(lambda p: p * jnp.nan, init(jax.random.key(0), None)[0])
    task = lo.classification((init, apply))
    for change in ({"start": nan}, {"augment": lambda key, batch: (batch[0] * jnp.nan, batch[1])}):
        with pytest.warns(UserWarning, match=r"not finite at step 0, before any update; .* No learning rate changes"):
            run = lo.fit(task, lo.sgd(0.1), TRAIN, **options, **change)
        assert run.diverged_at == 0
    with pytest.warns(UserWarning, match=r"not finite at step 1; .* Lower the learning rate"):
        lo.fit(task, lo.sgd(3e38), TRAIN, **options)
    with pytest.warns(UserWarning, match=r"weights were not finite at step 0; .* Lower the learning rate"):
        lo.fit(task, poison(0), TRAIN, **options | {"steps": 1})
