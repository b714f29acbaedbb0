"""Each request takes 20 ms, in which the worker serves others."""

import asyncio


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await asyncio.sleep(0.02)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"slept\n"})
