"""The generated program is Keras 3, not TensorFlow: it runs on the other backends too."""

import importlib.util

import pytest
from real_models import run_fresh, translated

BACKENDS = ["torch", "jax"]
MODELS = [
    pytest.param("mnist_mlp", marks=pytest.mark.xdist_group("mnist")),
    pytest.param("resnet", marks=pytest.mark.xdist_group("resnet")),
    pytest.param("teaching_transformer", marks=pytest.mark.xdist_group("teaching_transformer")),
    pytest.param("unet", marks=pytest.mark.xdist_group("unet")),
]


# JAX compiles every op of a model that is called eagerly: its CNNs take long.
SOME = {("torch", "mnist_mlp"), ("jax", "mnist_mlp")}
CASES = [
    pytest.param(
        backend,
        *model.values,
        marks=model.marks
        if (backend, *model.values) in SOME
        else [*model.marks, pytest.mark.sweep],
        id=f"{backend}-{model.values[0]}",
    )
    for backend in BACKENDS
    for model in MODELS
    if (backend, *model.values) != ("jax", "resnet")
]


@pytest.mark.parametrize(("backend", "module"), CASES)
def test_the_same_outputs(backend, module):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f'{backend} is not installed: pip install ".[{backend}]"')
    if (module, backend) == ("teaching_transformer", "jax"):
        # Keras on JAX infers shapes with symbolic sizes, and cannot tell that a table of 97 rows cut
        # at a dynamic length has that length: "(dynamic_dimension, …), (1, min(97, …), 24)".
        with pytest.raises(AssertionError, match=r"min\(97, dynamic_dimension\)"):
            run_fresh(translated(module), "outputs", "keras", backend=backend)
        return
    report = run_fresh(translated(module), "outputs", "keras", backend=backend)
    assert report["keras"] == 0
