"""The PyTorch half of training: the explicit loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diglot.runtime.exchange import read_arrays, write_arrays
from diglot.training.checkpoint import below, read_checkpoint, write_checkpoint
from diglot.training.recipe import Recipe
from diglot.training.run import Run
from diglot.training.task import Arrays, Batch, mapped
from diglot.training.tensorboard import open_log


class Batches(Dataset[Batch]):
    """The batches of a run, by the number of their step."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __len__(self) -> int:
        return self.run.last

    def __getitem__(self, step: int) -> Batch:
        return self.run.batch(step)


def train(run: Run) -> dict[str, Any]:
    """Train, or finish training, and give the figures; weights.safetensors holds the result."""
    job = run.job
    torch.set_default_dtype(getattr(torch, job.dtype))
    torch.manual_seed(job.recipe.seed)
    module = run.task.torch()
    model = module.build_model(**job.model)
    set_state(model, read_arrays(job.start))
    optimizer = make_optimizer(job.recipe, model)
    path = job.folder / "checkpoint.safetensors"
    if (found := read_checkpoint(path, job)) is not None:
        _restore(model, optimizer, found[0])

    def save() -> None:
        write_checkpoint(path, _snapshot(model, optimizer), run.metadata())

    def evaluate(inputs: Arrays) -> Any:
        return predict(model, inputs)

    run.begin(evaluate, found[1] if found else None)
    with open_log(run) as log:
        for batch in _remaining(run):
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = run.rate(run.step)
            optimizer.zero_grad()
            outputs = model(**_tensors(batch.inputs))
            loss = module.loss_function(outputs, *_expected(batch))
            loss.backward()
            optimizer.step()
            run.after_step(loss.item(), save)
            log.step(run)
            if run.at_epoch_end():
                run.after_epoch(evaluate, save)
                log.epoch(run)
            if run.finished:
                break
    save()
    result = run.result(evaluate, model, sum(p.numel() for p in model.parameters()))
    write_arrays(job.folder / "weights.safetensors", state_of(model))
    return result


def predict(model: nn.Module, inputs: Arrays) -> Any:
    """The outputs of a model in evaluation mode, as arrays in the structure that it returns."""
    model.eval()
    with torch.no_grad():
        return _arrays(model(**_tensors(inputs)))


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe over all trainable parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate = recipe.learning_rate
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=recipe.momentum)
    if recipe.optimizer == "adamw":
        decay = recipe.weight_decay
        return torch.optim.AdamW(parameters, rate, eps=recipe.epsilon, weight_decay=decay)
    return torch.optim.Adam(parameters, rate, eps=recipe.epsilon)


def state_of(model: nn.Module) -> Arrays:
    """The state dict as arrays."""
    return {name: tensor.numpy(force=True) for name, tensor in model.state_dict().items()}


def set_state(model: nn.Module, arrays: Arrays) -> None:
    """Load arrays by the names of the state dict, all of them."""
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})


def _remaining(run: Run) -> Iterator[Batch]:
    """The batches from where the run stands to its end."""
    if run.finished:
        return
    steps = range(run.step, run.last)
    # The batches are made ready: collating would stack them once more.
    yield from DataLoader(Batches(run), batch_size=None, sampler=steps)


def _expected(batch: Batch) -> list[Any]:
    """The targets, and the weights where there are any, as tensors or dicts of tensors."""
    parts = [batch.targets] if batch.weights is None else [batch.targets, batch.weights]
    return [mapped(torch.as_tensor, part) for part in parts]


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array) for name, array in arrays.items()}


def _arrays(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy(force=True)
    if isinstance(value, dict):
        return {name: _arrays(item) for name, item in value.items()}
    return tuple(_arrays(item) for item in value)


def _snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> Arrays:
    """Everything that the next step depends on."""
    arrays = {f"model/{name}": array for name, array in state_of(model).items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                arrays[f"optimizer/{index}/{name}"] = torch.as_tensor(value).numpy(force=True)
    arrays["rng"] = torch.get_rng_state().numpy()
    return arrays


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, arrays: Arrays) -> None:
    set_state(model, below(arrays, "model/"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for path, array in below(arrays, "optimizer/").items():
        index, _, name = path.partition("/")
        state.setdefault(int(index), {})[name] = torch.from_numpy(np.array(array))
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(torch.from_numpy(np.array(arrays["rng"])))
