// The wire protocol in Node, and nothing else: no check of what is sent, no lease that ends, no
// receipt, no limit. A test, a daemon and a responder, each a process, on `ws` and `node:http`.
//
// usage: node node.mjs <path of ws> <socket> daemon
//        node node.mjs <path of ws> <socket> respond <batches at once>
//        node node.mjs <path of ws> <socket> ask <rounds> <requests> <warm-up rounds>
//
// `ask` says "ready" when it is warm and begins at the first byte it reads; then it says as JSON when
// it began and ended and how long each round took, in milliseconds.
import http from "node:http";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const [wsPath, socketPath, role, ...numbers] = process.argv.slice(2);
const { WebSocket, WebSocketServer } = createRequire(wsPath + "/")("ws");
const TOKEN = "t".repeat(43);

function daemon() {
  const runs = new Map();
  const batches = new Map();
  const pending = [];
  const claims = new Set(); // calls that wait for a batch
  let number = 0;

  function match() {
    while (claims.size && pending.length) {
      const [claim] = claims;
      claims.delete(claim);
      const { params, reply } = claim;
      const batch = pending.shift();
      const { batchId, runId, requests } = batch;
      const claimToken = randomUUID();
      const leaseUntil = Date.now() + (params.leaseMs ?? 30_000);
      batch.claim = { adapterId: params.adapterId, claimToken, leaseUntil };
      reply({ batchId, runId, requests, claimToken, leaseUntil });
    }
  }

  const methods = {
    claimNextBatch(params, response, reply) {
      const claim = { params, reply };
      claims.add(claim);
      response.on("close", () => claims.delete(claim));
      match();
    },
    provideBatch({ batchId, claimToken, mocks }, response, reply) {
      const batch = batches.get(batchId);
      if (batch.claim.claimToken !== claimToken) throw new Error("wrong token");
      const ids = new Set(batch.requests.map((request) => request.requestId));
      if (mocks.length !== ids.size || !mocks.every((mock) => ids.has(mock.requestId))) {
        throw new Error("the mocks do not match the requests");
      }
      batches.delete(batchId);
      runs.get(batch.runId).send(JSON.stringify({ type: "BATCH_MOCK_RESULT", batchId, mocks }));
      reply({ ok: true, message: `Batch ${batchId} provided` });
    },
  };

  const server = http.createServer((request, response) => {
    if (request.headers["x-mock-mcp-token"] !== TOKEN) {
      response.writeHead(request.url === "/health" ? 200 : 401).end('{"ok":true}');
      return;
    }
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString());
      methods[method](params, response, (result) => {
        const text = JSON.stringify({ jsonrpc: "2.0", id, result });
        response.setHeader("content-type", "application/json");
        response.setHeader("content-length", Buffer.byteLength(text));
        response.end(text);
      });
    });
  });
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  server.on("upgrade", (request, socket, head) =>
    sockets.handleUpgrade(request, socket, head, (peer) => {
      let runId;
      peer.on("message", (data) => {
        const message = JSON.parse(data.toString());
        if (message.type === "HELLO_TEST") {
          ({ runId } = message);
          runs.set(runId, peer);
          peer.send(JSON.stringify({ type: "HELLO_ACK", runId }));
        } else if (message.type === "BATCH_MOCK_REQUEST") {
          const batch = { batchId: `batch:${runId}:${++number}`, runId, requests: message.requests };
          batches.set(batch.batchId, batch);
          pending.push(batch);
          match();
        }
      });
    }),
  );
  server.listen(socketPath);
}

async function respond(atOnce) {
  const agent = new http.Agent({ keepAlive: true });
  let number = 0;

  function call(method, params) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: ++number, method, params });
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      "x-mock-mcp-token": TOKEN,
    };
    const options = { socketPath, path: "/control", method: "POST", agent, headers };
    return new Promise((resolve, reject) => {
      const request = http.request(options, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => resolve(JSON.parse(Buffer.concat(chunks).toString()).result));
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  async function serve() {
    for (;;) {
      const { batchId, claimToken, requests } = await call("claimNextBatch", { adapterId: "bench" });
      const mocks = requests.map(({ requestId }) => ({ requestId, data: { ok: true } }));
      await call("provideBatch", { adapterId: "bench", batchId, claimToken, mocks });
    }
  }

  await Promise.all(Array.from({ length: atOnce }, serve));
}

async function ask(rounds, requests, warm) {
  const runId = randomUUID();
  const socket = new WebSocket(`ws+unix://${socketPath}:/test`, { perMessageDeflate: false });
  const next = (event) => new Promise((resolve) => socket.once(event, resolve));
  await next("open");
  socket.send(
    JSON.stringify({ type: "HELLO_TEST", token: TOKEN, runId, pid: process.pid, cwd: process.cwd() }),
  );
  await next("message");

  const pending = new Map();
  let turn = [];
  let number = 0;
  socket.on("message", (data) => {
    for (const mock of JSON.parse(data.toString()).mocks) {
      const { resolve, timeout } = pending.get(mock.requestId);
      pending.delete(mock.requestId);
      clearTimeout(timeout);
      resolve(mock);
    }
  });

  function requestMock(endpoint, metadata) {
    return new Promise((resolve, reject) => {
      const requestId = `r${++number}`;
      const timeout = setTimeout(reject, 60_000);
      pending.set(requestId, { resolve, timeout });
      if (!turn.length) {
        queueMicrotask(() => {
          socket.send(JSON.stringify({ type: "BATCH_MOCK_REQUEST", runId, requests: turn }));
          turn = [];
        });
      }
      turn.push({ requestId, endpoint, method: "GET", metadata });
    });
  }

  const metadata = requests > 1 ? { notes: "x".repeat(2000) } : undefined;
  const batch = () =>
    Promise.all(Array.from({ length: requests }, (_, n) => requestMock(`/u/${n}`, metadata)));
  for (let n = 0; n < warm; n++) await batch();
  console.log("ready");
  await new Promise((resolve) => process.stdin.once("data", resolve));
  const times = [];
  const began = Date.now();
  for (let n = 0; n < rounds; n++) {
    const start = performance.now();
    await batch();
    times.push(performance.now() - start);
  }
  const result = JSON.stringify({ began, ended: Date.now(), times });
  process.stdout.write(result, () => process.exit());
}

await { daemon, respond, ask }[role](...numbers.map(Number));
