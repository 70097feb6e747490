"""Layout: PyTorch's channels-first axes -> Keras's channels-last, without transposes.

A layout is one permutation per tensor: the target's axis ``i`` holds PyTorch's axis ``perm[i]`` (``None``: the
same order). The graph's ops keep their logical axes; only the annotation ``node.meta["layout"]`` changes, and the
writer maps every axis, shape and weight through it. In order:

1. *ask*: which inputs and permutes feed a convolution (``wants_channels_last``);
2. *assign*: walk the graph once; each op takes its inputs' layout, or has them turned (:mod:`.convert`);
3. a permute between layouts costs nothing: it only changes the annotation;
4. a flatten in front of a Linear keeps the target's order and turns the Linear's rows instead (:mod:`.flatten`).
"""

from diglot.passes.layout.assign import Boundary, assign_layouts

__all__ = ["Boundary", "assign_layouts"]
