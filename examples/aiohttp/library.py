"""The client library of a public library's API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp


class AlreadyLent(Exception):
    """Somebody else has the book."""


@dataclass(frozen=True)
class Book:
    id: int
    title: str


class Library:
    def __init__(self, url: str, token: str) -> None:
        self._session = aiohttp.ClientSession(
            url, headers={"Authorization": f"Bearer {token}"}, raise_for_status=False
        )

    async def books(self, author: str) -> AsyncIterator[Book]:
        """Yield an author's books, page after page."""
        page: int | None = 1
        while page is not None:
            query = {"author": author, "page": str(page)}
            async with self._session.get("/books", params=query) as response:
                response.raise_for_status()
                found = await response.json()
            for book in found["books"]:
                yield Book(book["id"], book["title"])
            page = found["nextPage"]

    async def lend(self, book: Book) -> str:
        """Lend a book; return the date it is due."""
        async with self._session.post("/loans", json={"bookId": book.id}) as response:
            if response.status == 409:
                raise AlreadyLent(book.title)
            response.raise_for_status()
            return (await response.json())["due"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()
