"""OpenAI's client for Python."""

import json
import sys

import openai

url, model, question = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key="none")
messages = [{"role": "user", "content": question}]
options = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0}

assert [one.id for one in client.models.list()] == [model]
whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=2)
assert whole._request_id
assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens == 8
stream = client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
parts = list(stream)
streamed = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
assert parts[-1].usage.completion_tokens == 8
text = client.completions.create(
    model=model, prompt=["One, two,", "Red, green,"], max_tokens=2, temperature=0, logprobs=1, echo=True
)
assert [choice.text[:4] for choice in text.choices] == ["One,", "Red,"]
assert text.choices[0].logprobs.token_logprobs[0] is None
# The helper for streams gathers them itself.
try:
    with client.chat.completions.stream(**options) as helped:
        gathered = helped.get_final_completion().choices[0].message.content
except openai.LengthFinishReasonError as error:
    gathered = error.completion.choices[0].message.content
for error, request in (
    (openai.NotFoundError, {"model": "none"}),
    (openai.BadRequestError, {"max_tokens": -1}),
    (openai.BadRequestError, {"messages": [{"role": "user", "content": "word " * 5000}]}),
):
    try:
        client.chat.completions.create(**{**options, **request})
    except error as told:
        code = told.code
    else:
        raise AssertionError(request)
assert code == "context_length_exceeded"
answers = [whole.choices[0].message.content, streamed, gathered]
print(json.dumps({"answers": answers, "seen": "models, chat, streams, helper, completions with echo, errors by their classes"}))
