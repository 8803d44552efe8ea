"""What the YAML files name. lm_eval loads this file by its path: in no package, so that no import can have a dot."""

from importlib import import_module

_documents = import_module("tailrace.evaluation.documents")
choices, prose, needles, found = _documents.choices, _documents.prose, _documents.needles, _documents.found
