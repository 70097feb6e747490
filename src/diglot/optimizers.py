"""A Keras optimizer goes on in PyTorch: the same rule, the same rate, its state carried over by the weight map.

Stock ``torch.optim`` classes do the work. What Keras does otherwise (where epsilon stands, how weights decay, what a
schedule or clipping changes) is done by one hook before each step, so that training takes the very path on which
Keras would have gone on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diglot.errors import BadInput, UsageError

if TYPE_CHECKING:
    from torch import nn

    from diglot.ir.weight_entry import WeightEntry

State = dict[str, torch.Tensor]


@dataclasses.dataclass
class Moment:
    """A step that is about to be taken."""

    number: int  # from 1, as the optimizer counts
    rate: float
    before: float  # the rate of the step before


@dataclasses.dataclass(frozen=True)
class Record:
    """One optimizer. ``slots`` names what Keras keeps for each weight: our name -> attribute of the optimizer.

    ``options`` are torch's arguments; ``state`` makes a parameter's state of its slots; ``before`` puts right, before
    each step, what the two compute otherwise, from the options of its group and its state.
    """

    torch: type[torch.optim.Optimizer]
    options: Callable[[Any], dict[str, Any]]
    slots: Callable[[Any], dict[str, str]]
    state: Callable[[Any, State, float], State]
    before: Callable[[Any, dict[str, Any], State, Moment], None] | None = None
    decays: bool = False  # torch's class lets weights decay as Keras does


# --- the optimizers -------------------------------------------------------------------------------------


def _velocity(k: Any, slots: State, rate: float) -> State:
    """Keras's velocity is the step itself: -rate · torch's buffer."""
    return {"momentum_buffer": slots["momentum"] / -rate} if k.momentum else {}


def _keep_velocity(k: Any, group: dict[str, Any], state: State, moment: Moment) -> None:
    """What is left of an old step keeps its length when the rate changes."""
    if "momentum_buffer" in state and moment.rate and moment.before:
        state["momentum_buffer"].mul_(moment.before / moment.rate)


def _adam_state(k: Any, slots: State, rate: float) -> State:
    made = {
        "step": _number(k.iterations),
        "exp_avg": slots["momentum"],
        "exp_avg_sq": slots["velocity"],
    }
    if k.amsgrad:  # torch corrects the maximum's bias at each step, as Keras does
        made["max_exp_avg_sq"] = slots["velocity_hat"]
    return made


def _adam_before(k: Any, group: dict[str, Any], state: State, moment: Moment) -> None:
    """Keras adds epsilon to the root before its bias is corrected."""
    group["eps"] = k.epsilon / (1 - float(k.beta_2) ** moment.number) ** 0.5


def _adam_options(k: Any) -> dict[str, Any]:
    return {"betas": (float(k.beta_1), float(k.beta_2)), "eps": k.epsilon, "amsgrad": k.amsgrad}


def _adam_slots(k: Any) -> dict[str, str]:
    names = {"momentum": "_momentums", "velocity": "_velocities"}
    return {**names, "velocity_hat": "_velocity_hats"} if k.amsgrad else names


def _rmsprop_slots(k: Any) -> dict[str, str]:
    names = {"velocity": "_velocities"}
    if k.momentum > 0:
        names["momentum"] = "_momentums"
    if k.centered:
        names["average"] = "_average_gradients"
    return names


def _rmsprop_state(k: Any, slots: State, rate: float) -> State:
    """Keras adds epsilon below the root: it is kept in the average itself, see :func:`_rmsprop_before`."""
    made = {"step": _number(k.iterations), "square_avg": slots["velocity"] + k.epsilon}
    if "momentum" in slots:
        made["momentum_buffer"] = slots["momentum"] / rate
    if "average" in slots:
        made["grad_avg"] = slots["average"]
    return made


def _rmsprop_before(k: Any, group: dict[str, Any], state: State, moment: Moment) -> None:
    """v + ε stays that: ρ·(v + ε + ε·(1-ρ)/ρ) + (1-ρ)·g² = (ρ·v + (1-ρ)·g²) + ε."""
    state["square_avg"].add_((1 - k.rho) / k.rho * k.epsilon)
    _keep_velocity(k, group, state, moment)


def _nadam_state(k: Any, slots: State, rate: float) -> State:
    return {
        "step": _number(k.iterations),
        "mu_product": _number(k._u_product),
        "exp_avg": slots["momentum"],
        "exp_avg_sq": slots["velocity"],
    }


RECORDS: dict[str, Record] = {
    "SGD": Record(
        torch.optim.SGD,
        lambda k: {"momentum": float(k.momentum), "nesterov": bool(k.nesterov and k.momentum)},
        lambda k: {"momentum": "momentums"} if k.momentum else {},
        _velocity,
        _keep_velocity,
    ),
    "Adam": Record(
        torch.optim.AdamW, _adam_options, _adam_slots, _adam_state, _adam_before, decays=True
    ),
    "AdamW": Record(
        torch.optim.AdamW, _adam_options, _adam_slots, _adam_state, _adam_before, decays=True
    ),
    "RMSprop": Record(
        torch.optim.RMSprop,
        lambda k: {"alpha": k.rho, "eps": 0.0, "momentum": k.momentum, "centered": k.centered},
        _rmsprop_slots,
        _rmsprop_state,
        _rmsprop_before,
    ),
    "Adagrad": Record(
        torch.optim.Adagrad,
        lambda k: {"eps": 0.0},
        lambda k: {"sum": "_accumulators"},
        # Keras adds epsilon below the root: a sum that begins higher by it.
        lambda k, slots, rate: {"step": _number(k.iterations), "sum": slots["sum"] + k.epsilon},
    ),
    "Adadelta": Record(
        torch.optim.Adadelta,
        lambda k: {"rho": k.rho, "eps": k.epsilon},
        lambda k: {"square_avg": "_accumulated_grads", "acc_delta": "_accumulated_delta_vars"},
        lambda k, slots, rate: {"step": _number(k.iterations), **slots},
    ),
    "Nadam": Record(
        torch.optim.NAdam,
        # Keras's schedule of momentum falls by 0.96 with every step.
        lambda k: {"betas": (k.beta_1, k.beta_2), "eps": k.epsilon, "momentum_decay": 1.0},
        lambda k: {"momentum": "_momentums", "velocity": "_velocities"},
        _nadam_state,
    ),
}

#: Settings that change a step and have no equal here: attribute -> what it does.
_UNKNOWN = {
    "use_ema": "a moving average of the weights",
    "gradient_accumulation_steps": "gradients of several steps that are added up",
    "loss_scale_factor": "a loss that is scaled",
}


def carried(
    optimizer: Any,
    model: Any,
    entries: Sequence[WeightEntry],
    variables: Mapping[str, Any],
    network: nn.Module,
) -> torch.optim.Optimizer:
    """Return a ``torch.optim`` optimizer of `network` that goes on where the Keras `optimizer` of `model` stands.

    `entries` are the weight map's and `variables` the Keras weights by their paths in it. Rate (or schedule),
    momentum and every average are carried; the next steps, on the same gradients, are Keras's to rounding. Raises
    :class:`BadInput` that lists all that has no equal in PyTorch.
    """
    record = RECORDS.get(type(optimizer).__name__)
    problems = _problems(optimizer, record, variables)
    if problems or record is None:
        raise BadInput(
            f"The Keras optimizer {type(optimizer).__name__} cannot go on in PyTorch.",
            expected=f"one of {', '.join(RECORDS)}",
            received="; ".join(problems),
            hint="write the torch.optim optimizer that comes next to it: t.model.parameters() are its weights",
        )
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    parameters = dict(network.named_parameters())
    entries = [_whole(entry) for entry in entries]
    for name in set(parameters) - {source for entry in entries for source in entry.sources}:
        del parameters[name]
    step = _Step(optimizer, record)
    made = record.torch(
        _groups(optimizer, entries, variables, parameters, record),
        **({"weight_decay": 0.0} if record.decays else {}),
        **{"lr": step.rate(), **record.options(optimizer)},
    )
    slots = {
        name: _slot(optimizer, attribute, entries, variables, parameters)
        for name, attribute in record.slots(optimizer).items()
    }
    for name, parameter in parameters.items():
        own = {
            slot: values.get(name, torch.zeros_like(parameter)).to(parameter)
            for slot, values in slots.items()
        }
        state = record.state(optimizer, own, step.last_rate)
        if parameter.requires_grad and state:
            made.state[parameter] = state
    made.register_step_pre_hook(step)
    return made


def _whole(entry: WeightEntry) -> WeightEntry:
    """An entry whose first weight moves for all: Keras's one bias is PyTorch's two, added up."""
    if entry.combine != "sum":
        return entry
    return dataclasses.replace(
        entry, sources=entry.sources[:1], source_shapes=entry.source_shapes[:1], combine=None
    )


def _problems(optimizer: Any, record: Record | None, variables: Mapping[str, Any]) -> list[str]:
    found = [] if record is not None else [f"{type(optimizer).__name__}"]
    for attribute, what in _UNKNOWN.items():
        value = getattr(optimizer, attribute, None)
        if value:
            found.append(f"{attribute}={value}: {what}")
    found += [
        f"{name} has the constraint {type(variable.constraint).__name__}"
        for name, variable in variables.items()
        if getattr(variable, "constraint", None) is not None
    ]
    return found


def _groups(
    optimizer: Any,
    entries: Sequence[WeightEntry],
    variables: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
    record: Record,
) -> list[dict[str, Any]]:
    """The weights that train; those that decay, and the others, where some do."""
    trained = {n: p for n, p in parameters.items() if p.requires_grad}
    decay = float(optimizer.weight_decay or 0)
    if not decay:
        return [{"params": list(trained.values())}]
    spared = {
        source
        for entry in entries
        if not optimizer._use_weight_decay(variables[entry.target])
        for source in entry.sources
    }
    wanted = [n for n in trained if n not in spared]
    key = "weight_decay" if record.decays else "keras_decay"
    groups = [
        {"params": [trained[n] for n in wanted], key: decay},
        {"params": [trained[n] for n in trained if n in spared], key: 0.0},
    ]
    return [group for group in groups if group["params"]]


def _slot(
    optimizer: Any,
    attribute: str,
    entries: Sequence[WeightEntry],
    variables: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
) -> State:
    """What the optimizer keeps for each weight under a name, by PyTorch's parameter."""
    kept = getattr(optimizer, attribute)
    made: dict[str, np.ndarray] = {}
    for entry in entries:
        variable = variables[entry.target]
        known = optimizer._trainable_variables_indices.get(optimizer._var_key(variable))
        if known is None or not all(source in parameters for source in entry.sources):
            continue
        zeros = [
            made.get(s, np.zeros(shape, variable.dtype))
            for s, shape in zip(entry.sources, entry.source_shapes, strict=True)
        ]
        made.update(zip(entry.sources, entry.to_source(_array(kept[known]), zeros), strict=True))
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in made.items()}


class _Step:
    """What Keras does before a step: the schedule's rate, clipping, decay, and what a record says."""

    def __init__(self, optimizer: Any, record: Record) -> None:
        self.keras, self.record = optimizer, record
        self.taken = int(_array(optimizer.iterations))
        self.last_rate = self.rate(max(self.taken - 1, 0))

    def rate(self, step: int | None = None) -> float:
        """The rate of a step, from 0: the next one where none is given."""
        schedule = self.keras._learning_rate
        if self.scheduled():
            from keras.optimizers.schedules import LearningRateSchedule

            counted = isinstance(schedule, LearningRateSchedule)
            schedule = schedule(self.taken if step is None else step) if counted else schedule()
        return float(_array(schedule))

    def scheduled(self) -> bool:
        """Whether the rate is Keras's to say; else it is the group's, which a scheduler of PyTorch may change."""
        schedule = self.keras._learning_rate
        return callable(schedule) and not hasattr(schedule, "assign")

    @torch.no_grad()
    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Called by ``optimizer.step()`` before it does anything."""
        self._clip([p for g in optimizer.param_groups for p in g["params"] if p.grad is not None])
        for group in optimizer.param_groups:
            if self.scheduled():
                group["lr"] = self.rate()
            rate = group["lr"]
            moment = Moment(self.taken + 1, rate, group.get("rate_before", self.last_rate))
            group["rate_before"] = rate
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group.get("keras_decay"):
                    parameter.mul_(1 - rate * group["keras_decay"])
                if self.record.before is not None:
                    self.record.before(self.keras, group, optimizer.state[parameter], moment)
        self.taken += 1

    def _clip(self, parameters: list[Any]) -> None:
        k = self.keras
        if k.clipvalue:
            torch.nn.utils.clip_grad_value_(parameters, k.clipvalue)
        for parameter in parameters if k.clipnorm else ():
            norm = parameter.grad.norm()
            parameter.grad.mul_(k.clipnorm / torch.clamp(norm, min=k.clipnorm))
        if k.global_clipnorm:
            norm = torch.stack([p.grad.norm() for p in parameters]).norm()
            for parameter in parameters:
                parameter.grad.mul_(k.global_clipnorm / torch.clamp(norm, min=k.global_clipnorm))


def _array(variable: Any) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable))


def _number(variable: Any) -> torch.Tensor:
    return torch.tensor(float(_array(variable)))


def of_source(translation: Any, optimizer: Any = None) -> torch.optim.Optimizer:
    """See :meth:`diglot.Translation.optimizer`."""
    weight_map = translation.weight_map
    if not weight_map.to_torch:
        raise UsageError(
            "only a translation from Keras to PyTorch has an optimizer to carry",
            hint="compile the Keras model with the optimizer that comes next to yours",
        )
    model = translation._way.source()
    chosen = optimizer if optimizer is not None else getattr(model, "optimizer", None)
    if chosen is None:
        raise UsageError(
            "the Keras model was not compiled", hint="t.optimizer(keras.optimizers.Adam())"
        )
    return carried(
        chosen, model, weight_map.entries, weight_map.variables(model), translation.model
    )
