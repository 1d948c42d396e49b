"""Taking arrays from disk: runs, Orbax checkpoints and safetensors files, and what is no such thing."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import older_runs
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.tasks.model_state import ModelState

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

X, Y = lo.datasets.iris()


class Net(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dropout(self.dense(x)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Dropout(0.5, deterministic=not train)(linen.Dense(3, name="dense")(x))
        return linen.BatchNorm(use_running_average=not train, name="norm")(x)


PATHS = ["dense/bias", "dense/kernel", "norm/bias", "norm/scale", "norm/mean", "norm/var"]


def numbers(module):
    state = nnx.to_flat_state(nnx.as_pure(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    return {"/".join(map(str, path)): np.asarray(value) for path, value in state}


def fresh():
    return Net(nnx.Rngs(7))


def taken(source):
    """What a fresh network takes, by path; all of it."""
    got = lo.transfer(source, fresh(), statistics="take")
    assert {row.path: row.outcome for row in got.rows if row.outcome != "left"} == dict.fromkeys(PATHS, "taken")
    return numbers(got.model)


@functools.cache
def fit(model, standardize=False):
    task = lo.classification(model, standardize=standardize)
    with jax.disable_jit(False):
        return lo.fit(task, lo.sgd(0.1), (X, Y), batch_size=50, steps=2, key=0, progress=False)


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert np.abs(value - numbers(fresh())[name]).max() > 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True])
def test_runs_of_nnx(saved, tmp_path):
    run = fit(Net)
    run.save(tmp_path / "run")
    assert_equal(taken(tmp_path / "run" if saved else run), numbers(run.model))


@pytest.mark.parametrize("saved", [False, True])
def test_runs_of_linen(saved, tmp_path):
    run = fit(LinenNet())
    run.save(tmp_path / "run")
    params, variables = run.model
    wanted = {layer: {**params[layer], **variables["batch_stats"].get(layer, {})} for layer in params}
    wanted = {f"{layer}/{name}": np.asarray(x) for layer, leaves in wanted.items() for name, x in leaves.items()}
    assert_equal(taken(tmp_path / "run" if saved else run), wanted)


def test_a_saved_run_brings_its_inputs(tmp_path):
    run = fit(Net, standardize=True)
    run.save(tmp_path / "run")
    for source in (run, tmp_path / "run"):
        inputs = lo.transfer(source, fresh(), statistics="take").start.inputs
        for found, wanted in zip(inputs, run.model_state.inputs, strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert lo.transfer(source, fresh(), statistics="keep").start.inputs is None
    np.testing.assert_allclose(inputs.mean, X.mean(0), rtol=1e-6)


def test_a_pretrained_network():
    run = fit(Net)
    pretrained = lo.Pretrained(run.params, ModelState(run.model_state.variables, None), {}, run.task)
    assert_equal(taken(pretrained), numbers(run.model))


def test_older_runs(tmp_path):
    run = fit(Net)
    older_runs.save(run, tmp_path / "named")
    assert_equal(taken(tmp_path / "named"), numbers(run.model))
    older_runs.save(run, tmp_path / "unnamed", params=None, variables=None)
    with pytest.raises(ValueError, match=r"source must be a run that was saved with the names .*lectopt\.load"):
        lo.transfer(tmp_path / "unnamed", fresh())
    older_runs.save(run, tmp_path / "other", format="other")
    with pytest.raises(ValueError, match=r"source must be a directory that Run\.save wrote; .*has the format 'other'"):
        lo.transfer(tmp_path / "other", fresh())
    (tmp_path / "named" / "about" / "metadata").unlink()
    with pytest.raises(ValueError, match=r"source must be a directory that Run\.save wrote; .*named is not"):
        lo.transfer(tmp_path / "named", fresh())


def test_a_run_of_many_lanes_is_refused():
    runs = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fit(Net))
    with pytest.raises(ValueError, match=r"this Run holds \(2,\) trainings; take one"):
        lo.transfer(runs, fresh(), statistics="take")


# Orbax ----------------------------------------------------------------------------------------------------------------
def test_the_whole_state_with_its_keys(tmp_path):
    model = fit(Net).model
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(model))
    assert_equal(taken(tmp_path / "state"), numbers(model))


def test_within_a_larger_tree(tmp_path):
    model = fit(Net).model
    state = nnx.as_pure(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "all", {"model": state, "step": 3, "opt_state": [{"a": jnp.ones(2)}]})
    got = lo.transfer(tmp_path / "all", fresh(), rename={"model": ""}, statistics="take")
    assert_equal(numbers(got.model), numbers(model))
    assert sorted(row.path for row in got.rows if row.outcome == "left") == ["opt_state/0/a", "step"]


def test_the_last_of_many_steps(tmp_path):
    state = nnx.as_pure(nnx.state(fresh(), nnx.Param))
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        for step in (2, 9, 10):
            numbered = {"dense": {"bias": jnp.full(3, step, jnp.float32)}, "norm": state["norm"]}
            manager.save(step, args=ocp.args.StandardSave(numbered))
    for source, value in ((tmp_path / "steps", 10), (tmp_path / "steps" / "9", 9)):
        np.testing.assert_array_equal(lo.transfer(source, fresh()).model.dense.bias[...], np.full(3, value))


def test_one_of_several_items(tmp_path):
    state = nnx.as_pure(nnx.state(fresh(), nnx.Param))
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        items = {"model": ocp.args.StandardSave(state), "notes": ocp.args.JsonSave({})}
        manager.save(2, args=ocp.args.Composite(**items))
    with pytest.raises(ValueError, match=r"source must be an Orbax checkpoint; .*steps is not\. Where several"):
        lo.transfer(tmp_path / "steps", fresh())
    got = lo.transfer(tmp_path / "steps" / "2" / "model", Net(nnx.Rngs(8)))
    np.testing.assert_array_equal(got.model.dense.kernel[...], state["dense"]["kernel"])


SHARDED = """
import sys, jax, jax.numpy as jnp, numpy as np, orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
mesh = jax.make_mesh((4,), ("x",))
kernel = jax.device_put(jnp.arange(12.0).reshape(4, 3), NamedSharding(mesh, PartitionSpec("x")))
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(sys.argv[1], {"params": {"dense": {"kernel": kernel, "bias": jnp.ones(3)}}})
"""


@pytest.mark.slow
def test_saved_on_devices_that_are_not_here(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    subprocess.run([sys.executable, "-c", SHARDED, str(tmp_path / "a")], env=environment, check=True)
    got = lo.transfer(tmp_path / "a", fresh())
    np.testing.assert_array_equal(got.model.dense.kernel[...], np.arange(12.0).reshape(4, 3))


@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_a_broken_checkpoint(damage, tmp_path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "a", nnx.state(fresh(), nnx.Param))
    if damage == "garbage":
        (tmp_path / "a" / "_METADATA").write_text('{"tree":')
    else:
        (tmp_path / "a" / "_METADATA").unlink()
    with pytest.raises(ValueError, match=r"source must be an Orbax checkpoint; .*a is not"):
        lo.transfer(tmp_path / "a", fresh())


def test_a_folder_of_other_things(tmp_path):
    (tmp_path / "notes.txt").write_text("a")
    for path in (tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match=r"source must be an Orbax checkpoint; .* is not"):
            lo.transfer(path, fresh())


# safetensors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".PT"])
def test_pickles_are_not_opened(suffix, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x04.")
    monkeypatch.setattr("safetensors.safe_open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"not a pickle, which could run any program; got .*save_file\(model"):
        lo.transfer(path, fresh())


def test_numpys_file_by_another_name(tmp_path):
    pytest.importorskip("safetensors")
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"source must be a safetensors file; .*a\.safetensors is not: "):
        lo.transfer(tmp_path / "a.safetensors", fresh())


def test_numbers_of_eight_bits(tmp_path):
    pytest.importorskip("safetensors")
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match="source must hold numbers that NumPy knows"):
        lo.transfer(tmp_path / "a.safetensors", fresh())


def test_a_file_without_arrays(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "a.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="source has nothing, target dense/bias"):
        lo.transfer(tmp_path / "a.safetensors", fresh())
