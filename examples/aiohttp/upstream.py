"""The real API of this example, for recording: ``python upstream.py`` serves it on port 8765."""

from __future__ import annotations

from aiohttp import web

BOOKS = [
    {"id": 1, "title": "Childhood's End", "author": "Clarke"},
    {"id": 2, "title": "Imperial Earth", "author": "Clarke"},
    {"id": 3, "title": "Rendezvous with Rama", "author": "Clarke"},
]
LENT = {3}


async def books(request: web.Request) -> web.Response:
    page = int(request.query["page"])
    found = [book for book in BOOKS if book["author"] == request.query["author"]]
    start, end = 2 * page - 2, 2 * page
    answer = {"books": found[start:end], "nextPage": page + 1 if found[end:] else None}
    response = web.json_response(answer)
    response.enable_compression()
    return response


async def lend(request: web.Request) -> web.Response:
    book = (await request.json())["bookId"]
    if book in LENT:
        return web.json_response({"detail": "It is lent."}, status=409)
    loan = {"bookId": book, "due": "2026-04-01", "token": "loan-8d1f"}
    return web.json_response(loan, status=201)


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get("/books", books), web.post("/loans", lend)])
    web.run_app(app, host="localhost", port=8765)
