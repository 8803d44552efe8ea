"""lm_eval's own command line, which knows the model ``tailrace`` and its tasks.

``python -m tailrace.evaluation run --model tailrace --model_args model=smollm2 --tasks tailrace_choices``. lm_eval finds no
models in other packages by itself; whoever calls it from Python imports `tailrace.evaluation.lm_eval_model`.
"""

import sys

from lm_eval.__main__ import cli_evaluate

from . import TASKS, lm_eval_model

__all__ = ["lm_eval_model", "main"]


def main() -> None:
    """Hand the arguments over to lm_eval, with the folder of the tasks unless another one was named."""
    arguments = sys.argv[1:]
    takes_folder = arguments[:1] and arguments[0] in ("run", "ls", "validate")
    if takes_folder and not any(a.split("=")[0] == "--include_path" for a in arguments):
        sys.argv += ["--include_path", str(TASKS)]
    # lm_eval's own default is one of PyTorch's.
    if arguments[:1] == ["run"] and not any(a.split("=")[0] == "--device" for a in arguments):
        sys.argv += ["--device", "emulator"]
    cli_evaluate()


if __name__ == "__main__":
    main()
