"""Modal's control plane, as far as deploying an app and spawning a call need it, made from Modal's own protocol.

It answers on loopback, keeps every request, and runs nothing. A call that it does not know is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.server import Server, Stream
from modal_proto import api_grpc
from modal_proto import api_pb2 as api

from tests.ports import free_port


class _Names:
    """Stands for an implementation of every call, so that the protocol tells all their names."""

    def __getattr__(self, name: str) -> str:
        return name


class ControlPlane:
    """One workspace of one user, with one environment, where every name is new."""

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.unknown: list[str] = []
        self.output: bytes | None = None
        self.url = ""
        self._server = Server([self])
        self._ids = 0

    async def __aenter__(self) -> ControlPlane:
        port = free_port()
        await self._server.start("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def functions(self) -> dict[str, Any]:
        """What was created, by name: `Function` messages as the workers would be told of them."""
        return {request.function.function_name: request.function for request in self.requests["FunctionCreate"]}

    def __mapping__(self) -> dict[str, Handler]:
        """Every call of the protocol, as grpclib asks for them."""
        calls = api_grpc.ModalClientBase.__mapping__(_Names())  # type: ignore[arg-type]
        return {path: call._replace(func=self._handler(str(call.func))) for path, call in calls.items()}

    def _handler(self, name: str) -> Callable[[Stream[Any, Any]], Any]:
        async def handle(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            self.requests[name].append(request)
            answer = getattr(self, f"_{name}", None)
            if answer is None:
                self.unknown.append(name)
                raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not part of this double")
            await stream.send_message(answer(request))

        return handle

    def _id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}-{self._ids}"

    def _ClientHello(self, _: Message) -> Message:
        return api.ClientHelloResponse()

    def _EnvironmentGetOrCreate(self, _: Message) -> Message:
        settings = api.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api.EnvironmentMetadata(name="main", settings=settings)
        return api.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def _AppGetByDeploymentName(self, _: Message) -> Message:
        return api.AppGetByDeploymentNameResponse()

    def _AppCreate(self, _: Message) -> Message:
        return api.AppCreateResponse(app_id="ap-1", app_page_url="https://modal.invalid/app", app_logs_url="")

    def _AppHeartbeat(self, _: Message) -> Message:
        return Empty()

    def _AppClientDisconnect(self, _: Message) -> Message:
        return Empty()

    def _AppPublish(self, _: Message) -> Message:
        return api.AppPublishResponse(url="https://modal.invalid/app", deployed_at=1.0)

    def _MountGetOrCreate(self, _: Message) -> Message:
        return api.MountGetOrCreateResponse(mount_id=self._id("mo"))

    def _MountPutFile(self, _: Message) -> Message:
        return api.MountPutFileResponse(exists=True)

    def _MountBatchedCheckExistence(self, _: Message) -> Message:
        return api.MountBatchedCheckExistenceResponse()

    def _VolumeCommit(self, _: Message) -> Message:
        return api.VolumeCommitResponse(skip_reload=True)

    def _VolumeGetOrCreate(self, request: Any) -> Message:
        return api.VolumeGetOrCreateResponse(volume_id=f"vo-{request.deployment_name}")

    def _SecretGetOrCreate(self, _: Message) -> Message:
        return api.SecretGetOrCreateResponse(secret_id=self._id("st"))

    def _ImageGetOrCreate(self, _: Message) -> Message:
        built = api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS)
        return api.ImageGetOrCreateResponse(image_id=self._id("im"), result=built)

    def _FunctionPrecreate(self, request: Any) -> Message:
        return api.FunctionPrecreateResponse(function_id=f"fu-{request.function_name}")

    def _FunctionCreate(self, request: Any) -> Message:
        name = request.function.function_name
        return api.FunctionCreateResponse(
            function_id=f"fu-{name}",
            function=request.function,
            function_data=_told(request.function),
            handle_metadata=api.FunctionHandleMetadata(function_name=name),
        )

    def _ClassCreate(self, _: Message) -> Message:
        return api.ClassCreateResponse(class_id=self._id("cs"))

    def _ClassGet(self, _: Message) -> Message:
        return api.ClassGetResponse(class_id="cs-1")

    def _FunctionGet(self, request: Any) -> Message:
        created = self.functions[request.object_tag]
        metadata = api.FunctionHandleMetadata(
            function_name=created.function_name,
            class_parameter_info=created.class_parameter_info,
            method_handle_metadata={
                name: api.FunctionHandleMetadata(function_name=method.function_name, use_method_name=name)
                for name, method in created.method_definitions.items()
            },
        )
        return api.FunctionGetResponse(
            function_id=f"fu-{created.function_name}", handle_metadata=metadata, function=_told(created)
        )

    def _FunctionMap(self, request: Any) -> Message:
        taken = [api.FunctionPutInputsResponseItem(idx=put.idx, input_id="in-1") for put in request.pipelined_inputs]
        return api.FunctionMapResponse(function_call_id="fc-1", pipelined_inputs=taken)

    def _FunctionGetOutputs(self, _: Message) -> Message:
        if self.output is None:
            return api.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        done = api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS, data=self.output)
        item = api.FunctionGetOutputsItem(result=done, data_format=api.DATA_FORMAT_PICKLE)
        return api.FunctionGetOutputsResponse(outputs=[item])


def _told(function: Any) -> api.FunctionData:
    return api.FunctionData(ranked_functions=[api.FunctionData.RankedFunction(rank=0, function=function)])
