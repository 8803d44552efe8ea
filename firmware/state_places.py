"""Where the heads of linear attention have what: in memory, and in the activation buffer."""

from tailrace.spec.errors import LimitError
from tailrace.spec.formats import BLOCK
from tailrace.spec.linear_attention import ENTRIES, StateLayout
from tailrace.spec.recent_rows import RecentRows

from .command_list import Address, Loaded
from .description import LinearAttention
from .workspace import Workspace

#: Elements of a key at most, so that both planes are what one `APPEND` takes.
MAX_KEY_SIZE = 256
#: Entries between the results of a list's product for one vector and those for the next.
SCORES = -(-ENTRIES // 4) * 4


def layout_of(a: LinearAttention, lanes: int) -> StateLayout:
    """How what a layer keeps lies in memory."""
    return StateLayout(a.key_heads, a.value_heads, a.key_size, a.value_size, RecentRows(a.channels, a.kernel), lanes)


class StatePlaces:
    """Places of one layer, all of which but the last few live from its first product to its end.

    Parameters
    ----------
    workspace : Workspace
    roles : str
        What the roles of its tensors begin with.
    mixer : int
        Its number among all mixers.
    a : LinearAttention

    Attributes
    ----------
    result : int
        Entries for what the output matrix gives.
    """

    def __init__(self, workspace: Workspace, roles: str, mixer: int, a: LinearAttention) -> None:
        w = self.w = workspace
        self.a, self.mixer, self.layout = a, mixer, layout_of(a, w.build.lanes)
        self._roles = roles
        _check(a)
        allocate, heads = w.buffer.allocate, _round4(a.value_heads)
        self.result = allocate("the results of o", w.batch * w.hidden)
        self.mixed = allocate("queries, keys and values", w.batch * a.channels)
        self.gate = allocate("the gate of linear attention", w.batch * a.values)
        self.stride = heads
        self.alpha = allocate("what decays come from", w.batch * heads)
        self.rates = allocate("rates", w.batch * heads)
        self.logs = allocate("the sums of decays", w.batch * heads)
        self.decays = allocate("decays", w.batch * heads)
        self.matches = allocate("products of keys and queries", w.batch * heads)
        self.planes = allocate("the weights of planes", 2)
        self.scratch = allocate("what is between", max(2 * heads, 2 * a.key_heads, 4 * a.keys // BLOCK))
        self.lengths = allocate("scales", max(2 * a.key_heads, 4 * a.keys // BLOCK, heads))
        #: Where keys and deltas are taken apart.
        self.apart = 0

    def role(self, tensor: str) -> str:
        """The role of a tensor."""
        return self._roles + tensor

    def part(self, sequence: int, name: str, offset: int = 0, *registers: int) -> Address:
        """A place in what a sequence keeps."""
        place = self.w.state(sequence, self.mixer)
        address = self.w.cache_address(place.address + self.layout.offsets[name] + offset)
        return Address(address.byte, (*address.registers, *registers))

    def entries(self, sequence: int) -> int:
        """Register with the entries of a list, which is the number of the token's own entry, too."""
        return self.w.length_registers[sequence % 2][0]

    def query(self, sequence: int, head: int = 0) -> int:
        """Entry of a query."""
        return self.mixed + sequence * self.a.channels + head * self.a.key_size

    def key(self, sequence: int, head: int = 0) -> int:
        """Entry of a key."""
        return self.query(sequence, head) + self.a.keys

    def value(self, sequence: int, head: int = 0) -> int:
        """Entry of a value, and later of what is added to the state for it."""
        return self.mixed + sequence * self.a.channels + 2 * self.a.keys + head * self.a.value_size

    def each(self, entry: int, sequence: int, first: int) -> Loaded:
        """For each head from the first one on its own number."""
        return Loaded(entry + sequence * self.stride + first, advance=True)


def _check(a: LinearAttention) -> None:
    if a.key_size % BLOCK or a.value_size % BLOCK or a.key_size > MAX_KEY_SIZE:
        raise LimitError(
            f"heads of linear attention must be multiples of {BLOCK}, keys of at most {MAX_KEY_SIZE} elements, not {a.key_size}"
            f" and {a.value_size}"
        )


def _round4(count: int) -> int:
    return -(-count // 4) * 4
