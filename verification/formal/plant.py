"""Planted bugs: a class with one piece of its source text replaced, to show that a proof notices."""

import importlib
import inspect
from types import ModuleType


def plant(original: type, old: str, new: str) -> type:
    """Return the class as it were if its module said `new` where it says `old`, which must be there exactly once."""
    module = importlib.import_module(original.__module__)
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {module.__name__}, not once"
    changed = ModuleType(module.__name__)
    changed.__package__ = module.__package__
    exec(compile(source.replace(old, new), f"{module.__file__} with {new!r}", "exec"), changed.__dict__)
    return getattr(changed, original.__name__)
