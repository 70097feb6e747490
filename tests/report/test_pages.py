"""The facing pages as text: what is on them, what faces what, and that nothing gets out."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from diglot.errors import BadInput
from diglot.report.alignment import Book
from diglot.report.figures import axis, relative
from diglot.report.highlight import highlight_lines
from diglot.report.pages import render_pages, write_pages
from diglot.report.reading import read_proof
from diglot.report.tables import module_rows, step_text, totals, transform_text
from diglot.report.terminal import summary_table

FIXTURE = Path(__file__).parent / "fixtures" / "encoder"


@pytest.fixture
def parts():
    """(model.py, weight map, info, proof) of the hand-made translation."""
    names = ("weight_map", "translation", "proof")
    loaded = [json.loads((FIXTURE / f"{name}.json").read_text("utf-8")) for name in names]
    return (FIXTURE / "model.py").read_text("utf-8"), *loaded


class Outline(HTMLParser):
    """Elements with their attributes, and whether every element is closed where it must be."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"


def outline(html: str) -> Outline:
    parsed = Outline(html)
    assert parsed.open == []
    return parsed


def links_of(html: str) -> dict:
    text = re.search(r'<script type="application/json" id="links">(.*?)</script>', html, re.S)
    return json.loads(text.group(1))["links"]


def test_page_is_well_formed_and_self_contained(parts):
    html = render_pages(*parts)
    elements = outline(html).elements
    for tag, attributes in elements:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/svg+xml")), (tag, value)
    assert "@import" not in html and "url(" not in html
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_every_target_line_is_shown_once_and_in_order(parts):
    source, *_ = parts
    keys = re.findall(r'data-l="k(\d+)"', render_pages(*parts))
    shown = [int(key) for key in keys]
    filled = {n for n, line in enumerate(source.split("\n"), 1) if line.strip()}
    assert shown == sorted(set(shown))
    assert filled <= set(shown)


def test_links_are_those_of_the_translation_both_ways(parts):
    _, _, info, _ = parts
    links = links_of(render_pages(*parts))
    expected = {(f"p0:{pair['source_line']}", f"k{pair['target_line']}") for pair in info["lines"]}
    found = {(here, there) for here, many in links.items() for there in many}
    assert {pair for pair in found if pair[0][0] == "p"} >= expected
    # What is declared under the same name in both is linked besides.
    assert ("p0:23", "k32") in found and ("p0:36", "k51") in found  # the class lines
    assert {(there, here) for here, there in found} == found


def test_methods_that_correspond_share_a_band(parts):
    source, _, info, _ = parts
    book = Book(source, info)
    spread = next(s for s in book.spreads if s.target_class == "MultiHeadAttentionBlock")
    texts = [
        tuple(
            next((line.html for line in side if "def" in line.html), "")
            for side in (band.left, band.right)
        )
        for band in spread.bands
    ]
    pairs = [tuple(re.sub("<.*?>", "", text).strip() for text in pair) for pair in texts]
    assert any(a.startswith("def forward") and b.startswith("def call") for a, b in pairs)
    assert any(a.startswith("def attention") and b.startswith("def attention") for a, b in pairs)
    # Nothing was made of prune_heads: it is folded away, and not lost.
    folded = [band for band in spread.bands if band.fold_left == "prune_heads"]
    assert len(folded) == 1 and folded[0].left[0].number == 71


def test_functional_style_puts_every_class_beside_the_function_made_of_it(parts):
    source, weight_map, info, proof = parts
    info = copy.deepcopy(info)
    for item in info["classes"]:
        item.update(target_class=None, target_lines=None)
    book = Book(source, info)
    faced = {item["source_class"] for spread in book.spreads for item in spread.source_classes}
    assert {item["source_class"] for item in info["classes"]} <= faced
    outline(render_pages(source, weight_map, info, proof))


def test_a_range_of_the_source_is_enough(parts):
    source, _, info, _ = parts
    info = copy.deepcopy(info)
    lines = info["sources"]["source.py"].split("\n")
    info["sources"]["source.py"] = {"first_line": 10, "text": "\n".join(lines[9:])}
    assert Book(source, info).links == Book(source, parts[2]).links


def test_helper_functions_of_the_source_are_shown_beside_what_became_of_them():
    source = (
        "def rotate(x):\n    return x\n\n\nclass A:\n    def forward(self, x):\n        return x\n"
    )
    target = "import keras\n\n\ndef rotate(x):\n    return x\n\n\nclass A:\n    pass\n"
    info = {
        "classes": [
            {"source_class": "A", "source_file": "a.py", "source_lines": [5, 7],
             "target_class": "A", "target_lines": [8, 9], "instances": [""]}
        ],
        "sources": {"a.py": source},
        "lines": [{"source_file": "a.py", "source_line": 2, "target_line": 5}],
    }  # fmt: skip
    book = Book(target, info)
    spread = next(s for s in book.spreads if s.target_class == "rotate")
    assert [line.number for band in spread.bands for line in band.left] == [1, 2]


NASTY = "</script><img src=x onerror=alert(1)>"


def test_nothing_of_the_users_can_become_markup(parts):
    source, weight_map, info, proof = copy.deepcopy(parts)
    elements = [tag for tag, _ in outline(render_pages(*parts)).elements]
    info["name"] += NASTY
    info["source"] = {"spec": NASTY, "class": NASTY}
    info["versions"][NASTY] = NASTY
    info["sources"] = {NASTY: info["sources"]["source.py"].replace("Two dense", NASTY)}
    for item in (*info["classes"], *info["lines"]):
        item["source_file"] = NASTY
    for item in info["classes"]:
        item["source_class"] = item["target_class"] = "X" + NASTY
        item["instances"] = [NASTY, NASTY + "1"]
    for note in info["notes"]:
        note.update(topic=note["topic"] + NASTY, text=NASTY, rule=NASTY)
    for row in info["summary"]:
        row.update(source_class=NASTY, target_class=NASTY, output_shape=[NASTY])
    for entry in weight_map["entries"]:
        entry["target"] += NASTY
        entry["sources"] = [NASTY]
    proof["verdict"] = "differs"
    proof["first_divergence"] = dict.fromkeys(
        ("module", "target_module", "file", "likely_cause"), NASTY
    )
    proof["not_compared"] = proof["explained"] = [{"what": NASTY, "why": NASTY}]
    html = render_pages(source.replace("Two dense", NASTY), weight_map, info, proof)
    found = outline(html).elements
    assert "img" not in {tag for tag, _ in found}
    assert not any(name.startswith("on") for _, attributes in found for name in attributes)
    assert NASTY not in html
    assert [tag for tag, _ in found].count("script") == elements.count("script")


def test_the_first_divergence_is_named(parts):
    source, weight_map, info, proof = copy.deepcopy(parts)
    proof["verdict"] = "differs"
    proof["first_divergence"] = {
        "module": "layers.0.feed_forward_block",
        "target_module": "layers.0.feed_forward_block",
        "file": "source.py",
        "line": info["lines"][0]["source_line"],
        "error": 3.1e-4,
        "likely_cause": "GELU in its `tanh` form",
    }
    html = render_pages(source, weight_map, info, proof)
    assert "Differs" in html and "Where they part" in html
    assert "GELU in its <code>tanh</code> form" in html
    assert 'data-goto="k' in html


def test_without_a_proof_and_with_next_to_nothing(parts):
    source, weight_map, info, _ = parts
    html = render_pages(source, weight_map, info, None)
    assert "Not yet proved" in html and "<svg viewBox" not in html
    outline(html)
    outline(render_pages("", {}, {}, {}))
    outline(render_pages("def broken(:\n", {"entries": [{}]}, {"classes": [{}]}, {"checks": [{}]}))


def test_write_pages(parts, tmp_path):
    for file in FIXTURE.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = write_pages(tmp_path)
    assert path == tmp_path / "pages.html"
    assert path.read_text("utf-8") == render_pages(*parts)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    (tmp_path / "translation.json").write_text("{", encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(BadInput, match="not valid JSON"):
        write_pages(tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(BadInput, match=r"model\.py is missing"):
        write_pages(tmp_path / "nowhere")


def test_highlighting_keeps_every_line_and_character():
    text = 'def f(a):\n    """Doc\n    <b>&amp;"""\n\treturn a  # \x00 done\n\n'
    lines = highlight_lines(text)
    assert len(lines) == len(text.split("\n"))
    plain = [re.sub("<.*?>", "", line) for line in lines]
    assert plain[2] == "    &lt;b&gt;&amp;amp;&quot;&quot;&quot;"
    assert "\x00" not in "".join(lines)
    assert len(highlight_lines("(((((\nclass\n'''")) == 3


@pytest.mark.parametrize(
    "step, words",
    [
        (["permute", [1, 0]], "transpose"),
        (["permute", [2, 3, 1, 0]], "permute (2, 3, 1, 0)"),
        (["slice", 0, 64, 128], "[64:128] of axis 0"),
        (["reshape", [4, 16]], "reshape (4, 16)"),
        (["blocks", 0, [0, 2, 1]], "blocks (0, 2, 1) of axis 0"),
    ],
)
def test_transforms_in_words(step, words):
    assert step_text(step) == words
    assert transform_text({"steps": [step], "combine": "sum", "sources": ["a", "b"]}) == (
        f"{words}, then sum of 2"
    )
    assert transform_text({}) == "as it is"


def test_totals_count_shared_weights_once():
    def entry(target, sources, shape, kind="parameter"):
        return {"target": target, "sources": sources, "shape": shape, "kind": kind,
                "source_shapes": [[6, 4]] * len(sources)}  # fmt: skip

    counted = totals(
        {"entries": [entry("q", ["qkv"], [2, 4]), entry("k", ["qkv"], [2, 4]),
                     entry("v", ["qkv"], [2, 4]), entry("mean", ["m"], [6, 4], "buffer")]}
    )  # fmt: skip
    assert (counted.source_parameters, counted.target_parameters) == (24, 24)
    assert (counted.source_buffers, counted.target_buffers) == (24, 24)


def test_summary_is_indented_below_listed_modules():
    summary = [{"module": name} for name in ("", "layers.0", "layers.0.norm", "head")]
    rows = module_rows(summary, {})
    assert [(row.name, row.depth) for row in rows] == [
        ("(root)", 0), ("layers.0", 0), ("norm", 1), ("head", 0)
    ]  # fmt: skip
    assert [row.leaf for row in rows] == [False, False, True, True]


def test_figures_of_a_proof(parts):
    *_, info, proof = parts
    figures = read_proof(proof, info["dynamic"])
    assert figures.verdict == "proven" and figures.worst < 1e-12
    assert [kind for kind, _, _ in figures.kinds][:3] == ["outputs", "modules", "gradients"]
    assert figures.checks[0].sizes == "batch 1, length 5"
    assert all(check.dtype == "float32" for check in figures.single) and figures.single
    assert "1e-9" in figures.sentence


def test_numbers_as_people_write_them():
    assert [relative(value) for value in (0.0, 3.14e-15, 1e-9, float("nan"), None)] == [
        "0 (exact)", "3.1e-15", "1e-9", "nan", "—"
    ]  # fmt: skip
    assert axis(0.0) == 0 and axis(float("nan")) == 100 and axis(1e-18) < axis(1e-9) < axis(1.0)


def test_terminal_table_shows_markup_as_text(parts):
    from rich.console import Console

    _, _, info, proof = copy.deepcopy(parts)
    info["classes"][0]["target_class"] = "[bold]X[/bold]"
    console = Console(width=120)
    with console.capture() as got:
        console.print(summary_table(info, proof))
    assert "[bold]X[/bold]" in got.get()
    assert "Proven" in got.get() and "Gradients of the weights" in got.get()


def test_what_only_the_target_needs_is_folded_away_and_not_lost(parts):
    source, weight_map, info, proof = copy.deepcopy(parts)
    helper = 'def gelu(x):\n    """The exact ``GELU``."""\n    return x\n\n\n'
    source = source.replace("def build_model", helper + "def build_model")
    book = Book(source, info)
    spread = next(s for s in book.spreads if s.helpers)
    assert [band.fold_right for band in spread.bands] == [("gelu", "The exact ``GELU``.")]
    html = render_pages(source, weight_map, info, proof)
    assert "The exact <code>GELU</code>." in html
    outline(html)


def test_declarations_are_linked_by_name(parts):
    source, _, info, _ = parts
    links = Book(source, {**info, "lines": []}).links
    left, right = info["sources"]["source.py"].split("\n"), source.split("\n")

    def number(lines: list[str], text: str) -> int:
        return next(n for n, line in enumerate(lines, 1) if text in line)

    for ours, theirs in (
        ("class FeedForwardBlock", "class FeedForwardBlock"),
        ("def forward(self, q, k, v, mask)", "def call(self, q, k, v, mask)"),
        ("self.w_q = nn.Linear", "self.w_q = layers.Dense"),
        ("self.alpha = nn.Parameter", "self.alpha = self.add_weight"),
    ):
        assert f"k{number(right, theirs)}" in links[f"p0:{number(left, ours)}"]
    # The rate of the dropout is kept under another name: nothing to link it to.
    assert f"k{number(right, 'self.features, self.rate = features, dropout')}" not in links
