"""The parameters of an address."""

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def read_parameters(request: Request, model: type[M]) -> M:
    """Return the query string as the model, whose fields have defaults. Of a parameter's values the last counts.

    Raises:
        RequestValidationError: a value is invalid, as FastAPI raises it for parameters that it reads itself.
    """
    if not request.scope["query_string"]:
        return model()
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        found = [{**each, "loc": ("query", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(found) from None
