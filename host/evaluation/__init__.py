"""Evaluations: a model class for lm_eval, tasks that need no network, and ``tailrace eval``.

Needs the extra ``tailrace[eval]``, but for `scoring`; nothing here is imported before it is used.
"""

from pathlib import Path

#: The folder of the tasks, for lm_eval's ``--include_path``.
TASKS = Path(__file__).with_name("tasks")
