"""Import torchvision's Python files where its compiled operators cannot load (a CPU build of torch).

``import torchvision_stub`` first, then timm or transformers. For tests only, never for the product:
with it, torchvision's own operators (nms, roi_align, …) do not exist.
"""

import torch

_register_fake = torch.library.register_fake


def _skip_missing(op, *args, **kwargs):
    if isinstance(op, str) and op.startswith("torchvision::"):
        return lambda function: function
    return _register_fake(op, *args, **kwargs)


torch.library.register_fake = _skip_missing
try:
    import torchvision  # noqa: F401
finally:
    torch.library.register_fake = _register_fake
