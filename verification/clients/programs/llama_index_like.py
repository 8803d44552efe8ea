"""LlamaIndex's client for servers like OpenAI's."""

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

url, model, question = sys.argv[1:]
like = OpenAILike(
    model=model, api_base=url, api_key="none", is_chat_model=True, context_window=1024, temperature=0, max_tokens=8
)
messages = [ChatMessage(role="user", content=question)]
whole = like.chat(messages).message.content
streamed = "".join(part.delta or "" for part in like.stream_chat(messages))
completed = like.complete(question).text
print(json.dumps({"answers": [whole, streamed, completed], "seen": "chat, stream_chat, complete"}))
