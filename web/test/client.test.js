import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import test from "node:test";
import { DialQueue } from "../js/client/dial-queue.js";
import { Client, UNDER_WAY } from "../js/client/client.js";
import { whyRefused } from "../js/client/refused.js";
import { SessionState } from "../js/client/session.js";
import { FakeBackend, FakeSocket, FakeTimers, seededRandom, welcome } from "./support.js";

const PAGE = "http://chat.example/";

function world({ capacity = 100 } = {}) {
  const timers = new FakeTimers();
  const random = seededRandom(7);
  const backend = new FakeBackend({ timers, random, capacity });
  const open = (user, events = {}) => {
    const dialQueue = new DialQueue();
    const openSocket = (url) => backend.openSocket(url);
    const client = new Client({ page: PAGE, user, timers, random, dialQueue, openSocket, ...events });
    client.start();
    return client;
  };
  return { timers, backend, open };
}

function withSocket(events = {}) {
  const timers = new FakeTimers();
  const sockets = [];
  const openSocket = (url) => sockets[sockets.push(new FakeSocket(url)) - 1];
  const client = new Client({ page: PAGE, user: "anna", timers, random: () => 0.5, openSocket, ...events });
  client.start();
  return { timers, sockets, client };
}

/** Resolves after all pending promise callbacks have run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("smiles sent before, during and after crashes are stored once, in order, and reach the peer", async () => {
  const { timers, backend, open } = world();
  const heard = [];
  open("bruno", { onSmile: ({ smile }) => heard.push(smile) });
  const anna = open("anna");
  const faces = Array.from({ length: 30 }, (_, index) => String.fromCodePoint(0x1f600 + index));
  const stored = [];
  for (const [index, face] of faces.entries()) {
    anna.smile("bruno", face).then(({ offset }) => stored.push(offset));
    if (index % 10 === 5) backend.crash(700);
    // The clock advances only after every third smile, so a crash can interrupt several smiles.
    if (index % 3 === 2) timers.advance(300);
  }
  timers.advanceUntil(() => heard.length === faces.length);
  await settled();
  assert.deepEqual(heard, faces);
  assert.deepEqual(stored, faces.map((_, index) => index + 1));
  assert.equal(backend.stored, faces.length);
  assert.ok(anna.session.reconnects >= 1);
});

test("a client that starts again neither sends nor awaits what was pending when it stopped", () => {
  const { sockets, client } = withSocket();
  client.smile("bruno", "😀");
  client.history("bruno");
  client.stop();
  client.start();
  sockets.at(-1).tell(welcome());
  assert.deepEqual(sockets.flatMap(({ sent }) => sent), []);
  client.finish();
  assert.notEqual(sockets.at(-1).closedWith, null, "the session stayed open although nothing was pending");
});

test("until a new start, everything is refused once the session has failed", async () => {
  const { sockets, client } = withSocket();
  sockets[0].tell(welcome());
  const early = [client.smile("bruno", "😀", "c1"), client.history("bruno")];
  sockets[0].end(1009, "a frame has at most 4096 bytes");
  const late = [client.smile("bruno", "😀", "c2"), client.history("bruno")];
  for (const pending of [...early, ...late]) {
    await assert.rejects(pending, { code: "too_large", message: "a frame has at most 4096 bytes" });
  }
  assert.equal(client.session.state, SessionState.FAILED);
  client.start();
  sockets[1].tell(welcome());
  const again = client.smile("bruno", "😀", "c1");
  sockets[1].tell({ type: "ack", id: "c1", offset: 1, duplicate: false });
  assert.equal((await again).offset, 1);
});

test("a failed session without a reason is refused with the name of its close code", async () => {
  const { sockets, client } = withSocket();
  const smile = client.smile("bruno", "😀");
  sockets[0].end(1002);
  await assert.rejects(smile, { code: "protocol_error", message: "protocol_error" });
});

test("a client that has finished can start again", async () => {
  const { sockets, client } = withSocket();
  client.finish();
  client.start();
  sockets.at(-1).tell(welcome());
  const smile = client.smile("bruno", "😀", "c1");
  sockets.at(-1).tell({ type: "ack", id: "c1", offset: 1, duplicate: false });
  assert.equal((await smile).offset, 1);
  assert.equal(sockets.at(-1).closedWith, null, "the client stopped again");
});

test("a finishing client closes its session only once its history requests are answered", async () => {
  const { sockets, client } = withSocket();
  sockets[0].tell(welcome());
  const history = client.history("bruno");
  client.finish();
  assert.equal(sockets[0].closedWith, null);
  sockets[0].tell({ type: "history", with: "bruno", smiles: [], more: false });
  assert.deepEqual((await history).smiles, []);
  assert.notEqual(sockets[0].closedWith, null);
});

test("a smile with the id of an unsettled smile is refused and not sent", async () => {
  const { sockets, client } = withSocket();
  sockets[0].tell(welcome());
  const first = client.smile("bruno", "😀", "c1");
  await assert.rejects(client.smile("bruno", "😎", "c1"), { code: "bad_request", message: /not settled/ });
  assert.equal(sockets[0].sent.length, 1);
  sockets[0].tell({ type: "ack", id: "c1", offset: 1, duplicate: false });
  assert.equal((await first).offset, 1);
});

test("the retry of a history request is not sent if a new session has already repeated the request", () => {
  const { timers, sockets, client } = withSocket();
  sockets[0].tell(welcome());
  client.history("bruno", { before: 9 });
  sockets[0].tell({ type: "error", code: "store_unavailable", temporary: true, retry_after_ms: 1_000 });
  sockets[0].end(1006);
  timers.advanceUntil(() => sockets.length === 2);
  sockets[1].tell(welcome({ recovered: true }));
  timers.advance(1_500);
  assert.equal(sockets[1].sent.filter(({ type }) => type === "history").length, 1);
});

test("smiles past the in-flight maximum are queued, and all are stored even if some are shed", async () => {
  const { timers, backend, open } = world({ capacity: 8 });
  const anna = open("anna");
  const all = Promise.all(Array.from({ length: 4 * UNDER_WAY }, () => anna.smile("bruno", "😀")));
  timers.advanceUntil(() => backend.stored === 4 * UNDER_WAY);
  timers.advance(100);
  assert.equal(new Set((await all).map(({ offset }) => offset)).size, 4 * UNDER_WAY);
});

test("a smile with a given id is sent with that id, and a permanent error rejects its promise", async () => {
  const { sockets, client } = withSocket();
  const smile = client.smile("nobody", "😀", "mine");
  sockets[0].tell(welcome());
  assert.deepEqual(sockets[0].sent, [{ type: "smile", id: "mine", to: "nobody", smile: "😀" }]);
  sockets[0].tell({ type: "error", code: "unknown_user", message: "nobody has that name", id: "mine", temporary: false });
  await assert.rejects(smile, { code: "unknown_user", message: "nobody has that name" });
});

test("a smile with an invalid id is refused and not sent, and does not disturb a pending history request", async () => {
  const { sockets, client } = withSocket();
  sockets[0].tell(welcome());
  const history = client.history("bruno");
  const ids = ["", "x".repeat(65), "c 1", "ü", "c1\n", 7, null];
  const refusals = [];
  for (const id of ids) client.smile("bruno", "😀", id).catch((refusal) => refusals.push(refusal));
  await settled();
  assert.deepEqual(refusals.map(({ code }) => code), ids.map(() => "bad_request"));
  assert.match(refusals[0].message, /id has 1 to 64 characters/);
  client.smile("bruno", "😀", "x".repeat(64));
  client.smile("bruno", "😀", "A.b_c-9");
  assert.deepEqual(sockets[0].sent.map(({ type, id }) => id ?? type), ["history", "x".repeat(64), "A.b_c-9"]);
  sockets[0].tell({ type: "history", with: "bruno", smiles: [], more: false });
  assert.deepEqual((await history).smiles, []);
});

test("a history request is repeated after the session breaks and after the store is unavailable", async () => {
  const { timers, sockets, client } = withSocket();
  const history = client.history("bruno", { before: 7, limit: 1 });
  const asked = { type: "history", with: "bruno", before: 7, limit: 1 };
  sockets[0].tell(welcome());
  assert.deepEqual(sockets[0].sent, [asked]);
  sockets[0].end(1006);
  timers.advanceUntil(() => sockets.length === 2);
  sockets[1].tell(welcome({ recovered: true }));
  assert.deepEqual(sockets[1].sent, [{ type: "ping" }, asked]);
  sockets[1].tell({ type: "error", code: "store_unavailable", message: "", retry_after_ms: 50, temporary: true });
  timers.advance(60);
  assert.deepEqual(sockets[1].sent[2], asked);
  sockets[1].tell({ type: "history", with: "bruno", smiles: [{ offset: 6 }], more: false });
  assert.deepEqual((await history).smiles, [{ offset: 6 }]);
});

test("each of several pending history requests gets its own answer, even if the first one is retried", async () => {
  const { timers, sockets, client } = withSocket();
  sockets[0].tell(welcome());
  let isFirst = true;
  sockets[0].onSend = ({ with: other, before }) => {
    const smiles = [{ offset: before - 1 }];
    let answer = { type: "history", with: other, smiles, more: false };
    if (other === "nobody") answer = { type: "error", code: "unknown_user", temporary: false };
    if (isFirst) answer = { type: "error", code: "store_unavailable", temporary: true, retry_after_ms: 500 };
    isFirst = false;
    setImmediate(() => sockets[0].tell(answer));
  };
  const requests = [["bruno", 9], ["bruno", 7], ["nobody", 5], ["carla", 3]];
  const outcomes = [];
  for (const [index, [other, before]] of requests.entries()) {
    const told = (outcome) => (outcomes[index] = outcome);
    client.history(other, { before }).then(({ smiles }) => told(smiles[0].offset), ({ code }) => told(code));
  }
  for (let turn = 0; turn < 6; turn += 1) {
    await settled();
    timers.advance(turn === 0 ? 500 : 0);
  }
  assert.deepEqual(outcomes, [8, 6, "unknown_user", 2]);
  assert.equal(sockets[0].sent.length, requests.length + 1);
});

test("a history request is sent once, whether it is made before the welcome, on a live session, or at a gap", () => {
  const request = { type: "history", with: "bruno" };
  const early = withSocket();
  early.sockets[0].readyState = 1;
  early.client.history("bruno");
  early.sockets[0].tell(welcome());
  assert.deepEqual(early.sockets[0].sent, [request]);

  const live = withSocket({ onState: ({ state }) => state === SessionState.LIVE && live.client.history("bruno") });
  live.sockets[0].tell(welcome());
  assert.deepEqual(live.sockets[0].sent, [request]);

  const gap = withSocket({ onGap: () => gap.client.history("bruno") });
  gap.sockets[0].tell(welcome());
  gap.sockets[0].end(1006);
  gap.timers.advanceUntil(() => gap.sockets.length === 2);
  gap.sockets[1].tell(welcome());
  assert.deepEqual(gap.sockets[1].sent, [request]);
});

test("a resumed session is live once the server has answered its ping", () => {
  const { timers, sockets, client } = withSocket();
  sockets[0].tell(welcome());
  assert.equal(client.session.state, SessionState.LIVE);
  sockets[0].end(1006);
  timers.advanceUntil(() => sockets.length === 2);
  sockets[1].tell(welcome({ recovered: true }));
  assert.equal(client.session.state, SessionState.RESUMING);
  sockets[1].tell({ type: "pong" });
  assert.equal(client.session.state, SessionState.LIVE);
});

test("a client reports a gap if its session cannot resume", () => {
  const { timers, backend, open } = world();
  let gaps = 0;
  open("anna", { onGap: () => (gaps += 1) });
  timers.advance(100);
  backend.replaceLog();
  timers.advance(5_000);
  assert.equal(gaps, 1);
});

test("a plain GET finds the cause of a refusal", async () => {
  const asked = [];
  const answering = (status, body) => async (url) => {
    asked.push(url.href);
    return { status, headers: new Headers({ "Retry-After": "2" }), text: async () => body };
  };
  const why = async (fetch, page = PAGE) => {
    const { code, host, retryAfter } = await whyRefused({ page, user: "anna", fetch });
    assert.equal(retryAfter, code === "unreachable" ? 0 : 2_000);
    return [code, host];
  };
  const upgrade = (host) => answering(426, JSON.stringify({ code: "upgrade_required", message: "", host }));
  assert.deepEqual(await why(upgrade("backend:8080")), ["host_rewritten", "backend:8080"]);
  assert.deepEqual(await why(upgrade("Chat.example")), ["no_upgrade", "Chat.example"]);
  assert.deepEqual(await why(upgrade("chat.example"), "https://chat.example/deep/"), ["no_upgrade", "chat.example"]);
  assert.deepEqual(await why(answering(429, '{"code":"rate_limited","message":""}')), ["rate_limited", null]);
  assert.deepEqual(await why(answering(502, "<html>")), ["http_502", null]);
  assert.deepEqual(await why(() => Promise.reject(new TypeError("no network"))), ["unreachable", null]);
  assert.deepEqual([asked[0], asked[2]], [`${PAGE}ws?user=anna`, "https://chat.example/deep/ws?user=anna"]);
});

async function pageOf(context, answer) {
  const server = createServer(answer);
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}/`;
}

const NO_WEBSOCKET = typeof WebSocket === "undefined";

test("a refused connection is noticed at once", { skip: NO_WEBSOCKET }, async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const page = `http://127.0.0.1:${server.address().port}/`;
  server.close();
  await once(server, "close");
  const reason = await new Promise((resolve) => {
    const onState = ({ state, closeReason }) => state === SessionState.WAITING && resolve({ ...closeReason, client });
    const client = new Client({ page, user: "anna", onState });
    client.start();
  });
  reason.client.stop();
  assert.deepEqual([reason.name, reason.isRefusal], ["connection_lost", true]);
});

test("a backend that hangs counts as unreachable after a few seconds", { timeout: 20_000 }, async (context) => {
  const { code } = await whyRefused({ page: await pageOf(context, () => {}), user: "anna" });
  assert.equal(code, "unreachable");
});

test("a backend that dies in the middle of an answer counts as unreachable", async (context) => {
  const page = await pageOf(context, (_, response) => {
    response.writeHead(426, { "Content-Length": 100 });
    response.write("{");
    setTimeout(() => response.destroy(), 100);
  });
  assert.equal((await whyRefused({ page, user: "anna" })).code, "unreachable");
});
