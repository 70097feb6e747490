"""Residual networks: torchvision's names, a folder of images, batch norm's statistics."""

import numpy as np
import pytest
import torch

from diglot.errors import BadInput
from diglot.training.torch_loop import state_of
from diglot.zoo import Options, find_pair
from diglot.zoo.pair import Setting
from diglot.zoo.proving import prove_pair

pytestmark = pytest.mark.xdist_group("zoo-resnet")

PAIR = find_pair("resnet")


def folder_of_images(root, counts, size=20):
    """Pictures of one colour each, in one folder for each class."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 60, (size, size + 3, 3), dtype=np.uint8)
            pixels[:, :, label % 3] += 120
            image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def changed(folder, **changes):
    found = PAIR.setting("fast").but({name: str(value) for name, value in changes.items()})
    return PAIR.settle(Setting(found.model, {**found.data, "path": str(folder)}, found.recipe))


def test_resnet18_has_torchvisions_names_and_size():
    with torch.device("meta"):
        model = PAIR.torch().build_model()
        resnet50 = PAIR.torch().build_model((3, 4, 6, 3), bottleneck=True)
    names = set(model.state_dict())
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.running_mean",
        "layer4.1.conv2.weight",
        "fc.bias",
    } <= names
    assert len(names) == 122
    assert sum(p.numel() for p in model.parameters()) == 11_689_512
    assert sum(p.numel() for p in resnet50.parameters()) == 25_557_032
    assert len(resnet50.state_dict()) == 320


def test_bottlenecks_are_proven(tmp_path):
    """The blocks of ResNet-50, narrow ones."""
    setting = PAIR.setting("fast").but({"bottleneck": "true", "width": "4", "blocks": "1,2"})
    proof = prove_pair(PAIR, setting, tmp_path)
    assert proof.verdict == "proven", str(proof)
    assert any("N/(N-1)" in str(item) for item in proof.explained)


def test_weights_go_where_they_belong():
    """A kernel's axes (out, in, h, w) are (h, w, in, out) in Keras."""
    model = PAIR.torch().build_model((1,), width=3, channels=2, classes=4)
    state = state_of(model)
    sizes = {"channels": 2, "classes": 4}
    arrays = PAIR.weight_map(state, sizes).apply(state)
    kernel = arrays["conv1.kernel"]
    assert kernel.shape == (7, 7, 2, 3)
    assert kernel[1, 5, 0, 2] == state["conv1.weight"][2, 0, 1, 5]
    np.testing.assert_array_equal(arrays["bn1.moving_variance"], state["bn1.running_var"])


@pytest.mark.sweep
def test_it_learns_from_a_folder_of_images(tmp_path, lent):
    folder = folder_of_images(tmp_path / "images", {"red": 24, "green": 24, "blue": 24})
    changes = {"batch_size": "8", "epochs": "4", "width": "4", "blocks": "1"}
    options = Options("fast", tmp_path / "out", data=folder, changes=changes)
    result = PAIR.run(options, lambda who, event: None)
    assert result["exit_code"] == 0
    assert result["model"]["classes"] == 3 and result["model"]["channels"] == 3
    for run in result["runs"].values():
        assert run["data"]["test"] == 14
        assert run["test"]["accuracy"] > 0.9


def test_a_folder_gives_its_parts(tmp_path):
    folder = folder_of_images(tmp_path, {"a": 12, "b": 13})
    data = PAIR.data("subset", str(folder), 16, 10)
    assert data.train["images"].shape == (10, 3, 16, 16)
    assert [len(p["targets"]) for p in (data.train, data.validation, data.test)] == [10, 2, 5]
    assert data.test["images"].min() >= 0 and data.test["images"].max() <= 1


def test_bad_folders_get_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="no folder"):
        changed(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="fewer than two classes"):
        changed(tmp_path)
    folder = folder_of_images(tmp_path / "images", {"a": 2, "b": 2})
    (folder / "b" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    with pytest.raises(BadInput, match=r"b/torn\.jpg is no image that can be read"):
        PAIR.data(**changed(folder).data)
    (folder / "c").mkdir()
    (folder / "b" / "torn.jpg").unlink()
    with pytest.raises(BadInput, match="class c has no image"):
        PAIR.data(**changed(folder).data)


def test_bad_sizes_get_one_sentence():
    with pytest.raises(BadInput, match="a block in every stage"):
        PAIR.settle(PAIR.setting("fast").but({"blocks": "2,0"}))
    with pytest.raises(BadInput, match="images are larger"):
        PAIR.data("subset", None, 20, 0)
