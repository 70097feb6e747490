"""Custom Keras layers and functions with raw ``tf.`` ops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support_tf import agrees, captures

from diglot.codegen.weights import resolve
from diglot.errors import BadInput, Unsupported
from diglot.frontends.tensorflow_graph import layer_module, module_of

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


class Rotary(keras.layers.Layer):
    """Rotary positions from tf.shape and tf.range, and a product by tf.einsum."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")
        self.scales = [self.add_weight(shape=(shape[-1],), name="scale")]

    def call(self, x):
        size = tf.shape(x)
        steps = tf.cast(tf.range(size[1]), x.dtype)
        rates = 1.0 / 100.0 ** (tf.range(x.shape[-1] // 2, dtype=tf.float32) / 4.0)
        angles = tf.einsum("t,d->td", steps, tf.cast(rates, x.dtype))
        angles = tf.repeat(angles, 2, axis=-1)
        even, odd = x[..., ::2], x[..., 1::2]
        turned = tf.reshape(tf.stack([-odd, even], -1), size)
        x = x * tf.cos(angles) + turned * tf.sin(angles)
        return tf.einsum("btc,cd->btd", x, self.kernel) * self.scales[0]


def test_layer_with_raw_ops():
    layer = Rotary()
    layer.build((None, None, 8))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    module, entries = layer_module(layer, [torch.randn(2, 5, 8)])
    for length in (5, 7):
        x = torch.randn(3, length, 8)
        module_of_length, _ = layer_module(layer, [x])
        with torch.no_grad():
            np.testing.assert_allclose(module_of_length(x), layer(x.numpy()), atol=2e-5)
    assert {e.target for e in entries} == {"kernel", "scales.0"}
    for entry in entries:
        variable = resolve(layer, entry.target)
        state = [module.state_dict()[n].numpy() for n in entry.sources]
        np.testing.assert_array_equal(entry.to_target(state), variable.numpy())
        assert variable.trainable == entry.trainable
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    assert module.double()(x).dtype == torch.float64


def test_symbolic_sizes_stay_dynamic():
    mirror = module_of(
        lambda x: tf.reshape(x, [tf.shape(x)[0] * x.shape[1], -1]), [torch.ones(2, 3, 4)]
    )
    agrees(mirror, mirror.example_inputs[0].reshape(-1, 4))
    captures(mirror)


def test_loops_with_a_known_number_of_steps_are_written_out():
    def power(x):
        result = tf.eye(3)
        for _ in tf.range(4):
            result = tf.matmul(result, x[0])
        return x[:, 0] @ result

    x = torch.randn(2, 3, 3) * 0.5
    mirror = module_of(power, [x])
    agrees(mirror, power(tf.constant(mirror.example_inputs[0].numpy())))
    captures(mirror)


def test_branches_on_data_are_choices():
    def bounded(x):
        return tf.cond(tf.reduce_max(x) > 1.0, lambda: x / tf.reduce_max(x), lambda: x)

    for scale in (0.1, 9.0):
        x = torch.rand(2, 3) * scale
        mirror = module_of(bounded, [x])
        agrees(mirror, bounded(tf.constant(x.numpy())), [x])


def test_loops_that_depend_on_the_data_are_refused():
    def settle(x):
        return tf.while_loop(lambda y: tf.reduce_max(y) > 1.0, lambda y: [y / 2.0], [x])[0]

    with pytest.raises(Unsupported, match=r"tf\.while_loop.*depends on the data"):
        module_of(settle, [torch.ones(2, 3)])


def test_functions_that_cannot_be_traced():
    with pytest.raises(BadInput, match="cannot trace"):
        module_of(lambda x: x @ tf.ones((7, 7)), [torch.ones(2, 3)])
