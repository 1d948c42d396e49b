"""What XLA made of a program, read from its text."""

import re

import jax


def compiled(step, *arguments):
    """The text of `step`, compiled, with its first argument donated."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    return jax.jit(step, donate_argnums=0).lower(*shapes).compile().as_text()


def aliases(text):
    """{output: the argument whose buffer it takes}."""
    entries = re.search(r"input_output_alias=\{(.*?)\}, entry", text)
    pairs = re.findall(r"\{(\d*)\}: \((\d+), \{\}", entries.group(1)) if entries else []
    return {int(output or 0): int(argument) for output, argument in pairs}


def copies(text):
    """The types of what is copied."""
    return re.findall(r"= (\w+\[[\d,]*\])\S* copy\(", text)


def kernels(text):
    """The number of fusions that a step starts."""
    return len(re.findall(r" fusion\(", text[text.index("\nENTRY") :]))
