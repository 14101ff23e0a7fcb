"""Every limit of the house, next to each other: name, unit, default and why.

Each is an argument of the class it guards (`MockMcpDaemon(limits=…)`, `connect(max_batch_size=…)`).
"""

from __future__ import annotations

import msgspec

__all__ = ["LIVE_BODY_BYTES", "SAMPLES", "Limits"]

MIB = 1024 * 1024

LIVE_BODY_BYTES = 64 * MIB
"""Largest body of a real answer, as the wire carries it: more is no data for a test, and a stream
that never ends must end somewhere."""

SAMPLES = 1000
"""Answers made from the contract to one method and path in one test: code that follows pages, or
polls, may ask for samples without end, and a test must end somewhere."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon accepts, and for how long it waits.

    Args:
        frame_bytes: Largest WebSocket message of a test (close 1009 beyond it). A mock of several
            megabytes is legitimate; more than this is a mistake.
        body_bytes: Largest body of a control request (HTTP 413 beyond it).
        header_bytes: Largest HTTP head; a client that sends more is cut off with 431.
        depth: Deepest nesting of JSON accepted, well under what any parser's stack allows.
        parked_batches: Batches that may wait at once in the daemon, all runs together.
        batch_requests: Requests in one batch.
        id_chars: Length of a run, batch, request or responder id.
        write_buffer_bytes: Bytes a peer may leave unread before it is disconnected, and the longest
            answer of the control channel: two of the largest frames.
        connections: Connections open at once; more are refused at accept.
        hello_timeout_s: How long a connection may stay silent before its first message.
        handshake_timeout_s: How long a connection may take for its HTTP request head.
        grace_s: How long a run with the ``resume`` capability outlives its connection.
        batch_ttl_s: How long a batch may wait before it fails with the reason.
        claims_per_batch: Claims that may end without an answer before the batch is given up.
        reused_answers: Answers of one run kept for the same request, given with ``reuse: "run"``.
        reused_bytes: Bytes of JSON that these answers of one run may take together.
        used_answers: Answers of one run whose identifying values are shown to its next claimant.
        used_values: Values kept of one such answer, and as many of its request's body.
        lease_max_s: Longest lease; the shortest is one millisecond.
        ack_timeout_s: How long ``provideBatch`` waits for the test's acknowledgement.
        wait_max_s: Longest a call may wait for something to happen (``waitMs``).
        recent_events: Events kept for those who watch.
        idle_s: How long the daemon lives without runs; None means for ever.
        stop_s: How long a stopping daemon waits for its peers to read their last bytes.
    """

    frame_bytes: int = 16 * MIB
    body_bytes: int = 16 * MIB
    header_bytes: int = 64 * 1024
    depth: int = 200
    parked_batches: int = 100_000
    batch_requests: int = 10_000
    id_chars: int = 256
    write_buffer_bytes: int = 32 * MIB
    connections: int = 4096
    hello_timeout_s: float = 5.0
    handshake_timeout_s: float = 10.0
    grace_s: float = 10.0
    batch_ttl_s: float = 30 * 60.0
    claims_per_batch: int = 10
    reused_answers: int = 500
    reused_bytes: int = 16 * MIB
    used_answers: int = 30
    used_values: int = 12
    lease_max_s: float = 600.0
    ack_timeout_s: float = 2.0
    wait_max_s: float = 60.0
    recent_events: int = 200
    idle_s: float | None = 600.0
    stop_s: float = 1.0
