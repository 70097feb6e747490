"""Running a PyTorch model in float64 and without dropout, whatever it says by itself."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from diglot.default_dtype import default_dtype
from diglot.parity.misread import Relaid
from diglot.runtime.keras_exact import NORMAL, UNIFORM

WIDE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}
_CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}
_DROPOUTS = {
    torch.nn.functional.dropout,
    torch.nn.functional.dropout1d,
    torch.nn.functional.dropout2d,
    torch.nn.functional.dropout3d,
    torch.nn.functional.alpha_dropout,
    torch.nn.functional.feature_alpha_dropout,
    torch.dropout,
    torch.feature_dropout,
    torch.alpha_dropout,
}


def _hardsigmoid(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    result = torch.nn.functional.relu6(input + 3.0) / 6.0
    return input.copy_(result) if inplace else result


def _celu(input: torch.Tensor, alpha: float = 1.0, inplace: bool = False) -> torch.Tensor:
    x = input.clone()
    result = torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0.0) / alpha))
    return input.copy_(result) if inplace else result


def _softplus(input: torch.Tensor, beta: float = 1.0, threshold: float = 20.0) -> torch.Tensor:
    if threshold < 20:  # another function, not a rounding
        return torch._C._nn.softplus(input, beta, threshold)
    return torch.logaddexp(input * beta, input.new_zeros(())) / beta


#: PyTorch's own gradients of these hold a constant as float32 (1/6, 1/alpha), also for float64 tensors.
#: A softplus gives up its exponential beyond 20, where float32 has no digits for it.
_EXACT = {
    torch.nn.functional.hardsigmoid: _hardsigmoid,
    torch._C._nn.hardsigmoid: _hardsigmoid,
    torch.ops.aten.hardsigmoid.default: _hardsigmoid,
    torch.nn.functional.celu: _celu,
    torch.celu: _celu,
    torch.ops.aten.celu.default: _celu,
    torch.nn.functional.softplus: _softplus,
    torch.ops.aten.softplus.default: _softplus,
}


class Float64(TorchFunctionMode):
    """Every cast to a narrower float, and every tensor made in one, becomes float64.

    Models do so by hand (a norm that computes `x.to(torch.float32)`), which would hide a
    difference of 1e-9 behind rounding of 1e-7.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace dtypes among the arguments."""
        kwargs = kwargs or {}
        if func in _CASTS:
            return args[0].double()
        func = _EXACT.get(func, func)
        args = tuple(WIDE.get(arg, arg) if isinstance(arg, torch.dtype) else arg for arg in args)
        kwargs = {
            name: WIDE.get(value, value) if isinstance(value, torch.dtype) else value
            for name, value in kwargs.items()
        }
        return func(*args, **kwargs)


class NoDropout(TorchFunctionMode):
    """Dropout that drops nothing, also where it is a function call or part of attention."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return dropout's input; hand attention a probability of zero."""
        kwargs = dict(kwargs or {})
        if func is torch.native_dropout or func is torch.ops.aten.native_dropout.default:
            return args[0], torch.ones_like(args[0], dtype=torch.bool)
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is torch.nn.functional.scaled_dot_product_attention:
            args = tuple(0.0 if i == 4 else arg for i, arg in enumerate(args))
            if "dropout_p" in kwargs:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


#: What draws random numbers, by the name that torch and ATen call it.
_LIKE = {"randn_like": NORMAL, "rand_like": UNIFORM}
_SIZED = {"randn": NORMAL, "rand": UNIFORM}
_FILLING = {"normal_", "normal_functional", "uniform_", "uniform"}


class FixedNoise(TorchFunctionMode):
    """Random numbers that are not: each standard normal one is NORMAL, each uniform one UNIFORM.

    A function mode, since below autograd the gradients of Diglot's own ops would be lost.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Fill what would be drawn with the value that the target is given, too."""
        kwargs = dict(kwargs or {})
        name = getattr(getattr(func, "_overloadpacket", func), "__name__", "")
        options = {k: v for k, v in kwargs.items() if v is not None and k != "generator"}
        if name in _SIZED:
            return torch.empty(*args, **options).fill_(_SIZED[name])
        if name in _LIKE:
            return torch.empty_like(*args, **options).fill_(_LIKE[name])
        if name in _FILLING:
            first, second = _parameters(name, args[1:], options)
            value = (
                first + UNIFORM * (second - first) if "uniform" in name else first + NORMAL * second
            )
            return (args[0] if name.endswith("_") else args[0].detach().clone()).fill_(value)
        if name == "normal" and any(isinstance(a, torch.Tensor) for a in args):
            spread = args[1] if len(args) > 1 else options.get("std", 1.0)
            return (args[0] + NORMAL * spread).detach()
        return func(*args, **kwargs)


def _parameters(name: str, given: tuple, options: dict[str, Any]) -> tuple[float, float]:
    """The mean and deviation, or the bounds, of a tensor that is filled with random numbers."""
    names = ("from", "to") if "uniform" in name else ("mean", "std")
    found = {**dict(zip(names, given, strict=False)), **options}
    return found.get(names[0], 0.0), found.get(names[1], 1.0)


class OperationCounter(TorchDispatchMode):
    """Adds up the operations of matrix products and convolutions in `total`."""

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make the call, and count it."""
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += int(count(*args, **(kwargs or {}), out_val=result))
        return result


def zero_dropout(module: nn.Module) -> None:
    """Set every dropout probability that `module` keeps in an attribute to zero (in place)."""
    for child in module.modules():
        names = [name for name in vars(child) if "drop" in name]
        # torch.nn's own dropouts, and stochastic depth, call theirs p.
        kind = type(child).__name__.lower()
        if "drop" in kind or "stochasticdepth" in kind:
            names.append("p")
        for name in names:
            value = vars(child).get(name)
            if isinstance(value, float) and 0.0 < value <= 1.0:
                setattr(child, name, 0.0)


@contextlib.contextmanager
def computing(dtype: torch.dtype, dropout: bool = False) -> Iterator[Relaid]:
    """Within the block PyTorch computes in `dtype`, exactly, and without dropout and noise unless wanted.

    Yields what says whether it would have computed wrong gradients. Restores the default dtype, the fused attention
    switch and the random state.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    state = torch.random.get_rng_state()
    # The fused encoder skips modules, whose outputs would then not be seen.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(default_dtype(dtype))
            if dtype == torch.float64:
                stack.enter_context(Float64())
            if not dropout:
                stack.enter_context(NoDropout())
                stack.enter_context(FixedNoise())
            yield stack.enter_context(Relaid())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.random.set_rng_state(state)


@contextlib.contextmanager
def half_the_threads() -> Iterator[None]:
    """Within the block PyTorch leaves half of its threads' cores to the other framework.

    Two pools on the same cores wait for each other, and PyTorch's waits at full speed: on two busy
    cores its side of a proof of MiniLM took 27 seconds of CPU time, and 8 with one thread.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def copy_model(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A deep copy of `module` on the CPU in `dtype`, plain tensor attributes included.

    The original is left as it is. Tensors that it keeps from an earlier call (attention scores and
    the like), which PyTorch refuses to copy, are copied without their history.
    """
    from diglot.parity.exported import is_exported, private_program

    memo: dict[int, Any] = {}
    for child in module.modules():
        for value in _held(vars(child)):
            if value.grad_fn is not None or not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    if is_exported(module):
        program = vars(module)["_program"]
        memo[id(program)] = private_program(program, dtype)
    return cast_model(copy.deepcopy(module, memo).to("cpu"), dtype)


def cast_model(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`module` itself with its floats in `dtype`, plain tensor attributes included."""
    for child in module.modules():
        for name, value in list(vars(child).items()):
            if isinstance(value, torch.Tensor):
                setattr(child, name, _cast(value.cpu(), dtype))
        for name, buffer in child._buffers.items():
            if buffer is not None:
                child._buffers[name] = _cast(buffer, dtype)
        for parameter in child._parameters.values():
            if parameter is not None:
                parameter.data = _cast(parameter.data, dtype)
                parameter.grad = None
    return module


def _held(structure: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Tensors in a module's own attributes, a few containers deep."""
    if isinstance(structure, torch.Tensor):
        yield structure
    elif depth < 4 and isinstance(structure, (dict, list, tuple)):
        items = structure.values() if isinstance(structure, dict) else structure
        for item in items:
            if not isinstance(item, nn.Module):
                yield from _held(item, depth + 1)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.is_floating_point():
        return tensor.to(dtype)
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor
