// The mock-mcp 0.5 JavaScript client, reduced to what it does on the wire: HELLO, batches, WebSocket
// pings and never a HEARTBEAT; what is pending is rejected when the socket closes; after one second
// it comes back with the same run id. It tells the test what happens, one JSON object a line.
//
// usage: node client.mjs <path of ws> <pingMs> [offer]      commands on stdin, one JSON object a line
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";

const [wsPath, pingMs, offer] = process.argv.slice(2);
const WebSocket = createRequire(wsPath + "/")("ws");
const { registry, runId } = JSON.parse(process.env.CLIENT);
const say = (event) => console.log(JSON.stringify(event));
const pending = new Set();
let socket;
let stopping = false;

function connect() {
  let found;
  try {
    found = JSON.parse(readFileSync(registry, "utf8"));
  } catch {
    return setTimeout(connect, 1000);
  }
  socket = new WebSocket(`ws+unix://${found.ipcPath}:/test`, {
    perMessageDeflate: offer === "offer",
  });
  let pings;
  let pongTimer;
  socket.on("open", () => {
    say({ event: "open", extensions: socket.extensions });
    socket.send(
      JSON.stringify({ type: "HELLO_TEST", token: found.token, runId, pid: process.pid, cwd: "/" }),
    );
    pings = setInterval(() => {
      socket.ping();
      pongTimer ??= setTimeout(() => socket.terminate(), 2 * Number(pingMs));
    }, Number(pingMs));
  });
  socket.on("pong", () => {
    clearTimeout(pongTimer);
    pongTimer = undefined;
    say({ event: "pong" });
  });
  socket.on("message", (data) => {
    const message = JSON.parse(data.toString());
    if (message.type === "BATCH_MOCK_RESULT") pending.delete(message.batchId);
    say({ event: "message", message });
  });
  socket.on("error", (error) => say({ event: "error", message: error.message }));
  socket.on("close", (code, reason) => {
    clearInterval(pings);
    clearTimeout(pongTimer);
    say({ event: "close", code, reason: reason.toString(), rejected: pending.size });
    pending.clear();
    if (stopping) process.exit(0);
    setTimeout(connect, 1000);
  });
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.submit) {
    pending.add(command.submit);
    socket.send(
      JSON.stringify({ type: "BATCH_MOCK_REQUEST", runId, requests: command.submit }),
    );
  } else if (command.stop) {
    stopping = true;
    socket.close();
  }
});

connect();
