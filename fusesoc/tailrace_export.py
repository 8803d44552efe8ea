"""FuseSoC's generator: exports the core in a configuration, and describes it under the name that FuseSoC wants."""

import re
import shutil
import sys
from pathlib import Path

import yaml

_PARAMETERS = {"config", "testbench"}


def main(request: Path) -> None:
    """Export into the folder that FuseSoC has started this in.

    Parameters
    ----------
    request : Path
        FuseSoC's description of what is wanted.
    """
    try:
        from tailrace.export.export import export_core
        from tailrace.spec.config import parse_config
        from tailrace.spec.errors import TailraceError
    except ImportError as error:
        sys.exit(f"tailrace_export: {error}: run FuseSoC in an environment that has Tailrace, with {sys.executable}")
    wanted = yaml.safe_load(request.read_text(encoding="utf-8"))
    parameters = wanted.get("parameters") or {}
    if unknown := sorted(parameters.keys() - _PARAMETERS):
        sys.exit(f"tailrace_export: unknown parameter {unknown[0]!r}: there are {', '.join(sorted(_PARAMETERS))}")
    folder = Path("export")
    try:
        export_core(parse_config(parameters.get("config", "base")), folder, report=lambda line: print(line, flush=True))
    except TailraceError as error:
        sys.exit(f"tailrace_export: {error}")
    path = folder / "tailrace.core"
    text = re.sub(r"^name: .*$", f"name: {wanted['vlnv']}", path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    if parameters.get("testbench"):
        text, count = re.subn(r"filesets: \[waivers, rtl\]", "filesets: [waivers, rtl, testbench, program]", text, count=1)
        assert count, "the exported core has another form"
    path.write_text(text, encoding="utf-8")
    # With these in the way, programs of the same names would be taken for tools.
    shutil.rmtree(folder / "tools")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
