"""What would run where: decided, with reasons, before anything is loaded."""

from dataclasses import dataclass
from enum import Enum

from tailrace.spec.config import Config
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import Q8_0X3, Format

from ..device.products import stream_bytes, workspace_bytes
from ..gguf.architectures import EMBEDDING, tensor_name
from ..gguf.file import Model, Tensor
from ..gguf.wider import WIDER
from ..image.builds import AUTO, builds_of
from ..image.fits import check_quantiser, device_format
from ..image.geometry import Geometry


class Place(Enum):
    """Where a tensor is used in a decode step."""

    DEVICE = "device"
    HOST = "host"
    REFUSED = "refused"


@dataclass(frozen=True)
class TensorPlacement:
    """A tensor and where it is used.

    Attributes
    ----------
    tensor : Tensor
    place : Place
    format : Format or None
        For a tensor on the device, the format that it has there.
    stream_bytes : int
        Bytes that the device reads of it for a token.
    reason : str
        Why it is not on the device, or what else there is to say.
    """

    tensor: Tensor
    place: Place
    format: Format | None = None
    stream_bytes: int = 0
    reason: str = ""

    @property
    def quantise(self) -> bool:
        """Whether its numbers become others, because the user asked for it."""
        return self.format not in (None, self.tensor.format, Q8_0X3) and self.tensor.type_name not in WIDER


@dataclass(frozen=True)
class Plan:
    """Every tensor's placement, in the file's order."""

    model: Model
    geometry: Geometry
    placements: tuple[TensorPlacement, ...]

    def placed(self, place: Place) -> list[TensorPlacement]:
        """The tensors in one place."""
        return [p for p in self.placements if p.place is place]

    @property
    def stream_bytes(self) -> int:
        """Bytes of weights that the device reads for a token."""
        return sum(p.stream_bytes for p in self.placements)

    @property
    def workspace_bytes(self) -> int:
        """Device memory for commands, vectors and results of the largest group of products of one pass."""
        tensors = self.model.tensors
        names = [[tensor_name(0, name) for name in group] for group in self.model.architecture.groups]
        groups = [group for group in ([tensors[n] for n in group if n in tensors] for group in names) if group]
        return max(
            workspace_bytes(self.geometry, [t.rows for t in tensors], tensors[0].columns, self.geometry.right_hand_sides)
            for tensors in [*groups, [self.model.head]]
        )

    @property
    def memory_bytes(self) -> int:
        """Device memory that the model needs."""
        return self.stream_bytes + self.workspace_bytes

    def check(self, memory_size: int, *, allow_host: bool = False) -> None:
        """Refuse what can't run.

        Parameters
        ----------
        memory_size : int
            Bytes of device memory.
        allow_host : bool
            Let the host run the matrices that the device can't.

        Raises
        ------
        ModelError
            If a matrix can't run on the device, the host can't turn one of those left to it into numbers, or layers keep
            states.
        LimitError
            If the model does not fit its memory.
        """
        if self.model.architecture.keeps_states:
            raise ModelError(
                f"{self.model.path} has layers with states, whose operations do not run one by one: leave out --path operations"
                " and --allow-host"
            )
        refused = self.placed(Place.REFUSED)
        if allow_host or not refused:
            for p in (*refused, *self.placed(Place.HOST)):
                p.tensor.check_readable()
        if refused and not allow_host:
            lines = [f"  {p.tensor.name} ({p.tensor.type_name}): {p.reason}" for p in refused[:5]]
            if len(refused) > 5:
                lines.append(f"  and {len(refused) - 5} more; `tailrace inspect` lists them all")
            raise ModelError(
                f"{self.model.path} can't run on this device: {len(refused)} of its matrices are refused.\n" + "\n".join(lines)
                + "\n--allow-host runs these, and only these, on the host instead."
            )  # fmt: skip
        if self.memory_bytes > memory_size:
            raise LimitError(
                f"{self.model.path} needs {self.memory_bytes} bytes of device memory, but only {memory_size} are available:"
                " give the device more with --memory, or choose a smaller model"
            )


def make_plan(model: Model, geometry: Geometry, quantise: str | None = None) -> Plan:
    """Decide where each tensor runs.

    Parameters
    ----------
    model : Model
    geometry : Geometry
    quantise : str or None
        Format to quantise F32, F16 and BF16 matrices to; None: they are taken apart into planes.
    """
    check_quantiser(quantise)
    wanted = {t.name for t in model.matrices}
    placements = []
    for tensor in model.tensors.values():
        if tensor.name in wanted:
            placements.append(_place_matrix(tensor, geometry, quantise))
        else:
            reason = "looked up by token" if tensor.name == EMBEDDING else "not a matrix of the decode step"
            placements.append(TensorPlacement(tensor, Place.HOST, reason=reason))
    return Plan(model, geometry, tuple(placements))


def make_smallest_plan(model: Model, quantise: str | None = None, config: str = AUTO) -> tuple[Config, Plan]:
    """The smallest build of a configuration (`builds_of`) that refuses the fewest matrices, and the plan for it."""
    plans = [(build, make_plan(model, Geometry.of_config(build), quantise)) for build in builds_of(config)]
    return min(plans, key=lambda choice: len(choice[1].placed(Place.REFUSED)))


def _place_matrix(tensor: Tensor, geometry: Geometry, quantise: str | None) -> TensorPlacement:
    fmt, reason = device_format(tensor, tensor.columns, geometry, quantise)
    if fmt is None:
        return TensorPlacement(tensor, Place.REFUSED, reason=reason)
    note = "also looked up by token on the host" if tensor.name == EMBEDDING else ""
    if tensor.type_name in WIDER:
        note = f"{tensor.type_name} as {fmt.name}, with the same values"
    elif fmt is Q8_0X3:
        note = f"{tensor.type_name} in {fmt.planes} planes of 8 bits"
    elif fmt is not tensor.format:
        note = f"quantised from {tensor.type_name} as asked"
    return TensorPlacement(tensor, Place.DEVICE, fmt, stream_bytes(geometry, fmt, tensor.rows, tensor.columns), note)
