"""The server's end: requests under way are answered, and nothing is left to a loop that ends."""

import asyncio
import contextlib
import socket

import pytest

from xrayd.net.http_messages import Request, Response, Routes, text_response
from xrayd.net.http_server import HttpServer

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Scene:
    """A served socket whose handler answers when `may_answer` is set."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.answered = 0
        self.server = HttpServer(self.sock, Routes(lambda _: 0, self.handle))
        self.server.start()

    async def handle(self, _: Request) -> Response:
        self.asked.set()
        await self.may_answer.wait()
        self.answered += 1
        return text_response(200, "yes")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.sock.getsockname())


def others() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def run(scenario) -> None:
    async def scene() -> None:
        made = Scene()
        try:
            await asyncio.wait_for(scenario(made), 20)
            assert not others()
        finally:
            made.sock.close()

    asyncio.run(scene())


def test_a_request_under_way_at_the_stop_is_answered_and_its_connection_closed():
    async def scenario(scene: Scene) -> None:
        reader, writer = await scene.connect()
        writer.write(ASK)
        await scene.asked.wait()
        scene.server.stop()
        asyncio.get_running_loop().call_soon(scene.may_answer.set)
        await scene.server.finish(10.0)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in answer
        writer.close()

    run(scenario)


@pytest.mark.parametrize("said", [b"", ASK[:9]])
def test_a_kept_connection_can_ask_nothing_more_once_the_server_is_finished(said):
    async def scenario(scene: Scene) -> None:
        scene.may_answer.set()
        reader, writer = await scene.connect()
        writer.write(ASK)
        assert (await reader.readuntil(b"yes\n")).startswith(b"HTTP/1.1 200")
        writer.write(said)
        await asyncio.sleep(0)
        scene.server.stop()
        await scene.server.finish(10.0)
        writer.write(ASK[len(said) :])
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert scene.answered == 1
        writer.close()

    run(scenario)


def test_an_answer_that_does_not_come_is_not_waited_for():
    async def scenario(scene: Scene) -> None:
        _, writer = await scene.connect()
        writer.write(ASK)
        await scene.asked.wait()
        scene.server.stop()
        await scene.server.finish(0.01)
        assert scene.answered == 0
        writer.close()

    run(scenario)


def test_a_client_that_has_gone_leaves_no_answer_behind():
    async def scenario(scene: Scene) -> None:
        _, writer = await scene.connect()
        writer.write(ASK)
        await scene.asked.wait()
        writer.close()
        scene.server.stop()
        await scene.server.finish(0.01)

    run(scenario)


def test_who_takes_too_long_to_ask_is_dropped_and_who_waits_for_an_answer_is_not():
    async def scenario(scene: Scene) -> None:
        patient_reader, patient = await scene.connect()
        patient.write(ASK)
        await scene.asked.wait()
        slow_reader, slow = await scene.connect()
        slow.write(ASK[:9])
        with contextlib.suppress(ConnectionResetError):
            assert await slow_reader.read() == b""
        scene.may_answer.set()
        assert (await patient_reader.readuntil(b"yes\n")).startswith(b"HTTP/1.1 200")
        for writer in (slow, patient):
            writer.close()
        scene.server.stop()
        await scene.server.finish(10.0)

    run(scenario)


def test_who_does_not_read_its_answers_is_asked_for_no_more_until_it_does():
    large = b"x" * 1024 * 1024

    async def scenario(scene: Scene) -> None:
        asked: asyncio.Queue[None] = asyncio.Queue()

        def handle(_: Request) -> Response:
            asked.put_nowait(None)
            return Response(200, large)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            server = HttpServer(listener, Routes(lambda _: 0, handle))
            server.start()
            reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=1024)
            taken = 0
            with contextlib.suppress(TimeoutError):
                while taken < 100:
                    writer.write(ASK)
                    await asyncio.wait_for(asked.get(), 1.0)
                    taken += 1
            assert 0 < taken < 60
            for _ in range(taken + 1):  # the last was only waiting
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"HTTP/1.1 200" in head
                await reader.readexactly(len(large))
            assert asked.qsize() == 1
            writer.close()
            server.stop()
            await server.finish(10.0)

    run(scenario)


def test_large_bodies_of_all_connections_share_a_bounded_room():
    body_size = 1024 * 1024
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % body_size
    small = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123456789"

    async def scenario(_: Scene) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            routes = Routes(
                lambda _: body_size,
                lambda request: text_response(200, str(len(request.body))),
                bodies_bytes_max=2 * body_size,
            )
            server = HttpServer(listener, routes)
            server.start()
            streams = [await asyncio.open_connection(*listener.getsockname()) for _ in range(3)]
            for _, writer in streams:
                writer.write(head + b"x" * (body_size - 1))
                await writer.drain()
            # Which one comes too late is the loop's choice.
            answers = [asyncio.ensure_future(reader.readline()) for reader, _ in streams]
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert [each.result().split()[1] for each in done] == [b"503"]
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(small)
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()
            for _, each in streams:
                each.write(b"x")
            lines = await asyncio.gather(*answers)
            assert sorted(line.split()[1] for line in lines) == [b"200", b"200", b"503"]
            for _, each in streams:
                each.close()
            for _ in range(5):  # the room was given back
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(head + b"x" * body_size)
                assert (await reader.readline()).split()[1] == b"200"
                writer.close()
            server.stop()
            await server.finish(10.0)

    run(scenario)
