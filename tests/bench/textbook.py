"""The textbook application for streaming an answer, as the baseline of the service.

It follows the tutorials of FastAPI and of the OpenAI client. It keeps no log: a cut connection loses the answer.
"""

import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

app = FastAPI()
client = AsyncOpenAI()
model = os.environ["FOLYAM_MODEL"]


class Question(BaseModel):
    """The body of a request."""

    query: str


async def answer(query: str) -> AsyncIterator[str]:
    """The text, chunk by chunk."""
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": query}], stream=True
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


@app.post("/generate")
async def generate(question: Question) -> StreamingResponse:
    """One answer."""
    return StreamingResponse(answer(question.query), media_type="text/plain")
