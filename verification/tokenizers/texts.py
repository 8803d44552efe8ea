"""Texts that tokenizers are compared on."""

import numpy as np

#: What real texts have that tokenizers part ways on.
WRITTEN = (
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "\n\n\n",
    "Hello, world! It's 2024 or 12 345.",
    "  two  spaces\n\n\tand a tab \n",
    "日本語とÜmläute, 한국어, русский, ไทย, हिन्दी, العربية",
    "🎉🎉 🚀 (normal) 😶‍🌫️ ✅",
    "def f(x):\n    return x+1 # 3.14\r\n",
    "You'LL DON'T we've 'S 'ſ I'M",
    "a\u00a0b\u3000c\u200bd\ufeff",
    "=====----____/// <!-- --> {{}} [[]] ``` $$ ^^ ~~ ||",
    "1 12 123 1234 12345 1234567 ½ ² Ⅷ ५",
    "n\u0303 e\u0301 क\u093f",
    "<|user|>\nHi there<|end|>\n<|assistant|>\n",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<s>[INST] a [/INST] b </s><s>",
    "x" * 300,
    "CamelCaseWords andSNAKE_case",
)
_CHARACTERS = [
    *"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789", *" \t\n\r" * 3, *".,;:!?'\"-_/()[]{}<>|@#$%^&*+=~`\\", *"éüßñøçÀÖ",
    *"бжюЯ", *"日本語中文字", *"かなカナ", *"한국어", *"مرحبا", *"नमस्ते", *"ไทย", *"🎉🚀😀", *"½²٣", *"\u00a0\u2009\u3000\u0301",
    " the", " and", "ing", "tion", "'s", "'re", "  ", "\n\n", "\r\n", "http://", "123", "2024",
]  # fmt: skip


def drawn(rng: np.random.Generator, count: int, longest: int = 60) -> list[str]:
    """Random texts out of many scripts."""
    return ["".join(rng.choice(_CHARACTERS, int(rng.integers(1, longest)))) for _ in range(count)]
