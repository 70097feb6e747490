"""The order of the passes, with the reason for each place."""

from __future__ import annotations

from collections.abc import Callable

from diglot.ir.hub import Hub
from diglot.passes import (
    always_dropout,
    attention_scores,
    bags,
    broadcasts,
    by_mode,
    causal,
    clamps,
    clean,
    complex_numbers,
    dense,
    flat_pools,
    flat_products,
    fold,
    functional,
    gelu,
    joined,
    kept_axes,
    kept_values,
    last_states,
    lengths,
    masks,
    new_axes,
    pass_through,
    repeats,
    same_padding,
    skipped_steps,
    stochastic_depth,
    trimming,
    turned_axes,
    turned_masks,
    unit_length,
    variances,
    window_padding,
)

#: Before the call tree is laid: these may drop or replace nodes.
PIPELINE: tuple[tuple[Callable[[Hub], None], str], ...] = (
    (clean.drop_checks, "assertions and bookkeeping hold the graph's values alive"),
    (
        stochastic_depth.recognise,
        "its noise is drawn in place, and is no longer a pattern once made functional",
    ),
    (always_dropout.recognise, "its mask is no result of the program's"),
    (functional.make_functional, "later passes may then move and drop nodes freely"),
    (by_mode.specialise, "a buffer that is changed twice is chosen twice, once within the other"),
    (clean.drop_identities, "after in-place ops are gone a copy is the value itself"),
    (complex_numbers.to_real, "their tables of cosines and sines may then be folded"),
    (bags.open_bags, "where bags begin is an arange, which folding might make a constant"),
    (fold.fold_constants, "mask building is mostly arithmetic on constants and sizes"),
    (masks.simplify, "index arithmetic on folded aranges becomes plain broadcasting"),
    (causal.recognise, "its comparisons are plain once indexing with aranges is gone"),
    (clean.drop_identities, "simplified masks leave casts and expands behind"),
    (repeats.recognise, "the heads of grouped attention are repeated, not reshaped"),
    (dense.unflatten_dense, "GPT-2's Conv1D is a Dense between two views"),
    (broadcasts.drop_spreads, "masks, which are spread as well, are recognised by now"),
    (kept_axes.keep_axes, "sizes that a view was given are constants or plain sizes by now"),
    (
        pass_through.read_arguments_directly,
        "what a module hands on unchanged is none of its results",
    ),
    (last_states.take_last_states, "Keras returns the last layer's states by themselves"),
    (same_padding.recognise, "sizes are plain by now, and fixed ones numbers"),
    (trimming.keep_padding, "where a sequence's last step is read, what follows it is not"),
    (clean.drop_dead, "what nobody reads is not translated"),
)


#: These bring the hub to forms that Keras has and PyTorch does not.
FOR_KERAS = frozenset(
    {
        complex_numbers.to_real,
        bags.open_bags,
        dense.unflatten_dense,
        last_states.take_last_states,
        same_padding.recognise,
    }
)


#: And these to forms that PyTorch has; Keras has none, or none that is exact.
FOR_TORCH: tuple[tuple[Callable[[Hub], None], str], ...] = (
    (gelu.recognise, "Keras's own is written out where it must be exact"),
    (lengths.hand_over, "Keras's layers run under a mask, PyTorch's by lengths"),
    (clamps.join, "Keras bounds a ReLU that is bounded from below by itself"),
    (variances.recognise, "TensorFlow has a mean and a mean of squares"),
    (clean.drop_dead, "the mean may be read once less"),
    (unit_length.recognise, "Keras has a function of its own, whose gradient at zero is another"),
    (variances.drop_axes, "it keeps the axes that it takes away afterwards"),
    (flat_products.unflatten_products, "TensorFlow multiplies matrices only, or as many of them"),
    (turned_axes.turn_back, "TensorFlow's softmax knows the last axis only"),
    (turned_axes.join, "one layer ends and the next begins with its own order of axes"),
    (kept_values.turn_choices, "a layer's weight that training changes stays as it is otherwise"),
    (kept_values.detach, "Keras's variables hold numbers alone"),
    (turned_masks.turn, "Keras keeps a convolution's weight in another order of axes"),
    (new_axes.put_in_place, "TensorFlow's 1-D convolutions are 2-D ones of one row"),
    (flat_pools.flatten, "and so is its 1-D pooling"),
    (skipped_steps.recognise, "Keras's layers take any mask; how to do without is a function"),
    (joined.join_once, "blocks of a graph join what they were given to what they made"),
    (window_padding.absorb, "Keras pads images in a layer of its own"),
    (attention_scores.weigh_once, "PyTorch's own attention does not return its scores"),
    (clean.drop_dead, "what the two replaced"),
)


def run(hub: Hub, target: str = "keras") -> None:
    """Run every pass that the target needs on a hub, in place."""
    for step, _ in PIPELINE:
        if target == "keras" or step not in FOR_KERAS:
            step(hub)
    for step, _ in FOR_TORCH if target == "torch" else ():
        step(hub)
