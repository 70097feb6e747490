"""Nothing here runs before torchvision can be imported: transformers and timm look for it."""

import contextlib

with contextlib.suppress(ModuleNotFoundError):
    import torchvision_stub  # noqa: F401
