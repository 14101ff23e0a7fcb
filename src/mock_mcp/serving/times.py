"""Every duration of a responder, next to each other."""

from __future__ import annotations

import msgspec

__all__ = ["Times"]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """How long a responder waits, in seconds.

    Args:
        refresh_s: How old the list of daemons may get while the cache directory looks unchanged.
        patience_s: How long a question to all daemons waits for one of them.
        impatience_s: The same for a daemon that did not answer the last one in time.
        listing_s: The same for a question with a long answer.
        lease_s: The daemon's default lease, which is renewed three times in its length.
        keep_s: How long a claim without a lease of its own is renewed: time to write a large
            batch, and how long an assistant that walked away holds one.
        reclaim_s: How long an answer waits for its test to come back after a restart.
        retry_s: How often it looks.
        contract_s: How long a claim waits for its contracts to be read; clients end a call after
            60 s, the longest wait for a batch included.
        close_s: How long claims may take to be released at the end.
        progress_s: How often a waiting call says that it lives.
    """

    refresh_s: float = 1.0
    patience_s: float = 2.0
    impatience_s: float = 0.5
    listing_s: float = 8.0
    lease_s: float = 30.0
    keep_s: float = 120.0
    reclaim_s: float = 10.0
    retry_s: float = 0.1
    contract_s: float = 10.0
    close_s: float = 2.0
    progress_s: float = 5.0
