"""Runs the rules' samples through the whole translator: many samples in one model, both frameworks in float64."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from one_op import cotangent, gap, make_input

import diglot
from diglot.carrying import build_model
from diglot.errors import Unsupported
from diglot.frontends import torch_export
from diglot.parity.torch_modes import computing, copy_model
from diglot.rules import Sample, registry
from diglot.rules.registry import Rule
from diglot.runtime.keras_exact import no_dropout, set_width

TOLERANCE = 1e-9
BATCH = 8
#: Made by passes that bring a hub to what Keras has: a program in PyTorch never meets them.
NOT_OF_TORCH = {"diglot.by_mode.default", "diglot.row_dropout.default"}
_COUNTER = itertools.count()

_HEADER = """import torch
import torch.nn.functional as F
from torch import nn

"""


@dataclasses.dataclass
class Case:
    """One sample of one rule; with ``convolutional`` its inputs first pass through a convolution."""

    rule: Rule
    sample: Sample
    convolutional: bool = False

    def __str__(self) -> str:
        where = " in a convolutional net" if self.convolutional else ""
        return f"{self.rule.op}: {self.sample.torch}{where}"

    def definition(self, name: str) -> str:
        """Return the source of a module that computes the sample."""
        names = list(self.sample.inputs)
        lines = [
            f"class {name}(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
        ]
        if self.sample.module:
            lines.append(f"        self.m = {self.sample.module}")
        body = []
        for argument in names:
            shape = self.sample.inputs[argument].split(",")
            if self.convolutional and len(shape) >= 3 and "[" not in self.sample.inputs[argument]:
                kind = f"Conv{len(shape) - 2}d"
                lines.append(f"        self.conv_{argument} = nn.{kind}({shape[1]}, {shape[1]}, 1)")
                body.append(f"        {argument} = self.conv_{argument}({argument})")
        if self.sample.module:
            body.append("        m = self.m")
        lines += [
            "",
            f"    def forward(self, {', '.join(names)}):",
            *body,
            f"        return {self.sample.torch}",
        ]
        return "\n".join(lines) + "\n\n\n"


def cases(rules: list[Rule]) -> list[Case]:
    """Return every sample of some rules, those for channels-last nets twice."""
    found = []
    for rule in rules:
        for sample in rule.samples:
            found.append(Case(rule, sample))
            if sample.channels_last:
                found.append(Case(rule, sample, convolutional=True))
    return found


def _always_refused(rule: Rule) -> bool:
    return rule.refuse is not None and rule.topic == "Randomness"


def always_refused() -> list[Rule]:
    """The rules for what no program can repeat."""
    return [rule for rule in registry().values() if _always_refused(rule)]


def batches(*, of_torch: bool = False) -> Iterator[Any]:
    """The samples of all rules, family by family, as parameters of a test; or those that PyTorch programs can hold.

    One sample with a size that decides something has its whole batch exported twice: small batches are faster.
    """
    families: dict[tuple[str, bool], list[Rule]] = {}
    for rule in registry().values():
        if not _always_refused(rule):
            held = rule.topic != "Randomness" and rule.op not in NOT_OF_TORCH
            families.setdefault((rule.family, held), []).append(rule)
    for (family, held), rules in sorted(families.items()):
        found = cases(rules)
        for start in range(0, len(found), BATCH) if held or not of_torch else ():
            name = f"{family}{'' if held else '-keras'}-{start // BATCH + 1}"
            # The test of the other page then finds the same batch exported.
            mark = pytest.mark.xdist_group(f"samples-{name}")
            yield pytest.param(found[start : start + BATCH], id=name, marks=mark)


def _module_of(text: str, folder: Path) -> Any:
    name = f"samples_{next(_COUNTER)}"
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def build(batch: list[Case], folder: Path) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Return a model that computes every case side by side, and its inputs in float64."""
    text, calls, arguments, inputs = _HEADER, [], [], {}
    for i, case in enumerate(batch):
        text += case.definition(f"Sample{i}")
        own = [f"s{i}_{name}" for name in case.sample.inputs]
        arguments += own
        generator = torch.Generator().manual_seed(i)
        for name, spec in zip(own, case.sample.inputs.values(), strict=True):
            inputs[name] = make_input(spec, generator)
        calls.append(f"        s{i} = self.sample_{i}({', '.join(own)})")
    text += "class Samples(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += "".join(f"        self.sample_{i} = Sample{i}()\n" for i in range(len(batch)))
    text += f"\n    def forward(self, {', '.join(arguments)}):\n" + "\n".join(calls)
    text += "\n        return {" + ", ".join(f'"s{i}": s{i}' for i in range(len(batch))) + "}\n"
    model = _module_of(text, folder).Samples()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.dtype.is_floating_point:
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(noise * 0.5 + 0.75 if "var" in name else noise - 0.4)
    return model.eval(), inputs


_LAST: dict[tuple[str, ...], Any] = {}


@contextlib.contextmanager
def exported(batch: list[Case], folder: Path) -> Iterator[tuple[torch.nn.Module, dict, dict]]:
    """A batch's model, and its inputs in float64 and in float32; whoever captures it finds it exported already.

    The last batch is kept: it is written in Keras by one test and in PyTorch by the next.
    """
    key = tuple(str(case) for case in batch)
    original = torch_export.export
    if key not in _LAST:
        model, inputs = build(batch, folder)
        narrow = {n: v.float() if v.is_floating_point() else v for n, v in inputs.items()}
        made = original(model, narrow)
        _LAST.clear()
        _LAST[key] = model, inputs, narrow, made
    model, inputs, narrow, made = _LAST[key]
    torch_export.export = lambda *_: made
    try:
        yield model, inputs, narrow
    finally:
        torch_export.export = original


def run(batch: list[Case], folder: Path) -> dict[str, str]:
    """Translate a batch and return ``{case: what is wrong}`` for every case that differs or fails."""
    try:
        return _compare(batch, folder)
    except Unsupported as error:
        if len(batch) == 1:
            return {str(batch[0]): "; ".join(f"{p.op}: {p.hint}" for p in error.problems)}
    except Exception as error:
        if len(batch) == 1:
            return {str(batch[0]): f"{type(error).__name__}: {str(error)[:800]}"}
    found: dict[str, str] = {}
    half = len(batch) // 2
    for part in (batch[:half], batch[half:]):
        found.update(run(part, folder))
    return found


def _compare(batch: list[Case], folder: Path) -> dict[str, str]:
    with exported(batch, folder) as (model, inputs, narrow):
        translation = diglot.translate(model, narrow)
    exact = copy_model(model, torch.float64)
    expected, theirs, weights = _torch_side(exact, inputs)
    arrays = translation.target_arrays(exact)
    outputs, gradients, found_weights = _keras_side(translation, arrays, inputs, expected)
    wrong: dict[str, str] = {}

    def check(index: int, what: str, a: Any, b: Any) -> None:
        difference = gap(np.asarray(a), np.asarray(b))
        if difference > TOLERANCE:
            wrong.setdefault(str(batch[index]), "")
            wrong[str(batch[index])] += f"{what} {np.shape(a)} {np.shape(b)}: {difference:.1e}; "

    for path, value in expected.items():
        check(_index(path), f"output {path}", value.detach(), outputs[path])
    for name, value in theirs.items():
        check(_index(name), f"gradient of {name}", value, gradients[name])
    for entry in translation.weight_map.entries:
        sources = [weights.get(n) for n in entry.sources]
        if any(s is None for s in sources):
            continue
        name = entry.sources[0]
        ours = entry.gradient_to_target(sources)
        check(
            _index(name.removeprefix("sample_")),
            f"gradient of {name}",
            ours,
            found_weights[entry.target],
        )
    if wrong:
        for key in wrong:
            wrong[key] += "\n" + _class_of(translation.source, [str(c) for c in batch].index(key))
    return wrong


def _class_of(source: str, index: int) -> str:
    """Return the class that was written for one case."""
    start = source.find(f"class Sample{index}(")
    return source[start : source.find("\n\n\n", start)] if start >= 0 else source


def _index(path: str) -> int:
    head = path.lstrip("s").split("/")[0].split("_")[0].split(".")[0]
    return int(head)


def _torch_side(exact, inputs):
    """Return outputs by path, and the gradients of inputs and weights."""
    leaves = {n: v.clone().requires_grad_(v.is_floating_point()) for n, v in inputs.items()}
    with computing(torch.float64):
        outputs = exact(**leaves)
    flat = {path: v for path, v in _flatten(outputs).items() if isinstance(v, torch.Tensor)}
    differentiable = {k: v for k, v in flat.items() if v.is_floating_point() and v.requires_grad}
    wanted = {n: v for n, v in leaves.items() if v.requires_grad}
    parameters = dict(exact.named_parameters())
    found, weights = {}, {}
    for index in range(len(outputs)):
        own = [v for k, v in differentiable.items() if _index(k) == index]
        names = [n for n in wanted if _index(n) == index]
        trained = [n for n in parameters if n.startswith(f"sample_{index}.")]
        if not own:
            continue
        loss = sum((v * _weights_of(v)).sum() for v in own)
        values = _gradients(loss, [wanted[n] for n in names] + [parameters[n] for n in trained])
        for name, value in zip(names + trained, values, strict=True):
            if value is not None:
                (weights if name in parameters else found)[name] = value.numpy(force=True)
    return flat, found, weights


def _weights_of(value: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.asarray(cotangent(tuple(value.shape))))


def _gradients(loss: torch.Tensor, values: list[torch.Tensor]) -> list[torch.Tensor | None]:
    try:
        return list(torch.autograd.grad(loss, values, allow_unused=True, retain_graph=True))
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        return [None] * len(values)


def _keras_side(translation, arrays, inputs, expected):
    """Return outputs by path in PyTorch's layout, and gradients of inputs and weights."""
    set_width("float64")
    try:
        program = build_model(translation.source)
        weight_map = translation.weight_map
        variables = weight_map.variables(program)
        for name, array in arrays.items():
            variables[name].assign(array)
        given = {}
        for spec in weight_map.inputs:
            array = inputs[spec.name].numpy()
            array = array.astype(np.int32) if array.dtype == np.int64 else array
            given[spec.name] = tf.constant(array.transpose(spec.perm) if spec.perm else array)
        floats = {n: v for n, v in given.items() if v.dtype == tf.float64}
        with tf.GradientTape() as tape:
            tape.watch(list(floats.values()))
            with no_dropout(None):
                results = program(given, training=False)
            flat = _flatten(results)
            loss, outputs = 0.0, {}
            for spec in weight_map.outputs:
                path = "/".join(str(p) for p in spec.path)
                value = flat[path]
                if spec.perm:
                    value = tf.transpose(value, np.argsort(spec.perm))
                outputs[path] = value
                if (
                    path in expected
                    and expected[path].is_floating_point()
                    and expected[path].requires_grad
                ):
                    loss += tf.reduce_sum(value * np.asarray(cotangent(tuple(value.shape))))
        wanted = {**floats, **{f"weight:{n}": v.value for n, v in variables.items()}}
        found = tape.gradient(loss, wanted) if isinstance(loss, tf.Tensor) else {}
    finally:
        set_width("float32")
    zero = {n: np.zeros(v.shape) for n, v in wanted.items()}
    made = {
        n: zero[n] if found.get(n) is None else tf.convert_to_tensor(found[n]).numpy()
        for n in wanted
    }
    perms = {spec.name: spec.perm for spec in weight_map.inputs}
    gradients = {
        n: made[n].transpose(np.argsort(perms[n])) if perms[n] else made[n] for n in floats
    }
    weights = {n.removeprefix("weight:"): v for n, v in made.items() if n.startswith("weight:")}
    return {p: np.asarray(v) for p, v in outputs.items()}, gradients, weights


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in items:
        found.update(_flatten(item, f"{path}/{key}" if path else str(key)))
    return found


def run_larger(case: Case, folder: Path) -> str | None:
    """Translate a case, then compare both sides where every dynamic size is larger than the example's.

    Returns what is wrong, or None; also None where PyTorch itself has no result for such sizes.
    """
    model, inputs = build([case], folder)
    narrow = {n: v.float() if v.is_floating_point() else v for n, v in inputs.items()}
    translation = diglot.translate(model, narrow)
    specs = translation.weight_map.inputs
    old = {s: n for spec in specs for s, n in zip(spec.shape, inputs[spec.name].shape, strict=True)}
    sizes = {s: n + 1 + i for i, (s, n) in enumerate(old.items()) if isinstance(s, str)}
    generator = torch.Generator().manual_seed(5)
    larger = {}
    for spec, text in zip(specs, case.sample.inputs.values(), strict=True):
        kind, _, bound = re.sub(r"\[.*\]|^[\d,]*$", "", text).partition("<")
        shape = ",".join(str(sizes.get(s, s)) for s in spec.shape)
        whole = f"{kind}[{shape}]" + (f"<{bound}" if bound else "") if kind else shape
        larger[spec.name] = make_input(whole, generator)
    exact = copy_model(model, torch.float64)
    try:
        expected, theirs, _ = _torch_side(exact, larger)
    except (RuntimeError, IndexError):
        return None  # the sample's own sizes exclude each other
    arrays = translation.target_arrays(exact)
    outputs, gradients, _ = _keras_side(translation, arrays, larger, expected)
    if expected.keys() != outputs.keys():
        return None  # more parts than the author unpacks
    gaps = {p: gap(np.asarray(v.detach()), outputs[p]) for p, v in expected.items()}
    gaps.update({f"gradient of {n}": gap(v, gradients[n]) for n, v in theirs.items()})
    wrong = {what: value for what, value in gaps.items() if value > TOLERANCE}
    return f"{case}: {wrong}\n{translation.source}" if wrong else None
