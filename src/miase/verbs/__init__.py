"""The verbs of the command line: their flags, and what they print. Work is done elsewhere."""

from miase.verbs.enhancing import enhance, export
from miase.verbs.learning import adapt, audit, compare, corpus, train
from miase.verbs.measuring import evaluate
from miase.verbs.serving import serve
from miase.verbs.showing import doctor, models_info, models_list, models_verify

__all__ = [
    "adapt",
    "audit",
    "compare",
    "corpus",
    "doctor",
    "enhance",
    "evaluate",
    "export",
    "models_info",
    "models_list",
    "models_verify",
    "serve",
    "train",
]
