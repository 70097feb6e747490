"""The proof with a Keras source: right programs are proven, every planted fault is named."""

import json

import keras
import numpy as np
import pytest
import reversed_twins
import twins
from keras import ops

import diglot
from diglot.parity.prove import prove


@pytest.mark.parametrize("name", ["mlp", "cnn", "tagger", "attention"])
def test_a_right_program_is_proven(name, worker, tmp_path):
    made = reversed_twins.reversed_twin(getattr(twins, name)(), tmp_path)
    made.save(tmp_path / "out")
    proof = prove(made, worker=worker)
    assert proof.verdict == "proven", str(proof) + proof.to_json()
    kinds = {check.kind for check in proof.checks}
    assert {"weights", "outputs", "modules", "gradients", "steps"} <= kinds
    # A table that the program computes has float64's digits in the proof, the Keras file float32's.
    assert (
        max(c.worst for c in proof.checks if c.kind != "weights" and c.dtype == "float64") < 1e-10
    )
    assert [c.ok for c in proof.checks if c.dtype == "float32"] == [True]
    hashed = json.loads(proof.to_json())["hashes"]
    assert {"model.py", "model.safetensors", "source.weights.h5"} <= set(hashed)


@pytest.mark.parametrize("kind", ["archive", "live"])
def test_a_source_is_brought_back_whichever_way_it_can_be(kind, worker, tmp_path):
    made = reversed_twins.reversed_twin(twins.cnn(), tmp_path, kind)
    assert made.info["original"]["kind"] == kind
    before = [v.numpy() for v in made.source_model.variables]
    made.save(tmp_path / "out")
    proof = prove(made, worker=worker)
    assert proof.verdict == "proven", str(proof) + proof.to_json()
    here = [item for item in proof.explained if item["what"] == "where the Keras model ran"]
    assert bool(here) == (kind == "live")
    # The model that was handed over is as it was.
    assert keras.config.floatx() == "float32"
    for variable, value in zip(made.source_model.variables, before, strict=True):
        assert variable.dtype == str(value.dtype) and np.array_equal(variable.numpy(), value)
    if kind == "archive":
        assert (tmp_path / "out" / "source.keras").is_file()
        assert prove(diglot.load(tmp_path / "out"), worker=worker).verdict == "proven"


FAULTS = {
    "wrong eps": ("mlp", "self.bn = nn.BatchNorm1d(10)", "self.bn = nn.BatchNorm1d(10, eps=1e-3)",
                  "mlp.bn", "eps"),
    "wrong momentum": ("mlp", "self.bn = nn.BatchNorm1d(10)",
                       "self.bn = nn.BatchNorm1d(10, momentum=0.9)", "mlp.bn",
                       "the new batch weighs 0.1 in Keras and 0.9 in the translation, where "
                       "PyTorch needs momentum 0.1"),
    "missing bias": ("mlp", "self.square = nn.Linear(10, 10)",
                     "self.square = nn.Linear(10, 10, bias=False)", "mlp.square",
                     "the bias is missing"),
    "another GELU": ("mlp", "nn.GELU()", 'nn.GELU(approximate="tanh")', "mlp.act", "GELU"),
    "a forgotten activation": ("cnn", "torch.relu(self.bn(self.conv1(image)))",
                               "self.bn(self.conv1(image))", "", "the activation is missing: relu"),
    "an activation too many": ("cnn", "self.fc(self.conv2(x).mean((2, 3)))",
                               "torch.relu(self.fc(self.conv2(x).mean((2, 3))))", "",
                               "an activation too many: it is relu"),
    "no gradient": ("mlp", "return self.fc2(self.norm(self.square(x)))",
                    "return self.fc2(self.norm(self.square(x.detach())))", "mlp.bn",
                    "gradient"),
    "a frozen weight": ("mlp", "self.fc2 = nn.Linear(10, 3)",
                        "self.fc2 = nn.Linear(10, 3)\n        self.fc2.requires_grad_(False)",
                        "mlp.fc2", "trained in Keras, not in PyTorch"),
    "sizes that it refuses": ("mlp", "def forward(self, x):\n",
                              "def forward(self, x):\n        assert len(x) != 3, 'three'\n", "",
                              "the program refuses sizes"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_named(fault, worker, tmp_path):
    name, old, new, layer, cause = FAULTS[fault]
    made = reversed_twins.reversed_twin(getattr(twins, name)(), tmp_path)
    assert old in made.source
    made.save(tmp_path / "out")
    (tmp_path / "out" / "model.py").write_text(made.source.replace(old, new))
    proof = prove(made, worker=worker)
    found = proof.first_divergence
    print(found, proof.reason)
    assert proof.verdict == "differs" and not proof
    assert found["module"] == layer, (found, proof.reason)
    assert cause in found["likely_cause"], found
    assert found["file"] == "model.py" or "torch/nn" in found["file"], found
    if layer:
        assert found["target_module"] == layer.partition(".")[2]


def test_a_transposed_weight_in_the_file_is_named(worker, tmp_path):
    made = reversed_twins.reversed_twin(twins.mlp(), tmp_path)
    made.weights["square.weight"] = made.weights["square.weight"].T
    made.live = None
    made.save(tmp_path / "out")
    found = prove(made, worker=worker).first_divergence
    assert found["module"] == "mlp.square" and found["likely_cause"] == "the weight is transposed"
    assert found["target_module"] == "square"


def test_a_weight_file_of_another_model_differs(worker, tmp_path):
    made = reversed_twins.reversed_twin(twins.mlp(), tmp_path)
    del made.weights["fc2.bias"]
    made.save(tmp_path / "out")
    proof = prove(made, worker=worker)
    assert proof.verdict == "differs" and proof.first_divergence["module"] == "mlp.fc2"


def test_a_program_that_takes_nothing_differs(worker, tmp_path):
    made = reversed_twins.reversed_twin(twins.mlp(), tmp_path)
    made.source = made.source.replace(
        "def forward(self, x):\n", "def forward(self):\n        x = 1\n"
    )
    made.save(tmp_path / "out")
    proof = prove(made, worker=worker)
    assert proof.verdict == "differs" and "cannot be called" in proof.reason


class Narrow(keras.layers.Layer):
    """A layer that its author lets compute in float32 only."""

    def call(self, x):
        if keras.backend.standardize_dtype(x.dtype) != "float32":
            raise ValueError("float32 is all I take")
        return 2.0 * x


def test_what_runs_in_float32_only_is_not_proven(worker):
    """Agreement in float32 is reported, and is no proof."""
    inputs = keras.Input((5,))
    model = keras.Model(inputs, Narrow()(keras.layers.Dense(3)(inputs)))
    proof = prove(diglot.translate(model, to="torch"), worker=worker)
    assert proof.verdict == "unproven"
    assert "no output could be compared: Keras refuses it: " in proof.reason


class Scaled(keras.layers.Layer):
    """Numbers of Python's that pass through float32 on their way."""

    def call(self, x):
        x = ops.multiply(x, ops.cast(0.1, "float32"))
        table = ops.divide(1.0, ops.arange(1, 6, dtype="float32"))
        return x + ops.sin(table * ops.cast(ops.shape(x)[0], "float32"))


def test_constants_keep_their_digits(worker):
    """Those that layers make, those that an op of a Functional model was given, and those in buffers."""
    inputs = keras.Input((5,))
    x = Scaled()(keras.layers.Dense(5)(inputs)) * ops.cast(ops.sqrt(3.0), "float32")
    translation = diglot.translate(keras.Model(inputs, x), to="torch")
    assert "* 0.1" in translation.source and "0.1000000" not in translation.source
    proof = prove(translation, worker=worker)
    assert proof.verdict == "proven" and proof.worst < 1e-12, str(proof)


NORMALIZED = {
    "vectors": ((4,), lambda x: x),
    "images": ((8, 9, 3), keras.layers.Conv2D(4, 3)),
    "sequences": ((9, 3), keras.layers.Conv1D(4, 3)),
}


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", NORMALIZED)
def test_measured_statistics_are_weights(kind, given, worker):
    """Their digits are those of 32 bits on both sides, and images have them channels first."""
    shape, then = NORMALIZED[kind]
    seen = np.random.default_rng(0).normal(3.0, 2.0, (50, shape[-1]))
    if given:
        normalized = keras.layers.Normalization(mean=seen.mean(0), variance=seen.var(0))
    else:
        normalized = keras.layers.Normalization()
        normalized.adapt(seen)
    x = keras.Input(shape)
    made = diglot.translate(keras.Model(x, then(normalized(x))), to="torch")
    proof = prove(made, worker=worker)
    assert proof.verdict == "proven", str(proof) + proof.to_json()
    assert "permute" not in made.source


def test_random_weights_that_saturate_are_drawn_again(worker):
    """The outputs of the first draws are 1 and 0, whatever comes in, as are those of the given weights."""
    inputs = keras.Input((4,))
    scores = keras.layers.Dense(2, bias_initializer="ones")(0.01 * ops.tanh(inputs))
    scores = scores * ops.convert_to_tensor([150.0, -150.0])
    model = keras.Model(inputs, ops.softmax(scores))
    proof = prove(diglot.translate(model, to="torch"), worker=worker)
    assert proof.verdict == "proven", str(proof)
    assert proof.sensitivity["real weights, inputs changed"]["output"] < 1e-6


def test_convolutions_in_groups_have_gradients(worker):
    """TensorFlow differentiates them on the CPU only where they are compiled."""
    x = keras.Input((8, 8, 6))
    y = keras.layers.Conv2D(6, 3, groups=2, padding="same")(x)
    model = keras.Model(x, keras.layers.Conv2D(6, 3, groups=6)(y))
    proof = prove(diglot.translate(model, to="torch"), worker=worker)
    assert proof.verdict == "proven", str(proof)
    assert "gradients" in {check.kind for check in proof.checks}


class Unsaid(keras.layers.Layer):
    """A layer whose author forgot what its configuration is made of."""

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}

    def call(self, x):
        return 2.0 * x


def test_a_layer_without_a_configuration_is_translated():
    """Its constructor's arguments are left out of the listing."""
    inputs = keras.Input((5,))
    made = diglot.translate(keras.Model(inputs, Unsaid()(inputs)), to="torch")
    assert "2.0 * x" in made.source or "x * 2.0" in made.source


def test_attention_with_dropout_computes_in_the_proof_as_it_does_elsewhere(worker):
    """With it, Keras makes 0 of a row that is masked throughout; without it, the mean of all."""
    rng = np.random.default_rng(0)
    mask = rng.random((2, 5, 5)) < 0.5
    mask[:, 1] = False
    x, allowed = keras.Input((5, 8)), keras.Input((5, 5), dtype="bool")
    attention = keras.layers.MultiHeadAttention(2, 4, dropout=0.1)
    model = keras.Model([x, allowed], attention(x, x, attention_mask=allowed))
    example = [rng.normal(size=(2, 5, 8)).astype("float32"), mask]
    proof = prove(diglot.translate(model, example, to="torch"), worker=worker)
    assert proof.verdict == "proven", str(proof)


def test_a_nested_model_of_which_one_result_is_read(worker):
    """The program's class returns that one only; it is compared with that one."""
    x = keras.Input((4,))
    first = keras.layers.Dense(4, activation="relu")(x)
    results = {"first": first, "second": keras.layers.Dense(3, activation="tanh")(first)}
    inner = keras.Model(x, results, name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)["second"]))
    made = diglot.translate(model, to="torch")
    assert [pair.paths for pair in made.weight_map.modules] == [(("second",),)]
    proof = prove(made, worker=worker)
    assert proof.verdict == "proven", str(proof)
    assert "output of inner" not in {item["what"] for item in proof.not_compared}


class Undecided(keras.layers.Layer):
    """Adds gradients, and hardly a number, where a difference that rounding alone makes is positive."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 8))
        self.gate = self.add_weight(shape=(8,))

    def call(self, x):
        y = ops.matmul(x, self.kernel)
        noise = y - ops.sum(x[:, :, None] * self.kernel, axis=1)
        return y + 0.05 * ops.relu(noise + (self.gate - ops.stop_gradient(self.gate)))


@pytest.mark.parametrize("fault", [False, True])
def test_rounding_that_decides_a_training_step_is_told_from_a_fault(fault, worker, tmp_path):
    """By the source's own steps from weights that are moved in their last places."""
    inputs = keras.Input((300,))
    made = diglot.translate(keras.Model(inputs, Undecided()(inputs)), to="torch")
    made.save(tmp_path)
    if fault:
        program = tmp_path / "model.py"
        right = program.read_text()
        program.write_text(right.replace("y + ", "2 * y - y.detach() + "))
        assert program.read_text() != right
    proof = prove(made, worker=worker)
    assert proof.verdict == ("differs" if fault else "proven"), str(proof)
    rounded = [item for item in proof.explained if item["what"].startswith("rounding")]
    assert fault or any("gate" in where for item in rounded for where in item["where"])
