"""Latencies and depths of the gateware's blocks, as their components state them.

The gateware is not imported here: it needs Amaranth. `verification/unit/sim/timing/test_latencies.py` compares figures with the
components that state them.
"""

#: Cycles from the doorbell until the program begins: registers are set one by one (`RegisterFile`), then `RunControl` lets it
#: go.
RUN_START = 34
#: Cycles from the last operation that is finished to the end of the run: `Dispatcher`, `Core`, `RunControl`.
RUN_END = 4

#: Cycles from a request to its first burst, and from a beat's arrival to the FIFO's output (`ReadMaster`).
READ_REQUEST, READ_BEAT = 2, 2
#: Requests that the read master notes (`REQUESTS_IN_FLIGHT`).
REQUESTS_IN_FLIGHT = 128
#: The register between the FIFO and the three that take beats (`StreamRegister`), and the beats that it holds while one waits.
BEATS_REGISTER, BEATS_REGISTER_DEPTH = 1, 2

#: Commands that are asked for ahead of their use (`CommandFetch`).
COMMANDS_AHEAD = 32
#: Cycles from a command's last beat to the command (`CommandFetch`).
COMMAND_ASSEMBLY = 3

#: Cycles from a command that is taken to the cycle in which it is handed on (`Interpreter`), and more for each modifier.
ISSUE, MODIFIER = 7, 2
#: More cycles of a `SET` (`Interpreter.set_cycles`); of a `LOOP`; and of one that is left.
SET, LOOP, LOOP_LEFT = 7, 2, 1

#: Operations that wait for a unit (`QUEUE_DEPTH`), cycles from an operation to its unit, and from one that is taken to the next
#: one.
QUEUE_DEPTH, DISPATCH, NEXT_OPERATION = 16, 3, 2
#: Cycles from the end of an operation to the start of one that waited for it (`Dispatcher`).
DEPENDENCY = 2

#: Cycles from a product that is taken to its first beat (`BeatSequencer`).
MATRIX_START = 2
#: Cycles from the last beat of a group of rows to its first result (`GemvEngine`), and the register of `finished` behind it.
MATRIX_LATENCY, MATRIX_FINISHED = 22, 1

#: Cycles between the last result of a product and its maxima, for each number of lanes (`maxima_gap`).
MAXIMA_GAP = {1 << n: n for n in range(7)}
#: Cycles from the vector unit's operation to its sub-unit, and from the sub-unit's end to that of the operation (`VectorUnit`).
VECTOR_SELECT, VECTOR_FINISHED = 1, 1
#: Cycles of an `ELEMENTWISE` besides its steps (`Elementwise.identity_overhead`); more of them with a function
#: (`ElementwisePipeline.function_latency`), and those behind it (`ElementwisePipeline.tail_latency`).
ELEMENTWISE, FUNCTION, TAIL = 31, 14, 11
#: Cycles from the last step to its word behind the pipeline, less the pipeline (`Elementwise`).
BEHIND_PIPELINE = 5
#: Cycles from a result that is written, or a slot that is complete, to the end of the command (`Elementwise`).
RESULT_TO_END, SLOT_TO_END = 3, 3
#: Cycles from a segment's last word to its sum, and to its maximum, for each number of elements in a word (`Total`, `Maximum`).
TOTAL = {1: 69, 2: 61, 4: 57}
MAXIMUM = {1: 3, 2: 3, 4: 4}
#: Cycles behind a segment's last word in which a sum takes none of the next one's (`Total.reserved`), for each number of
#: elements in a word with which sums follow each other.
RESERVED = {4: (8, 9, 10, 11, 18, 19, 27, 35, 43, 51)}
#: More cycles of a sum that goes on from another one (`Total`).
RESUMED_TOTAL = 8
#: The register behind a reduction (`Reduction`), and the one before it (`Elementwise`).
REDUCTION, BEFORE_REDUCTION = 1, 1
#: Cycles from the last word of a vector to its slot, besides the words of a block and the slots (`BlockQuantiser.overhead`).
QUANTISE = 11
#: Cycles of an `APPEND` and of a `STORE` besides their steps and beats (`Append.overhead`, `Store.overhead`).
APPEND, STORE = 16, 3
#: Steps of a block of keys besides its words: two of codes, one of scales (`Append`).
KEY_WRITES = 3
#: Cycles from the last beat of a vector image to the end of its command (`VectorLoader.commit_latency`).
LOAD = 3
#: Cycles from a `READ` that starts to its value, and from there to the next command.
READ_VALUE, READ_TO_NEXT = 2, 2

#: Beats of parameters that wait for the vector unit (`PARAMETER_BEATS`), those in the register behind them, and the cycles to
#: it.
PARAMETER_BEATS, PARAMETER_REGISTER, PARAMETER_LATENCY = 128, 2, 3
#: Beats that wait for the bus (`BEATS_QUEUED`), and for the memory's answer (`WRITES_IN_FLIGHT`); cycles from a unit to the
#: bus, and from the answer to a `FENCE`.
WRITES_QUEUED, WRITES_IN_FLIGHT, WRITE_LATENCY, WRITE_ANSWERED = 16, 64, 3, 2
