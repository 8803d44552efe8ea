"""The class that PYNQ makes of a core in an overlay."""

import os
from collections.abc import Callable
from contextlib import closing
from typing import Any

from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ToolError
from tailrace.spec.registers import PAGE_BYTES

from ..device.driver import Device
from ..export.naming import ExportedCore
from ..gguf.describe import DescribedModel
from ..image.builds import AUTO, lay_out, rounded_up
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..language_model import LanguageModel
from ..loading import load_into
from ..transports.sizes import parse_size
from .transport import PynqTransport, allocated

try:
    from pynq import DefaultIP, allocate
except ImportError as error:
    raise ToolError(
        "the Python package pynq is needed for a core in a PYNQ overlay: boards with PYNQ's image have it; use the Python of"
        " its notebooks"
    ) from error


class TailraceIP(DefaultIP):
    """A core in an overlay: ``overlay.tailrace_0.load("model.gguf").generate("...")``.

    PYNQ finds this class by the core's name in the design, which is that of ``tailrace export`` for the named configurations;
    `bind` adds others.

    Parameters
    ----------
    description : dict
        What PYNQ's overlay says of the core.
    """

    bindto = [ExportedCore(config).vlnv for config in CONFIGS.values()]

    def load(
        self,
        model: str | os.PathLike[str],
        *,
        memory: str = AUTO,
        target: Any = None,
        context: int | None = None,
        batch: int = 1,
        tokens_per_doorbell: int = 1,
        quantise: str | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> LanguageModel:
        """Load a language model: as `tailrace.load`, into a buffer of this board.

        A model that was loaded before is closed by this, and its buffer freed.

        Parameters
        ----------
        model : str or path
            A GGUF file; or ``smollm2``, or ``shakespeare``.
        memory : str
            Size of the buffer, as in ``256MiB``. ``auto``: as much as is needed.
        target : pynq.Device, or one of its memories, or None
            Where the buffer is; None: the active device.
        context, batch, tokens_per_doorbell, quantise, progress
            As for `tailrace.load`.

        Returns
        -------
        LanguageModel
            Its ``close()`` frees the buffer.

        Raises
        ------
        ConfigError
            If the board gives no buffer of this size.
        TailraceError
            As `tailrace.load`; or if the core does not answer as one.
        """
        if (earlier := getattr(self, "_loaded", None)) is not None:
            earlier.close()
        name = getattr(self, "_fullpath", "tailrace")

        def opened(imported: DescribedModel, request: ImageRequest) -> Device:
            size = parse_size(memory) if memory != AUTO else rounded_up(lay_out(imported, self._geometry(target), request).size)
            return Device(PynqTransport(self.mmio, allocated(allocate, size, target), name))

        self._loaded = load_into(
            opened,
            model,
            context=context,
            batch=batch,
            tokens_per_doorbell=tokens_per_doorbell,
            quantise=quantise,
            progress=progress,
        )
        return self._loaded

    def _geometry(self, target: Any) -> Geometry:
        """What the core says of itself."""
        with closing(PynqTransport(self.mmio, allocated(allocate, PAGE_BYTES, target))) as transport:
            return Geometry.of_device(transport)


def bind(vlnv: str) -> None:
    """Let PYNQ take cores of another name for this driver's, before the overlay is loaded.

    Parameters
    ----------
    vlnv : str
        Vendor, library, name and version as the design has them, such as ``tailrace:cores:tailrace_base_bus_width_256:0.1.0``.
    """
    type("TailraceIP", (TailraceIP,), {"bindto": [vlnv], "__doc__": TailraceIP.__doc__})
