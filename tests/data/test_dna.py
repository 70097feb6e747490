"""The DNA simulator, its CSV file, and tokens."""

import numpy as np
import pytest

from diglot.data.dna import (
    EOS,
    PAD,
    SOS,
    Rates,
    detokenise,
    read_pairs,
    simulate,
    tokenise,
    write_pairs,
)
from diglot.errors import BadInput

NONE = {"substitution": 0.0, "insertion": 0.0, "deletion": 0.0}


def test_nothing_happens_at_rates_of_zero():
    pairs = simulate(20, 30, Rates(**NONE))
    assert all(ancestor == descendant for ancestor, descendant in pairs)
    assert {len(ancestor) for ancestor, _ in pairs} == {30}


def test_the_seed_decides():
    assert simulate(5, 30, Rates(), seed=1) == simulate(5, 30, Rates(), seed=1)
    assert simulate(5, 30, Rates(), seed=1) != simulate(5, 30, Rates(), seed=2)


def test_substitutions_come_at_their_rate():
    pairs = simulate(200, 500, Rates(**{**NONE, "substitution": 0.1}))
    changed = np.mean([a != d for pair in pairs for a, d in zip(*pair, strict=True)])
    assert changed == pytest.approx(0.1, abs=0.005)
    # Each of the three others as often as the next.
    became = [d for pair in pairs for a, d in zip(*pair, strict=True) if a == "A" != d]
    for base in "CGT":
        assert became.count(base) / len(became) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize(("kind", "factor"), [("insertion", 1.1), ("deletion", 0.9)])
def test_insertions_and_deletions_change_the_length_at_their_rate(kind, factor):
    pairs = simulate(200, 500, Rates(**{**NONE, kind: 0.1}))
    lengths = [len(descendant) for _, descendant in pairs]
    assert np.mean(lengths) == pytest.approx(500 * factor, rel=0.005)
    assert len(set(lengths)) > 10


def test_what_is_left_after_a_deletion_is_in_order():
    for ancestor, descendant in simulate(50, 40, Rates(**{**NONE, "deletion": 0.3})):
        rest = iter(ancestor)
        assert all(base in rest for base in descendant)


def test_only_a_c_before_a_g_is_deaminated():
    for ancestor, descendant in simulate(50, 60, Rates(**NONE, deamination=1.0)):
        assert descendant == ancestor.replace("CG", "TG")


def test_a_descendant_is_never_empty():
    assert all(d for _, d in simulate(20, 3, Rates(**{**NONE, "deletion": 1.0})))


def test_lengths_between_the_shortest_and_the_longest():
    lengths = {len(ancestor) for ancestor, _ in simulate(200, 9, Rates(), shortest=5)}
    assert lengths == {5, 6, 7, 8, 9}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Rates(substitution=1.5), "substitution is no probability"),
        (lambda: Rates(deletion=float("nan")), "deletion is no probability"),
        (lambda: simulate(0, 5, Rates()), "nothing to simulate"),
        (lambda: simulate(5, 0, Rates()), "nothing to simulate"),
        (lambda: simulate(5, 4, Rates(), shortest=6), "nothing to simulate"),
    ],
)
def test_what_cannot_be_simulated(call, said):
    with pytest.raises(BadInput, match=said):
        call()


def test_what_is_written_is_read(tmp_path):
    pairs = simulate(20, 12, Rates())
    write_pairs(tmp_path / "dna.csv", pairs)
    assert (tmp_path / "dna.csv").read_text().startswith("ancestor,descendant\n")
    assert read_pairs(tmp_path / "dna.csv") == pairs


def test_small_letters_other_columns_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "dna.csv"
    path.write_bytes(b"\xef\xbb\xbfid,descendant,ancestor\r\n1, acg ,ttga\r\n")
    assert read_pairs(path) == [("TTGA", "ACG")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "dna.csv is empty"),
        ("ancestor,descendant\n", "holds no pair"),
        ("ancestor,child\nA,C\n", "has no column 'descendant'"),
        (
            "ancestor,descendant\nACG,ACG\nACG,ANG\n",
            "(?s)descendant has a letter.*line 3, letter 2.*'N'",
        ),
        ("ancestor,descendant\nACG\n", "(?s)descendant is empty.*line 2"),
        ("ancestor,descendant\n,ACG\n", "(?s)ancestor is empty.*line 2"),
        (
            "ancestor,descendant\nACG,ACGTACG\n",
            "(?s)descendant is too long.*line 2.*at most 6.*7 bases",
        ),
        ("ancestor,descendant\nA\x00,C\n", "(?s)letter that is no base|cannot be read"),
    ],
)
def test_a_file_that_is_no_dna_is_refused(tmp_path, text, said):
    path = tmp_path / "dna.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        read_pairs(path, longest=6)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "dna.csv").write_bytes(b"ancestor,descendant\n\xff\xfe,A\n")
    with pytest.raises(BadInput, match="cannot be read as CSV"):
        read_pairs(tmp_path / "dna.csv")


def test_tokens_and_back():
    tokens = tokenise(["ACGT", "GA"], 7, start=True, end=True)
    assert tokens.tolist() == [[SOS, 1, 2, 3, 4, EOS, PAD], [SOS, 3, 1, EOS, PAD, PAD, PAD]]
    assert [detokenise(row) for row in tokens] == ["ACGT", "GA"]
    with pytest.raises(BadInput, match="too long"):
        tokenise(["ACGT"], 5, start=True, end=True)
