"""Sources: every form that a user can name, and everything that can be wrong with one."""

import contextlib
import importlib.metadata
import json
import pickle
import ssl
import sys
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
import torch
from torch import nn

import diglot
from diglot import archive, pretrained
from diglot.errors import BadInput, DiglotError, MissingExtra, UsageError
from diglot.sources import load_source

NET = """
import torch
from torch import nn

example_inputs = torch.ones(2, 4)

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.fc = nn.Linear(4, width)

    def forward(self, x):
        return self.fc(x)

net = Net(5)

def make(depth=1):
    return nn.Sequential(*[Net(4) for _ in range(depth)])

def make_with_inputs():
    return Net(), (torch.zeros(3, 4),)

def make_three():
    return Net(), 1, 2

def make_text():
    return "net"

def needs(what):
    return Net(what)

def fails():
    raise ValueError("my own mistake")
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "diglot_test_net.py"
    path.write_text(NET)
    yield str(path)
    sys.modules.pop("diglot_test_net", None)


def test_factory_class_instance_and_arguments(net, tmp_path):
    assert isinstance(load_source(f"{net}:make").model, nn.Sequential)
    assert len(load_source(f"{net}:make(depth=3)").model) == 3
    assert load_source(f"{net}:Net").model.fc.out_features == 3
    assert load_source(f"{net}:Net(7)").model.fc.out_features == 7
    assert load_source(f"{net}:net").model.fc.out_features == 5
    loaded = load_source(f"{net}:make_with_inputs")
    assert loaded.example_inputs[0].shape == (3, 4)
    assert (loaded.name, loaded.dynamic, loaded.spec) == ("Net", None, f"{net}:make_with_inputs")
    # The class knows its file, so that the proof can name lines of it.
    assert sys.modules["diglot_test_net"].Net.__module__ == "diglot_test_net"


def test_module_and_the_examples_of_the_file(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_source("diglot_test_net:make")
    assert loaded.example_inputs.shape == (2, 4)


def test_input_options_replace_the_examples(net):
    loaded = load_source(f"{net}:make_with_inputs", ["float32[batch,4]"])
    assert loaded.example_inputs.shape == (2, 4)
    assert loaded.dynamic == {"0": {0: "batch"}}
    loaded = load_source(f"{net}:Net", ["x=float32[batch,4]"])
    assert set(loaded.example_inputs) == {"x"} and loaded.dynamic == {"x": {0: "batch"}}


@pytest.mark.parametrize("given", ["float32[batch,5]", "int64[batch,4]", "y=float32[batch,4]"])
def test_inputs_that_the_model_does_not_take_are_told(net, given):
    with pytest.raises(BadInput) as caught:
        load_source(f"{net}:Net", [given])
    assert f'--input "{given}"' in str(caught.value)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("nothing", "one of Net, net, make"),
        ("make_three", "returned 3 things"),
        ("make_text", "made no PyTorch model"),
        ("needs", "cannot be called like this"),
        ("make(depth=x)", "plain Python values"),
        ("make(", "not understood"),
        ("make(1", "not understood"),
        ("net(3)", "takes no arguments"),
        ("fails", "my own mistake"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(net, call, told):
    with pytest.raises(DiglotError) as caught:
        load_source(f"{net}:{call}")
    assert caught.value.exit_code == 2
    assert told in str(caught.value)


def test_an_error_in_the_file_names_its_line(tmp_path, net):
    with pytest.raises(BadInput) as caught:
        load_source(f"{net}:fails")
    line = NET.splitlines().index('    raise ValueError("my own mistake")') + 1
    assert caught.value.where == f"{net}:{line}"
    bad = tmp_path / "diglot_bad_syntax.py"
    bad.write_text("x = (\n")
    with pytest.raises(BadInput) as caught:
        load_source(f"{bad}:make")
    assert "diglot_bad_syntax.py:1" in str(caught.value)
    ends = tmp_path / "diglot_ends.py"
    ends.write_text("raise SystemExit(3)")
    with pytest.raises(BadInput):
        load_source(f"{ends}:make")
    assert "diglot_ends" not in sys.modules


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("nothing", "not understood"),
        ("net.py", "net.py:make"),
        ("no_such.py:make", "no file"),
        ("no_such_module:make", "no module no_such_module"),
        ("weights.pth", "pickled"),
        ("model.bin", "pickled"),
        ("gone.pt2", "no file"),
        ("", "not understood"),
        (":", "not understood"),
        ("timm:", "not understood"),
    ],
)
def test_what_is_no_source_is_said(spec, told):
    with pytest.raises(BadInput) as caught:
        load_source(spec)
    assert told in str(caught.value)


def test_a_file_never_takes_the_place_of_a_loaded_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "json.py"
    path.write_text(NET)
    loaded = load_source(f"{path}:make")
    assert loaded.example_inputs.shape == (2, 4)
    assert sys.modules["json"] is json
    sys.modules.pop("diglot_source_json")


# --- .pt2 ---------------------------------------------------------------------------------------


def saved_program(path, **options):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (torch.ones(2, 4),), dynamic_shapes=shapes)
    torch.export.save(program, path, **options)
    return model


def test_a_program_brings_its_inputs_and_sizes(tmp_path):
    model = saved_program(tmp_path / "net.pt2")
    loaded = load_source(str(tmp_path / "net.pt2"))
    assert loaded.name == "net"
    assert loaded.example_inputs.shape == (2, 4)
    assert list(loaded.dynamic["0"]) == [0]
    x = torch.randn(5, 4)
    assert torch.equal(loaded.model(x), model(x))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def repacked(source, target, member, content):
    """A copy of a .pt2 file in which one member is something else."""
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    changed = False
    for name in reader.get_all_records():
        if name.startswith(".data/") or name in ("version", "byteorder"):
            continue
        record = reader.get_record(name)
        if name.endswith(member):
            record, changed = content(record), True
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    assert changed


def test_pickled_code_in_a_program_never_runs(tmp_path):
    saved_program(tmp_path / "net.pt2")
    ran = tmp_path / "ran"
    torch.save(Bomb(ran), tmp_path / "bomb.pt")
    bomb = (tmp_path / "bomb.pt").read_bytes()
    repacked(tmp_path / "net.pt2", tmp_path / "bad.pt2", "sample_inputs/model.pt", lambda _: bomb)
    with pytest.raises(BadInput):
        load_source(str(tmp_path / "bad.pt2"))
    assert not ran.exists()


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("Symbol('s0', positive=True, integer=True)", True),
        ("2*Symbol('s0', integer=True) + FloorDiv(Symbol('s1'), 2)", True),
        ("__import__('os').system('x')", False),
        ("eval('1')", False),
        ("Symbol('s0').__class__", False),
        ("[x for x in (1,)]", False),
        ("(lambda: 1)()", False),
        ("S('open(1)')", False),
    ],
)
def test_sizes_are_arithmetic_or_refused(expression, fine):
    assert archive._is_arithmetic(expression) is fine


def test_an_expression_with_code_is_refused(tmp_path):
    saved_program(tmp_path / "net.pt2")
    code = "__import__('pathlib').Path('ran').touch()"

    def plant(record):
        return record.replace(b"Symbol('s", code.encode() + b" or Symbol('s")

    repacked(tmp_path / "net.pt2", tmp_path / "bad.pt2", "models/model.json", plant)
    with pytest.raises(BadInput) as caught:
        load_source(str(tmp_path / "bad.pt2"))
    assert "not arithmetic" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", pickle.dumps([1])])
def test_what_is_no_program_is_said(tmp_path, content):
    path = tmp_path / "net.pt2"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load_source(str(path))


# --- Hugging Face and timm ----------------------------------------------------------------------

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 31,
    "max_position_embeddings": 40,
}
T5 = {
    "model_type": "t5",
    "architectures": ["T5Model"],
    "d_model": 8,
    "d_kv": 4,
    "d_ff": 12,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 33,
}
VIT = {
    "model_type": "vit",
    "architectures": ["ViTModel"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 32,
    "patch_size": 8,
}


def hf_folder(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (BERT, {"input_ids": (2, 11), "attention_mask": (2, 11)}),
        (T5, {"input_ids": (2, 11), "attention_mask": (2, 11), "decoder_input_ids": (2, 7)}),
        (VIT, {"pixel_values": (2, 3, 32, 32)}),
    ],
)
def test_a_folder_with_a_configuration(tmp_path, config, shapes):
    pytest.importorskip("transformers")
    loaded = load_source(hf_folder(tmp_path / "model", config))
    assert type(loaded.model).__name__ == config["architectures"][0]
    assert {k: tuple(v.shape) for k, v in loaded.example_inputs.items()} == shapes
    assert all(axes[0] == "batch" for axes in loaded.dynamic.values())
    assert not loaded.model.config.use_cache
    assert not loaded.model.training
    loaded.model(**loaded.example_inputs)
    if "input_ids" in shapes:
        ids, mask = loaded.example_inputs["input_ids"], loaded.example_inputs["attention_mask"]
        assert ids.max() == config["vocab_size"] - 1
        assert 0 < mask.sum() < mask.numel()
        assert loaded.dynamic["input_ids"] == {0: "batch", 1: "length"}


def test_the_weights_of_a_folder_are_loaded(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel(transformers.BertConfig(**BERT))
    model.save_pretrained(tmp_path / "safe")
    loaded = load_source(f"hf:{tmp_path / 'safe'}").model
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    hf_folder(tmp_path / "pickled", BERT)
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    loaded = load_source(f"hf:{tmp_path / 'pickled'}").model
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.state_dict()[name], loaded.state_dict()[name])


def test_pickled_weights_that_would_run_code_run_none(tmp_path):
    pytest.importorskip("transformers")
    spec = hf_folder(tmp_path / "model", BERT)
    torch.save({"weight": Bomb(tmp_path / "ran")}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(BadInput) as caught:
        load_source(spec)
    assert "could run code" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_no_model_is_said(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadInput) as caught:
        load_source(f"hf:{tmp_path}")
    assert "config.json" in str(caught.value) and "notes.txt" in str(caught.value)
    with pytest.raises(BadInput):
        load_source("hf:./no-such-folder")
    with pytest.raises(BadInput):
        load_source(hf_folder(tmp_path / "odd", {"model_type": "no-such-type"}))


def test_an_id_that_cannot_be_fetched_is_one_sentence(monkeypatch):
    pytest.importorskip("transformers")

    def refuse(*args, **kwargs):
        raise OSError("We couldn't connect to the Hub")

    monkeypatch.setattr(pretrained, "_build_hf", refuse)
    monkeypatch.setattr(pretrained, "_answers", lambda address: True)
    with pytest.raises(BadInput) as caught:
        load_source("hf:some/model")
    assert "neither a folder here nor a model" in str(caught.value)


@pytest.mark.parametrize("spec", ["hf:some/model", "timm:resnet18(pretrained=True)"])
def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch, spec):
    package, constants = spec.partition(":")[0], pytest.importorskip("huggingface_hub").constants
    pytest.importorskip({"hf": "transformers"}.get(package, package))
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("Name or service not known")

    def sleep(seconds):
        pytest.fail("it waits to try again")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(BadInput) as caught:
        load_source(spec)
    assert "the Hugging Face Hub cannot be reached" in str(caught.value)
    assert asked == [constants.ENDPOINT]
    assert not constants.HF_HUB_OFFLINE


def test_a_server_that_answers_anything_is_reached(monkeypatch):
    answers = {
        "fine": None,
        "refuses": urllib.error.HTTPError("", 403, "", Message(), None),
        "has an odd certificate": urllib.error.URLError(ssl.SSLError()),
        "is not there": urllib.error.URLError(OSError()),
        "is slow": TimeoutError(),
    }

    def urlopen(request, timeout):
        if answers[request.host]:
            raise answers[request.host]
        return contextlib.nullcontext()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    reached = [name for name in answers if pretrained._answers(f"https://{name}")]
    assert reached == ["fine", "refuses", "has an odd certificate"]


@pytest.mark.parametrize(
    ("spec", "package", "extra"),
    [
        ("timm:resnet18", "timm", "timm"),
        ("timm:resnet18", "torchvision", "timm"),
        ("hf:some/model", "transformers", "hf"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(monkeypatch, spec, package, extra):
    real = importlib.metadata.version

    def version(name):
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name in ("timm", "torchvision") else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingExtra) as caught:
        load_source(spec)
    assert f'pip install "diglot[{extra}]"' in str(caught.value)


def test_a_torchvision_that_cannot_be_imported_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    monkeypatch.setattr(pretrained, "_torchvision_works", lambda: False)
    with pytest.raises(BadInput) as caught:
        load_source("timm:resnet18")
    assert "torchvision" in str(caught.value) and "pip install" in str(caught.value)


def test_timm_models_bring_images_of_their_size():
    pytest.importorskip("timm")
    loaded = load_source("timm:mobilenetv3_small_100(num_classes=7)")
    assert loaded.example_inputs.shape == (2, 3, 224, 224)
    assert loaded.dynamic["0"] == {0: "batch"}
    assert loaded.model(loaded.example_inputs).shape == (2, 7)
    with pytest.raises(BadInput) as caught:
        load_source("timm:resnet_of_nobody")
    assert "has no model" in str(caught.value)


def test_translate_takes_what_the_command_line_takes(tmp_path):
    """A path or another source instead of a model."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\ndef make():\n    return nn.Linear(3, 2), torch.ones(4, 3)\n"
    )
    spec = f"{tmp_path / 'net.py'}:make"
    assert "layers.Dense(2" in diglot.translate(spec).source
    with pytest.raises(BadInput, match="There is no file"):
        diglot.translate(tmp_path / "model.keras", to="torch")
    with pytest.raises(UsageError, match="of Keras or TensorFlow already"):
        diglot.translate(tmp_path / "model.keras")
