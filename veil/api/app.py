"""The HTTP face of the verbs: one aiohttp application for each door (people over TLS or a socket, controllers).

Applications differ in their :class:`~veil.api.ports.Caller` and share everything else.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from veil.api import access, bodies, execs, logs, rights, watches
from veil.api.kinds import Kind
from veil.api.openapi import V2_PROTOBUF
from veil.api.ports import Auditor, Caller, Drainer, ExecSource, LogSource
from veil.api.status import Rejected, code_and_reason, status_of
from veil.api.tables import table
from veil.api.targets import AUDITS, Options, Target, is_true, parse_options, parse_target
from veil.api.verbs import Verbs, Written
from veil.api.views import served
from veil.errors import InvalidInput, ManifestInvalid, VeilError
from veil.store.objects import Gone, Obj, ObjectStore
from veil.types import Clock

_TARGET = web.RequestKey("target", Target)


def reply(body: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(body=data, status=code, content_type="application/json", headers=headers)


@web.middleware
async def as_status(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors of the house, and those of the HTTP library, as Status documents."""
    try:
        return await handler(request)
    except VeilError as error:
        return _failure(request, error)
    except web.HTTPRequestEntityTooLarge:
        limit = f"API_BODY_MAX_BYTES={bodies.API_BODY_MAX_BYTES}"
        return _failure(request, Rejected(413, "RequestEntityTooLarge", f"the body is over {limit}"))
    except web.HTTPNotFound:
        return _failure(request, Rejected(404, "NotFound", "the server could not find the requested resource"))
    except web.HTTPMethodNotAllowed:
        return _failure(request, Rejected(405, "MethodNotAllowed", "the server does not allow this method here"))


def _failure(request: web.Request, error: VeilError) -> web.Response:
    target = request.get(_TARGET)
    details = dict(target.details) if target else None
    if target and details and isinstance(error, ManifestInvalid):
        details |= {"kind": target.kind.resource.kind}
    return reply(status_of(error, details), code_and_reason(error)[0])


class Door:
    """The handlers of one application."""

    def __init__(
        self,
        caller: Caller,
        *,
        store: ObjectStore,
        verbs: Verbs,
        log_source: LogSource,
        auditor: Auditor,
        drainer: Drainer,
        exec_source: ExecSource,
        clock: Clock,
        discovery: Mapping[str, Obj],
        openapi: Mapping[str, bytes],
        closing: watches.Signal,
    ) -> None:
        self._caller = caller
        self._store = store
        self._verbs = verbs
        self._logs = log_source
        self._auditor = auditor
        self._drainer = drainer
        self._execs = exec_source
        self._clock = clock
        self._discovery = {path: msgspec.json.encode(document) for path, document in discovery.items()}
        self._openapi = openapi
        self._closing = closing.next
        self.reset = watches.Signal()
        """Fired when ``caller.visible`` says something else than before."""

    def application(self, *middlewares: Middleware) -> web.Application:
        """A fresh application; ``middlewares`` run inside the one that renders errors."""
        app = web.Application(client_max_size=bodies.API_BODY_MAX_BYTES, middlewares=[as_status, *middlewares])
        router = app.router
        for path in self._discovery:
            router.add_get(path, self._discover)
            router.add_get(path + "/", self._discover)
        for path in sorted(access.OPEN_PATHS):
            router.add_get(path, self._healthy)
        router.add_get("/openapi/v2", self._openapi_v2)
        router.add_get("/openapi/v3", self._openapi_v3)
        router.add_get("/openapi/v3/{path:.*}", self._openapi_v3)
        router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self._review)
        router.add_route("*", "/{root:apis?}/{rest:.+}", self._resource)
        return app

    # documents

    async def _discover(self, request: web.Request) -> web.Response:
        return reply(self._discovery[request.path.rstrip("/")])

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _openapi_v2(self, request: web.Request) -> web.Response:
        if "protobuf" in request.headers.get("Accept", ""):
            return web.Response(body=b"", content_type=V2_PROTOBUF)
        return reply({"swagger": "2.0", "info": {"title": "Veil", "version": "v1alpha1"}, "paths": {}})

    async def _openapi_v3(self, request: web.Request) -> web.Response:
        document = self._openapi.get(request.match_info.get("path", "").strip("/"))
        if document is None:
            raise web.HTTPNotFound
        return reply(document)

    async def _review(self, request: web.Request) -> web.Response:
        return reply(access.review(self._caller, await self._body(request)), 201)

    # resources

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        target = request[_TARGET] = parse_target(request.url.raw_path)
        if target.subresource == "log":
            return await self._log(request, target)
        if target.subresource in AUDITS:
            return await self._audit(request, target)
        if target.subresource == "exec":
            return await self._exec(request, target)
        if target.subresource == "drain":
            return self._drain(request, target)
        match (request.method, bool(target.name)):
            case ("GET", _):
                return await self._get(request, target)
            case ("POST", False):
                body = await self._body(request)
                request[_TARGET] = replace(target, name=_name(body))
                written = await self._verbs.create(self._caller, target, body, _options(request))
                return self._written(request, target.kind, written)
            case ("PUT", True):
                written = await self._verbs.update(self._caller, target, await self._body(request), _options(request))
                return self._written(request, target.kind, written)
            case ("PATCH", True):
                form, change = bodies.media_type(request), await bodies.read(request)
                written = await self._verbs.patch(self._caller, target, form, change, _options(request))
                return self._written(request, target.kind, written)
            case ("DELETE", _):
                return await self._delete(request, target)
        raise Rejected(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    async def _body(self, request: web.Request) -> Obj:
        body = await bodies.read(request)
        if not isinstance(body, dict):
            raise InvalidInput("the body must be a JSON object")
        return body

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        if is_true(query.get("watch", "")):
            show = self._shower(request, target.kind)
            watch = watches.Watch(self._store, target.kind, self._verbs.matcher(self._caller, target, query), show, query)
            return await watches.respond(request, watch, self._closing, self.reset.next)
        if target.name:
            obj = self._verbs.read(self._caller, target)
            return reply(self._rendered(request, target.kind, obj))
        version = str(self._store.resource_version)
        items, metadata = _page(self._verbs.select(self._caller, target, query), query, version)
        if _wants_table(request):
            return reply(self._table(request, target.kind, items, metadata))
        resource = target.kind.resource
        listed = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": items}
        return reply(listed)

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        options, asked = _options(request), await bodies.read(request)
        asked = asked if isinstance(asked, dict) else {}
        if asked.get("dryRun") == ["All"]:
            options = replace(options, dry_run=True)
        if target.name:
            last = await self._verbs.delete(self._caller, target, options, asked.get("preconditions") or {})
            details = {**target.details, "uid": last["metadata"].get("uid", "")}
            return reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
        for obj in self._verbs.select(self._caller, target, request.query):
            metadata = obj["metadata"]
            one = Target(kind=target.kind, namespace=metadata.get("namespace", ""), name=metadata["name"])
            await self._verbs.delete(self._caller, one, options, {})
        return reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        self._verbs.read(self._caller, target)
        instance = self._store.get("Instance", target.namespace, target.name)
        pieces = logs.open_logs(self._logs, instance, request.query, self._clock)
        return await logs.respond(request, pieces, self._closing)

    async def _exec(self, request: web.Request, target: Target) -> web.StreamResponse:
        rights.check_exec(self._caller)
        self._verbs.read(self._caller, target)
        instance = self._store.get("Instance", target.namespace, target.name)
        return await execs.respond(request, self._execs, instance, self._closing)

    async def _audit(self, request: web.Request, target: Target) -> web.Response:
        """By name alone: a placement that is too old to be listed can still be audited."""
        rights.check_audit(self._caller)
        if request.method != "GET":
            raise Rejected(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        answer = self._auditor.audit if target.subresource == "audit" else self._auditor.transcript
        return reply(await answer(target.name))

    def _drain(self, request: web.Request, target: Target) -> web.Response:
        rights.check_drain(self._caller)
        if request.method != "POST":
            raise Rejected(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return reply(self._drainer.drain(self._verbs.read(self._caller, target)))

    # rendering

    def _written(self, request: web.Request, kind: Kind, written: Written) -> web.Response:
        headers = [("Warning", f'299 - "{text}"') for text in written.warnings]
        response = reply(self._rendered(request, kind, written.object), 201 if written.created else 200)
        for name, value in headers:
            response.headers.add(name, value)
        return response

    def _rendered(self, request: web.Request, kind: Kind, obj: Obj) -> Obj:
        if not _wants_table(request):
            return obj
        return self._table(request, kind, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})

    def _shower(self, request: web.Request, kind: Kind) -> watches.Show:
        return lambda obj: self._rendered(request, kind, served(kind, obj, self._store))

    def _table(self, request: web.Request, kind: Kind, items: list[Obj], metadata: Obj) -> Obj:
        include = request.query.get("includeObject") or "Metadata"
        return table(kind, items, metadata, now_s=self._clock.now_s(), include=include)


def _options(request: web.Request) -> Options:
    return parse_options(request.query, request.headers.get("User-Agent", ""))


def _name(body: Obj) -> str:
    """The name in a new object, for errors about it."""
    metadata = body.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _page(items: list[Obj], query: Mapping[str, str], version: str) -> tuple[list[Obj], Obj]:
    """The part of a list that ``limit`` and ``continue`` ask for, and the list's metadata.

    A continue token is the last key sent: a list goes on from there whatever has changed meanwhile.
    """
    metadata: Obj = {"resourceVersion": version}
    limit = query.get("limit") or "0"
    if not limit.isascii() or not limit.isdigit():
        raise InvalidInput(f"limit: Invalid value: {limit!r}")
    if token := query.get("continue"):
        after = _token(token)
        items = [obj for obj in items if _key(obj) > after]
    if not int(limit) or len(items) <= int(limit):
        return items, metadata
    page = items[: int(limit)]
    last = base64.urlsafe_b64encode(msgspec.json.encode(_key(page[-1]))).decode()
    return page, metadata | {"continue": last, "remainingItemCount": len(items) - len(page)}


def _token(text: str) -> tuple[str, str]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=tuple[str, str])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise Gone("the continue token is not one of ours", hint="list again from the start") from error


def _key(obj: Obj) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
