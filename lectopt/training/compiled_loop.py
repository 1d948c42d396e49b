"""The compiled loop, from any step to any other: kept as long as its task and its optimizer exist."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import meshes
from lectopt._internal.jit_cache import CachedJit, cached_jit
from lectopt._internal.types import Array
from lectopt.tasks.models import Params
from lectopt.training.carry import Carry, Data, Learner, Plan
from lectopt.training.loop import Loop
from lectopt.training.optimizer_recipe import OptimizerRecipe
from lectopt.training.setup import Setup
from lectopt.training.starting import Start


def start(setup: Setup) -> Carry:
    """Returns the carry before the first step."""
    return cached_jit(_start, setup.plan, setup.recipe)(setup.numbers, setup.data, setup.start)


def shapes(setup: Setup) -> Carry:
    """Returns the shapes of the carry."""
    return cached_jit(_start, setup.plan, setup.recipe).eval_shape(setup.numbers, setup.data, setup.start)


def advance(setup: Setup, carry: Carry, stop: Any, last: Any) -> Carry:
    """Advances the carry, which is donated, to step `stop`; with step `last` the training ends."""
    return _advancing(setup)(setup.numbers, setup.data, carry, stop, last)


def end_early(setup: Setup, carry: Carry) -> Carry:
    """Ends the training of the carry, which is donated, where it is."""
    return cached_jit(_end_early, setup.plan, setup.recipe, donate=2)(setup.numbers, setup.data, carry)


def end_epoch(setup: Setup, carry: Carry) -> Carry:
    """Ends the epoch of the carry, which is donated, after its last step."""
    return cached_jit(_end_epoch, setup.plan, setup.recipe, donate=2)(setup.numbers, setup.data, carry)


def program(setup: Setup) -> Hashable:
    """Returns what stands for the program of `advance`: the same one for trainings that share it."""
    return _advancing(setup).program


def text(setup: Setup, carry: Carry) -> str:
    """Returns the text of the lowered program, equal between processes."""
    return _advancing(setup).lower(setup.numbers, setup.data, carry, jnp.int32(0), jnp.int32(0)).as_text()


def eval_params(setup: Setup, learner: Learner) -> Params:
    """Returns the parameters w of a learner."""
    return cached_jit(_eval_params, setup.plan, setup.recipe)(learner)


def _advancing(setup: Setup) -> CachedJit:
    return cached_jit(_advance, setup.plan, setup.recipe, donate=2)


def _start(plan: Plan, recipe: OptimizerRecipe, numbers: dict[str, Any], data: Data, start: Start) -> Carry:
    setup = Setup(plan, recipe, numbers, data, start)
    carry = setup.loop().start(setup.learner(), beat_start=start.params is not None, keep_rows=True)
    # Copies, since the carry is donated: what it starts from belongs to the caller.
    return _on_mesh(plan, jax.tree.map(jnp.copy, carry))


def _advance(
    plan: Plan, recipe: OptimizerRecipe, numbers: dict[str, Any], data: Data, carry: Carry, stop: Array, last: Array
) -> Carry:
    return _on_mesh(plan, Loop(plan, recipe.make(numbers), data).run_until(carry, stop, last))


def _end_early(plan: Plan, recipe: OptimizerRecipe, numbers: dict[str, Any], data: Data, carry: Carry) -> Carry:
    return _on_mesh(plan, Loop(plan, recipe.make(numbers), data).end_early(carry))


def _end_epoch(plan: Plan, recipe: OptimizerRecipe, numbers: dict[str, Any], data: Data, carry: Carry) -> Carry:
    return _on_mesh(plan, Loop(plan, recipe.make(numbers), data).end_epoch(carry))


def _eval_params(_plan: Plan, _recipe: OptimizerRecipe, learner: Learner) -> Params:
    return learner.eval_params()


def _on_mesh(plan: Plan, carry: Carry) -> Carry:
    """Places the carry on the mesh, so that it comes out of a call as it went in."""
    if plan.mesh is None:
        return carry
    return meshes.shard_like_params(plan.mesh, plan.task.adapter.specs(), carry.learner.params, carry)
