from __future__ import annotations

import pytest

from library import AlreadyLent, Book, Library

pytestmark = [pytest.mark.mock_mcp, pytest.mark.asyncio]
URL = "http://localhost:8765"


async def test_books_of_all_pages():
    async with Library(URL, "s3cret") as library:
        books = [book async for book in library.books("Clarke")]
    assert books[0] == Book(1, "Childhood's End")
    assert len(books) == 3


async def test_lending():
    async with Library(URL, "s3cret") as library:
        assert await library.lend(Book(1, "Childhood's End")) == "2026-04-01"


async def test_a_book_that_is_lent():
    async with Library(URL, "s3cret") as library:
        with pytest.raises(AlreadyLent):
            await library.lend(Book(3, "Rendezvous with Rama"))
