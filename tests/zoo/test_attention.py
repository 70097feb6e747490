"""What trained attention looks at: the same in both frameworks, and never what it may not see."""

import numpy as np
import pytest
import torch
from marking import swept

from diglot.runtime.exchange import read_arrays
from diglot.training import Job
from diglot.training.keras_loop import set_weights
from diglot.training.torch_loop import state_of
from diglot.zoo import find_pair
from diglot.zoo.attention import draw_attention_of

KINDS = {
    "encoder-only": ["encoder"],
    "decoder-only": ["causal"],
    "encoder-decoder": ["encoder", "decoder", "cross"],
}


@pytest.fixture(
    scope="module",
    params=swept(
        [pytest.param(name, marks=pytest.mark.xdist_group(f"zoo-{name}")) for name in KINDS],
        {"encoder-only"},
    ),
)
def looked(request, files, tmp_path_factory):
    """A pair's name, and what its extras keep of both of its models with the same weights."""
    pair = find_pair(request.param)
    setting = pair.setting("fast")
    torch.manual_seed(0)
    model = pair.torch().build_model(**setting.model)
    state = state_of(model)
    twin = pair.keras().build_model(**setting.model)
    set_weights(pair, twin, state, setting.model)
    data = {**setting.data, **files(pair)[1]}
    runs, place = {}, tmp_path_factory.mktemp("looked")
    for framework, live in (("torch", model), ("keras", twin)):
        folder = place / framework
        folder.mkdir()
        job = Job(
            pair.task_name, framework, str(folder), "", dict(setting.model), data, setting.recipe
        )
        kept = pair.keep_attention(job, live)
        runs[framework] = {"extras": {"attention": kept}}
    return request.param, runs, place


def test_both_frameworks_look_at_the_same_and_where_they_may(looked):
    name, runs, folder = looked
    arrays = {label: read_arrays(folder / label / "attention.safetensors") for label in runs}
    assert list(runs["torch"]["extras"]["attention"]) == KINDS[name]
    for kind, about in runs["torch"]["extras"]["attention"].items():
        ours, theirs = arrays["torch"][kind], arrays["keras"][kind]
        assert ours.shape == (2, 4, len(about["queries"]), len(about["keys"]))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_allclose(ours.sum(axis=-1), 1, atol=1e-5)
        ahead = np.triu(np.ones(ours.shape[-2:], bool), k=1)
        if kind in ("causal", "decoder"):
            assert (ours[..., ahead] == 0).all()
        else:
            assert (ours[..., ahead] > 0).all()
    assert runs["torch"] == runs["keras"]


def test_they_are_drawn(looked):
    name, runs, folder = looked
    draw_attention_of(runs, folder)
    for kind in KINDS[name]:
        text = (folder / f"attention_{kind}.svg").read_text()
        assert "Keras, layer 2" in text and "head 4" in text
