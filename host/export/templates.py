"""Files that are exported as they stand in the folder ``templates``, but for a few names and numbers."""

import re
from importlib.resources import files


def template(name: str, **values: object) -> str:
    """A file of ``templates``, with each ``@NAME@`` replaced by its value.

    Parameters
    ----------
    name : str
    **values : object

    Returns
    -------
    str

    Raises
    ------
    KeyError
        If the file wants a value that is not given.
    """
    text = (files(__package__) / "templates" / name).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z][A-Z_]*)@", lambda match: str(values[match[1]]), text)
