"""Lets torchvision be imported beside a torch built without its operators, as open_clip and timm need it to be."""

import contextlib

with contextlib.suppress(ImportError):
    import torch

    _register = torch.library.register_fake

    def _register_fake(name, *args, **kwargs):
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return _register(name, *args, **kwargs)

    torch.library.register_fake = _register_fake
