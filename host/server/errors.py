"""What a client is told when its request can't be answered: OpenAI's shape, everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tailrace.spec.errors import TailraceError


class ApiError(Exception):
    """A request that is refused, or that failed.

    Parameters
    ----------
    status : int
        Of the HTTP response.
    message : str
        What to do about it.
    kind : str
        OpenAI's ``type``.
    param : str or None
        The field of the request that is meant.
    code : str or None
        OpenAI's ``code``.
    facts : object
        More members of the error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code, self.facts = status, message, kind, param, code, facts

    @property
    def body(self) -> dict[str, Any]:
        """The response's body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code, **self.facts}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {"retry-after": "1"} if self.status == 429 else {"www-authenticate": "Bearer"} if self.status == 401 else {}


@contextmanager
def of_the_request() -> Iterator[None]:
    """What goes wrong in this block lies in what was asked: status 400."""
    try:
        yield
    except TailraceError as error:
        raise ApiError(400, str(error)) from error


def api_error(error: BaseException) -> ApiError:
    """The error as a client is told of it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TailraceError):
        return ApiError(500, str(error), "server_error", code="device_error")
    return ApiError(500, f"{type(error).__name__} in the server: its log says more", "server_error", code="internal_error")
