"""The proof, on hand-written twins: the right ones are proven, every planted fault is named."""

import json

import pytest
import torch
import twins
from marking import swept
from torch import nn

import diglot
from diglot import runtime
from diglot.codegen.weights import TensorSpec, WeightEntry, WeightMap
from diglot.parity.prove import prove
from diglot.runtime import KerasWorker


@pytest.mark.parametrize("name", ["mlp", "cnn", "tagger", "attention"])
def test_a_right_twin_is_proven(name, worker, tmp_path):
    twin = getattr(twins, name)().write(tmp_path / "out", worker)
    before = {n: t.clone() for n, t in twin.source_model.state_dict().items()}
    proof = prove(twin, worker=worker)
    assert proof.verdict == "proven", str(proof) + proof.to_json()
    assert bool(proof) and proof.first_divergence is None
    kinds = {check.kind for check in proof.checks}
    assert {"weights", "outputs", "modules", "gradients", "steps"} <= kinds
    assert {check.mode for check in proof.checks} == {"eval", "train"}
    assert {check.weights for check in proof.checks} == {"real", "random"}
    assert proof.worst < 1e-10
    assert [c.ok for c in proof.checks if c.dtype == "float32"] == [True]
    document = json.loads(proof.to_json())
    assert document["verdict"] == "proven" and document["hashes"]["model.weights.h5"]
    for key, tensor in twin.source_model.state_dict().items():
        assert (tensor == before[key]).all()
    assert twin.source_model.training


FAULTS = {
    "wrong eps in batch norm": (
        "mlp",
        [("epsilon=1e-5, momentum", "epsilon=1e-3, momentum")],
        "bn",
        "eps",
    ),
    "default eps in layer norm": (
        "mlp",
        [("LayerNormalization(epsilon=1e-5)", "LayerNormalization()")],
        "norm",
        "eps: the translation computes with 0.001",
    ),
    "tanh GELU": (
        "mlp",
        [("x * 0.5 * (ops.erf(x / 2**0.5) + 1.0)", "ops.gelu(x, approximate=True)")],
        "act",
        "GELU",
    ),
    "batch norm momentum": (
        "mlp",
        [("momentum=0.9", "momentum=0.1")],
        "bn",
        "the new batch weighs 0.9 in the translation and 0.1 in PyTorch",
    ),
    "dropped bias": (
        "mlp",
        [("self.square = layers.Dense(10)", "self.square = layers.Dense(10, use_bias=False)")],
        "square",
        "bias is missing",
    ),
    "one side padding": (
        "cnn",
        [
            ("layers.ZeroPadding2D(1)", "layers.Identity()"),
            ("strides=2)", "strides=2, padding='same')"),
        ],
        "conv1",
        "padding",
    ),
    "swapped mask": (
        "attention",
        [("-1e9, scores)", "scores, -1e9)")],
        "",
        "mask is swapped",
    ),
    "missing scale": (
        "attention",
        [(" / 8**0.5", "")],
        "",
        "division by a constant is missing",
    ),
    "a stopped gradient": (
        "attention",
        [("ops.matmul(weights, self.value(x))", "ops.matmul(ops.stop_gradient(weights), v(x))"),
         ("v(x)", "self.value(x)")],
        "key",
        "outputs agree but gradients do not",
    ),
    "half in float32": (
        "mlp",
        [("self.norm(self.square(x))", "self.norm(ops.cast(ops.cast(self.square(x), 'float32'), "
          "self.compute_dtype))")],
        "",
        "computes in float32",
    ),
    "an activation forgotten": (
        "cnn",
        [("self.conv2(ops.relu(x))", "self.conv2(x)")],
        "",
        "activation is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_named(fault, worker, tmp_path):
    name, edits, module, cause = FAULTS[fault]
    twin = getattr(twins, name)()
    good = twin.source
    for old, new in edits:
        twin.replace(old, new)
    bad, twin.source = twin.source, good
    twin.write(tmp_path / "out", worker)
    (tmp_path / "out" / "model.py").write_text(bad)
    proof = prove(twin, worker=worker)
    assert proof.verdict == "differs" and not proof
    found = proof.first_divergence
    print(found, proof.reason)
    assert found["module"] == module, (found, proof.reason)
    assert cause in found["likely_cause"], found
    if module:
        pair = next(pair for pair in twin.weight_map.modules if pair.source == module)
        assert (found["file"], found["line"]) == (pair.file, pair.line)
        assert found["target_module"] == pair.target
    json.loads(proof.to_json())


def test_a_transposed_weight_in_the_file_is_named(worker, tmp_path):
    twin = twins.mlp().write(tmp_path / "out", worker)
    arrays = twin.target_arrays()
    arrays["square.kernel"] = arrays["square.kernel"].T
    from diglot.runtime import materialise

    materialise(tmp_path / "out", arrays, worker)
    found = prove(twin, worker=worker).first_divergence
    assert found["module"] == "square" and found["likely_cause"] == "the weight is transposed"


def test_a_transposition_missing_from_the_map_is_named(worker, tmp_path):
    twin = twins.mlp()
    index = twin.weight_map.entries.index(twin.weight_map["square.kernel"])
    twin.weight_map.entries[index] = twins.entry("square.kernel", "square.weight", (10, 10))
    twin.write(tmp_path / "out", worker)
    found = prove(twin, worker=worker).first_divergence
    assert found["module"] == "square" and "transposed" in found["likely_cause"]


class Constant(twins.Mlp):
    def forward(self, x):
        return super().forward(x) * 0.0 + 1.0


def test_a_proof_of_a_constant_is_no_proof(worker, tmp_path):
    twin = twins.mlp().replace(
        "return self.fc2(self.norm(self.square(x)))",
        "return self.fc2(self.norm(self.square(x))) * 0.0 + 1.0",
    )
    twin.source_model.__class__ = Constant
    proof = prove(twin.write(tmp_path / "out", worker), worker=worker)
    assert proof.verdict == "unproven" and not proof
    assert "no output depends on the inputs" in proof.reason


def test_weights_that_hide_the_inputs_do_not_spoil_the_proof(worker, tmp_path):
    twin = twins.mlp()
    twin.source_model.bn.running_var.fill_(1e20)
    proof = prove(twin.write(tmp_path / "out", worker), worker=worker)
    assert proof.sensitivity["real weights, inputs changed"]["output"] < 1e-6
    assert proof.verdict == "proven"


class Noisy(twins.Mlp):
    def forward(self, x):
        noise = x.new_empty(x.shape).normal_() if self.training else 0.0
        return super().forward(x + noise)


def test_noise_that_the_translation_lacks_is_found(worker, tmp_path):
    """Every draw has one fixed value in a proof, so noise on one side only is a difference."""
    twin = twins.mlp()
    twin.source_model.__class__ = Noisy
    proof = prove(twin.write(tmp_path / "out", worker), worker=worker)
    assert proof.verdict == "differs"
    wrong = {check.mode for check in proof.checks if not check.ok}
    assert wrong == {"train"}


def test_batch_norm_on_one_value_is_not_trained(worker, tmp_path):
    proof = prove(twins.mlp().write(tmp_path / "out", worker), worker=worker)
    assert proof.verdict == "proven"
    listed = [item for item in proof.not_compared if item["what"] == "train mode with batch 1"]
    assert "more than 1 value per channel" in listed[0]["why"]


def test_batch_norm_variance_is_explained_with_its_factor(worker, tmp_path):
    proof = prove(twins.mlp().write(tmp_path / "out", worker), worker=worker)
    (item,) = [i for i in proof.explained if i["what"] == "running variance of batch norm"]
    assert item["factors"] == {"2": 2.0, "3": 1.5} and item["error"] < 1e-12


def test_a_heavy_model_is_compared_in_every_mode_but_not_in_all_combinations(worker, tmp_path):
    proof = prove(twins.cnn().write(tmp_path / "out", worker), worker=worker, thorough=False)
    assert proof.verdict == "proven"
    outputs = [c for c in proof.checks if c.kind == "outputs" and c.dtype == "float64"]
    assert {(c.weights, c.mode) for c in outputs} == {
        (weights, mode) for weights in ("real", "random") for mode in ("eval", "train")
    }
    assert {c.sizes["s0"] for c in outputs} == {1, 2, 3}


def test_without_a_worker_of_its_own(tmp_path, monkeypatch):
    """One is started, and ended."""
    monkeypatch.setattr(runtime, "_spare", [])  # that of other tests
    twin = twins.mlp().write(tmp_path / "out")
    assert prove(twin, steps=0)


@pytest.fixture(
    scope="module",
    params=swept(
        [pytest.param(b, marks=pytest.mark.xdist_group(f"prove-{b}")) for b in ("torch", "jax")],
        {"jax"},
    ),
)
def other(request):
    """A backend that is not TensorFlow, and a process of it."""
    backend = request.param
    pytest.importorskip(backend, reason=f'{backend} is not installed: pip install ".[{backend}]"')
    with KerasWorker(backend) as started:
        yield backend, started


@pytest.mark.parametrize("name", ["mlp", pytest.param("tagger", marks=pytest.mark.sweep)])
def test_on_other_backends(name, other, tmp_path):
    backend, process = other
    twin = getattr(twins, name)().write(tmp_path / "out", process)
    proof = prove(twin, worker=process, backend=backend, thorough=False)
    assert proof.verdict == "proven", str(proof)
    assert proof.versions["backend"] == backend


class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.flatten = torch.nn.Flatten()
        self.fc = torch.nn.Linear(4 * 3 * 5, 6)

    def forward(self, image):
        return self.fc(self.flatten(self.conv(image)))


FLAT = (
    twins.HEAD
    + """
@keras.saving.register_keras_serializable("twins")
class Flat(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)
        self.flatten = layers.Flatten()
        self.fc = layers.Dense(6)

    def build(self, shape):
        self.conv.build(shape)
        self.fc.build((shape[0], 60))

    def call(self, image):
        return self.fc(self.flatten(self.conv(image)))


def build_model(weights=None):
    image = keras.Input((5, 7, 3), name="image")
    model = keras.Model(image, Flat(name="flat")(image))
    if weights:
        model.load_weights(weights)
    return model
"""
)


def flat(steps):
    kernel = WeightEntry(
        target="fc.kernel",
        sources=["fc.weight"],
        shape=[60, 6],
        source_shapes=[[6, 60]],
        steps=steps,
    )
    weights = WeightMap(
        entries=[
            twins.entry("conv.kernel", "conv.weight", (4, 3, 3, 3), (2, 3, 1, 0)),
            twins.entry("conv.bias", "conv.bias", (4,)),
            kernel,
            twins.entry("fc.bias", "fc.bias", (6,)),
        ],
        root="flat",
        inputs=[TensorSpec(name="image", shape=("s0", 3, 5, 7), perm=(0, 2, 3, 1))],
        outputs=[TensorSpec(shape=("s0", 6))],
        modules=twins.pairs("flatten fc", {}),
    )
    dynamic = {"s0": {"name": "batch", "min": 1, "max": None, "input": "image", "axis": 0}}
    info = {"dynamic": dynamic, "example_inputs": [twins.example("image", [2, 3, 5, 7])]}
    return twins.Twin(Flat(), FLAT, weights, info)


def test_a_flatten_in_another_order_is_listed_where_the_weights_account_for_it(worker, tmp_path):
    steps = [("reshape", [6, 4, 3, 5]), ("permute", [2, 3, 1, 0]), ("reshape", [60, 6])]
    proof = prove(flat(steps).write(tmp_path / "out", worker), worker=worker)
    assert proof.verdict == "proven", str(proof)
    assert "output of flatten" in [item["what"] for item in proof.not_compared]


def test_a_flatten_in_another_order_is_named_where_they_do_not(worker, tmp_path):
    proof = prove(flat([("permute", [1, 0])]).write(tmp_path / "out", worker), worker=worker)
    assert proof.verdict == "differs"
    assert proof.first_divergence["module"] == "flatten"
    assert "another order" in proof.first_divergence["likely_cause"]


class Centred(twins.Cnn):
    def forward(self, image):
        return self.fc(self.conv2(self.bn(self.conv1(image))).mean((2, 3)))


def centred(keras_side="self.conv2(x)"):
    """A model whose output is zero in training mode, but for rounding: all means are taken out."""
    twin = twins.cnn().replace("self.conv2(ops.relu(x))", keras_side)
    twin.source_model.__class__ = Centred
    with torch.no_grad():
        centre = twin.source_model.conv2.weight[:, :, 1, 1].clone()
        twin.source_model.conv2.weight.zero_()[:, :, 1, 1] = centre
        for tensor in (twin.source_model.fc.bias, twin.source_model.bn.bias):
            tensor.zero_()
    return twin


def test_what_is_zero_but_for_rounding_is_no_difference(worker, tmp_path):
    proof = prove(centred().write(tmp_path / "out", worker), worker=worker)
    assert proof.verdict == "proven", str(proof)
    assert any("rounding" in item["what"] for item in proof.explained)


def test_a_fault_beside_zeros_is_a_difference(worker, tmp_path):
    twin = centred("self.conv2(x * 1.001)").write(tmp_path / "out", worker)
    assert prove(twin, worker=worker).verdict == "differs"


class _Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)

    def forward(self, x):
        first = torch.relu(self.first(x))
        return {"first": first, "second": torch.tanh(self.second(first))}


class _ReadsOne(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pair, self.out = _Pair(), torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.pair(x)["second"])


def test_a_module_of_which_one_result_is_read(worker, tmp_path):
    """The generated layer returns that one only; it is compared with that one."""
    made = diglot.translate(_ReadsOne().eval(), torch.randn(2, 4))
    made.save(tmp_path / "out")
    proof = prove(made, worker=worker)
    assert proof.verdict == "proven", str(proof)
    assert "pair" in {pair.source for pair in made.weight_map.modules}
    assert "output of pair" not in {item["what"] for item in proof.not_compared}
    read = WeightMap.load(tmp_path / "out" / "weight_map.json")
    assert [pair.paths for pair in read.modules if pair.source == "pair"] == [(("second",),)]


class Beyond(nn.Module):
    """A softplus of inputs around 20.5, where PyTorch's own is the input itself."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return nn.functional.softplus(x * 0.1 + 20.5 + self.shift)


def test_a_limit_for_the_digits_of_float32_is_none_in_float64():
    proof = diglot.prove(diglot.translate(Beyond(), torch.randn(3, 4)), thorough=False, steps=1)
    assert proof, proof.first_divergence
