"""The tokenizer of llama.cpp, in a process of its own: it ends the process where it refuses a file."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

#: What the process runs: a request on standard input, an answer on standard output.
_PROGRAM = """
import json, sys
from cyllama.llama import llama_cpp
request = json.load(sys.stdin)
llama_cpp.disable_logging()
parameters = llama_cpp.LlamaModelParams()
parameters.n_gpu_layers = 0
model = llama_cpp.LlamaModel(request["path"], parameters)
vocabulary = model.get_vocab()
def piece(token):
    try:
        return vocabulary.token_to_piece(token, 0, False)
    except UnicodeDecodeError:
        return None
answer = {
    "ends": [i for i in range(vocabulary.n_vocab) if vocabulary.is_eog(i)],
    "tokens": [vocabulary.tokenize(text, request["start"], True) for text in request["texts"]],
    "pieces": [piece(i) for i in request["ids"]],
}
sys.stdout.write("\\n" + json.dumps(answer))
"""


def ask(path: Path, texts: list[str], ids: list[int] | None = None, *, start: bool = True) -> dict[str, Any] | None:
    """What llama.cpp makes of a model's vocabulary.

    Parameters
    ----------
    path : Path
        A whole model: `cyllama` can't open a file that is only a vocabulary.
    texts : list of str
    ids : list of int
        Tokens whose texts are asked for.
    start : bool
        Whether a begin-of-text token goes before a text, where the model wants one.

    Returns
    -------
    dict or None
        ``tokens`` of each text, ``ends``, and ``pieces``: texts of `ids`, None for those that are no whole characters. None: it
        refuses the file.
    """
    request = json.dumps({"path": str(path), "texts": texts, "ids": ids or [], "start": start})
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=600, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
