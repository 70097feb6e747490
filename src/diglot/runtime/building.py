"""Building a Keras model without tracing its layers over and over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def traced_once() -> Iterator[None]:
    """Within the block, building a nested layer traces it once, not once for every layer around it.

    Keras builds a layer that has no `build` of its own by tracing its `call`, and then calls it.
    Inside the trace of an outer layer that call is itself a trace, which builds the inner layers
    as well; so there Keras's own step comes after the call, when it finds them built. The model is
    the same; a transformer, five layers deep, is built in half the time.
    """
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope
    from keras.src.layers import Layer
    from keras.src.utils.python_utils import is_default

    original_build, original_call = Layer._maybe_build, Layer.__call__
    put_off: dict[int, Any] = {}

    def maybe_build(self: Any, call_spec: Any) -> None:
        if self.built or not in_symbolic_scope() or not is_default(self.build):
            original_build(self, call_spec)
        else:
            put_off[id(self)] = call_spec

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original_call(self, *args, **kwargs)
        if id(self) in put_off:
            self.built = False
            original_build(self, put_off.pop(id(self)))
        return outputs

    Layer._maybe_build, Layer.__call__ = maybe_build, call
    try:
        yield
    finally:
        Layer._maybe_build, Layer.__call__ = original_build, original_call
