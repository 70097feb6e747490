"""The claims: every one is there, each measurement measures what it says, and verdicts follow figures."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diglot import cli
from diglot.benchmark.claims import (
    IDS,
    all_claims,
    find_claims,
    gpu_ways,
    judging,
    torch_ways,
    toy_training,
    transformers_ways,
)
from diglot.benchmark.claims.document_002 import exponent
from diglot.benchmark.claims.document_004 import printed_run
from diglot.benchmark.claims.evidence import Evidence, NoGpu, ratios
from diglot.benchmark.claims.record import Finding, Verdict, by_share
from diglot.benchmark.compare import Plan
from diglot.errors import BadInput, MissingExtra, UsageError, WorkerFailed
from diglot.runtime.process import WorkerProcess
from diglot.zoo import PAIRS, find_pair
from diglot.zoo.static_graph import lazy_graph

CLAIMS = {claim.id: claim for claim in all_claims()}


class Given:
    """Evidence that was measured already: answers by the names of ways."""

    def __init__(self, comparison=None, graphs=None, **ways):
        self.ways, self.comparison, self.graphs = ways, comparison or {}, graphs or {}
        self.pairs = [find_pair("mnist-mlp")]

    def way(self, way, *, needs=None, **parameters):
        answer = self.ways[way.partition(":")[2]]
        return answer(**parameters) if callable(answer) else answer

    def gpu(self, framework):
        return "a GPU"


def verdict(name, **given):
    return CLAIMS[name].judge(Given(**given)).verdict


def pair(document="000", **figures):
    """A pair of a comparison; figures are (PyTorch's median, Keras's)."""
    found = {}
    for name, (torch_value, keras_value) in figures.items():
        found[name] = {"label": name, "torch": {"median": torch_value}}
        found[name]["keras"] = {"median": keras_value}
        if torch_value and keras_value:
            found[name]["ratio"] = {"median": keras_value / torch_value}
    return {"document": document, "score": "accuracy", "figures": found}


# -- the records ----------------------------------------------------------------------------------


def test_every_claim_is_there_once_and_in_order():
    assert tuple(claim.id for claim in all_claims()) == IDS
    assert len(IDS) == 31
    for claim in all_claims():
        assert claim.document in ("000", "001", "002", "003", "004")
        assert claim.assertion.endswith(".")
        assert claim.how


def test_claims_are_found_by_id_and_an_unknown_one_is_a_sentence():
    assert [claim.id for claim in find_claims(["c17", "C9"])] == ["C9", "C17"]
    with pytest.raises(UsageError, match="C32"):
        find_claims(["C32"])


def test_a_claim_is_judged_and_shown_by_one_command(tmp_path, capsys):
    arguments = ["zoo", "claims", "C31", "-o", str(tmp_path), "--json"]
    assert cli.run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    (record,) = result["claims"]
    assert record["verdict"] == "does not hold"
    assert record["measured"]["with the case"] == 14
    assert "constant" in record["reason"]
    assert json.loads((tmp_path / "claims.json").read_text()) == result
    assert 'id="C31"' in (tmp_path / "page.html").read_text()
    assert cli.run(["zoo", "claims", "C99"]) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoGpu("This needs a GPU."), 0),
        (MissingExtra("transformers", "hf", needed_for="This"), 0),
        (WorkerFailed("The worker process ended."), 1),
    ],
)
def test_what_cannot_be_measured_here_says_so(error, code, tmp_path):
    def fails(evidence):
        raise error

    claim = SimpleNamespace(id="C1", document="000", assertion="x.", how="y", judge=fails)
    evidence = Evidence(tmp_path, tmp_path, lambda who, event: None)
    result = judging.judge([claim], evidence)
    assert result["exit_code"] == code
    assert result["claims"][0]["verdict"] == "not measurable here"
    assert error.message in result["claims"][0]["reason"]
    judging.claims_view(result)


def test_a_measurement_is_kept(tmp_path, monkeypatch):
    made = []

    def call(way, **parameters):
        made.append(way)
        return SimpleNamespace(result={"x": 1})

    monkeypatch.setattr("diglot.benchmark.claims.evidence.call_way", call)
    for parameters in ({"steps": 5}, {"steps": 5}, {"steps": 6}):
        evidence = Evidence(tmp_path, tmp_path, lambda who, event: None)
        assert evidence.way("torch_ways:calls_of_forward", **parameters) == {"x": 1}
    assert made == ["diglot.benchmark.claims.torch_ways:calls_of_forward"] * 2
    with pytest.raises(MissingExtra):
        evidence.way("torch_ways:calls_of_forward", needs="no-such-package")


def test_the_plan_is_that_of_the_comparison_that_is_there(tmp_path):
    evidence = Evidence(tmp_path, tmp_path, lambda who, event: None)
    assert evidence.plan == Plan()
    assert len(evidence.pairs) == len(PAIRS)
    (tmp_path / "compare.json").write_text(
        '{"setting": "full", "repeats": 7, "seconds": 0.5, "pairs": [1]}'
    )
    evidence = Evidence(tmp_path, tmp_path, lambda who, event: None, [])
    assert evidence.plan == Plan("full", 7, 0.5)
    assert evidence.comparison == {}
    # Judging by some pairs leaves the comparison of all as it is.
    assert json.loads((tmp_path / "compare.json").read_text())["pairs"] == [1]


def test_a_gpu_that_is_not_there_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("diglot.benchmark.claims.evidence.probe", lambda name: {"devices": []})
    evidence = Evidence(tmp_path, tmp_path, lambda who, event: None)
    with pytest.raises(NoGpu, match="tensorflow"):
        evidence.gpu("tensorflow")


# -- measurements ---------------------------------------------------------------------------------


def test_attention_weights_are_for_every_head_and_fused_ones_are_not_kept():
    found, _ = torch_ways.attention_memory({}, 2, 16, 4, [8, 16, 32])
    assert found["weights"] == [2 * 4 * n * n * 4 for n in (8, 16, 32)]
    assert exponent(found["lengths"], found["weights"]) == pytest.approx(2)
    assert exponent(found["lengths"], found["fused"]) < 1.2
    assert found["fused"][-1] < found["explicit"][-1]
    assert 0 < found["layer_square"][-1] < found["layer"][-1]


def test_bytes_saved_for_backward_are_counted_once_and_without_parameters():
    model = nn.Linear(4, 4, bias=False)
    x = torch.ones(3, 4, requires_grad=True)
    with torch_ways.SavedForBackward(model) as saved:
        model(x).exp()
    assert saved.total == 2 * 3 * 4 * 4  # x and exp's result
    assert saved.square == 0


def test_an_encoder_decoder_has_more_than_twice_the_parameters():
    found, _ = torch_ways.stack_memory({}, 16, 2, 2, 2, 6)
    one, both = found["parameters"]
    assert 2 < both / one < 2.5
    assert found["kept"][1] > 1.5 * found["kept"][0]


def test_greedy_tokens_are_the_same_at_every_temperature():
    found, _ = torch_ways.greedy({}, [0.2, 2.0], 6)
    assert found["tokens"][0] == found["tokens"][1]
    assert len(found["tokens"][0]) == 7


def test_a_causal_model_keeps_its_past():
    assert toy_training.changes_of_the_past({}, True)[0]["change"] < 1e-5
    assert toy_training.changes_of_the_past({}, False)[0]["change"] > 1e-3


def test_a_toy_learns_to_copy():
    torch.manual_seed(7)
    options = {"task": "copy", "batch": 32, "features": 16, "length": 6, "layers": 1}
    few, _ = toy_training.train({}, steps=1, **options)
    many, _ = toy_training.train({}, steps=80, **options)
    assert many["loss"] < few["loss"]
    assert many["accuracy"] > 0.9
    assert torch.equal(toy_training.sinusoids(3, 4)[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_forward_runs_at_every_step_and_convolutions_take_time():
    assert torch_ways.calls_of_forward({}, 3)[0] == {"calls": 3, "values": True}
    found, _ = torch_ways.convolution({}, 1, 8, 4, 0.0)
    assert min(found["NCHW"], found["NHWC"]) > 0


def test_parameters_of_published_architectures():
    sizes = {"n_layer": 12, "n_embd": 768, "n_head": 12}
    found, _ = transformers_ways.parameters({}, "GPT2", sizes)
    assert found["parameters"] == 124_439_808
    gaps, _ = transformers_ways.objectives({})
    assert max(gaps.values()) < 1e-5
    assert not transformers_ways.bridges({})[0]["TFAutoModel"]


@pytest.mark.xdist_group("claims-keras")
def test_keras_and_tensorflow():
    environment = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "DIGLOT_WIDTH": ""}
    with WorkerProcess("diglot.zoo.ways", environment) as process:

        def way(name, **parameters):
            call = f"diglot.benchmark.claims.keras_ways:{name}"
            return process.call("call", {}, way=call, **parameters).result

        calls = way("calls_of_call", steps=3)
        assert calls["fit"]["calls"] < 3
        assert not calls["fit"]["values"]
        assert calls["eager_fit"]["calls"] == 3
        assert calls["eager_fit"]["values"]
        assert calls["direct"] == {"calls": 3, "values": True}
        old = way("old_code")
        assert old["tf.compat.v1"] is None
        assert "placeholder" in old["tf.placeholder and tf.Session"]
        assert way("convolution", batch=1, size=8, channels=4, seconds=0.0)["NHWC"] > 0
        fused = way("fused_by_xla")
        assert fused == {"operations": 2, "steps": 1}


def test_nvidia_smi_is_read_or_missed(monkeypatch):
    answer = SimpleNamespace(stdout="1024, 81920\n2, 3\n")
    monkeypatch.setattr(gpu_ways.subprocess, "run", lambda *a, **k: answer)
    assert gpu_ways.nvidia_smi("memory.used,memory.total") == [1024, 81920]
    answer.stdout = ""
    with pytest.raises(BadInput):
        gpu_ways.nvidia_smi("memory.used")
    monkeypatch.setattr(gpu_ways, "nvidia_smi", lambda fields: [97.0])
    steps = []
    assert gpu_ways.utilisation(lambda: steps.append(1), 0.6) == 97.0
    assert steps


def test_the_printed_evaluator_has_no_case_for_constants():
    x = lazy_graph.placeholder("x")
    assert printed_run(x + x, {"x": 2}) == 4
    with pytest.raises(KeyError, match="constant"):
        printed_run(x * 2, {"x": 2})


# -- verdicts -------------------------------------------------------------------------------------


def test_scores_are_similar_where_every_pair_of_the_document_is():
    good, bad = pair(score=(0.97, 0.96)), pair(score=(0.97, 0.80))
    assert verdict("C1", comparison={"a": good}) is Verdict.holds
    assert verdict("C1", comparison={"a": good, "b": bad}) is Verdict.depends
    assert verdict("C6", comparison={"a": good}) is Verdict.unmeasured


def test_lines_of_code_are_counted():
    finding = CLAIMS["C3"].judge(Given())
    assert finding.measured["mnist-mlp"] == [20, 17]
    assert finding.measured["a training step"][0] > 10


def test_speeds_are_comparable_within_a_factor():
    near, far = pair(step=(1.0, 1.4)), pair(step=(1.0, 1.6))
    assert verdict("C19", comparison={"a": near}) is Verdict.holds
    assert verdict("C19", comparison={"a": near, "b": far}) is Verdict.depends
    assert verdict("C19", comparison={"b": far}) is Verdict.fails
    assert ratios({"a": near, "b": pair(step=(1.0, None))}, "step") == {"a": 1.4}


@pytest.mark.parametrize(
    ("claim", "parameters", "expected"),
    [
        ("C9", 109_482_240, Verdict.holds),
        ("C10", 124_439_808, Verdict.fails),
        ("C11", 222_903_552, Verdict.holds),
        ("C11", 60_506_624, Verdict.fails),
    ],
)
def test_parameters_are_judged_by_rounding(claim, parameters, expected):
    assert verdict(claim, parameters={"parameters": parameters}) is expected


def test_pre_norm_is_more_stable_only_if_depth_makes_the_difference():
    def trained(layers, norm_first, **options):
        return {"accuracy": 1.0 if norm_first or layers == 2 else 0.1}

    assert verdict("C2", train=trained) is Verdict.holds
    assert verdict("C2", train=lambda **o: {"accuracy": 1.0}) is Verdict.fails


def test_attention_is_quadratic_where_its_weights_are_kept():
    lengths = [64, 128, 256, 512]
    square, linear = [n * n for n in lengths], list(lengths)
    kept = {"lengths": lengths, "weights": square, "explicit": square, "layer": square}
    assert verdict("C13", attention_memory={**kept, "fused": linear}) is Verdict.depends
    assert verdict("C13", attention_memory={**kept, "fused": square}) is Verdict.holds
    assert math.isclose(exponent(lengths, square), 2)


def test_graphs_are_faster_where_they_save_a_tenth():
    graphs = {
        "TensorFlow 2: eager": {"large_seconds": 2.0},
        "TensorFlow 2: tf.function": {"large_seconds": 1.0},
        "TensorFlow 2: tf.function with XLA": {"large_seconds": 1.0},
    }
    assert verdict("C26", graphs=graphs) is Verdict.holds
    slow = {"large_seconds": 2.0}
    graphs["TensorFlow 2: tf.function with XLA"] = slow
    assert verdict("C26", graphs=graphs) is Verdict.depends
    assert verdict("C26") is Verdict.unmeasured


def test_gpu_claims_follow_what_is_seen():
    taken = {"memory_taken": lambda growth: {"share": 0.01 if growth else 0.9}}
    assert verdict("C28", **taken) is Verdict.holds
    assert verdict("C28", memory_taken={"share": 0.05}) is Verdict.fails
    busy = {"torch_utilisation": {"percent": 99}, "keras_utilisation": {"percent": 70}}
    assert verdict("C22", **busy) is Verdict.depends
    places = {
        "torch_device": {"device": "cpu", "gpu": False},
        "keras_device": {"device": "GPU:0", "gpu": True},
    }
    assert verdict("C7", **places) is Verdict.holds


def test_a_hub_that_is_not_reached_measures_nothing():
    def unreachable(**parameters):
        raise BadInput("We couldn't connect.")

    assert verdict("C18", hidden_size=unreachable) is Verdict.unmeasured
    assert verdict("C18", hidden_size={"hidden_size": 1024}) is Verdict.fails


def test_shares_become_verdicts():
    assert [by_share(n, 2) for n in (2, 1, 0)] == [Verdict.holds, Verdict.depends, Verdict.fails]
    assert Finding(Verdict.holds, "So.").measured == {}
