"""The random models that tests make, by name."""

#: All that have a description; "mixtral", "olmo3", "granitehybridmoe", "deepseek2-lite", "gemma4-a4b" and "gemma4-e2b" are files of
#: the architectures llama, olmo2, granitehybrid, deepseek2 and gemma4.
ARCHITECTURES = (
    "llama", "llama4", "mixtral", "internlm2", "arcee", "nemotron", "mistral3", "smollm3", "granite", "granitemoe", "ernie4_5", "qwen2", "qwen3", "qwen3moe", "gpt-oss", "seed_oss",
    "hunyuan-dense", "olmo2", "olmo3", "exaone4", "gemma", "gemma2", "gemma3", "gemma4", "gemma4-a4b", "gemma4-e2b", "command-r", "cohere2", "phi2", "phi3", "stablelm",
    "starcoder2", "gpt2", "qwen2moe", "hunyuan-moe", "ernie4_5-moe", "glm4moe", "bailingmoe2", "minimax-m2", "lfm2", "qwen35",
    "qwen35moe", "lfm2moe", "granitehybrid", "granitehybridmoe", "qwen3next", "deepseek2", "deepseek2-lite", "nemotron_h",
    "nemotron_h_moe", "mamba2", "qwen2vl", "qwen3vl", "qwen3vlmoe", "olmoe", "dots1", "glm4", "falcon-h1",
)  # fmt: skip
#: Those whose heads have no size of their own: all of them together are as long as the activations.
SIZED_BY_HIDDEN = (
    "phi2",
    "phi3",
    "gpt2",
    "stablelm",
    "command-r",
    "cohere2",
    "olmo2",
    "olmo3",
    "starcoder2",
    "bailingmoe2",
    "olmoe",
    "internlm2",
)
#: Those with a mixture of experts.
MIXTURES = (
    "llama4",
    "mixtral",
    "qwen3moe",
    "granitemoe",
    "gpt-oss",
    "qwen2moe",
    "qwen35moe",
    "qwen3next",
    "hunyuan-moe",
    "ernie4_5-moe",
    "glm4moe",
    "bailingmoe2",
    "minimax-m2",
    "lfm2moe",
    "granitehybridmoe",
    "deepseek2",
    "deepseek2-lite",
    "nemotron_h_moe",
    "qwen3vlmoe",
    "olmoe",
    "dots1",
    "gemma4-a4b",
)
#: Those that are files of Gemma 4.
GEMMA4 = ("gemma4", "gemma4-a4b", "gemma4-e2b")
