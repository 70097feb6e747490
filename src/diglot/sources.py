"""What the user names, loaded: a PyTorch model, example inputs for it and which sizes are dynamic.

    net.py:make                   a function that returns a model or (model, example_inputs),
    package.module:make           an nn.Module class, or an nn.Module; literal arguments may follow:
    net.py:ResNet(depth=18)
    timm:resnet18                 random weights; timm:resnet18(pretrained=True) fetches them
    hf:DIRECTORY or hf:ORG/NAME   a Hugging Face model with its weights
    model.pt2                     a program saved by torch.export.save
    FOLDER, FOLDER/model.py       what an earlier translation to PyTorch wrote

Nothing that a file pickles is ever executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from diglot import inputs as input_specs
from diglot.errors import BadInput, UsageError
from diglot.factories import Factory, TheirCode, parse_call

if TYPE_CHECKING:
    from torch import nn

_FORMS = "file.py:factory, package.module:factory, timm:NAME, hf:DIRECTORY_OR_ID or model.pt2"


@dataclass
class LoadedSource:
    """A source, ready for ``diglot.translate``.

    ``example_inputs`` is a tensor, a tuple, or a dict of keyword arguments; ``dynamic`` maps an
    input's name (its position, as a str, where it has none) to {axis: name of the size}, or is None
    where the sizes are to be guessed. ``spec`` is what the user typed.
    """

    model: Any
    example_inputs: Any
    dynamic: dict[str, dict[int, str]] | None
    spec: str
    name: str
    #: For a Keras model that a function made, the function, by a name that holds in any folder.
    factory: str | None = None


def load_source(spec: str, inputs: Sequence[str] = ()) -> LoadedSource:
    """Load what ``spec`` names. ``inputs`` are ``--input`` texts; they replace its own examples.

    Raises :class:`BadInput` with one sentence for whatever cannot be loaded, and
    :class:`~diglot.errors.MissingExtra` where an optional package is needed.
    """
    wanted = input_specs.parse_inputs(inputs)
    source = _dispatch(spec, needs_examples=not wanted)
    if wanted:
        source.example_inputs = input_specs.make_examples(wanted, source.model)
        source.dynamic = input_specs.dynamic_sizes(wanted)
    _try_out(source, inputs)
    return source


def load(spec: str, to: str, trust: bool, needs_examples: bool) -> LoadedSource:
    """Load what ``spec`` names, to be translated ``to`` a language.

    Raises :class:`BadInput` for whatever cannot be loaded, :class:`UsageError` for what is in that language already.
    """
    from diglot.sources_keras import is_keras_spec, load_keras_source

    if to == "torch":
        return load_keras_source(spec, trust=trust)
    if is_keras_spec(spec):
        raise UsageError(
            f"{spec} is of Keras or TensorFlow already.", hint="translate it with to='torch'"
        )
    return _dispatch(spec, needs_examples)


def _try_out(source: LoadedSource, inputs: Sequence[str]) -> None:
    """Call the model once, so that inputs that do not fit are told before any work is done.

    Exporting runs on shapes alone, which lets some wrong dtypes pass.
    """
    import torch

    model = source.model
    modes = {module: module.training for module in model.modules()}
    generator = torch.random.get_rng_state()
    given = " ".join(f'--input "{text}"' for text in inputs) or "its example inputs"
    hint = "shapes, dtypes and names must be those that the model's forward takes"
    try:
        model.eval()
        with (
            torch.no_grad(),
            TheirCode(f"The model, called with {given},", hint),
        ):
            input_specs.call(model, source.example_inputs)
    finally:
        torch.random.set_rng_state(generator)
        for module, mode in modes.items():
            module.training = mode


def _dispatch(spec: str, needs_examples: bool) -> LoadedSource:
    scheme, _, rest = spec.partition(":")
    if scheme == "timm" and rest:
        from diglot import pretrained

        name, args, kwargs = parse_call(rest, spec, _FORMS)
        if args:
            raise BadInput("timm models take keyword arguments only.", received=spec)
        return LoadedSource(*pretrained.load_timm(name, kwargs), spec=spec, name=name)
    if scheme == "hf" and rest:
        from diglot import pretrained

        model, examples, dynamic = pretrained.load_hf(rest, needs_examples)
        return LoadedSource(model, examples, dynamic, spec, type(model).__name__)
    from diglot import translated

    folder = translated.find_folder(spec)
    if folder is not None:
        return translated.load_translated(folder, spec)
    suffix = Path(spec).suffix.lower()
    if suffix == ".pt2":
        return _load_pt2(spec)
    if suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
        raise BadInput(
            f"{spec} holds pickled weights or objects, not a program.",
            expected=_FORMS,
            hint="write a function that builds the model and loads these weights with"
            " torch.load(…, weights_only=True), and name it as file.py:function",
        )
    return _load_factory(spec, needs_examples)


def _load_factory(spec: str, needs_examples: bool) -> LoadedSource:
    from torch import nn

    module, made = Factory.parse(spec, _FORMS).make(nn.Module)
    model, examples = _split_made(made, spec)
    if examples is None:
        examples = own_examples(module)
    if examples is None and needs_examples:
        raise BadInput(
            f"{spec} brings no example inputs.",
            expected="a factory that returns (model, example_inputs), example_inputs in the file,"
            " or --input",
            hint='add e.g. --input "float32[batch,3,224,224]"',
        )
    return LoadedSource(model, examples, None, spec, type(model).__name__)


def _split_made(made: Any, spec: str) -> tuple[nn.Module, Any]:
    """A factory's result as (model, example inputs or None)."""
    from torch import nn

    if isinstance(made, nn.Module):
        return made, None
    if isinstance(made, (tuple, list)) and made and isinstance(made[0], nn.Module):
        if len(made) == 2:
            return made[0], made[1]
        raise BadInput(
            f"{spec} returned {len(made)} things.",
            expected="a model, or (model, example_inputs) with a tuple or dict of several inputs",
        )
    raise BadInput(
        f"{spec} made no PyTorch model.",
        expected="an nn.Module, or (nn.Module, example_inputs)",
        received=type(made).__name__,
    )


def own_examples(module: ModuleType) -> Any:
    """``example_inputs`` of the file: a value, or a function without arguments that makes it."""
    examples = getattr(module, "example_inputs", None)
    if callable(examples) and not hasattr(examples, "shape"):
        with TheirCode(f"Calling {module.__name__}.example_inputs"):
            return examples()
    return examples


def _load_pt2(spec: str) -> LoadedSource:
    from diglot import archive

    path = Path(spec).expanduser()
    model, examples, dynamic = archive.load_program(path)
    return LoadedSource(model, examples, dynamic, spec, path.stem)
