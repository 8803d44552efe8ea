"""Errors planted in the emulator's C++, one after the other, and whether its tests notice.

    python -m verification.emulator_mutants

It works on a copy of the tree, with a cache of its own. Each error is compiled, and counts as found when
`verification/system/test_emulator.py` fails or does not end. All of them take a quarter of an hour.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .mutation import copied_tree, run_tests
from .packages import ROOT

SOURCES, TESTS = Path("sim/emulator/cpp"), Path("verification/system/test_emulator.py")


@dataclass(frozen=True)
class Planted:
    """An error.

    Attributes
    ----------
    what : str
        What is wrong, for people.
    file : str
        Below `SOURCES`.
    old, new : str
        What is replaced, which the file has once, and what stands there then.
    """

    what: str
    file: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        """The file with the error.

        Raises
        ------
        ValueError
            If it does not have the text once: the list below is to be kept in step.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {source.count(self.old)} times: {self.what} can't be planted")
        return source.replace(self.old, self.new)


PLANTED = (
    Planted("what a long sum has below 63 bits is lost", "exact.h", "(magnitude >> shift) | below", "(magnitude >> shift)"),
    Planted("the smallest normal number is flushed", "exact.h", "biased < 1) return 0;", "biased < 2) return 0;"),
    Planted("64 bits overflow", "exact.h", "WINDOW = 63 - 4 - 3 - BITS", "WINDOW = 63 + 4 - BITS"),
    Planted("terms outside the window are lost", "exact.h", "if (!terms.unused[i]) sum_.add(", "if (false) sum_.add("),
    Planted("an early subminimum of a superblock", "stream.h", "n < 4 ? packed[n + 4] & 63", "n < 5 ? packed[n + 4] & 63"),
    Planted("a superblock's minimum has the wrong sign", "stream.h", "1)...} ^ 0x8000", "1)...} ^ 0"),
    Planted("a subnormal float16 has a position below 0", "stream.h", "exponents + (exponents > 0)}", "exponents - 1}"),
    Planted("a row gets blocks of the next one", "exact.h", "integers.odd & some.odd", "integers.odd"),
    Planted("rows of another thread begin with the vector's start", "product.h", "job.blocks - skipped % job.blocks", "0"),
    Planted("a row's exact sum stays for the next one", "exact.h", "            sum_ = {};\n", ""),
    Planted("a long scale beat comes late", "stream.h", "number % PERIODS[0] == 0", "number % PERIODS[0] == TOGETHER"),
    Planted(
        "products are flushed after rounding",
        "float32.h",
        "std::fabs(exact) < SMALLEST_NORMAL",
        "std::fabs(float(exact)) < SMALLEST_NORMAL",
    ),
    Planted("sums have 16 partial sums", "float32.h", "constexpr int lanes = 32;", "constexpr int lanes = 16;"),
    Planted(
        "of equal numbers the later one is the largest",
        "elementwise.h",
        "buffer_.number(place) >= x[result.place]",
        "buffer_.number(place) > x[result.place]",
    ),
    Planted("a limit is the least that comes out", "float32.h", "return b < a ? b : a;", "return b < a ? a : b;"),
    Planted("a mantissa of 32768", "slots.h", "double(contract::MANTISSA_MAX)", "double(contract::MANTISSA_MAX + 1)"),
    Planted("scales of keys are cut, not rounded", "append.h", "rounded = functions::half(buffer_", "rounded = (buffer_"),
    Planted("a loop runs once more", "machine.h", "registers_[counted] ? target", "registers_[counted] + 1 ? target"),
    Planted(
        "the last bytes of memory are refused",
        "memory.h",
        "size > end_ - address) throw Stop{ErrorCode::READ_ERROR",
        "size >= end_ - address) throw Stop{ErrorCode::READ_ERROR",
    ),
    Planted("a multiple is not asked for", "machine.h", "uint64_t(value) % multiple);", "false);"),
)


def is_found(planted: Planted, tree: Path, timeout: float) -> bool:
    """Whether the tests notice an error. The tree is as before afterwards."""
    file = tree / SOURCES / planted.file
    source = file.read_text(encoding="utf-8")
    try:
        file.write_text(planted.applied(source), encoding="utf-8")
        return not run_tests(tree, TESTS, timeout)
    finally:
        file.write_text(source, encoding="utf-8")


def main() -> None:
    """Plant the errors, and print what became of each."""
    parser = argparse.ArgumentParser(description="Plant errors in the emulator, and see whether its tests notice.")
    parser.add_argument("--only", default="", metavar="TEXT", help="only errors with this in what they are")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="seconds for the tests of one error")
    arguments = parser.parse_args()
    chosen = [planted for planted in PLANTED if arguments.only in planted.what]
    found = 0
    with copied_tree(ROOT) as tree, TemporaryDirectory(prefix="tailrace-mutants-") as folder:
        os.environ["TAILRACE_CACHE"] = folder
        for planted in chosen:
            noticed = is_found(planted, tree, arguments.timeout)
            found += noticed
            print(f"{'found' if noticed else 'NOT FOUND'}: {planted.what} ({planted.file})", flush=True)
    print(f"{found} of {len(chosen)} found")


if __name__ == "__main__":
    main()
