"""`/v1/models`: the models that a request may name, as the clients of OpenAI's API list them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Depends, Path, Request, Response, params
from pydantic import BaseModel

from service.config import Settings
from service.errors import BadInput
from service.routes.application import PlainRoute
from service.routes.openapi import errors, whole

PATH = "/v1/models"

ModelId = Annotated[str, Path(description="A model's name. It may have slashes.")]


class Model(BaseModel):
    """A model, of which the service knows no more than the name."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "folyam"


class Models(BaseModel):
    """All models, the default one first."""

    object: Literal["list"] = "list"
    data: list[Model]


async def list_models(request: Request) -> Response:
    """List the models."""
    settings: Settings = request.app.state.settings
    return _json(Models(data=[Model(id=name) for name in settings.allowed_models]))


async def read_model(request: Request) -> Response:
    """Return a model by its name."""
    settings: Settings = request.app.state.settings
    name: str = request.path_params["model_id"]
    if name not in settings.allowed_models:
        raise BadInput("model_not_found", field="model")
    return _json(Model(id=name))


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


def _described_id(model_id: ModelId) -> None:
    """Describe the parameter."""


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    return [
        PlainRoute(
            PATH,
            list_models,
            methods=["GET"],
            operation_id="listModels",
            responses=whole(Models, "The models.") | errors(401),
            dependencies=dependencies,
        ),
        PlainRoute(
            PATH + "/{model_id:path}",
            read_model,
            methods=["GET"],
            operation_id="readModel",
            responses=whole(Model, "The model.") | errors(401, 404),
            dependencies=[*dependencies, Depends(_described_id)],
        ),
    ]
