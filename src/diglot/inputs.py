"""``--input``: what a model is called with, in one line.

Grammar, one option per input, in the order of the model's arguments::

    [NAME=]DTYPE[SIZE,SIZE,…][<HIGH]

    float32[batch,3,224,224]            a positional input; "batch" is dynamic, numbers are fixed
    input_ids=int64[batch,length]<30522 a keyword input with values 0 to 30521
    mask=bool[batch,length]             an input whose name ends in "mask": right padding
    float32[batch,3,height:64,width:96] dynamic sizes, with the sizes that the example takes
    float32[]                           a scalar

The same name means the same size everywhere. Either all inputs are named or none is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diglot.errors import BadInput

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
DTYPES += ("bool", "complex64")
_SHORT = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "int": "int64",
    "long": "int64",
}
_SHAPE = re.compile(
    r"""^\s*(?:(?P<name>[A-Za-z_]\w*)\s*=\s*)?
        (?P<dtype>[A-Za-z]\w*)\s*
        \[(?P<sizes>[^\]\[]*)\]\s*
        (?:<\s*(?P<high>\d+))?\s*$""",
    re.VERBOSE,
)
_SIZE = re.compile(r"^(?:(?P<fixed>\d+)|(?P<name>[A-Za-z_]\w*)(?::(?P<example>\d+))?)$")
_FORM = 'DTYPE[SIZE,…], e.g. "float32[batch,3,224,224]" or "ids=int64[batch,length]<30522"'
#: Example sizes of dynamic dimensions: pairwise different, so that mixed-up axes cannot pass.
_EXAMPLE_SIZES = (7, 11, 13, 9, 17, 19, 23)
_IMAGE_SIZES = {"height": 64, "h": 64, "width": 96, "w": 96}


@dataclass(frozen=True)
class InputSpec:
    """One input: ``sizes`` holds an int for a fixed size and a str for a dynamic one."""

    name: str | None
    dtype: str
    sizes: tuple[int | str, ...]
    examples: tuple[tuple[str, int], ...] = ()
    high: int | None = None

    def dynamic(self) -> dict[int, str]:
        """Axis -> name of every dynamic size."""
        return {axis: size for axis, size in enumerate(self.sizes) if isinstance(size, str)}


def parse_input(text: str) -> InputSpec:
    """Parse one ``--input``. Raises :class:`BadInput` that says what is wrong with it."""
    match = _SHAPE.match(text)
    if match is None:
        raise BadInput("This --input is not understood.", expected=_FORM, received=text)
    dtype = _SHORT.get(match["dtype"], match["dtype"])
    if dtype not in DTYPES:
        raise BadInput(
            "This --input names no known dtype.",
            expected="one of " + ", ".join(DTYPES),
            received=f"{match['dtype']} in {text}",
        )
    sizes: list[int | str] = []
    examples: list[tuple[str, int]] = []
    for part in [p.strip() for p in match["sizes"].split(",")] if match["sizes"].strip() else []:
        size = _SIZE.match(part)
        if size is None or size["fixed"] == "0" or size["example"] == "0":
            raise BadInput(
                "This --input has a size that is neither a positive number nor a name.",
                expected="a number (fixed), a name (dynamic) or name:number (its example size)",
                received=f"{part!r} in {text}",
            )
        sizes.append(int(size["fixed"]) if size["fixed"] else size["name"])
        if size["example"]:
            examples.append((size["name"], int(size["example"])))
    high = int(match["high"]) if match["high"] else None
    if high is not None and (high < 1 or "int" not in dtype):
        raise BadInput(
            "This --input gives a range that does not fit its dtype.",
            expected="<HIGH with HIGH ≥ 1, for an integer dtype",
            received=text,
        )
    return InputSpec(match["name"], dtype, tuple(sizes), tuple(examples), high)


def parse_inputs(texts: Sequence[str]) -> list[InputSpec]:
    """Parse all ``--input`` options and check that they go together."""
    specs = [parse_input(text) for text in texts]
    names = [spec.name for spec in specs if spec.name]
    if names and len(names) != len(specs):
        raise BadInput(
            "Some --input options have a name and some have none.",
            expected="all named (keyword arguments) or none (positional)",
            received=", ".join(texts),
        )
    if len(set(names)) != len(names):
        raise BadInput("Two --input options have the same name.", received=", ".join(texts))
    return specs


def example_sizes(specs: Sequence[InputSpec]) -> dict[str, int]:
    """The example size of every dynamic name: 2 for a batch, else pairwise different.

    Raises :class:`BadInput` where one name is given two example sizes.
    """
    sizes: dict[str, int] = {}
    for spec in specs:
        for name, size in spec.examples:
            if sizes.setdefault(name, size) != size:
                raise BadInput(
                    f"The dynamic size {name} is given two example sizes.",
                    received=f"{sizes[name]} and {size}",
                )
    fixed = {size for spec in specs for size in spec.sizes if isinstance(size, int)}
    free = (size for size in _EXAMPLE_SIZES if size not in fixed | set(sizes.values()))
    for spec in specs:
        for axis, name in spec.dynamic().items():
            if name not in sizes:
                batch = axis == 0 and name.lower() in ("batch", "b", "n", "batch_size")
                image = _IMAGE_SIZES.get(name.lower())
                sizes[name] = 2 if batch else image or next(free, 29)
    return sizes


def _one_example(
    spec: InputSpec, sizes: dict[str, int], generator: torch.Generator
) -> torch.Tensor:
    import torch

    shape = [sizes[size] if isinstance(size, str) else size for size in spec.sizes]
    dtype = getattr(torch, spec.dtype)
    is_mask = (spec.name or "").endswith("mask")
    if spec.dtype == "bool" or (is_mask and not dtype.is_floating_point):
        if not (is_mask and len(shape) >= 2):
            return torch.randint(0, 2, shape, generator=generator).to(dtype)
        # A padding mask: row i keeps all but its last i positions, and always the first.
        kept = shape[-1] - torch.arange(shape[0]).clamp(max=shape[-1] - 1)
        rows = torch.arange(shape[-1])[None, :] < kept[:, None]
        middle = [1] * (len(shape) - 2)
        return rows.reshape(shape[0], *middle, shape[-1]).expand(shape).to(dtype).contiguous()
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return integers(shape, spec.high or 2, generator).to(dtype)


def integers(shape: Sequence[int], high: int, generator: torch.Generator) -> torch.Tensor:
    """Random int64 values 0 to ``high`` − 1; the largest occurs, so that a proof sees it."""
    import torch

    values = torch.randint(0, high, list(shape), generator=generator)
    if values.numel():
        values.view(-1)[-1] = high - 1
    return values


def make_examples(specs: Sequence[InputSpec], model: nn.Module | None = None, seed: int = 0) -> Any:
    """Example inputs for ``specs``: a tensor, a tuple, or a dict when they are named.

    Integers without a range take the largest one that the model's embeddings accept.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    sizes = example_sizes(specs)
    tensors = [_one_example(spec, sizes, generator) for spec in specs]
    if model is not None:
        _fit_ranges(model, specs, tensors, generator)
    return _arrange(specs, tensors)


def _arrange(specs: Sequence[InputSpec], tensors: Sequence[Any]) -> Any:
    if specs[0].name:
        return {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def dynamic_sizes(specs: Sequence[InputSpec]) -> dict[str, dict[int, str]]:
    """Input name (or position, as a str) -> {axis: name of the dynamic size}."""
    return {spec.name or str(i): spec.dynamic() for i, spec in enumerate(specs)}


def _fit_ranges(
    model: nn.Module,
    specs: Sequence[InputSpec],
    tensors: list[torch.Tensor],
    generator: torch.Generator,
) -> None:
    """Widen the integers of inputs that were given no range, as far as the model runs with them.

    The candidates are the sizes of the model's own embedding tables: a table's size is the only
    thing in a model that bounds an index.
    """
    import torch

    tables = {m.num_embeddings for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    free = [
        i
        for i, spec in enumerate(specs)
        if spec.high is None and "int" in spec.dtype and not (spec.name or "").endswith("mask")
    ]
    if not tables or not free:
        return
    for i in free:
        for high in sorted(tables, reverse=True):
            trial = list(tensors)
            trial[i] = integers(tensors[i].shape, high, generator).to(tensors[i].dtype)
            if _runs(model, _arrange(specs, trial)):
                tensors[i] = trial[i]
                break


def _runs(model: nn.Module, inputs: Any) -> bool:
    """Whether the model accepts the inputs, in evaluation mode, leaving its mode as it was."""
    import torch

    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            call(model, inputs)
    except (IndexError, RuntimeError, ValueError, TypeError):
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode
    return True


def call(model: Any, inputs: Any) -> Any:
    """Call a model with example inputs: a dict by keyword, a tuple or list by position."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)
