"""The weight map, both ways, on numpy arrays alone."""

import json

import numpy as np
import pytest
import torch

import diglot
from diglot.codegen.weights import (
    ModulePair,
    TensorSpec,
    WeightEntry,
    WeightMap,
    WeightMapError,
    resolve,
)

RNG = np.random.default_rng(0)


def random(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def entry(sources, shape, combine=None, steps=(), names=None, target="a.kernel"):
    names = names or [f"w{i}" for i in range(len(sources))]
    return WeightEntry(
        target=target,
        sources=names,
        shape=shape,
        source_shapes=[s.shape for s in sources],
        combine=combine,
        steps=steps,
    )


CASES = {
    "linear": ([random(3, 5)], (5, 3), None, [("permute", [1, 0])]),
    "conv": ([random(2, 3, 5, 7)], (5, 7, 3, 2), None, [("permute", [2, 3, 1, 0])]),
    "head split": (
        [random(6, 5)],
        (5, 2, 3),
        None,
        [("permute", [1, 0]), ("reshape", [5, 2, 3])],
    ),
    "gru gates": (
        [random(9, 4)],
        (4, 9),
        None,
        [("blocks", 0, [1, 0, 2]), ("permute", [1, 0])],
    ),
    "cyclic blocks": ([random(6)], (6,), None, [("blocks", 0, [2, 0, 1])]),
    "gru biases": ([random(9), random(9)], (2, 9), "stack", [("blocks", 0, [1, 0, 2])]),
    "concat": ([random(2, 3), random(4, 3)], (3, 6), "concat:1", [("permute", [1, 0])]),
    "scalar": ([np.float32(3.0)], (), None, []),
}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name):
    sources, shape, combine, steps = CASES[name]
    made = entry(sources, shape, combine, steps)
    target = made.to_target(sources)
    assert target.shape == shape and target.flags["C_CONTIGUOUS"]
    other = RNG.standard_normal(shape).astype(np.float32)
    back = made.to_source(other, sources)
    assert [b.shape for b in back] == [np.shape(s) for s in sources]
    np.testing.assert_array_equal(made.to_target(back), other)
    for there, source in zip(made.to_source(target, sources), sources, strict=True):
        np.testing.assert_array_equal(there, source)


def test_blocks_order():
    made = entry([np.arange(6.0)], (6,), steps=[("blocks", 0, [2, 0, 1])])
    assert made.to_target([np.arange(6.0)]).tolist() == [4, 5, 0, 1, 2, 3]


def test_sum_keeps_the_shares_where_nothing_changed():
    first, second = random(8), random(8)
    made = entry([first, second], (8,), "sum")
    back = made.to_source(first + second, [first, second])
    np.testing.assert_array_equal(back[0], first)
    np.testing.assert_array_equal(back[1], second)


def test_sum_gives_the_change_to_the_first():
    first, second, third = random(8), random(8), random(8)
    made = entry([first, second, third], (8,), "sum")
    wanted = random(8)
    back = made.to_source(wanted, [first, second, third])
    np.testing.assert_allclose(made.to_target(back), wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(back[1], second)
    np.testing.assert_array_equal(back[2], third)


def test_gradient_of_a_sum_is_each_gradient():
    gradient = random(8)
    made = entry([gradient, gradient], (8,), "sum")
    np.testing.assert_array_equal(made.gradient_to_target([gradient, gradient]), gradient)
    with pytest.raises(WeightMapError, match="w0 and w1 differ"):
        made.gradient_to_target([gradient, gradient + 1])


def three_slices():
    packed = random(6, 4)
    entries = [
        WeightEntry(
            target=f"attention.{name}.kernel",
            sources=["in_proj_weight"],
            shape=(4, 2),
            source_shapes=[(6, 4)],
            steps=[("slice", 0, 2 * i, 2 * i + 2), ("permute", [1, 0])],
        )
        for i, name in enumerate(("query", "key", "value"))
    ]
    return packed, WeightMap(entries=entries)


def test_several_targets_slice_one_source():
    packed, weights = three_slices()
    targets = weights.apply({"in_proj_weight": packed})
    np.testing.assert_array_equal(targets["attention.key.kernel"], packed[2:4].T)
    changed = {name: array + 1 for name, array in targets.items()}
    back = weights.invert(changed, {"in_proj_weight": packed})
    np.testing.assert_array_equal(back["in_proj_weight"], packed + np.float32(1))


def test_what_no_target_holds_is_kept():
    packed, weights = three_slices()
    before = packed.copy()
    changed = {"attention.key.kernel": np.zeros((4, 2), np.float32)}
    back = weights.invert(changed, {"in_proj_weight": packed})["in_proj_weight"]
    np.testing.assert_array_equal(back[2:4], 0)
    np.testing.assert_array_equal(back[:2], before[:2])
    np.testing.assert_array_equal(packed, before)


def test_two_targets_of_one_source_must_agree():
    table = random(5, 3)
    weights = WeightMap(
        entries=[
            entry([table], (5, 3), names=["wte"], target="embed.embeddings"),
            entry(
                [table], (3, 5), names=["wte"], target="head.kernel", steps=[("permute", [1, 0])]
            ),
        ]
    )
    arrays = weights.apply({"wte": table})
    np.testing.assert_array_equal(weights.invert(arrays, {"wte": table})["wte"], table)
    arrays["head.kernel"] = arrays["head.kernel"] + 1
    with pytest.raises(WeightMapError, match="different values"):
        weights.invert(arrays, {"wte": table})


def test_dtypes_are_the_sources():
    made = entry([np.zeros((2, 3), np.float64)], (3, 2), steps=[("permute", [1, 0])])
    assert made.to_target([np.zeros((2, 3), np.float64)]).dtype == np.float64
    half = [np.zeros((2, 3), np.float16)]
    assert made.to_source(np.zeros((3, 2), np.float32), half)[0].dtype == np.float16


def test_json_there_and_back(tmp_path):
    _, weights = three_slices()
    weights.root = "net"
    weights.unmapped = [{"source": "n", "why": "counts nothing"}]
    weights.inputs = [TensorSpec(name="x", shape=("s0", 3, 8, 9), perm=(0, 2, 3, 1))]
    weights.outputs = [TensorSpec(path=("logits", 0), shape=("s0", 4))]
    weights.structure = {"inputs": "single", "outputs": ["dict", {"logits": ["list", ["tensor"]]}]}
    weights.modules = [
        ModulePair("a", "b", "A", "B", "net.py", 3, outputs=((0, 2, 3, 1), None)),
    ]
    weights.save(tmp_path / "weight_map.json")
    again = WeightMap.load(tmp_path / "weight_map.json")
    assert again == weights
    document = json.loads((tmp_path / "weight_map.json").read_text())
    assert document["format"] == 1
    assert document["modules"][0]["outputs"] == [{"perm": [0, 2, 3, 1]}, {"perm": None}]
    assert document["inputs"][0] == {
        "name": "x",
        "shape": ["s0", 3, 8, 9],
        "dtype": "float32",
        "perm": [0, 2, 3, 1],
    }


def test_layouts_of_inputs():
    spec = TensorSpec(name="x", shape=("s0", 3, 8, 9), perm=(0, 2, 3, 1))
    array = random(2, 3, 8, 9)
    assert spec.to_target(array).shape == (2, 8, 9, 3)
    np.testing.assert_array_equal(spec.to_source(spec.to_target(array)), array)


def test_errors_name_what_is_wrong():
    made = entry([random(3, 5)], (5, 3), steps=[("permute", [1, 0])])
    with pytest.raises(WeightMapError, match=r"w0: expected shape \[3, 5\], received \[5, 3\]"):
        made.to_target([random(5, 3)])
    with pytest.raises(WeightMapError, match="need a way to combine"):
        entry([random(3), random(3)], (3,))
    with pytest.raises(WeightMapError, match="received 'twist'"):
        entry([random(3)], (3,), steps=[("twist", 1)]).to_target([random(3)])
    with pytest.raises(WeightMapError, match="has none"):
        WeightMap(entries=[made]).apply({})
    with pytest.raises(WeightMapError, match="received JSON that is none"):
        WeightMap.from_json("[]")


class Node:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def test_resolve():
    kernel = object()
    root = Node(layers_=[Node(dense=Node(kernel=kernel))], heads={"a": Node(kernel=kernel)})
    assert resolve(root, "layers_.0.dense.kernel") is kernel
    assert resolve(root, "heads.a.kernel") is kernel
    assert resolve(root, "") is root
    with pytest.raises(WeightMapError, match=r"'bias' in layers_.0.dense"):
        resolve(root, "layers_.0.dense.bias")


def test_resolve_by_layer_name_in_nested_models():
    """A layer's name goes before an attribute in every Functional and Sequential model on the way."""
    kernel, deep, item = object(), object(), object()
    dense = Node(name="dense", kernel=kernel)
    inner = Node(
        name="encoder",
        get_layer=None,
        operations=[],
        output="a property",
        layers=[Node(name="output", kernel=deep), Node(name="0", kernel=item)],
    )
    head = Node(name="head", get_layer=None, _functional=None, layers=[dense])
    block = Node(name="block", parts=[inner, head])
    model = Node(get_layer=None, operations=[], layers=[inner, head, block])
    assert resolve(model, "encoder.output.kernel") is deep
    assert resolve(model, "encoder.0.kernel") is item
    assert resolve(model, "head.dense.kernel") is kernel
    assert resolve(model, "head.0.kernel") is kernel
    assert resolve(model, "block.parts.1.dense.kernel") is kernel
    assert resolve(model, "block.parts.0") is inner
    with pytest.raises(WeightMapError, match=r"'bias' in head.dense"):
        resolve(model, "head.dense.bias")


def test_resolve_by_layer_name_in_a_functional_model():
    kernel = object()
    layers = [Node(name="output", kernel=kernel), Node(name="layer1.0.conv1", kernel=1)]
    model = Node(layers=layers, operations=layers, get_layer=None, output="not this")
    assert resolve(model, "output.kernel") is kernel
    assert resolve(model, "layer1.0.conv1.kernel") == 1


def test_a_weight_inside_a_nested_functional_model_is_found_by_the_layers_names():
    """Names count at every depth: an outer layer may be called as an attribute is."""

    class Named:
        def __init__(self, name, **attributes):
            self.name = name
            self.__dict__.update(attributes)

    class Functional(Named):
        operations = ()

        def get_layer(self, name):
            return {layer.name: layer for layer in self.layers}[name]

    dense = Named("output", kernel="kernel of the layer called output")
    inner = Functional("inner.model", layers=[dense], output="the model's property")
    outer = Functional("outer", layers=[inner])
    assert resolve(outer, "inner.model.output.kernel") == "kernel of the layer called output"


class _Steps(torch.nn.Module):
    """One kernel and one matrix of its own, which functions use at every step."""

    def __init__(self):
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.randn(6, 6, 3, 3) * 0.2)
        self.matrix = torch.nn.Parameter(torch.randn(6, 6) * 0.3)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(torch.nn.functional.conv2d(x, self.kernel, padding=1))
        y = x.mean((2, 3))
        for _ in range(2):
            y = torch.tanh(torch.nn.functional.linear(y, self.matrix))
        return y


@pytest.mark.parametrize("style", ["layers", "functional"])
def test_a_weight_that_functions_use_again_is_one_layer(style, worker):
    made = diglot.translate(_Steps(), torch.randn(2, 6, 7, 8), style=style)
    assert made.source.count("layers.Conv2D(") == made.source.count("layers.Dense(") == 1
    assert diglot.prove(made, worker=worker).verdict == "proven"
