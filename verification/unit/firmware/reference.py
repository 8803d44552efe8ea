"""A decoder in float64, written from the description: what the device's programs are compared with."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import (
    SCORE_SCALES,
    Activation,
    Attention,
    Description,
    Experts,
    FeedForward,
    HeadNorm,
    Latent,
    NormKind,
    Scores,
    layer_role,
)
from tailrace.spec.kv_cache import quantise_keys, quantise_values

Array = NDArray[np.float64]


class Reference:
    """Decodes one sequence, token by token.

    Parameters
    ----------
    description : Description
    tensors : mapping from role to ndarray
        Matrices of shape (rows, columns), those of experts (experts, rows, columns), norm weights and biases (columns,), tables of
        angles (positions, columns) with cosines, then sines.
    """

    def __init__(self, description: Description, tensors: Mapping[str, Array]) -> None:
        self.description, self.tensors = description, tensors
        self.keys: list[list[Array]] = [[] for _ in description.layers]
        self.values: list[list[Array]] = [[] for _ in description.layers]

    def step(self, token: int, position: int) -> Array:
        """Logits after `token` at `position`."""
        d, t = self.description, self.tensors
        x = t["embedding"][token] * d.embedding_scale
        if d.learned_positions:
            x = x + t["position_embedding"][position]
        for n, layer in enumerate(d.layers):
            if layer.parallel:
                y = self.norm(x, layer_role(n, "attention_norm"))
                x = x + (self.attention(y, n, layer.attention, position) + self.feed_forward(y, n, x)) * d.residual_scale
                x = self.embedded(x, n, token) * t.get(layer_role(n, "output_scale"), 1.0)
                continue
            for block, post in (("attention", "attention_post_norm"), ("feed_forward", "feed_forward_post_norm")):
                y = self.norm(x, layer_role(n, f"{block}_norm")) if layer.pre_norms else x
                y = self.attention(y, n, layer.attention, position) if block == "attention" else self.feed_forward(y, n, x)
                x = x + (self.norm(y, layer_role(n, post)) if layer.post_norms else y) * d.residual_scale
            x = self.embedded(x, n, token) * t.get(layer_role(n, "output_scale"), 1.0)
        logits = self.linear(self.norm(x, "final_norm"), "head") * d.logit_scale
        return logits if d.logit_cap is None else d.logit_cap * np.tanh(logits / d.logit_cap)

    def embedded(self, x: Array, n: int, token: int) -> Array:
        """With what the layer's own embedding adds."""
        d, embedding = self.description, self.description.layers[n].embedding
        if embedding is None:
            return x
        size = embedding.size
        first = self.tensors["embedding"][token] * d.embedding_scale / np.sqrt(d.hidden)
        y = self.linear(first, layer_role(n, "embedding_projection"))
        y = y / np.sqrt((y * y).mean() + d.norm.epsilon) * self.tensors["layer_embedding_norm"]
        y = (y + self.tensors["layer_embeddings"][token][n * size : (n + 1) * size] * np.sqrt(size)) / np.sqrt(2)
        gate = activation(self.linear(x, layer_role(n, "embedding_gate")), embedding.activation)
        added = self.norm(self.linear(gate * y, layer_role(n, "embedding_output")), layer_role(n, "embedding_post_norm"))
        return x + added * d.residual_scale

    def norm(self, x: Array, role: str) -> Array:
        norm, weight = self.description.norm, self.tensors[role]
        if norm.kind is NormKind.LAYER:
            x = x - x.mean()
        return x / np.sqrt((x * x).mean() + norm.epsilon) * weight + self.tensors.get(f"{role}_bias", 0.0)

    def linear(self, x: Array, role: str) -> Array:
        return self.tensors[role] @ x + self.tensors.get(f"{role}_bias", 0.0)

    def rotate(self, heads: Array, role: str, attention: Attention, position: int) -> Array:
        half = attention.rotary_size // 2
        if not half:
            return heads
        cosine, sine = np.split(self.tensors[attention.rope][position], 2)
        x, y, rest = heads[:, :half], heads[:, half : 2 * half], heads[:, 2 * half :]
        return np.concatenate([x * cosine - y * sine, y * cosine + x * sine, rest], axis=1)

    def normalised_and_rotated(self, heads: Array, n: int, role: str, attention: Attention, position: int) -> Array:
        if attention.head_norm is None:
            return self.rotate(heads, role, attention, position)
        has_weights, epsilon = attention.head_norm.has_weights, self.description.norm.epsilon
        weight = self.tensors[layer_role(n, f"{role}_norm")] if has_weights else np.ones(1)
        if attention.head_norm is HeadNorm.ALL_HEADS:
            heads = heads / np.sqrt((heads * heads).mean() + epsilon) * weight.reshape(heads.shape)
            return self.rotate(heads, role, attention, position)
        if attention.head_norm is not HeadNorm.HEAD:
            heads = self.rotate(heads, role, attention, position)
        heads = heads / np.sqrt((heads * heads).mean(axis=1, keepdims=True) + epsilon) * weight
        return self.rotate(heads, role, attention, position) if attention.head_norm is HeadNorm.HEAD else heads

    def scale(self, attention: Attention, position: int) -> float:
        """What the scores of a position are multiplied with."""
        return float(self.tensors[SCORE_SCALES][position, 0]) if attention.growing else attention.scale

    def attention(self, x: Array, n: int, attention: Attention, position: int) -> Array:
        if attention.latent is not None:
            return self.latent_attention(x, n, attention, attention.latent, position)
        size = attention.head_size
        q = self.normalised_and_rotated(self.linear(x, layer_role(n, "q")).reshape(-1, size), n, "q", attention, position)
        owner = self.description.cache_layer(n)
        if owner == n:
            self.append(x, n, attention, position)
        first = attention.first_seen(position)
        scale = self.scale(attention, position)
        keys, values = np.stack(self.keys[owner][first:]), np.stack(self.values[owner][first:])
        outputs = []
        for head in range(attention.heads):
            kv_head = head // attention.group
            scores = keys[:, kv_head] @ q[head] * scale
            if attention.score_cap:
                scores = attention.score_cap * np.tanh(scores / attention.score_cap)
            sink = self.tensors[layer_role(n, "sinks")][head] if attention.sinks else -np.inf
            largest = max(scores.max(), sink)
            weights = np.exp(scores - largest)
            outputs.append(weights / (weights.sum() + np.exp(sink - largest)) @ values[:, kv_head])
        return self.linear(np.concatenate(outputs), layer_role(n, "o"))

    def latent_attention(self, x: Array, n: int, a: Attention, latent: Latent, position: int) -> Array:
        """Keys and values of every head made of the latents, as in models that are trained."""
        tensors, epsilon = self.tensors, self.description.norm.epsilon

        def normalised(y: Array, role: str) -> Array:
            return y / np.sqrt((y * y).mean() + epsilon) * tensors[layer_role(n, role)]

        q = normalised(self.linear(x, layer_role(n, "q_a")), "q_a_norm") if latent.query_rank else x
        queries = self.rotate(self.linear(q, layer_role(n, "q")).reshape(a.heads, -1), "q", a, position)
        row = self.rotate(self.linear(x, layer_role(n, "kv_a"))[None], "k", a, position)[0]
        found = normalised(row[a.rotary_size :], "kv_a_norm")
        scales, codes = quantise_keys(np.concatenate([row[: a.rotary_size], found]).astype(np.float32))
        self.keys[n].append((scales.astype(np.float64)[:, None] * codes).reshape(-1)[: a.head_size])
        scale, codes = quantise_values(found[None].astype(np.float32))
        self.values[n].append(scale.astype(np.float64)[0] * codes[0])
        first = a.first_seen(position)
        held, latents = np.stack(self.keys[n][first:]), np.stack(self.values[n][first:])
        shared, for_keys = held[:, : a.rotary_size], held[:, a.rotary_size :]
        outputs = []
        for head, query in enumerate(queries):
            k_b = tensors[layer_role(n, "k_b")].reshape(a.heads, latent.size, -1)[head]
            v_b = tensors[layer_role(n, "v_b")].reshape(a.heads, -1, latent.size)[head]
            keys = np.concatenate([shared, for_keys @ k_b], axis=1)
            weights = np.exp(keys @ query * self.scale(a, position))
            outputs.append(weights / weights.sum() @ (latents @ v_b.T))
        return self.linear(np.concatenate(outputs), layer_role(n, "o"))

    def append(self, x: Array, n: int, attention: Attention, position: int) -> None:
        """Append the keys and values of a position, quantised."""
        size = attention.head_size
        k, v = (self.linear(x, layer_role(n, r)).reshape(-1, size) for r in ("k", "k" if attention.keys_as_values else "v"))
        if attention.value_norm:
            v = v / np.sqrt((v * v).mean(axis=1, keepdims=True) + self.description.norm.epsilon)
        k = self.normalised_and_rotated(k, n, "k", attention, position)
        scales, codes = quantise_keys(k.astype(np.float32))
        self.keys[n].append((scales.astype(np.float64)[..., None] * codes).reshape(attention.kv_heads, -1)[:, :size])
        scales, codes = quantise_values(v.astype(np.float32))
        self.values[n].append(scales.astype(np.float64)[..., None] * codes)

    def feed_forward(self, x: Array, n: int, plain: Array) -> Array:
        """Of the normalised activations `x`; `plain`: as they were before."""
        block = self.description.layers[n].feed_forward
        if isinstance(block, FeedForward):
            return self.gated(x, block, *(self.matrix(n, role) for role in ("gate", "up", "down")))
        if not block.apart:
            return self.mixture(x, x, n, block) + self.shared(x, n, block)
        routed = self.norm(plain, layer_role(n, "router_norm")) * block.router_scale
        chosen = self.mixture(routed, self.norm(plain, layer_role(n, "experts_norm")), n, block)
        parts = {"experts_post_norm": chosen, "shared_post_norm": self.shared(x, n, block)}
        return sum(self.norm(y, layer_role(n, role)) for role, y in parts.items())

    def matrix(self, n: int, role: str) -> tuple[Array | None, Array | float]:
        full = layer_role(n, role)
        return self.tensors.get(full), self.tensors.get(f"{full}_bias", 0.0)

    def gated(self, x: Array, block: FeedForward, gate: tuple, up: tuple, down: tuple) -> Array:  # type: ignore[type-arg]
        y = up[0] @ x + up[1]
        if not block.gated:
            return down[0] @ activation(y, block.activation) + down[1]
        g = gate[0] @ x + gate[1]
        if block.limit is not None:
            g, y = np.minimum(g, block.limit), np.clip(y, -block.limit, block.limit)
        return down[0] @ (activation(g, block.activation) * (y + block.up_offset)) + down[1]

    def shared(self, x: Array, n: int, experts: Experts) -> Array | float:
        if not experts.shared:
            return 0.0
        parts = [self.matrix(n, f"shared_{role}") for role in ("gate", "up", "down")]
        open_by = 1 / (1 + np.exp(-self.linear(x, layer_role(n, "shared_router"))[0])) if experts.shared_gated else 1.0
        return open_by * self.gated(x, experts.shared, *parts)

    def mixture(self, routed: Array, x: Array, n: int, experts: Experts) -> Array:
        logits = self.linear(routed, layer_role(n, "router"))
        if experts.scores is Scores.SOFTMAX:
            scores = np.exp(logits - logits.max())
            scores /= scores.sum()
        else:
            scores = 1 / (1 + np.exp(-logits))
        chosen = self.choose(scores + self.tensors.get(layer_role(n, "selection_bias"), 0.0), experts)
        weights = scores[chosen] / (scores[chosen].sum() if experts.normalise else 1.0) * experts.scale
        total = np.zeros(self.description.hidden)
        for expert, weight in zip(chosen, weights, strict=True):
            all_of_them = [self.matrix(n, f"experts_{role}") for role in ("gate", "up", "down")]
            parts = [(None if m is None else m[expert], b[expert] if np.ndim(b) else b) for m, b in all_of_them]
            if experts.weighted_input:
                total += self.gated(weight * x, experts.expert, *parts)
            else:
                total += weight * self.gated(x, experts.expert, *parts)
        return total

    def choose(self, compared: Array, experts: Experts) -> Array:
        """Numbers of the best, in the best groups."""
        grouped = compared.reshape(experts.groups, -1).copy()
        best_two = np.sort(grouped, axis=1)[:, -2:].sum(axis=1)
        grouped[np.argsort(-best_two, kind="stable")[experts.used_groups :]] = -np.inf
        return np.argsort(-grouped.reshape(-1), kind="stable")[: experts.used]


def activation(x: Array, kind: Activation) -> Array:
    if kind is Activation.SQUARED_RELU:
        return np.maximum(x, 0) ** 2
    if kind is not Activation.GELU:
        return x / (1 + np.exp(-x * (1.702 if kind is Activation.QUICK_GELU else 1.0)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
