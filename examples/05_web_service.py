"""A web service: chats of many users over HTTP, with FastAPI.

`python examples/05_web_service.py` talks to the service within one process and leaves nothing behind. It needs no
network, unless `STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).

To run the service itself, with its file in STRANDS_SQLITE_DB_PATH or ./sessions.db:

    CHAT_TOKENS='{"a-long-secret": "ada"}' uvicorn --app-dir examples 05_web_service:app
"""

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Annotated, Any
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from offline_model import example_model
from strands import Agent, tool
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import (
    SessionNotFoundException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
)

try:
    from fastapi import Body, Depends, FastAPI, HTTPException, Query, Request
    from fastapi.responses import JSONResponse, StreamingResponse
    from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
except ImportError as missing:
    print(f"This example needs {missing.name}: pip install -e '.[examples]'")
    raise SystemExit(0) from None

AGENT_ID = "assistant"
TOKENS: dict[str, str] = json.loads(os.environ.get("CHAT_TOKENS", "{}"))  # user ids by token
logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the file open while the service runs, so that the session manager of each request opens quickly."""
    with SQLiteSessionRepository() as app.state.repository:
        yield


app = FastAPI(title="Chat", lifespan=lifespan)
model = example_model()  # put your model here


@tool
def weather(city: str) -> str:
    """Tell today's weather.

    Args:
        city: The name of a city.
    """
    return f"{city} has 24 degrees and sun."


def open_repository(request: Request) -> SQLiteSessionRepository:
    """Return the repository that `lifespan` opened."""
    repository: SQLiteSessionRepository = request.app.state.repository
    return repository


def signed_in(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """Return the id of the user who asks. Put your own sign-in here, such as the check of a JWT."""
    if credentials.credentials not in TOKENS:
        raise HTTPException(401, "unknown token", {"WWW-Authenticate": "Bearer"})
    return TOKENS[credentials.credentials]


Repository = Annotated[SQLiteSessionRepository, Depends(open_repository)]
User = Annotated[str, Depends(signed_in)]
Text = Annotated[str, Body(embed=True, min_length=1, max_length=10_000)]


def own_session(conversation_id: UUID, user: User, repository: Repository) -> str:
    """Return a session id. It begins with the user's id, so that no user can name another user's session."""
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
def history(session_id: OwnSession, repository: Repository) -> list[dict[str, Any]]:
    """Return what the user and the assistant said. Tool calls and their results have no text, and are left out."""
    bubbles = []
    for stored in repository.list_messages(session_id, AGENT_ID):
        message = stored.to_message()
        text = "\n".join(block["text"] for block in message["content"] if "text" in block)
        if text:
            bubbles.append({"id": stored.message_id, "role": message["role"], "text": text, "at": stored.created_at})
    return bubbles


turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def build_agent(session_id: str, user: str) -> Agent:
    """Build an agent that continues the conversation. This reads the file, so an event loop runs it in a thread."""
    # If the session was deleted a moment ago, this creates it again: with its owner, so that the owner can see it.
    session_manager = SQLiteSessionManager(session_id, metadata={"user_id": user})
    return Agent(
        model=model,
        tools=[weather],
        agent_id=AGENT_ID,
        session_manager=session_manager,
        callback_handler=None,
    )


async def answer(
    session_id: str, user: str, text: str | None, through_message: int | None = None
) -> AsyncGenerator[str, None]:
    """Yield the parts of an answer to a text, or to the last message if there is none.

    With `through_message`, what was said after that message is deleted first.

    In this process, the turns of a conversation wait for each other. If another process takes a turn meanwhile, the
    session manager raises StaleSessionException.
    """
    async with turns.setdefault(session_id, asyncio.Lock()):
        if through_message is not None:
            repository: SQLiteSessionRepository = app.state.repository
            rewind = partial(repository.rewind_session, through_message=through_message, agent_id=AGENT_ID)
            await asyncio.to_thread(rewind, session_id)
        agent = await asyncio.to_thread(build_agent, session_id, user)
        async with aclosing(agent.stream_async(text)) as events:  # type: ignore[type-var]
            async for event in events:
                if "data" in event:
                    yield event["data"]


@app.post("/conversations/{conversation_id}/messages")
async def chat(session_id: OwnSession, user: User, text: Text) -> dict[str, str]:
    """Say something, and return the answer when it is complete."""
    return {"answer": "".join([part async for part in answer(session_id, user, text)])}


@app.post("/conversations/{conversation_id}/stream")
async def stream(session_id: OwnSession, user: User, text: Text) -> StreamingResponse:
    """Say something, and return the answer as it is written, in server-sent events."""

    async def events() -> AsyncIterator[str]:
        try:
            async with aclosing(answer(session_id, user, text)) as parts:
                async for part in parts:
                    yield f"data: {json.dumps(part)}\n\n"
        except SessionException as error:  # too late for a status code
            yield f"event: error\ndata: {json.dumps(problem(error))}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.post("/conversations/{conversation_id}/regenerate")
async def regenerate(session_id: OwnSession, user: User, repository: Repository) -> dict[str, str]:
    """Answer the last question again, replacing its answer."""
    questions = [bubble["id"] for bubble in history(session_id, repository) if bubble["role"] == "user"]
    if not questions:
        raise HTTPException(409, "nothing was asked")
    return {"answer": "".join([part async for part in answer(session_id, user, None, questions[-1])])}


@app.put("/conversations/{conversation_id}/messages/{message_id}")
async def edit(session_id: OwnSession, user: User, message_id: int, text: Text) -> dict[str, str]:
    """Replace a question, and delete what followed it."""
    return {"answer": "".join([part async for part in answer(session_id, user, text, message_id - 1)])}


@app.delete("/conversations/{conversation_id}", status_code=204)
def delete(session_id: OwnSession, repository: Repository) -> None:
    """Delete a conversation."""
    repository.delete_session(session_id)


@app.delete("/me")
def delete_everything(user: User, repository: Repository) -> dict[str, int]:
    """Delete every conversation of the user."""
    return {"deleted": repository.delete_sessions(metadata={"user_id": user})}


@app.exception_handler(SessionException)
async def not_stored(request: Request, error: SessionException) -> JSONResponse:
    """Tell a client to load the conversation and try again, or to come back later."""
    codes = {StaleSessionException: 409, SessionNotFoundException: 404}
    return JSONResponse({"detail": problem(error)}, codes.get(type(error), 503))


def problem(error: SessionException) -> str:
    """Return what a client needs to know, and log everything else."""
    if isinstance(error, StaleSessionException):
        return "the conversation was continued elsewhere"
    if isinstance(error, SessionNotFoundException):
        return "no such message"
    logger.error("%s", error)
    return "not available now"


def main() -> None:
    """Talk to the service as two users, without a network."""
    from fastapi.testclient import TestClient  # only the demonstration needs it

    TOKENS.update({"token-of-ada": "ada", "token-of-bob": "bob"})
    ada, bob = ({"Authorization": f"Bearer token-of-{user}"} for user in ("ada", "bob"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STRANDS_SQLITE_DB_PATH"] = os.path.join(folder, "sessions.db")
        with TestClient(app) as client:
            conversation_id = client.post("/conversations", headers=ada).json()["conversation_id"]
            path = f"/conversations/{conversation_id}"
            for text in ("My name is Ada.", "What is the weather in Lisbon?"):
                print(f"ada says: {text}")
                print("  ", client.post(f"{path}/messages", headers=ada, json={"text": text}).json())
            print("ada streams: What is my name?")
            streamed = client.post(f"{path}/stream", headers=ada, json={"text": "What is my name?"})
            print("  ", streamed.text.split("\n\n"))
            print("ada wants another answer:", client.post(f"{path}/regenerate", headers=ada).json(), sep="\n   ")
            print("ada asks something else instead: What is the weather in Porto?")
            question = client.get(path, headers=ada).json()[-2]["id"]
            text = "What is the weather in Porto?"
            print("  ", client.put(f"{path}/messages/{question}", headers=ada, json={"text": text}).json())
            print("the sidebar of ada:", client.get("/conversations", headers=ada).json(), sep="\n   ")
            print("the history:", *client.get(path, headers=ada).json(), sep="\n   ")
            print("bob asks for it:", client.get(path, headers=bob).json(), sep="\n   ")
            print("ada leaves:", client.delete("/me", headers=ada).json(), sep="\n   ")


if __name__ == "__main__":
    main()
