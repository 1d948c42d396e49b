"""What is learned after a transfer, number by number: frozen, slower and unfrozen parts, statistics, and odd models."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lectopt as lo

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

X, Y = lo.datasets.iris()
X, PAIRS = X[:60], (X[:60], Y[:60])
OPTIONS = {"batch_size": 60, "shuffle": False, "key": 0, "progress": False}


class Net(nnx.Module):
    def __init__(self, rngs, classes=3, norm=nnx.BatchNorm):
        self.first = nnx.Linear(4, 5, rngs=rngs)
        self.norm = norm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(5, classes, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


class Old(nnx.Module):
    """The same with another output layer, all of whose arrays are unlike fresh ones."""

    def __init__(self, norm=nnx.BatchNorm):
        self.net = Net(nnx.Rngs(3), 7, norm)
        for _, variable in nnx.iter_graph(self.net):
            if isinstance(variable, (nnx.Param, nnx.BatchStat)):
                value = variable.get_value()
                variable.set_value(value + 1 + jnp.arange(value.size).reshape(value.shape) / 9)


def transferred(statistics="take", norm=nnx.BatchNorm):
    return lo.transfer(
        Old(norm), Net(nnx.Rngs(4), norm=norm), rename={"net/last": None, "net": ""}, statistics=statistics
    )


def flat(params):
    return {"/".join(map(str, path)): np.asarray(x) for path, x in nnx.to_flat_state(params)}


TAKEN, NEW = ("first/bias", "first/kernel", "norm/bias", "norm/scale"), ("last/bias", "last/kernel")


def course(got, optimizers, steps):
    """The parameters after 0, 1, ... steps."""
    task, found = lo.classification(got.model), [flat(got.start.params)]
    for count in range(1, steps + 1):
        partition = optax.partition(optimizers, got.labels)
        found.append(flat(lo.fit(task, partition, PAIRS, steps=count, start=got.start, **OPTIONS).params))
    return found


@pytest.mark.slow
def test_labels():
    assert flat(transferred().labels) == {**dict.fromkeys(TAKEN, "taken"), **dict.fromkeys(NEW, "new")}


@pytest.mark.slow
def test_the_frozen_part_stays_bit_for_bit():
    before, _, after = course(transferred(), {"taken": optax.set_to_zero(), "new": lo.adam(0.1)}, 2)
    for name in TAKEN:
        np.testing.assert_array_equal(after[name], before[name])
    for name in NEW:
        assert np.abs(after[name] - before[name]).min() > 1e-3, name


@pytest.mark.slow
def test_the_first_step_of_a_smaller_rate():
    got = transferred()
    equal = course(got, {"taken": lo.sgd(2**-4), "new": lo.sgd(2**-4)}, 1)
    slower = course(got, {"taken": lo.sgd(2**-8), "new": lo.sgd(2**-4)}, 1)
    for name in (*TAKEN, *NEW):
        moved, less = equal[1][name] - equal[0][name], slower[1][name] - slower[0][name]
        ratio = 2**-4 if name in TAKEN else 1
        np.testing.assert_allclose(less, ratio * moved, atol=4e-7, err_msg=name)
    assert max(np.abs(equal[1][name] - equal[0][name]).max() for name in TAKEN) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [lo.sgd, lo.nesterov, lo.adam])
def test_unfrozen_at_the_second_step(optimizer):
    late = optax.conditionally_mask(optimizer(0.1), lambda step: step >= 2)
    before, first, second, third = course(transferred(), {"taken": late, "new": optimizer(0.1)}, 3)
    for name in TAKEN:
        np.testing.assert_array_equal(first[name], before[name])
        np.testing.assert_array_equal(second[name], before[name])
    for name in ("first/kernel", "norm/scale", "norm/bias"):
        assert np.abs(third[name] - before[name]).max() > 1e-3
    assert np.abs(first["last/kernel"] - before["last/kernel"]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_look_ahead_of_the_new_part_alone(rate):
    got = transferred()
    taken = lo.nesterov(rate) if rate else optax.set_to_zero()
    chain = optax.partition({"taken": taken, "new": lo.nesterov(0.1)}, got.labels)
    params, gradients = got.start.params, jax.tree.map(jnp.ones_like, got.start.params)
    state = chain.init(params)
    for _ in range(2):
        updates, state = chain.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    held, kept = flat(params), flat(lo.eval_params(state, params))
    for name in (*TAKEN, *NEW):
        step = rate if name in TAKEN else 0.1
        np.testing.assert_allclose(kept[name], flat(got.start.params)[name] - step * (1 + 1.9), rtol=1e-5, atol=1e-5)
        assert (np.abs(held[name] - kept[name]).max() > 0.05) == bool(step), name


@pytest.mark.parametrize("graph", [True, False])
def test_in_nnx_optimizers(graph):
    got = transferred()
    with nnx.set_graph_mode(graph):
        chain = optax.partition({"taken": optax.set_to_zero(), "new": optax.sgd(0.5)}, got.labels)
        optimizer = nnx.Optimizer(got.model, chain, wrt=nnx.Param)
        optimizer.update(got.model, jax.tree.map(jnp.ones_like, nnx.state(got.model, nnx.Param)))
    after = flat(nnx.as_pure(nnx.state(got.model, nnx.Param)))
    for name, value in flat(got.start.params).items():
        np.testing.assert_array_equal(after[name], value if name in TAKEN else value - 0.5, err_msg=name)


@pytest.mark.parametrize("norm", [nnx.BatchNorm, lo.BatchNorm])
@pytest.mark.parametrize("statistics", ["take", "keep"])
def test_statistics_of_batch_norm(norm, statistics):
    got = transferred(statistics, norm)
    origin = Old(norm).net.norm if statistics == "take" else norm(5, rngs=nnx.Rngs(0))
    for name in ("mean", "var"):
        wanted = getattr(origin, name)[...]
        np.testing.assert_array_equal(getattr(got.model.norm, name)[...], wanted)
        np.testing.assert_array_equal(got.start.variables["norm"][name], wanted)
    rows = {row.path: (row.outcome, row.source) for row in got.rows if row.path.startswith("norm/m")}
    assert rows == {"norm/mean": ("taken", "net/norm/mean") if statistics == "take" else ("kept", "")}
    assert flat(got.start.params)["norm/scale"][0] == 2


def test_statistics_need_a_word_only_where_both_have_them():
    dense = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
    got = lo.transfer(Net(nnx.Rngs(0)), dense, rename={"first": ""})
    assert [row.outcome for row in got.rows][:2] == ["taken", "taken"]
    with pytest.raises(ValueError, match=r"statistics must be 'take' or 'keep', since .* norm/mean, norm/var"):
        lo.transfer(Net(nnx.Rngs(0)), Net(nnx.Rngs(1)))


@pytest.mark.slow
def test_inputs_that_do_not_fit_the_task():
    task = lo.classification(Net, standardize=True)
    run = lo.fit(task, lo.sgd(0.0), PAIRS, steps=1, **OPTIONS)
    start = lo.transfer(run, Net(nnx.Rngs(0)), statistics="take").start
    wide = np.concatenate([X, X[:, :1]], axis=1)
    larger = lo.classification(lambda rngs: nnx.Linear(5, 3, rngs=rngs), standardize=True)
    inputs = start._replace(params=None, variables=None)
    for other, x, origin, shape in ((lo.classification(Net), X, start, "none"), (larger, wide, inputs, r"\(5,\)")):
        with pytest.raises(ValueError, match=rf"standardize=True.*start has \(4,\), the task {shape}"):
            lo.fit(other, lo.sgd(0.0), (x, Y[:60]), steps=1, start=origin, **OPTIONS)


def test_the_target_stays_and_shares_nothing():
    target = Net(nnx.Rngs(4))
    before = [np.array(x) for x in jax.tree.leaves(nnx.as_pure(nnx.state(target, (nnx.Param, nnx.BatchStat))))]
    got = lo.transfer(Old().net, target, rename={"last": None}, statistics="take")
    got.model.last.kernel[...] = jnp.zeros((5, 3))
    got.model.dropout(jnp.ones(3))
    assert target.dropout.rngs.count[...] == 0
    after = jax.tree.leaves(nnx.as_pure(nnx.state(target, (nnx.Param, nnx.BatchStat))))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("traced", ["source", "target"])
def test_within_jit(traced):
    def take(key):
        mine = Net(nnx.Rngs(key))
        one, other = (mine, Net(nnx.Rngs(9))) if traced == "source" else (Net(nnx.Rngs(9)), mine)
        return lo.transfer(one, other, rename={"last": None}, statistics="take").start.params

    with jax.disable_jit(False):
        lanes = jax.jit(jax.vmap(take))(jax.random.split(jax.random.key(0), 2))
    for i, key in enumerate(jax.random.split(jax.random.key(0), 2)):
        for path, value in flat(take(key)).items():
            np.testing.assert_allclose(flat(lanes)[path][i], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "bfloat16")])
def test_numbers_are_rounded_to_the_targets(old, new):
    values = jnp.linspace(0.1, 3.3, 7).astype(old)
    got = lo.transfer(({"w": values}, {}), ({"w": jnp.zeros(7, new)}, {}))
    assert got.model[0]["w"].dtype == new
    np.testing.assert_array_equal(got.model[0]["w"].astype(float), values.astype(new).astype(float))


def test_the_most_particular_rule():
    source = {f"{i}": {"w": jnp.full(1, i), "b": jnp.full(1, 10 + i)} for i in range(3)}, {}
    rules = {"*/w": "any/*", "1/w": "one", "2": None, "": "rest", "0": "zero"}
    target = {"any": {"0": 0, "2": 0}, "one": 0, "rest": {"1": {"b": 0}}, "zero": {"b": 0, "w": 0}}
    target = jax.tree.map(lambda _: jnp.full(1, -1), target)
    got, _ = lo.transfer(source, (target, {}), rename=rules).model
    wanted = {"any": {"0": 0, "2": 2}, "one": 1, "rest": {"1": {"b": 11}}, "zero": {"b": 10, "w": -1}}
    assert jax.tree.map(int, jax.tree.map(jnp.squeeze, got)) == wanted


def test_numbers_beside_arrays():
    """Linen and functions may keep plain numbers; text is none."""
    got = lo.transfer(({"w": 2.5, "n": jnp.ones(2)}, {}), ({"w": 1.0, "n": jnp.zeros(2)}, {}))
    assert float(got.model[0]["w"]) == 2.5
    assert [row.shape for row in got.rows] == [(2,), ()]
    for pair in [({"w": "text"}, {}), ({"a": jnp.ones(2)}, {"w": object()})]:
        for name, arguments in {"source": (pair, ({}, {})), "target": (({}, {}), pair)}.items():
            with pytest.raises(TypeError, match=f"{name} must hold arrays; got (str|object) at 'w'"):
                lo.transfer(*arguments)


def test_what_a_message_says_to_leave_out():
    for one, other, path, rule in (
        ({"w": jnp.ones(3)}, {"w": jnp.ones(4)}, "w", "w"),
        ({"a": {"b": {"w": jnp.ones(3)}}}, {"a": {"b": {"w": jnp.ones(4)}}}, "a/b/w", "a/b"),
    ):
        message = rf"{path} of source has \(3,\), {path} of target \(4,\)\. Leave it out with rename={{'{rule}': None}}"
        with pytest.raises(ValueError, match=message):
            lo.transfer((one, {}), (other, {}))


def test_names_of_pytorch_where_biases_agree():
    source = {"first": {"weight": jnp.ones((5, 4)), "bias": jnp.ones(5)}}, {}
    with pytest.raises(ValueError, match=r"layout must be 'torch'.*has first/weight where target has first/kernel"):
        lo.transfer(source, Net(nnx.Rngs(0)))
    left = lo.transfer(source, Net(nnx.Rngs(0)), rename={"first/weight": None})
    assert left.model.first.bias[...].tolist() == [1.0] * 5


@pytest.mark.parametrize("shape", [(), (5,)])
def test_what_is_no_kernel_of_pytorch(shape):
    with pytest.raises(ValueError, match=r"weight of source has .*, kernel of target \(4, 5\)"):
        lo.transfer(({"weight": jnp.ones(shape)}, {}), nnx.Linear(4, 5, rngs=nnx.Rngs(0)), layout="torch")


def test_two_names_for_one_kernel():
    source = {"weight": jnp.ones((5, 4)), "kernel": jnp.ones((5, 4))}, {}
    with pytest.raises(ValueError, match="one array for kernel of target; kernel and weight both stand for it"):
        lo.transfer(source, nnx.Linear(4, 5, rngs=nnx.Rngs(0)), layout="torch")


@pytest.mark.parametrize("flattened", [{"a": 64}, {5: (1, 2)}, {"a": "12"}, {"a": (1, 2.5)}])
def test_no_flattened_image(flattened):
    with pytest.raises(TypeError, match=r"flattened.* must .*got"):
        lo.transfer(Net(nnx.Rngs(0)), Net(nnx.Rngs(0)), layout="torch", flattened=flattened)
