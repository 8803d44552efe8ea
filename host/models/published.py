"""Shapes of published models, from the configurations that their makers have published, as Q4_0 (tied embeddings Q8_0)."""

from dataclasses import replace

from .shapes import Shape

_K = 1024


def _tied(name: str, architecture: str, *numbers: int, **more: int | tuple[int, ...]) -> Shape:
    layers, hidden, heads, kv_heads, head_size, feed_forward, vocabulary = numbers
    sizes = (layers, hidden, heads, kv_heads, head_size, feed_forward, vocabulary)
    return replace(Shape(name, architecture, *sizes, head_format="Q8_0", tied=True), **more)  # type: ignore[arg-type]


#: Experts as they were published, in MXFP4; all else as Q8_0.
_GPT_OSS = Shape(
    "", "gpt-oss", 0, 2880, 64, 8, 64, 2880, 201088, "Q8_0", "Q8_0", used=4, window=128, context=128 * _K, biases=True,
    expert_format="MXFP4",
)  # fmt: skip

PUBLISHED: tuple[Shape, ...] = (
    _tied("GPT-2", "gpt2", 12, 768, 12, 12, 64, 3072, 50257, context=_K),
    _tied("GPT-2 XL", "gpt2", 48, 1600, 25, 25, 64, 6400, 50257, context=_K),
    _tied("SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152),
    _tied("SmolLM2-360M", "llama", 32, 960, 15, 5, 64, 2560, 49152),
    _tied("SmolLM2-1.7B", "llama", 24, 2048, 32, 32, 64, 8192, 49152),
    Shape("TinyLlama-1.1B", "llama", 22, 2048, 32, 4, 64, 5632, 32000, context=2 * _K),
    Shape("Llama-2-7B", "llama", 32, 4096, 32, 32, 128, 11008, 32000, context=4 * _K),
    Shape("Llama-2-13B", "llama", 40, 5120, 40, 40, 128, 13824, 32000, context=4 * _K),
    Shape("Llama-2-70B", "llama", 80, 8192, 64, 8, 128, 28672, 32000, context=4 * _K),
    _tied("Llama-3.2-1B", "llama", 16, 2048, 32, 8, 64, 8192, 128256, context=128 * _K),
    _tied("Llama-3.2-3B", "llama", 28, 3072, 24, 8, 128, 8192, 128256, context=128 * _K),
    Shape("Llama-3.1-8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256, context=128 * _K),
    Shape("Llama-3.1-70B", "llama", 80, 8192, 64, 8, 128, 28672, 128256, context=128 * _K),
    Shape(
        "Llama-4-Scout-17B-16E", "llama4", 48, 5120, 40, 8, 128, 8192, 202048, experts=16, used=1, shared=8192,
        context=10240 * _K,
    ),
    Shape("Mistral-7B-v0.3", "llama", 32, 4096, 32, 8, 128, 14336, 32768, context=32 * _K),
    Shape("Mixtral-8x7B", "llama", 32, 4096, 32, 8, 128, 14336, 32000, experts=8, used=2, context=32 * _K),
    _tied("Qwen2.5-0.5B", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, context=32 * _K),
    _tied("Qwen2.5-1.5B", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, context=32 * _K),
    _tied("Qwen2.5-3B", "qwen2", 36, 2048, 16, 2, 128, 11008, 151936, context=32 * _K),
    Shape("Qwen2.5-7B", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, context=32 * _K),
    Shape("Qwen2.5-14B", "qwen2", 48, 5120, 40, 8, 128, 13824, 152064, context=32 * _K),
    Shape("Qwen2.5-32B", "qwen2", 64, 5120, 40, 8, 128, 27648, 152064, context=32 * _K),
    Shape("Qwen2.5-72B", "qwen2", 80, 8192, 64, 8, 128, 29568, 152064, context=32 * _K),
    _tied("Qwen3-0.6B", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, context=40 * _K),
    _tied("Qwen3-1.7B", "qwen3", 28, 2048, 16, 8, 128, 6144, 151936, context=40 * _K),
    _tied("Qwen3-4B", "qwen3", 36, 2560, 32, 8, 128, 9728, 151936, context=40 * _K),
    Shape("Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, context=40 * _K),
    Shape("Qwen3-14B", "qwen3", 40, 5120, 40, 8, 128, 17408, 151936, context=40 * _K),
    Shape("Qwen3-32B", "qwen3", 64, 5120, 64, 8, 128, 25600, 151936, context=40 * _K),
    Shape("Qwen3-30B-A3B", "qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, experts=128, used=8, context=40 * _K),
    Shape("Qwen3-Coder-30B-A3B", "qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, experts=128, used=8, context=256 * _K),
    _tied("Qwen3.5-4B", "qwen35", 32, 2560, 16, 4, 256, 9216, 248320, context=256 * _K, rotary=64, linear=(16, 32, 128, 128)),
    Shape("Qwen3.6-27B", "qwen35", 64, 5120, 24, 4, 256, 17408, 248320, context=256 * _K, rotary=64, linear=(16, 48, 128, 128)),
    Shape(
        "Qwen3.6-35B-A3B", "qwen35moe", 40, 2048, 16, 2, 256, 512, 248320, experts=256, used=8, shared=512, context=256 * _K,
        rotary=64, linear=(16, 32, 128, 128),
    ),
    replace(_GPT_OSS, name="gpt-oss-20b", layers=24, experts=32),
    replace(_GPT_OSS, name="gpt-oss-120b", layers=36, experts=128),
    Shape(
        "Qwen1.5-MoE-A2.7B", "qwen2moe", 24, 2048, 16, 16, 128, 1408, 151936, experts=60, used=4, shared=5632, context=8 * _K
    ),
    Shape(
        "GLM-4.5-Air", "glm4moe", 46, 4096, 96, 8, 128, 1408, 151552, experts=128, used=8, shared=1408, dense_layers=1,
        dense=10944, selection_bias=True, context=128 * _K, rotary=64,
    ),
    _tied(
        "ERNIE-4.5-21B-A3B", "ernie4_5-moe", 28, 2560, 20, 4, 128, 1536, 103424, experts=64, used=6, shared=3072,
        dense_layers=1, dense=12288, selection_bias=True, context=128 * _K,
    ),
    Shape(
        "Ling-mini-2.0", "bailingmoe2", 20, 2048, 16, 4, 128, 512, 157184, experts=256, used=8, shared=512, dense_layers=1,
        dense=5120, groups=8, used_groups=4, selection_bias=True, context=32 * _K, rotary=64,
    ),
    _tied("Hunyuan-A13B", "hunyuan-moe", 32, 4096, 32, 8, 128, 3072, 128167, experts=64, used=8, shared=3072, context=256 * _K),
    _tied(
        "LFM2.5-8B-A1B", "lfm2moe", 24, 2048, 32, 8, 64, 1792, 65536, experts=32, used=4, dense_layers=2, dense=7168,
        selection_bias=True, context=125 * _K, attending=(2, 6, 10, 14, 18, 21), kernel=3,
    ),
    Shape(
        "DeepSeek-V2-Lite", "deepseek2", 27, 2048, 16, 1, 576, 1408, 102400, experts=64, used=6, shared=2816, dense_layers=1,
        dense=10944, context=160 * _K, rotary=64, latent=(512, 128, 128, 0),
    ),
    Shape(
        "MiniMax-M2", "minimax-m2", 62, 3072, 48, 8, 128, 1536, 200064, experts=256, used=8, selection_bias=True,
        context=192 * _K, rotary=64,
    ),
    _tied("Gemma-3-270M", "gemma3", 18, 640, 4, 1, 256, 2048, 262144, window=512, context=32 * _K),
    _tied("Gemma-3-1B", "gemma3", 26, 1152, 4, 1, 256, 6912, 262144, window=512, context=32 * _K),
    _tied("Gemma-3-4B", "gemma3", 34, 2560, 8, 4, 256, 10240, 262144, window=1024, context=128 * _K),
    _tied("Gemma-3-12B", "gemma3", 48, 3840, 16, 8, 256, 15360, 262144, window=1024, context=128 * _K),
    _tied("Gemma-3-27B", "gemma3", 62, 5376, 32, 16, 128, 21504, 262144, window=1024, context=128 * _K),
    _tied(
        "Gemma-4-12B", "gemma4", 48, 3840, 16, 8, 256, 15360, 262144, window=1024, every=6, unlimited=(1, 512), context=256 * _K
    ),
    _tied(
        "Gemma-4-26B-A4B", "gemma4", 30, 2816, 16, 8, 256, 704, 262144, window=1024, every=6, unlimited=(2, 512), experts=128,
        used=8, dense=2112, context=256 * _K,
    ),
    Shape("Phi-3-mini-4k", "phi3", 32, 3072, 32, 32, 96, 8192, 32064, window=2047, context=4 * _K),
    Shape("Phi-3.5-mini", "phi3", 32, 3072, 32, 32, 96, 8192, 32064, context=128 * _K, original=4 * _K),
    Shape("Phi-3-medium-4k", "phi3", 40, 5120, 40, 10, 128, 17920, 32064, window=2047, context=4 * _K),
    _tied("Phi-4-mini", "phi3", 32, 3072, 24, 8, 128, 8192, 200064, context=128 * _K, original=4 * _K, rotary=96),
    Shape("Phi-4", "phi3", 40, 5120, 40, 10, 128, 17920, 100352, context=16 * _K),
)  # fmt: skip
