import assert from "node:assert/strict";
import test from "node:test";
import { Backend, BackendError, REQUEST_LIMIT_MS } from "../js/backend.js";
import { HIDDEN_WATCH_MS, ReplicaWatch, WATCH_MS } from "../js/replica-watch.js";
import { FakeTimers } from "./support.js";

function answering(status, body, requests = []) {
  return async (url, options) => {
    requests.push({ url: url.href, ...options });
    return { ok: status < 400, status, json: async () => body };
  };
}

const backendWith = (fetch, timers = new FakeTimers()) => new Backend({ pageUrl: "http://h/sub/?x=1", fetch, timers });

test("requests go beside the page and are never served from a cache", async () => {
  const requests = [];
  const users = await backendWith(answering(200, [{ name: "anna", face: "🙂" }, null], requests)).users();
  assert.deepEqual(users, [{ name: "anna", face: "🙂" }]);
  assert.equal(requests[0].url, "http://h/sub/api/users");
  assert.equal(requests[0].cache, "no-store");
});

test("a crash sends only what was chosen", async () => {
  const requests = [];
  const backend = backendWith(answering(202, { replica: "be1.1", mode: "exit" }, requests));
  assert.deepEqual(await backend.crash({}), { replica: "be1.1", mode: "exit" });
  await backend.crash({ replica: "be2.1", mode: "hang", token: "secret" });
  assert.deepEqual(requests.map((request) => request.body), ["{}", '{"replica":"be2.1","mode":"hang"}']);
  assert.deepEqual(requests[0].headers, { "Content-Type": "application/json" });
  assert.equal(requests[1].headers.Authorization, "Bearer secret");
  assert.equal(requests[1].method, "POST");
});

test("a refusal tells its status and code", async () => {
  const refusing = backendWith(answering(409, { code: "crash_off", message: "off" }));
  await assert.rejects(refusing.crash({}), { status: 409, code: "crash_off", message: "off" });
  const bare = backendWith(async () => ({ ok: false, status: 502, json: () => Promise.reject(new Error("no JSON")) }));
  await assert.rejects(bare.replicas(), { status: 502, code: "http_502" });
});

test("no answer, a late answer and a strange answer are all failures", async () => {
  const refused = backendWith(() => Promise.reject(new TypeError("refused")));
  await assert.rejects(refused.users(), { status: 0, code: "unreachable" });
  const timers = new FakeTimers();
  const hanging = backendWith(
    (url, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    timers,
  );
  const late = assert.rejects(hanging.users(), { status: 0 });
  timers.advance(REQUEST_LIMIT_MS);
  await late;
  await assert.rejects(backendWith(answering(200, { users: [] })).users(), { code: "unexpected_answer" });
  await assert.rejects(backendWith(answering(200, [])).replicas(), { code: "unexpected_answer" });
});

function watching() {
  const timers = new FakeTimers();
  const parts = { timers, fails: null, hidden: false, asked: 0, answers: [], changes: 0, returns: 0 };
  parts.watch = new ReplicaWatch({
    backend: {
      replicas: async () => {
        parts.asked += 1;
        if (parts.fails !== null) throw parts.fails;
        return { replicas: [{ id: "be1.1" }], self: "be1.1" };
      },
    },
    timers,
    isHidden: () => parts.hidden,
    onAnswer: (answer) => parts.answers.push(answer),
    onChange: () => (parts.changes += 1),
    onReturn: () => (parts.returns += 1),
  });
  return parts;
}

async function nextAsk(parts, wait) {
  const { changes } = parts;
  parts.timers.advance(wait);
  while (parts.changes === changes) await Promise.resolve();
}

test("replicas are asked for every second, less often in the background", async () => {
  const parts = watching();
  await parts.watch.ask();
  await nextAsk(parts, WATCH_MS);
  assert.equal(parts.asked, 2);
  parts.hidden = true;
  await nextAsk(parts, WATCH_MS);
  parts.timers.advance(WATCH_MS);
  assert.equal(parts.asked, 3);
  await nextAsk(parts, HIDDEN_WATCH_MS - WATCH_MS);
  assert.equal(parts.asked, 4);
});

test("asking twice at once asks once and keeps one rhythm", async () => {
  const parts = watching();
  await Promise.all([parts.watch.ask(), parts.watch.ask()]);
  assert.equal(parts.asked, 1);
  assert.equal(parts.timers.pending, 1);
});

test("failures are dated from the first, keep what was known, and end by themselves", async () => {
  const parts = watching();
  await parts.watch.ask();
  parts.fails = new BackendError({ status: 0, code: "unreachable", message: "" });
  await nextAsk(parts, WATCH_MS);
  await nextAsk(parts, WATCH_MS);
  assert.equal(parts.watch.unreachableSince, WATCH_MS);
  assert.equal(parts.watch.replicas.length, 1);
  parts.fails = null;
  await nextAsk(parts, WATCH_MS);
  assert.equal(parts.watch.unreachableSince, null);
  assert.equal(parts.returns, 1);
  assert.deepEqual(parts.answers.map((answer) => answer.self), ["be1.1", "be1.1"]);
});

test("a backend that refuses is there; nobody, or a proxy that finds none, is silence", async () => {
  const parts = watching();
  const failure = (status, code) => new BackendError({ status, code, message: "" });
  const silentSince = async (error) => {
    parts.fails = error;
    await nextAsk(parts, WATCH_MS);
    return parts.watch.silentSince;
  };
  await parts.watch.ask();
  assert.equal(await silentSince(failure(503, "store_unavailable")), null);
  assert.equal(await silentSince(failure(502, "http_502")), 2 * WATCH_MS);
  assert.equal(await silentSince(failure(502, "no_replica")), 2 * WATCH_MS);
  assert.equal(await silentSince(failure(0, "unreachable")), 2 * WATCH_MS);
  assert.equal(await silentSince(failure(429, "rate_limited")), null);
  assert.equal(await silentSince(failure(504, "http_504")), 6 * WATCH_MS);
  assert.equal(parts.watch.unreachableSince, WATCH_MS);
  assert.equal(await silentSince(null), null);
});
