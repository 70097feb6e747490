"""The MNIST classifier: trained in PyTorch, continued in Keras, carried back."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from mnist_mlp import MnistMLP
from real_models import assert_proven, assert_reads_well, run_fresh, translated

import diglot
from diglot.data import load_mnist, mnist_subset
from diglot.errors import BadInput

pytestmark = pytest.mark.xdist_group("mnist")


def full_set():
    """All 70,000 images where they can be had, else None."""
    with contextlib.suppress(BadInput):
        return load_mnist()


def scaled(images):
    """(n, 28, 28) in [0, 1], float32."""
    return images.astype(np.float32) / 255


def train(model, images, labels, epochs):
    """Adam and cross-entropy on the logits, 100 images at a time."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    loss_of = torch.nn.CrossEntropyLoss()
    images, labels = torch.from_numpy(scaled(images)), torch.from_numpy(labels.astype(np.int64))
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(100):
            optimizer.zero_grad()
            loss_of(model(images[rows]), labels[rows]).backward()
            optimizer.step()


def predict(model, images):
    """PyTorch's logits, (n, 10)."""
    model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(scaled(images))).numpy()


def assert_same_predictions(logits, other):
    """The same digit for every image, and logits that agree to float32's accuracy."""
    assert np.array_equal(logits.argmax(-1), other.argmax(-1))
    assert np.abs(logits - other).max() < 1e-4


@pytest.mark.parametrize("which", ["subset", "full"])
def test_there_and_back(which, tmp_path):
    import keras

    data = mnist_subset() if which == "subset" else full_set()
    if data is None:
        pytest.skip("the full MNIST is neither in the folder DIGLOT_DATA nor to be downloaded")
    torch.manual_seed(0)
    model = MnistMLP()
    train(model, data.train_images, data.train_labels, epochs=3 if which == "subset" else 1)
    in_torch = predict(model, data.test_images)
    assert (in_torch.argmax(-1) == data.test_labels).mean() > 0.9

    translation = diglot.translate(model, torch.from_numpy(scaled(data.test_images[:5])))
    translation.save(tmp_path / "out")
    assert diglot.prove(translation)
    images = scaled(data.test_images)
    in_keras = translation.model.predict(images, batch_size=500, verbose=0)
    assert_same_predictions(in_torch, in_keras)

    before = copy.deepcopy(model.state_dict())
    translation.model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    translation.model.fit(
        scaled(data.train_images), data.train_labels, batch_size=100, epochs=1, verbose=0
    )
    trained = translation.model.predict(images, batch_size=500, verbose=0)
    assert np.abs(trained - in_keras).max() > 0.1, "fit changed nothing"
    assert (trained.argmax(-1) == data.test_labels).mean() > 0.9

    translation.push()
    assert all(not torch.equal(before[name], model.state_dict()[name]) for name in before)
    assert_same_predictions(predict(model, data.test_images), trained)


def test_push_is_exact(tmp_path):
    """Weights that go to PyTorch and return are the same bits."""
    torch.manual_seed(0)
    model = MnistMLP()
    translation = diglot.translate(model, torch.rand(5, 28, 28))
    changed = [
        weight + np.float32(0.1) * np.random.default_rng(0).normal(size=weight.shape)
        for weight in translation.model.get_weights()
    ]
    changed = [weight.astype(np.float32) for weight in changed]
    translation.model.set_weights(changed)
    translation.push()
    translation.model.set_weights([np.zeros_like(weight) for weight in changed])
    translation.pull()
    for wanted, found in zip(changed, translation.model.get_weights(), strict=True):
        assert np.array_equal(wanted, found)


def test_push_into_another_model(tmp_path):
    """After `load`, without the first process's model, the weights go where the user says."""
    torch.manual_seed(0)
    model = MnistMLP()
    diglot.translate(model, torch.rand(5, 28, 28)).save(tmp_path / "out")
    loaded = diglot.load(tmp_path / "out")
    other = MnistMLP()
    loaded.push(other)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_it_reads_well_and_works_in_a_fresh_python():
    result = translated("mnist_mlp")
    assert_proven(result)
    assert_reads_well(result, "MnistMLP")
    for name in ("fc1", "fc2", "fc3", "images"):
        assert name in result.translation.source
    report = run_fresh(result, "outputs", "keras", "weights", "config", "fit")
    assert report["keras"] == report["weights"] == report["config"] == 0
    assert report["fit"]["changed"] == report["fit"]["trainable"] == 6
    assert report["parameters"] == 784 * 128 + 128 + 128 * 20 + 20 + 20 * 10 + 10
