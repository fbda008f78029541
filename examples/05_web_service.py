"""A web service: chats of many users over HTTP, with FastAPI. The upper half is the service, the lower half shows it.

Run it with `python examples/05_web_service.py`. It starts the service on a free port of this machine, talks to it,
restarts it, stops it, and leaves nothing behind. It needs no network, unless `STRANDS_EXAMPLES_MODEL` asks for a real
model (see README.md in this folder).

To run the service itself, with its file in STRANDS_SQLITE_DB_PATH or ./sessions.db:

    CHAT_TOKENS='{"a-long-secret": "ada"}' uvicorn --app-dir examples 05_web_service:app
"""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from offline_model import OfflineModel, example_model
from strands import Agent
from strands.models import Model
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, StaleSessionException

try:
    import httpx
    import uvicorn
    from fastapi import Body, Depends, FastAPI, HTTPException, Query, Request
    from fastapi.responses import JSONResponse, StreamingResponse
    from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
except ModuleNotFoundError as missing:
    print(f"This example needs {missing.name}: pip install -e '.[examples]'")
    raise SystemExit(0) from None

# -- the service --

AGENT_ID = "assistant"
TOKENS: dict[str, str] = json.loads(os.environ.get("CHAT_TOKENS", "{}"))  # from secrets to the ids of users
logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the file once; the manager of a request then takes no time."""
    with SQLiteSessionRepository() as app.state.repository:
        yield


app = FastAPI(title="Chat", lifespan=lifespan)


@cache
def chat_model() -> Model:
    """Build the model once; put yours here."""
    return example_model()


def opened(request: Request) -> SQLiteSessionRepository:
    """Return what `lifespan` has opened."""
    repository: SQLiteSessionRepository = request.app.state.repository
    return repository


def signed_in(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """Return the id of the user who asks; put your own sign-in here, such as the check of a JWT."""
    if credentials.credentials not in TOKENS:
        raise HTTPException(401, "unknown token", {"WWW-Authenticate": "Bearer"})
    return TOKENS[credentials.credentials]


ChatModel = Annotated[Model, Depends(chat_model)]
Repository = Annotated[SQLiteSessionRepository, Depends(opened)]
User = Annotated[str, Depends(signed_in)]
Text = Annotated[str, Body(embed=True, min_length=1, max_length=10_000)]


def own_session(conversation_id: UUID, user: User, repository: Repository) -> str:
    """Return a session's id. It begins with the user's, so that nobody can even name a session of someone else."""
    session_id = f"{user}.{conversation_id}"
    if repository.read_session(session_id) is None:
        raise HTTPException(404, "no such conversation")
    return session_id


OwnSession = Annotated[str, Depends(own_session)]


@app.post("/conversations", status_code=201)
def begin(user: User) -> dict[str, UUID]:
    """Begin a conversation."""
    conversation_id = uuid4()
    SQLiteSessionManager(f"{user}.{conversation_id}", metadata={"user_id": user}).close()
    return {"conversation_id": conversation_id}


@app.get("/conversations")
def sidebar(
    user: User,
    repository: Repository,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> list[dict[str, Any]]:
    """List the user's conversations, newest activity first."""
    return [
        {
            "conversation_id": summary.session_id.removeprefix(f"{user}."),
            "updated_at": summary.updated_at,
            "messages": summary.message_count,
            "preview": summary.preview,
        }
        for summary in repository.list_sessions(metadata={"user_id": user}, limit=limit, offset=offset)
    ]


@app.get("/conversations/{conversation_id}")
def history(session_id: OwnSession, repository: Repository) -> list[dict[str, str]]:
    """Return what was said."""
    said = []
    for stored in repository.list_messages(session_id, AGENT_ID):
        message = stored.to_message()
        text = "\n".join(block["text"] for block in message["content"] if "text" in block)
        said.append({"role": message["role"], "text": text, "at": stored.created_at})
    return said


turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


async def answer(session_id: str, user: str, model: Model, text: str) -> AsyncGenerator[str, None]:
    """Have a turn of a conversation. In this process, they wait for each other; another one is a stale writer."""
    async with turns.setdefault(session_id, asyncio.Lock()):
        # The metadata again, should the session have been deleted by now: nothing is stored without its owner.
        with SQLiteSessionManager(session_id, metadata={"user_id": user}) as session_manager:
            agent = Agent(model=model, agent_id=AGENT_ID, session_manager=session_manager, callback_handler=None)
            async with aclosing(agent.stream_async(text)) as events:  # type: ignore[type-var]
                async for event in events:
                    if "data" in event:
                        yield event["data"]


@app.post("/conversations/{conversation_id}/messages")
async def chat(session_id: OwnSession, user: User, model: ChatModel, text: Text) -> dict[str, str]:
    """Say something, and return the answer when it is complete."""
    return {"answer": "".join([part async for part in answer(session_id, user, model, text)])}


@app.post("/conversations/{conversation_id}/stream")
async def stream(session_id: OwnSession, user: User, model: ChatModel, text: Text) -> StreamingResponse:
    """Say something, and return the answer as it comes, in server-sent events."""

    async def events() -> AsyncIterator[str]:
        try:
            async with aclosing(answer(session_id, user, model, text)) as parts:
                async for part in parts:
                    yield f"data: {json.dumps(part)}\n\n"
        except SessionException as error:  # too late for a status code
            yield f"event: error\ndata: {json.dumps(problem(error))}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.delete("/conversations/{conversation_id}", status_code=204)
def delete(session_id: OwnSession, repository: Repository) -> None:
    """Delete a conversation."""
    repository.delete_session(session_id)


@app.delete("/me")
def delete_everything(user: User, repository: Repository) -> dict[str, int]:
    """Delete all that is stored of the user."""
    return {"deleted": repository.delete_sessions(metadata={"user_id": user})}


@app.exception_handler(SessionException)
async def not_stored(request: Request, error: SessionException) -> JSONResponse:
    """Tell a client to load the conversation and try again, or to come back later."""
    return JSONResponse({"detail": problem(error)}, 409 if isinstance(error, StaleSessionException) else 503)


def problem(error: SessionException) -> str:
    """Tell a client what it needs to know, and the log the rest."""
    if isinstance(error, StaleSessionException):
        return "the conversation was continued elsewhere"
    logger.error("%s", error)
    return "not available now"


# -- the demonstration --

CROWD = 20  # users at once


class ThoughtfulModel(OfflineModel):
    """Thinks while there is a file `thinking` beside the database: as long as the demonstration needs it."""

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """Wait, and answer."""
        while Path(os.environ["STRANDS_SQLITE_DB_PATH"]).with_name("thinking").exists():
            await asyncio.sleep(0.01)
        async for event in super().stream(*args, **kwargs):
            yield event


def serve() -> None:
    """Run the service on a free port, and print the port."""
    if isinstance(chat_model(), OfflineModel):
        app.dependency_overrides[chat_model] = ThoughtfulModel
    logging.getLogger("strands").setLevel(logging.CRITICAL)  # it logs what is answered with 409
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)).run(sockets=[listening])


@contextmanager
def running_services(db_path: Path, count: int) -> Iterator[list[str]]:
    """Run the service in processes of their own, and stop them at the end."""
    tokens = {f"token-{user}": user for user in ("ada", "bob", *map(str, range(CROWD)))}
    environment = {**os.environ, "STRANDS_SQLITE_DB_PATH": str(db_path), "CHAT_TOKENS": json.dumps(tokens)}
    command = [sys.executable, __file__, "serve"]
    with ExitStack() as running:
        ports = []
        for _ in range(count):
            process = running.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
            running.callback(process.terminate)
            ports.append(process.stdout)
        yield [f"http://127.0.0.1:{int(port.readline())}" for port in ports if port]


def client(url: str, user: str) -> httpx.AsyncClient:
    """Return what a user's browser is in real life."""
    headers = {"Authorization": f"Bearer token-{user}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)


async def say(user: httpx.AsyncClient, path: str, text: str) -> httpx.Response:
    """Say something in a conversation."""
    return await user.post(f"{path}/messages", json={"text": text})


async def latest(user: httpx.AsyncClient) -> str:
    """Return the path of the conversation on top of a user's sidebar."""
    return f"/conversations/{(await user.get('/conversations')).json()[0]['conversation_id']}"


async def until_stored(user: httpx.AsyncClient, path: str, text: str) -> None:
    """Wait until a conversation holds a text."""
    for _ in range(1000):
        if text in (await user.get(path)).text:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{text} | is not stored")


def show(response: httpx.Response, status: int = 200) -> None:
    """Print a request and its response, which must have this status."""
    user = response.request.headers["Authorization"].removeprefix("Bearer token-")
    print(f"   {user}: {response.request.method} {response.url.path} {response.request.content.decode()}")
    print(f"      {response.status_code} {response.text}", flush=True)
    assert response.status_code == status


async def conversation(url: str, *_: Any) -> None:
    """A conversation: begin it, say something, see it in the sidebar, and read what was said."""
    async with client(url, "ada") as ada:
        show(await ada.post("/conversations"), 201)
        path = await latest(ada)
        show(await say(ada, path, "My name is Ada."))
        show(await ada.get("/conversations"))
        show(await ada.get(path))


async def streaming(url: str, *_: Any) -> None:
    """Streaming: the words of an answer, as they come."""
    async with client(url, "ada") as ada:
        request = ada.stream("POST", f"{await latest(ada)}/stream", json={"text": "I like sailing."})
        async with request as response:
            print("  ", [json.loads(line[len("data: ") :]) async for line in response.aiter_lines() if line])


async def authorisation(url: str, *_: Any) -> None:
    """Authorisation: a conversation of someone else does not exist, and without a good token nothing does."""
    async with client(url, "ada") as ada, client(url, "bob") as bob, client(url, "nobody") as nobody:
        path = await latest(ada)
        show(await bob.get(path), 404)
        show(await say(bob, path, "What is my name?"), 404)
        show(await bob.delete(path), 404)
        show(await nobody.get("/conversations"), 401)


async def crowd(url: str, _: str, thinking: Path) -> None:
    """Many at once: a user asks something, and is answered while all the others are."""
    asked: set[int] = set()

    async def visit(number: int) -> None:
        async with client(url, str(number)) as user:
            await user.post("/conversations")
            path, text = await latest(user), f"My number is {number}. What is my number?"
            request = asyncio.create_task(say(user, path, text))
            await until_stored(user, path, text)
            asked.add(number)
            if len(asked) == CROWD:
                print(f"   {CROWD} questions are stored, and {CROWD} models are thinking")
                thinking.unlink()
            assert str(number) in (await request).json()["answer"]

    thinking.touch()
    await asyncio.gather(*map(visit, range(CROWD)))
    print(f"   {CROWD} answers")


async def two_tabs(url: str, _: str, thinking: Path) -> None:
    """Two tabs of one user: what is said in one conversation at once is answered one after the other."""
    async with client(url, "ada") as ada:
        path = await latest(ada)
        thinking.touch()
        first = asyncio.create_task(say(ada, path, "My train is at nine."))
        await until_stored(ada, path, "My train is at nine.")
        second = asyncio.create_task(say(ada, path, "When is my train?"))
        thinking.unlink()
        show(await first)
        show(await second)


async def two_processes(url: str, another_url: str, thinking: Path) -> None:
    """Two processes of the service do not know of each other. The one that was overtaken answers 409; try again."""
    async with client(url, "ada") as ada, client(another_url, "ada") as ada_elsewhere:
        path = await latest(ada)
        thinking.touch()
        first = asyncio.create_task(say(ada, path, "My hotel is the Grand."))
        await until_stored(ada, path, "My hotel is the Grand.")
        second = asyncio.create_task(say(ada_elsewhere, path, "What is my hotel?"))
        await until_stored(ada, path, "What is my hotel?")
        thinking.unlink()
        show(await first, 409)
        show(await second)
        show(await say(ada, path, "Is my hotel the Grand?"))


async def restart(url: str) -> None:
    """A restart: both processes were stopped, and a new one goes on."""
    async with client(url, "ada") as ada:
        show(await say(ada, await latest(ada), "What is my name?"))


async def leaving(url: str) -> None:
    """A user leaves: all that is stored of Ada is deleted, and nothing of others."""
    async with client(url, "ada") as ada, client(url, "1") as another:
        show(await ada.delete("/me"))
        show(await ada.get("/conversations"))
        show(await another.get("/conversations"))


def main() -> None:
    """Run the sections one after the other: some on two processes, and the others on a third one."""
    sections = (conversation, streaming, authorisation, crowd, two_tabs, two_processes)
    with tempfile.TemporaryDirectory() as folder:
        db_path, thinking = Path(folder, "sessions.db"), Path(folder, "thinking")
        with running_services(db_path, 2) as (url, another_url):
            for number, section in enumerate(sections, start=1):
                print(f"\n{number}. {section.__doc__}", flush=True)
                asyncio.run(section(url, another_url, thinking))
        with running_services(db_path, 1) as (url,):
            for number, last_section in enumerate((restart, leaving), start=len(sections) + 1):
                print(f"\n{number}. {last_section.__doc__}", flush=True)
                asyncio.run(last_section(url))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
