"""The same computation traced from plain Python, for TensorFlow's runtime or for XLA."""

import tensorflow as tf


def build(jit_compile=False):
    """z = (x + y) · 2 as a function of x and y, and its graph."""

    @tf.function(jit_compile=jit_compile)
    def compute(x, y):
        return (x + y) * 2.0

    def call(x, y):
        return compute(x, y).numpy()

    number = tf.TensorSpec((), tf.float32)
    operations = compute.get_concrete_function(number, number).graph.get_operations()
    return call, [(o.name, o.type, [i.op.name for i in o.inputs]) for o in operations]


def build_xla():
    """The same, compiled by XLA."""
    return build(jit_compile=True)


def build_eager():
    """The same, run operation by operation, with no graph at all."""
    return lambda x, y: ((x + y) * 2.0).numpy(), []


def tensor(array):
    """An input as this framework's tensor."""
    return tf.constant(array)
