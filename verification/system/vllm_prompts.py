"""Run by the Python of an environment with vLLM: computes prompts, hands them over, and goes on by itself.

``python vllm_prompts.py MODEL FOLDER < JSON``: reads lists of prompts (lists of tokens), which are asked together one list after the other, and
writes to FOLDER/answers.json each prompt's tokens, what vLLM answered by itself, how many tokens it found in its prefix cache, and the
``kv_transfer_params``.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(
    VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_ENABLE_V1_MULTIPROCESSING="0", HF_HUB_OFFLINE="1"
)


def main(model: str, folder: str) -> None:
    """Answer all prompts."""
    from vllm import LLM, SamplingParams
    from vllm.config import KVTransferConfig

    llm = LLM(
        model,
        dtype="float32",
        max_model_len=256,
        enforce_eager=True,
        max_num_seqs=4,
        # Prompts are computed in chunks, together with others.
        max_num_batched_tokens=64,
        skip_tokenizer_init=True,
        kv_transfer_config=KVTransferConfig(
            kv_connector="TailraceConnector",
            kv_connector_module_path="tailrace.vllm.connector",
            kv_role="kv_producer",
            kv_connector_extra_config={"folder": folder},
        ),
    )
    sampling = SamplingParams(
        temperature=0,
        max_tokens=12,
        ignore_eos=True,
        detokenize=False,
        extra_args={"kv_transfer_params": {"do_remote_decode": True}},
    )
    answers = []
    for prompts in json.load(sys.stdin):
        for prompt, found in zip(prompts, llm.generate([{"prompt_token_ids": p} for p in prompts], sampling), strict=True):
            answers.append((prompt, list(found.outputs[0].token_ids), found.num_cached_tokens, found.kv_transfer_params))
    (Path(folder) / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
