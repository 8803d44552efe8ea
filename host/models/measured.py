"""Shapes that decode steps are measured with, by their names."""

from .published import PUBLISHED
from .shapes import Shape

#: Of the published ones, as they stand there.
_PUBLISHED = (
    "Qwen3.5-4B", "Qwen3.6-27B", "Qwen3.6-35B-A3B", "gpt-oss-20b", "LFM2.5-8B-A1B", "GLM-4.5-Air", "DeepSeek-V2-Lite",
    "Gemma-4-12B", "Gemma-4-26B-A4B",
)  # fmt: skip

SHAPES: dict[str, Shape] = {
    s.name: s
    for s in (
        Shape("SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, "Q4_1", "Q8_0", tied=True),
        Shape("Llama-2-7B", "llama", 32, 4096, 32, 32, 128, 11008, 32000),
        Shape("Llama-3-8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256),
        Shape("Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936),
        Shape("Qwen3-30B-A3B", "qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, experts=128, used=8),
        Shape(
            "Gemma-3-270M", "gemma3", 18, 640, 4, 1, 256, 2048, 262144,
            head_format="Q8_0", tied=True, window=512,
        ),
        *(shape for name in _PUBLISHED for shape in PUBLISHED if shape.name == name),
    )
}  # fmt: skip
