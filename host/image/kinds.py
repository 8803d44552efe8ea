"""Which layers of a model are made alike."""

from collections.abc import Mapping
from dataclasses import replace

from ..gguf.describe import DescribedModel, Source


def kinds_of_layers(imported: DescribedModel, formats: Mapping[str, object]) -> list[list[int]]:
    """Layers that are described alike, and whose matrices and tables have the same sizes and formats; with one that drafts.

    Parameters
    ----------
    imported : DescribedModel
    formats : mapping from role to a format
        Of matrices.

    Returns
    -------
    list of lists of int
        In the order of the first of each kind.
    """
    described_layers = imported.description.whole.layers
    contents: list[list[object]] = [[] for _ in described_layers]
    for role, source in (*imported.matrices.items(), *imported.tables.items()):
        if role.startswith("layers."):
            _, layer, name = role.split(".", 2)
            size = (source.rows, source.columns, source.experts, source.repeats, source.scale)
            contents[int(layer)].append((name, *size, formats.get(role)))
    kinds: dict[object, list[int]] = {}
    for n, (described, content) in enumerate(zip(described_layers, contents, strict=True)):
        kinds.setdefault((described, tuple(content)), []).append(n)
    return list(kinds.values())


def one_of_each(imported: DescribedModel) -> DescribedModel:
    """The model with one layer of each kind: it needs as much of the activation buffer and of the slots as the whole one."""
    types = {role: source.tensor.type_name for role, source in imported.matrices.items()}
    firsts = {layers[0]: n for n, layers in enumerate(kinds_of_layers(imported, types))}

    def kept(sources: Mapping[str, Source]) -> dict[str, Source]:
        found = {}
        for role, source in sources.items():
            if not role.startswith("layers."):
                found[role] = source
                continue
            _, layer, name = role.split(".", 2)
            if int(layer) in firsts:
                found[f"layers.{firsts[int(layer)]}.{name}"] = source
        return found

    # One that drafts is the last one of all, the only one of its kind.
    layers = tuple(imported.description.layers[n] for n in firsts if n < len(imported.description.layers))
    description = replace(imported.description, layers=layers)
    return replace(imported, description=description, matrices=kept(imported.matrices), tables=kept(imported.tables))
