"""A saved translation is whole: it is loaded, proven and pushed without its author's code."""

import json
import os
import subprocess
import sys

import pytest
import torch
from marking import swept
from real_models import ROOT, translated

import diglot

ALONE = """
import json, sys
import diglot

translation = diglot.load(sys.argv[1])
proof = diglot.prove(translation, thorough=False, steps=1)  # all of it: before it was saved
assert "resnet" not in sys.modules and "teaching_transformer" not in sys.modules
print(json.dumps({"verdict": proof.verdict, "source": translation.source}))
"""
MODELS = [
    pytest.param("resnet", marks=pytest.mark.xdist_group("resnet")),
    pytest.param("teaching_transformer", marks=pytest.mark.xdist_group("teaching_transformer")),
]


@pytest.mark.parametrize("module", MODELS[:1])
def test_it_is_proven_where_the_authors_code_is_not(module, tmp_path):
    result = translated(module)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(
        [sys.executable, "-c", ALONE, str(result.directory)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    told = json.loads(finished.stdout.splitlines()[-1])
    assert told == {"verdict": "proven", "source": result.translation.source}


@pytest.mark.parametrize("module", swept(MODELS, {"teaching_transformer"}))
def test_what_was_saved_is_what_is_loaded(module):
    result = translated(module)
    loaded = diglot.load(result.directory)
    assert loaded.source == result.translation.source
    assert loaded.weight_map.to_json() == result.translation.weight_map.to_json()


@pytest.mark.xdist_group("resnet")
def test_weights_can_be_pushed_into_a_new_model_of_the_author():
    result = translated("resnet")
    loaded = diglot.load(result.directory)
    other = type(result.model)(type(result.model.layer1[0]), [1, 2, 1, 1], num_classes=11, width=4)
    loaded.push(other)
    for name, tensor in result.model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.xdist_group("resnet")
def test_the_folder_holds_what_is_promised():
    directory = translated("resnet").directory
    names = {path.name for path in directory.iterdir()}
    assert names >= {
        "model.py",
        "model.weights.h5",
        "model.keras",
        "weight_map.json",
        "translation.json",
        "source.pt2",
    }
