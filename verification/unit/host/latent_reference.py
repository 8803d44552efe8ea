"""Models of transformers with latent attention, whose caches hold latents and rotated keys, as the device has stored them."""

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from tailrace.huggingface.internals import with_cache

Floats = NDArray[np.float32]
#: Types of models that rotate neighbours, and leave them where they are.
_IN_PLACE = ("deepseek_v2",)


def latent_logits(
    model: Any, tokens: Sequence[int], cache: Any, change: Callable[[int, Floats, Floats], tuple[Floats, Floats]]
) -> Floats:
    """Logits with each layer's keys and values changed on their way into the cache.

    The one key is the rotated one, first elements of all pairs before the second ones, and the latent; the value is the latent.
    Shapes are (1, positions, elements).
    """
    rotated = model.config.qk_rope_head_dim
    apart = np.arange(rotated).reshape(-1, 2).T.reshape(-1) if model.config.model_type in _IN_PLACE else np.arange(rotated)
    modules = [module for module in model.modules() if type(module).__name__.endswith("Attention")]
    patches = []
    for n, (layer, module) in enumerate(zip(cache.layers, modules, strict=True)):
        kept: list[Any] = []

        def update(
            latent: Any, key: Any, *args: Any, original: Any = layer.update, n: int = n, kept: Any = kept, **more: Any
        ) -> Any:
            found, values = change(
                n, np.concatenate([key[0].numpy()[..., apart], latent[0].numpy()], axis=-1), latent[0].numpy()
            )
            kept.append(_tensor(values))
            return original(_tensor(found[..., rotated:]), _tensor(found[..., np.argsort(apart)]), *args, **more)

        def expand(latent: Any, key: Any, original: Any = module.expand_kv, kept: Any = kept) -> Any:
            return original(latent, key)[0], original(kept.pop(), key)[1]

        layer.update = update
        patches.append(patch.object(module, "expand_kv", expand))
    for one in patches:
        one.start()
    with torch.no_grad():
        logits = model(torch.tensor([list(map(int, tokens))]), **with_cache(cache)).logits[0].numpy()
    for one in patches:
        one.stop()
    return logits


def _tensor(part: Floats) -> Any:
    return torch.from_numpy(np.ascontiguousarray(part))[None]
