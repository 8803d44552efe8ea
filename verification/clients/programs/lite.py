"""LiteLLM, by both of its ways to an OpenAI-compatible server."""

import json
import sys

import litellm

url, model, question = sys.argv[1:]
answers = []
for kind in ("openai", "hosted_vllm"):
    options = {
        "model": f"{kind}/{model}", "api_base": url, "api_key": "none", "temperature": 0, "max_tokens": 8,
        "messages": [{"role": "user", "content": question}],
    }  # fmt: skip
    whole = litellm.completion(**options)
    assert whole.usage.completion_tokens == 8
    answers.append(whole.choices[0].message.content)
    answers.append("".join(part.choices[0].delta.content or "" for part in litellm.completion(**options, stream=True)))
try:
    litellm.completion(**{**options, "messages": [{"role": "user", "content": "word " * 5000}]})
except litellm.ContextWindowExceededError:
    pass
else:
    raise AssertionError("a prompt that is too long")
print(json.dumps({"answers": answers, "seen": "openai/, hosted_vllm/, whole and in streams; ContextWindowExceededError"}))
