"""A model laid out for a device, image and programs, and the longest context with which that can be done."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.kv_cache import CAPACITY_UNIT

from ..gguf.describe import DescribedModel
from .geometry import Geometry
from .image import Image, ImageRequest
from .kinds import one_of_each
from .plan import plan_image
from .programs import Programs, build_programs, check_programs


@dataclass(frozen=True)
class Layout:
    """All that a device's memory holds of a model."""

    image: Image
    programs: Programs

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self.programs.end - self.image.base


def layout_of(imported: DescribedModel, geometry: Geometry, request: ImageRequest, base: int = 0) -> Layout:
    """Lay a model out for its context. Reads no weights, but for the exponents of MXFP4.

    Parameters
    ----------
    imported : DescribedModel
    geometry : Geometry
    request : ImageRequest
    base : int
        First address, a multiple of 64.

    Raises
    ------
    ModelError
        If the device can't read a matrix.
    LimitError
        If the model, its context or the batch does not fit the device.
    """
    image = plan_image(imported, geometry, request, base)
    return Layout(image, build_programs(image))


def fits(imported: DescribedModel, geometry: Geometry, request: ImageRequest) -> bool:
    """Whether a device takes a model with its context, if it has the memory."""
    try:
        check_programs(plan_image(one_of_each(imported), geometry, request))
    except (LimitError, ModelError):
        return False
    return True


def longest_context(imported: DescribedModel, geometry: Geometry, request: ImageRequest, available: int | None = None) -> int:
    """The longest context that a device takes.

    Parameters
    ----------
    imported : DescribedModel
        With any context.
    geometry : Geometry
    request : ImageRequest
    available : int or None
        Bytes of device memory; None: as much as is needed.

    Returns
    -------
    int
        A multiple of 64, or what the model was trained for; 0 if it takes none.
    """
    trained, small = imported.trained, one_of_each(imported)
    most = _last(-(-trained // CAPACITY_UNIT), lambda n: fits(_with_room(small, n), geometry, request))
    if available is not None:
        most = _last(most, lambda n: layout_of(_with_room(imported, n), geometry, request).size <= available)
    return min(most * CAPACITY_UNIT, trained)


def _with_room(imported: DescribedModel, units: int) -> DescribedModel:
    """A model for another context, of which nothing but its length matters."""
    return replace(imported, context=units * CAPACITY_UNIT)


def _last(most: int, good: Callable[[int], bool]) -> int:
    """The last number up to `most` that is good, where all before it are good, too; 0 if none is."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        low, most = (middle, most) if good(middle) else (low, middle - 1)
    return low
