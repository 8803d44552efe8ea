"""LangChain's client for OpenAI's interface."""

import json
import sys

from langchain_openai import ChatOpenAI

url, model, question = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=8)
whole = chat.invoke(question)
assert whole.usage_metadata["output_tokens"] == 8
streamed = "".join(part.content for part in chat.stream(question))
batch = [one.content for one in chat.batch([question, question])]
print(json.dumps({"answers": [whole.content, streamed, *batch], "seen": "invoke, stream, batch"}))
