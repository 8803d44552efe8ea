"""Text as it is generated."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase, TextStreamer


class TextOutput(TextStreamer):
    """Hands generated text on, word by word, without the prompt and without special tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    write : callable
        Takes the next piece of text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called by the base class with each piece."""
        self._write(text + "\n" if stream_end else text)
