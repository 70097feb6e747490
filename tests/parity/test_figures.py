"""Relative differences, random weights, and what a proof says of them."""

import numpy as np

from diglot.parity.proof import Check, Proof
from diglot.parity.randomise import perturb, randomise
from diglot.parity.tolerances import relative

INF, NAN = float("inf"), float("nan")


def test_relative():
    a = np.array([1.0, -4.0])
    assert relative(a, a) == 0
    assert np.isclose(relative(a, a + 1e-3), 1e-3 / 4)
    assert np.isclose(relative(a, a + 1e-3, floor=10.0), 1e-4)
    assert relative(a, a[:1]) == INF
    assert relative(np.zeros(2), np.zeros(2)) == 0
    assert relative(np.zeros(2), np.ones(2)) > 1e100
    assert relative(np.zeros((0, 3)), np.zeros((0, 3))) == 0


def test_relative_of_what_is_not_finite():
    a = np.array([1.0, -INF, NAN])
    assert relative(a, a.copy()) == 0
    assert relative(a, np.array([1.0, INF, NAN])) == INF
    assert relative(np.array([1.0]), np.array([NAN])) == INF
    assert relative(np.array([INF]), np.array([3.0])) == INF


def test_relative_of_integers_and_booleans():
    assert relative(np.array([3, 5]), np.array([3, 5], np.int32)) == 0
    assert relative(np.array([3, 5]), np.array([3, 6])) == 0.2
    assert relative(np.array([True]), np.array([1])) == 0
    assert relative(np.array([True]), np.array([False])) == INF


def state():
    table = np.ones((7, 4), np.float32)
    table[0] = 0
    return {
        "embed.weight": table,
        "fc.weight": np.zeros((64, 100), np.float32),
        "fc.bias": np.zeros(64, np.float32),
        "bn.weight": np.ones(50, np.float32),
        "bn.running_mean": np.zeros(50, np.float32),
        "bn.running_var": np.ones(50, np.float32),
        "scale.gamma": np.full(50, 1e-6, np.float32),
        "pe": np.arange(5.0),
        "steps": np.array(3),
        "tied.weight": np.zeros((64, 100), np.float32),
    }


def parameters():
    shared = object()
    names = ("embed.weight", "fc.bias", "bn.weight", "scale.gamma")
    return {
        **{name: object() for name in names},
        "fc.weight": shared,
        "tied.weight": shared,
    }


def test_nothing_stays_one_or_zero():
    held = parameters()
    made = randomise(state(), held, 3)
    assert set(made) == set(state()) - {"pe", "steps"}
    assert np.abs(made["fc.weight"].std() - 0.1) < 0.01
    assert (made["bn.weight"] > 0.6).all() and made["bn.weight"].std() > 0.1
    assert (made["bn.running_var"] > 0.4).all() and made["bn.running_mean"].std() > 0.1
    assert made["scale.gamma"].min() > 0.3
    assert (made["embed.weight"][0] == 0).all() and np.abs(made["embed.weight"][1:]).min() > 0
    np.testing.assert_array_equal(made["fc.weight"], made["tied.weight"])
    again = randomise(state(), held, 3)
    assert all((made[name] == again[name]).all() for name in made)
    assert (randomise(state(), held, 4)["fc.bias"] != made["fc.bias"]).all()


def test_perturb_moves_everything_a_little():
    held = parameters()
    moved = dict(perturb({**state(), **randomise(state(), held, 0)}, held, 0))
    assert set(moved) == set(held)
    np.testing.assert_array_equal(moved["fc.weight"], moved["tied.weight"])


def test_a_proof_in_json_and_in_words():
    proof = Proof(
        verdict="differs",
        checks=[Check("outputs", "eval", "real", {"s0": 2}, INF, "y", 1, False)],
        first_divergence={"module": "a.b", "likely_cause": "eps"},
    )
    assert not proof and proof.worst == INF
    assert '"worst": "Infinity"' in proof.to_json()
    assert "first divergence at a.b: eps" in str(proof)
