"""Use translations the way their receiver does: a Python without Diglot, in the output folder.

python fresh_model.py reads jobs from stdin, one JSON object a line, and answers each with a line:

    {"directory": holds model.py, "inputs": an npz file, "actions": [...]}  ->  {"report": {...}}
                                                                            or  {"error": traceback}
Actions:

    outputs   run the model on the inputs; its outputs go to outputs.npz beside the inputs
    keras     load model.keras and compare its outputs with build_model's
    weights   compare build_model() + load_weights with build_model(weights)
    config    rebuild the model from its get_config() and compare, with the same weights
    fit       compile, fit on random targets, and count the weights that changed
    graph     count the operations of the TensorFlow graph
"""

import gc
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path

import keras
import numpy as np


def flatten(outputs, path=""):
    """The tensors of a structure as arrays, by their path: "" alone, "logits", "1/0", …"""
    if isinstance(outputs, dict):
        items = outputs.items()
    elif isinstance(outputs, (list, tuple)):
        items = enumerate(outputs)
    else:
        return {path: keras.ops.convert_to_numpy(outputs)}
    arrays = {}
    for key, value in items:
        arrays |= flatten(value, f"{path}/{key}" if path else str(key))
    return arrays


def largest_gap(a, b):
    """The largest difference of two models' outputs."""
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    return max(float(np.abs(a[path] - b[path]).max()) for path in a)


def arrange(model, arrays):
    """The arrays as the model takes them: one, a list, or a dict by the names of its inputs."""
    if isinstance(model.input, dict):
        return dict(zip(model.input, arrays, strict=True))
    if isinstance(model.input, (list, tuple)):
        assert len(model.input) == len(arrays)
        return list(arrays)
    return arrays[0]


def fit(model, inputs):
    """Train one epoch on random targets; returns the share of trainable weights that changed."""
    outputs = model(inputs)
    random = np.random.default_rng(0)
    targets = keras.tree.map_structure(lambda t: random.normal(size=t.shape), outputs)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    losses = keras.tree.map_structure(lambda t: "mse", outputs)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=losses)
    history = model.fit(inputs, targets, epochs=2, batch_size=2, verbose=0)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    changed = sum(bool((a != b).any()) for a, b in zip(before, after, strict=True))
    return {"trainable": len(before), "changed": changed, "loss": history.history["loss"]}


def graph_operations(model):
    """How often each operation occurs in the TensorFlow graph, nested functions included.

    TensorFlow writes a Dense of rank three and more as a Tensordot, with a transpose by the
    identity that its optimiser takes out again: not counted.
    """
    import tensorflow as tf

    signature = keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), model.input)
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature)
    definition = concrete.graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += list(function.node_def)
    counts = {}
    for node in nodes:
        if not (node.op == "Transpose" and "Tensordot" in node.name):
            counts[node.op] = counts.get(node.op, 0) + 1
    return counts


def load_program(path):
    """The generated file as a module, as `import model` would give it."""
    spec = importlib.util.spec_from_file_location("model", path)
    program = importlib.util.module_from_spec(spec)
    sys.modules["model"] = program
    spec.loader.exec_module(program)
    return program


def run(inputs_path, actions):
    """Do one job in the working directory; returns the report."""
    program = load_program("model.py")
    data = np.load(inputs_path)
    model = program.build_model("model.weights.h5")
    inputs = arrange(model, [data[f"input:{i}"] for i in range(len(data.files))])
    outputs = model(inputs)
    report = {"parameters": model.count_params()}
    if "outputs" in actions:
        arrays = {f"output:{path}": array for path, array in flatten(outputs).items()}
        np.savez(Path(inputs_path).with_name("outputs.npz"), **arrays)
    if "keras" in actions:
        report["keras"] = largest_gap(outputs, keras.models.load_model("model.keras")(inputs))
    if "weights" in actions:
        other = program.build_model()
        other.load_weights("model.weights.h5")
        report["weights"] = largest_gap(outputs, other(inputs))
    if "config" in actions:
        other = keras.Model.from_config(model.get_config())
        other.set_weights(model.get_weights())
        report["config"] = largest_gap(outputs, other(inputs))
    if "graph" in actions:
        report["graph"] = graph_operations(model)
    if "fit" in actions:  # last: it changes the weights
        report["fit"] = fit(model, inputs)
    return report


def main():
    gc.freeze()  # clear_session collects garbage: not among a million objects of TensorFlow's own
    assert "diglot" not in sys.modules
    assert keras.backend.backend() == "torch" or "torch" not in sys.modules
    for line in sys.stdin:
        job = json.loads(line)
        os.chdir(job["directory"])
        # As in a new process: nothing that an earlier model registered is known.
        keras.saving.get_custom_objects().clear()
        keras.backend.clear_session()
        try:
            answer = {"report": run(job["inputs"], job["actions"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
