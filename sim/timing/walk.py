"""A walk through a program, command by command, that says when each is fetched, started and finished."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NUMBER
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Opcode, SetMode

from . import latencies
from .buffer_writes import BufferWrites
from .command_fetch import CommandFetch
from .commands import Command
from .memory import MemoryTiming
from .parameters import ParameterBeats
from .read_stream import ReadStream
from .units import Unit
from .vector_work import append_addresses, append_writes, beats_of, elementwise_end, is_streamed, segments_of, words_written
from .writes import Writes

_WORD = 0xFFFF_FFFF
#: Turns of a loop whose mean stands for the others, and the part by which they may differ: as soon as one of these holds.
_EQUAL = ((2, 2e-4), (4, 3e-3))


@dataclass
class _VectorOperation:
    """An operation of the vector unit, whose end depends on what the matrix unit writes meanwhile.

    Attributes
    ----------
    earliest : float
        When it could have started if the unit had been free.
    length, last : float
        Cycles from its start to its end and to its last word, if nothing else is written.
    words, gap : int
        That it writes to the buffer, and cycles from one to the next.
    finish : float
    span : int
        Which of the spans is its own.
    """

    earliest: float
    length: float
    last: float
    words: int
    gap: int
    finish: float
    span: int


class Walk:
    """Works out the cycles of a run.

    Commands are looked at in the order in which the program executes them. What a command waits for comes before it: the beats
    before its own, the operations that its ``pending`` names, room in a queue, a `FENCE`. So one pass is enough, but for the
    last operations of the vector unit, which let the results of a product pass that comes behind them.

    Parameters
    ----------
    commands : sequence of Command
    config : Config
    memory : MemoryTiming
    address : int
        Of the program.
    registers : sequence of int
        What they hold at the start.
    exact : bool
        Whether every turn of every loop is looked at, also when turns have become equal.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        config: Config,
        memory: MemoryTiming,
        address: int,
        registers: Sequence[int],
        exact: bool = False,
    ) -> None:
        self._commands, self._config, self._memory, self._exact = commands, config, memory, exact
        #: Elements of a beat of vectors, and words of the activation buffer in it.
        self._beat_elements = config.unit_bytes // 4
        self._beat_words = self._beat_elements // config.word_elements
        self._stream = ReadStream(config, memory)
        self._fetch = CommandFetch(config, self._stream, tuple(command.target for command in commands), address)
        self._matrix, self._vector = Unit(), Unit()
        self._parameters = ParameterBeats()
        self._buffer = BufferWrites()
        #: The vector unit's last operations.
        self._recent: deque[_VectorOperation] = deque(maxlen=latencies.QUEUE_DEPTH - 1)
        self._registers = list(registers)
        # When the matrix unit has taken its last beat, and when it lets the next product in.
        self._last_beat = self._begun = -float(latencies.MATRIX_START)
        self._writes = Writes(memory)
        self._turns: dict[int, list[tuple[float, list[int], int]]] = {}
        self._skipped_beats = 0
        self._time = 0.0
        #: Start and finish of each operation, for those who compare them with a simulation: unit, index, cycles.
        self.spans: list[tuple[str, int, float, float]] = []

    @property
    def beats(self) -> int:
        """Beats that were read."""
        return self._stream.beats + self._skipped_beats

    def run(self) -> float:
        """Cycles from the doorbell to the end of the run."""
        self._time = float(latencies.RUN_START)
        self._fetch.start(self._time, 0)
        index = 0
        while index < len(self._commands):
            index = self._step(index)
        done = max(self._time + 1, self._vector.finished, self._matrix.finished, self._writes.answered, self._stream.arrived)
        return done + latencies.RUN_END

    def _step(self, index: int) -> int:
        """Carry out a command; returns the index of the next one."""
        command = self._commands[index]
        self._fetch.advance(self._time)
        taken = self._fetch.take(self._time)
        issue = taken + latencies.ISSUE + latencies.MODIFIER * len(command.modifiers)
        opcode = command.opcode
        fields = command.fields(self._registers)
        if opcode is Opcode.SET:
            self._set(fields)
            self._time = issue + 1 + latencies.SET
        elif opcode is Opcode.FENCE:
            met = max(self._vector.without(fields["pending"]), self._writes.answered) + latencies.WRITE_ANSWERED
            self._time = max(issue, met) + 1
        elif opcode is Opcode.LOOP:
            return self._loop(index, fields, issue)
        elif opcode is Opcode.GEMV:
            self._product(index, fields, issue)
        else:
            self._vector_operation(index, opcode, fields, issue)
        return index + 1

    def _set(self, fields: Mapping[str, int]) -> None:
        registers = self._registers
        value = (registers[fields["x"]] * fields["factor"] + registers[fields["y"]] + fields["addend"]) & _WORD
        value >>= fields["shift"]
        if fields["mode"] == SetMode.MINIMUM:
            value = min(value, fields["limit"])
        elif fields["mode"] == SetMode.WRAP and value >= fields["limit"]:
            value = 0
        self._write_register(fields["register"], value)

    def _write_register(self, register: int, value: int) -> None:
        if register:
            self._registers[register] = value

    def _loop(self, index: int, fields: Mapping[str, int], issue: float) -> int:
        register = fields["register"]
        left = (self._registers[register] - 1) & _WORD
        self._write_register(register, left)
        self._time = issue + 1 + latencies.LOOP
        if not left or not register:
            if index + 1 < len(self._commands):
                self._fetch.advance(self._time)
                self._fetch.start(self._time, index + 1)
                self._time += latencies.LOOP_LEFT
            return index + 1
        # Loops within this one begin anew.
        self._turns = {loop: turns for loop, turns in self._turns.items() if not fields["target"] <= loop < index}
        turns = self._turns.setdefault(index, [])
        turns.append((self._matrix.finished, list(self._registers), self._stream.beats))
        if not self._exact and len(turns) > 2 and left > 2:
            self._skip_turns(turns, register, left)
        return fields["target"]

    def _skip_turns(self, turns: list[tuple[float, list[int], int]], register: int, left: int) -> None:
        """If turns have become equal, go on with the last but one: everything happens so much later."""
        (before, old, beats), (now, new, beats_now) = turns[-2:]
        spent = [end - start for (start, _, _), (end, _, _) in pairwise(turns)]
        # Some depend on how the one before ended, or on where refreshes fall: no turn is quite like another one.
        for count, spread in _EQUAL:
            last = spent[-count:]
            if len(last) == count and max(last) - min(last) <= spread * max(last):
                period = sum(last) / count
                break
        else:
            return
        skipped = left - 2
        self._skipped_beats += skipped * (beats_now - beats)
        for n, (value, previous) in enumerate(zip(new, old, strict=True)):
            self._registers[n] = (value + skipped * (value - previous)) & _WORD
        cycles = float(round(skipped * period))
        assert self._registers[register] == left - skipped
        for part in (self._stream, self._fetch, self._matrix, self._vector, self._parameters, self._buffer, self._writes):
            part.shift(cycles)
        self._last_beat += cycles
        self._begun += cycles
        self._time += cycles
        self._recent.clear()
        turns.clear()

    def _product(self, index: int, fields: Mapping[str, int], issue: float) -> None:
        lanes = self._config.lanes
        issued = self._matrix.issue(issue)
        offered = self._matrix.offer(issued, self._vector, fields["pending"])
        # It is taken while the one before it is at work.
        taken = max(offered, self._begun + 1)
        self._matrix.taken(taken)
        begin = max(taken + latencies.MATRIX_START, self._last_beat + 1)
        self._begun = begin - 1
        format_ = BY_NUMBER[fields["format"]]
        groups = -(-fields["rows"] // lanes)
        strided = fields["stride"] != 0
        beats = format_.stream_beats(fields["blocks"] if strided else groups * fields["blocks"])
        # The results of a group of rows leave slot by slot.
        of_group = beats / (1 if strided else groups)
        step = max(fields["slots"] / of_group, 1.0)
        address = fields["source"] * ADDRESS_UNIT
        ready = issued + 1
        last = begin
        for _ in range(groups if strided else 1):
            self._fetch.advance(ready)
            accepted, last = self._stream.request(ready, address, beats, begin, step if step > 1 else 1)
            address += fields["stride"] * ADDRESS_UNIT
            ready = accepted + 1
        self._last_beat = last
        self._time = ready
        maxima = latencies.MAXIMA_GAP[lanes] + fields["slots"] if fields["keep_maxima"] else 0
        finish = last + latencies.MATRIX_LATENCY + fields["slots"] - 1 + maxima + latencies.MATRIX_FINISHED
        self._matrix.finish(finish)
        first = begin + of_group * step + latencies.MATRIX_LATENCY
        self._buffer.add(min(first, finish), finish, (groups + bool(maxima)) * fields["slots"])
        self._delay_words(min(first, finish))
        self.spans.append(("matrix", index, begin, finish))

    def _vector_operation(self, index: int, opcode: Opcode, fields: Mapping[str, int], issue: float) -> None:
        issued = self._vector.issue(issue)
        offered = self._vector.offer(issued, self._matrix, fields["pending"])
        start = offered + latencies.VECTOR_SELECT
        self._time = issued + 1
        if opcode is Opcode.READ:
            end = offered + latencies.READ_VALUE
            self._write_register(fields["register"], 0)
            self._time = end + latencies.READ_TO_NEXT
        elif opcode is Opcode.APPEND:
            steps, writes = append_writes(fields, self._config)
            late = self._writes.write(start + latencies.APPEND - 1, writes, append_addresses(fields, self._config))
            end = start + latencies.APPEND - 1 + steps + late
        elif opcode is Opcode.STORE:
            beats, words = -(-fields["count"] // self._beat_elements), self._beat_words
            first = fields["destination"] * ADDRESS_UNIT
            places = [first + n * self._config.unit_bytes for n in range(beats)]
            late = self._writes.write(start + latencies.STORE - 1, [words * (n + 1) for n in range(beats)], places)
            end = start + latencies.STORE - 1 + words * beats + late
        elif opcode is Opcode.LOAD_VECTOR:
            end = self._load(fields, start)
        elif opcode is Opcode.ELEMENTWISE and is_streamed(fields):
            end = self._streamed(opcode, fields, start)
        else:
            end = elementwise_end(opcode, fields, self._config, start)
        finish = end + latencies.VECTOR_FINISHED
        self._vector.taken(finish)
        self._vector.finish(finish)
        words, gap = words_written(opcode, fields, self._config.word_elements)
        last = end - latencies.RESULT_TO_END - offered
        span = len(self.spans)
        self._recent.append(_VectorOperation(self._vector.earliest, finish - offered, last, words, gap, finish, span))
        self.spans.append(("vector", index, offered, finish))
        self._write_words(0, offered)

    def _delay_words(self, first: float) -> None:
        """Operations that are still at work when a product begins to write let its results pass, and those behind them wait.

        The product waits for none of them, or it would come later.
        """
        behind = len(self._recent)
        for operation in self._recent:
            behind -= 1
            if operation.finish >= first:
                break
        else:
            return
        for n in range(behind, -1, -1):
            start = self.spans[self._recent[-1 - n].span][2]
            if n < behind:
                start = max(self._recent[-1 - n].earliest, self._recent[-2 - n].finish + latencies.NEXT_OPERATION)
            self._write_words(n, start)

    def _write_words(self, behind: int, start: float) -> None:
        """Start an operation, which so many came after: its words are written when the matrix unit writes nothing."""
        operation = self._recent[-1 - behind]
        late, words, last = 0, operation.words, start + operation.last
        if words:
            first = last - (words - 1) * operation.gap
            late = round(self._buffer.last(first, words, operation.gap) - last)
        operation.finish = start + operation.length + late
        self._vector.amend(operation.finish, behind)
        unit, index, _, _ = self.spans[operation.span]
        self.spans[operation.span] = unit, index, start, operation.finish

    def _streamed(self, opcode: Opcode, fields: Mapping[str, int], start: float) -> float:
        """An operation with an operand from memory, whose beats are taken as its words are."""
        segments = segments_of(opcode, fields, self._config.word_elements)
        plan = beats_of(segments, STREAM_UNIT // self._beat_elements, self._beat_words)
        self._request_parameters(fields["source"], start, plan)
        ends = iter(self._parameters.ends)
        return elementwise_end(opcode, fields, self._config, start, ends)

    def _load(self, fields: Mapping[str, int], start: float) -> float:
        units = 1 + -(-fields["blocks"] // ADDRESS_UNIT) + fields["blocks"]
        beats = units * (ADDRESS_UNIT // self._config.unit_bytes)
        self._request_parameters(fields["source"], start - 1, [(0, 1, n == beats - 1) for n in range(beats)])
        return self._parameters.ends[-1] + latencies.LOAD

    def _request_parameters(self, source: int, start: float, plan: Sequence[tuple[int, int, bool]]) -> None:
        self._fetch.advance(self._time)
        self._parameters.begin(start, plan)
        accepted = self._stream.request_one_by_one(self._time, source * ADDRESS_UNIT, len(plan), self._parameters)
        self._time = accepted + 1
