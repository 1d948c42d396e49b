"""Training on a mesh of devices: the same training, its work and its parameters split."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import lectopt as lo
from lectopt.training import checkpoints, running

pytestmark = pytest.mark.usefixtures("four_devices")

REST, VALID = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)  # 1438 and 359: neither can be halved evenly
OPTIONS = {"valid": VALID, "batch_size": 32, "epochs": 2, "key": 0, "progress": False}


def net(rngs):
    layers = nnx.Linear(64, 32, use_bias=False, rngs=rngs), lo.BatchNorm(32, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)
    return nnx.Sequential(*layers, nnx.relu, nnx.Linear(32, 10, rngs=rngs))


def split_net(rngs):
    def split(*axes):
        return nnx.with_partitioning(nnx.initializers.lecun_normal(), axes)

    first = nnx.Linear(64, 32, kernel_init=split(None, "model"), rngs=rngs)
    return nnx.Sequential(first, nnx.relu, nnx.Linear(32, 10, kernel_init=split("model", None), rngs=rngs))


def assert_close(run, other, rtol=1e-4):
    one, two = ((r.params, r.model_state, r.opt_state, r.history.steps, r.history.layers) for r in (run, other))
    for a, b in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (one, two)), strict=True):
        largest = np.max(np.abs(b), initial=0, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * (1e-3 + largest))
    assert run.metrics == pytest.approx(other.metrics, rel=rtol)


@pytest.mark.slow
def test_a_mesh_changes_the_devices_alone():
    mesh = jax.make_mesh((2,), ("data",))
    task, nesterov = lo.classification(net, standardize=True), lo.nesterov(0.05)
    options = OPTIONS | {"watch": 10, "patience": 2, "weights": {3: 2.0}}
    alone = lo.fit(task, nesterov, REST, **options)
    together = lo.fit(task, nesterov, REST, mesh=mesh, **options)
    assert_close(together, alone)
    assert all(leaf.sharding.device_set == set(mesh.devices.flat) for leaf in jax.tree.leaves(together.params))
    assert together.evaluate(VALID) == pytest.approx(alone.evaluate(VALID), rel=1e-4)


@pytest.mark.slow
def test_going_on_upon_a_mesh():
    mesh = jax.make_mesh((2,), ("data",))
    task, nesterov = lo.classification(net, standardize=True), lo.nesterov(0.05)
    start = lo.fit(task, nesterov, REST, **OPTIONS)
    onward = lo.fit(task, nesterov, REST, mesh=mesh, start=start, **OPTIONS)
    assert_close(onward, lo.fit(task, nesterov, REST, start=start, **OPTIONS), rtol=1e-3)


def test_each_device_has_its_part_of_a_batch():
    seen = {}

    def loss(outputs, targets):
        jax.debug.inspect_array_sharding(outputs, callback=lambda s: seen.setdefault(outputs.shape, s))
        return (outputs[:, 0] - targets) ** 2

    task = lo.Task(lambda rngs: nnx.Linear(64, 1, rngs=rngs), loss)
    on_one = jax.device_put(REST.examples(), jax.devices()[0])  # fixed there: nothing but `fit` may move it
    lo.fit(task, lo.sgd(1e-5), on_one, mesh=jax.make_mesh((4,), ("data",)), **OPTIONS)
    shards = {shape: sharding.shard_shape(shape) for shape, sharding in seen.items()}
    assert shards == {(32, 1): (8, 1), (360, 1): (90, 1)}  # of training, and of validation, filled up evenly


@pytest.mark.slow
def test_annotated_parameters_and_their_moments_are_split():
    task = lo.classification(split_net, standardize=True)
    mesh = jax.make_mesh((2, 2), ("data", "model"))
    optimizer, options = lo.adam(1e-3), OPTIONS | {"batch_size": 30}  # two parts, since "model" splits no batch
    run = lo.fit(task, optimizer, REST, mesh=mesh, **options)
    adam, _ = run.opt_state
    for tree in (run.params, adam.mean, adam.mean_of_squares):
        specs = [leaf.sharding.spec for leaf in jax.tree.leaves(tree)]
        assert specs == [PartitionSpec(), PartitionSpec(None, "model"), PartitionSpec(), PartitionSpec("model")]
    assert_close(run, lo.fit(task, optimizer, REST, **options), rtol=1e-3)  # where annotations ask for nothing
    assert run.predict(VALID.examples()[0]).shape == (359, 10)
    assert run.model(VALID.examples()[0]).shape == (359, 10)


@pytest.mark.slow
def test_what_was_broken_off_on_a_mesh_goes_on(tmp_path, monkeypatch, chunks_of):
    task, mesh = lo.classification(net, standardize=True), jax.make_mesh((2,), ("data",))

    momentum = lo.momentum(0.05)

    def train(directory):
        return lo.fit(task, momentum, REST, mesh=mesh, directory=tmp_path / directory, **OPTIONS)

    write, steps = checkpoints.Store.save, []

    def write_and_break_off(self, carry, run):
        write(self, carry, run)
        steps.append(int(carry.step))
        if len(steps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "_SAVE_SECONDS", 0)
    chunks_of(20)
    monkeypatch.setattr(checkpoints.Store, "save", write_and_break_off)
    with pytest.raises(KeyboardInterrupt):
        train("broken")
    assert_close(train("broken"), train("unbroken"), rtol=1e-6)
    assert steps[1] < steps[2]  # it did not begin anew


@pytest.mark.slow
def test_a_mesh_that_the_caller_has_set_changes_nothing():
    """`jax.set_mesh`: of explicit axes, which JAX's own `make_mesh` has, and arrays made under it."""
    task, mesh = lo.classification(split_net, standardize=True), jax.make_mesh((1, 2), ("data", "model"))
    sgd = lo.sgd(0.05)
    run = lo.fit(task, sgd, REST, mesh=mesh, **OPTIONS)
    with jax.set_mesh(mesh):
        within = lo.fit(task, sgd, REST, mesh=mesh, **OPTIONS)
        assert_close(within, run)


@pytest.mark.slow
def test_going_on_upon_a_mesh_that_the_caller_has_set():
    task, mesh = lo.classification(split_net, standardize=True), jax.make_mesh((1, 2), ("data", "model"))
    start = lo.fit(task, lo.sgd(0.05), REST, **OPTIONS)
    with jax.set_mesh(mesh):
        onward = lo.fit(task, lo.sgd(0.05), REST, mesh=mesh, start=start, **OPTIONS)
    assert_close(onward, lo.fit(task, lo.sgd(0.05), REST, start=start, **OPTIONS), rtol=1e-3)


def test_meshes_that_do_not_fit():
    task, three, one = lo.classification(split_net), jax.make_mesh((3,), ("data",)), jax.make_mesh((1,), ("data",))
    for mesh, error, message in (
        ("all", TypeError, "mesh must be a jax.sharding.Mesh"),
        (three, ValueError, "batch_size must be a multiple of the 3 parts that mesh splits it in; got 32"),
        (one, ValueError, "mesh must have the axes .* layers/0/kernel names 'model', mesh has data"),
    ):
        with pytest.raises(error, match=message):
            lo.fit(task, lo.sgd(0.1), REST, mesh=mesh, **OPTIONS)


PROCESS = """
import sys
import jax
import numpy as np

rank, count, port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
jax.config.update("jax_num_cpu_devices", 2 // count)
if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, rank)

from flax import nnx
import lectopt as lo
from lectopt.training import running

running._SAVE_SECONDS = 0.1
net = lambda rngs: nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs))
rest, valid = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
task, mesh, optimizer = lo.classification(net, standardize=True), jax.make_mesh((2,), ("data",)), lo.momentum(0.01)
train = lambda **more: lo.fit(task, optimizer, rest, valid=valid, batch_size=32, epochs=10, key=0, mesh=mesh, **more)
kept, seen = f"{folder}/kept{count}", []
options = {"directory": kept, "log_dir": f"{folder}/log{rank}of{count}", "keep": lo.Keep(best=1)}
run = train(on_epoch=lambda run: seen.append(float(run.history.epochs["valid_loss"][-1])), **options)
assert seen == ([*map(float, run.history.epochs["valid_loss"])] if rank == 0 else [])  # the first process calls hooks
assert train(**options).metrics == run.metrics  # taken up again, at its end
stopped = train(on_steps=(60, lambda run: True))
assert len(stopped.history.steps["loss"]) == 60
run.save(f"{folder}/run{count}")
best = lo.load(f"{kept}/best", task)
assert best.metrics["valid_loss"] == min(run.history.epochs["valid_loss"])
arrays = [*jax.tree.leaves(run.params), *run.history.steps.values(), list(run.evaluate(valid).values())]
arrays += [*jax.tree.leaves(best.params), *jax.tree.leaves(stopped.params)]
np.savez(f"{folder}/{rank}of{count}.npz", *map(np.asarray, arrays))
"""


@pytest.mark.slow
def test_two_processes_train_together(tmp_path, port):
    for count in (1, 2):
        command = [sys.executable, "-c", PROCESS]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(count), str(port), str(tmp_path)], stderr=subprocess.PIPE, text=True
            )
            for rank in range(count)
        ]
        for rank in ranks:
            _, error = rank.communicate(timeout=300)
            assert rank.returncode == 0, error
    found = [np.load(tmp_path / name) for name in ("0of1.npz", "0of2.npz", "1of2.npz")]
    for name in found[0].files:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(found[2][name], found[1][name])
    assert len(list((tmp_path / "log0of2").iterdir())) == 2  # by each of the two calls
    assert not (tmp_path / "log1of2").exists()  # the first process alone
