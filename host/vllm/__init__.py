"""Prefill in vLLM, decode here: a KV connector that vLLM loads, and a proxy for OpenAI's clients.

What lies in this room runs in vLLM's process, with vLLM's packages; of Tailrace only the contract (`tailrace.spec`) is used
there.
"""
