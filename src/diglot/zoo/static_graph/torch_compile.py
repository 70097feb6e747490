"""The same computation in PyTorch: eager, and captured by torch.compile."""

import torch


def compute(x, y):
    return (x + y) * 2.0


def build_eager():
    """Run operation by operation: there is no graph."""
    return lambda x, y: compute(x, y).numpy(), []


def build():
    """z = (x + y) · 2 as a function of x and y, and the graph that was captured."""
    graph = []

    def keep(module, example_inputs):  # a backend of torch.compile is given the captured graph
        for node in module.graph.nodes:
            graph.append((node.name, node.op, [i.name for i in node.all_input_nodes]))
        return module.forward

    torch.compile(compute, fullgraph=True, backend=keep)(torch.ones(2), torch.ones(2))
    compiled = torch.compile(compute, fullgraph=True)
    return lambda x, y: compiled(x, y).numpy(), graph


def tensor(array):
    """An input as this framework's tensor."""
    return torch.from_numpy(array)
