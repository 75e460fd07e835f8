"""Rows of services, and robot-session's own calls."""

from __future__ import annotations

from sessionmanager import errors as e
from sessionmanager.api.context import Api
from sessionmanager.api.routes.services import ServiceRegistryRoutes
from sessionmanager.api.routing import Route, Shown
from sessionmanager.api.tables.shared import KEY, REPLAYED, WRITE
from sessionmanager.wire import services

TAG = "services"


def registry_rows(api: Api) -> tuple[Route, ...]:
    """Who has registered."""
    on = ServiceRegistryRoutes(api)
    return (*_registry(on), *_robot_session(on))


def _registry(on: ServiceRegistryRoutes) -> tuple[Route, ...]:
    one = services.Service
    return (
        Route(
            method="POST",
            template="/services",
            action="service.register",
            handler=on.register,
            tag=TAG,
            summary="Register a service, or begin its new life",
            request=services.ServiceBody,
            headers=KEY,
            answers=(
                Shown(201, "The service", one, headers=("Location", *REPLAYED)),
                Shown(200, "It was known, and begins anew", one, headers=("Location", *REPLAYED)),
            ),
            errors=(e.AlreadyExists, e.QuotaExceeded, *WRITE),
        ),
        Route(
            method="GET",
            template="/services",
            action="service.read",
            handler=on.list,
            tag=TAG,
            summary="Which services there are, and whether they live",
            query=services.ListServices,
            answers=(Shown(200, "A page, by id", services.ServicePage),),
            errors=(e.TierUnavailable,),
        ),
        Route(
            method="DELETE",
            template="/services/{service_id}",
            action="service.remove",
            handler=on.remove,
            tag=TAG,
            summary="Take a service out; its sessions ask another",
            body_required=False,
            headers=KEY,
            answers=(Shown(204, "It is asked no more", headers=REPLAYED),),
            errors=(e.NotFound, *WRITE),
        ),
        Route(
            method="POST",
            template="/services/{service_id}/heartbeat",
            action="service.heartbeat",
            handler=on.heartbeat,
            tag=TAG,
            summary="News of a service: it lives, and how busy it is",
            request=services.ServiceNews,
            body_required=False,
            answers=(Shown(200, "The service", one),),
            errors=(e.NotFound, *WRITE),
        ),
    )


def _robot_session(on: ServiceRegistryRoutes) -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            template="/api/v1/microservices/register",
            action="service.register",
            handler=on.register_microservice,
            tag=TAG,
            summary="Register a service, in robot-session's shape",
            request=services.RegisterMicroservice,
            headers=KEY,
            answers=(Shown(200, "The service", services.RegisteredMicroservice, headers=REPLAYED),),
            errors=(e.AlreadyExists, e.QuotaExceeded, *WRITE),
        ),
        Route(
            method="POST",
            template="/api/v1/create-session",
            action="session.create",
            handler=on.create_session,
            tag=TAG,
            summary="Create a session and let its client in, in robot-session's shape",
            request=services.CreateRoomSession,
            body_required=False,
            query=services.CreateSession,
            headers=KEY,
            answers=(Shown(200, "The session, and the client's token", services.RoomSession, headers=REPLAYED),),
            errors=(e.JoinTimeout, e.QuotaExceeded, *WRITE),
        ),
    )
