import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import test from "node:test";
import { Backend, BackendError, REQUEST_LIMIT_MS } from "../js/backend.js";
import {
  HIDDEN_WATCH_MS, IDLE_WATCH_MS, ReplicaWatch, TIMED_OUT_WATCH_MS, TOO_OFTEN_CAP_MS, TOO_OFTEN_WATCH_MS, WATCH_MS,
} from "../js/replica-watch.js";
import { FakeTimers } from "./support.js";

function answering(status, body, requests = []) {
  return async (url, options) => {
    requests.push({ url: url.href, ...options });
    return { ok: status < 400, status, headers: new Headers(), text: async () => JSON.stringify(body) };
  };
}

const backendWith = (fetch, timers = new FakeTimers()) => new Backend({ pageUrl: "http://h/sub/?x=1", fetch, timers });

test("requests go to URLs relative to the page's URL, and bypass the cache", async () => {
  const requests = [];
  const users = await backendWith(answering(200, [{ name: "anna", face: "🙂" }, null], requests)).users();
  assert.deepEqual(users, [{ name: "anna", face: "🙂" }]);
  assert.equal(requests[0].url, "http://h/sub/api/users");
  assert.equal(requests[0].cache, "no-store");
});

test("a crash request contains only the chosen options", async () => {
  const requests = [];
  const backend = backendWith(answering(202, { replica: "be1.1", mode: "exit" }, requests));
  assert.deepEqual(await backend.crash({}), { replica: "be1.1", mode: "exit" });
  await backend.crash({ replica: "be2.1", mode: "hang", token: "secret" });
  assert.deepEqual(requests.map((request) => request.body), ["{}", '{"replica":"be2.1","mode":"hang"}']);
  assert.deepEqual(requests[0].headers, { "Content-Type": "application/json" });
  assert.equal(requests[1].headers.Authorization, "Bearer secret");
  assert.equal(requests[1].method, "POST");
});

test("a token that is not ASCII reaches the server as UTF-8", async (context) => {
  let authorization = null;
  const server = createServer((request, response) => {
    authorization = Buffer.from(request.headers.authorization, "latin1").toString();
    response.writeHead(401, { Connection: "close" }).end('{"code":"unauthorized"}');
  });
  context.after(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const pageUrl = `http://127.0.0.1:${server.address().port}/`;
  const backend = new Backend({ pageUrl, fetch, timers: new FakeTimers() });
  await assert.rejects(backend.crash({ token: "è “una” 😀" }), { status: 401 });
  assert.equal(authorization, "Bearer è “una” 😀");
});

test("the error for a refused request has the status and the code of the response", async () => {
  const refusing = backendWith(answering(409, { code: "crash_off", message: "off" }));
  await assert.rejects(refusing.crash({}), { status: 409, code: "crash_off", message: "off" });
  const bare = backendWith(async () => ({ ok: false, status: 502, headers: new Headers(), text: async () => "<html>" }));
  await assert.rejects(bare.replicas(), { status: 502, code: "http_502" });
});

test("the retry hint of a refusal is the longer of those in its body and its header", async () => {
  const refusing = (header, body) =>
    backendWith(async () => ({
      ok: false, status: 429, headers: new Headers(header), text: async () => JSON.stringify(body),
    })).users();
  const code = "rate_limited";
  await assert.rejects(refusing({ "Retry-After": "3" }, { code }), { isTooOften: true, retryAfter: 3_000 });
  await assert.rejects(refusing({ "Retry-After": "3" }, { code, retry_after_ms: 3_200 }), { retryAfter: 3_200 });
  await assert.rejects(refusing({ "Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT" }, null), { retryAfter: 0 });
});

test("the users are requested until a request succeeds, never sooner than the server's hint allows", async () => {
  const timers = new FakeTimers();
  const answers = [
    [429, { "Retry-After": "7" }, { code: "rate_limited" }],
    [502, {}, null],
    [200, { Date: "Thu, 26 Nov 2026 08:00:00 GMT" }, [{ name: "anna", face: "🙂" }]],
  ];
  const askedAt = [];
  const backend = backendWith(async () => {
    const [status, headers, body] = answers[askedAt.push(timers.now()) - 1];
    return { ok: status < 400, status, headers: new Headers(headers), text: async () => JSON.stringify(body) };
  }, timers);
  const failures = [];
  let users = null;
  backend.learnUsers({ pause: 2_000, onFailure: ({ code }) => failures.push(code) }).then((answer) => (users = answer));
  while (users === null) {
    await new Promise((resolve) => setImmediate(resolve));
    timers.advance(10);
  }
  assert.deepEqual(askedAt, [0, 7_000, 9_000]);
  assert.deepEqual([failures, users.length, backend.date], [["rate_limited", "http_502"], 1, "Thu, 26 Nov 2026 08:00:00 GMT"]);
});

test("a GET, or a crash request without a body, finds out why a socket was refused", async () => {
  const answers = { "GET /ws": [426, "upgrade_required"], "POST /sub/api/crash": [415, "unsupported_media_type"] };
  const requests = [];
  const backend = backendWith(async (url, { method = "GET", body, headers }) => {
    const { protocol, pathname } = new URL(url, "http://h/sub/");
    requests.push({ protocol, body, headers });
    const [status, code] = answers[`${method} ${pathname}`];
    return { ok: false, status, headers: new Headers(), text: async () => JSON.stringify({ code, message: "" }) };
  });
  const refusal = async () => (await backend.refusal("ws://h/ws?user=anna"))?.code ?? null;
  assert.equal(await refusal(), null);
  assert.deepEqual(requests.map(({ protocol }) => protocol), ["http:", "http:"]);
  // Nothing that could crash a replica is sent.
  assert.deepEqual([requests[1].body, requests[1].headers], ["", { "Content-Type": "text/plain" }]);
  answers["POST /sub/api/crash"] = [409, "crash_off"];
  assert.equal(await refusal(), null);
  answers["POST /sub/api/crash"] = [403, "forbidden_origin"];
  assert.equal(await refusal(), "forbidden_origin");
  answers["GET /ws"] = [429, "rate_limited"];
  assert.equal(await refusal(), "rate_limited");
});

test("a missing, late or malformed answer is a failure", async () => {
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
  for (const body of [null, "<html>", {}]) {
    await assert.rejects(backendWith(answering(202, body)).crash({}), { code: "unexpected_answer", isSilence: false });
  }
});

test("a backend that hangs or dies in the middle of an answer counts as silent", async (context) => {
  const arrived = [];
  const server = createServer((request, response) => {
    response.writeHead(200, { "Content-Length": 100 });
    response.write("[");
    arrived.shift()(response);
  });
  context.after(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const timers = new FakeTimers();
  const backend = new Backend({ pageUrl: `http://127.0.0.1:${server.address().port}/`, fetch, timers });
  for (const end of [() => timers.advance(REQUEST_LIMIT_MS), (response) => response.destroy()]) {
    const heard = new Promise((resolve) => arrived.push(resolve));
    const silent = assert.rejects(backend.users(), { status: 0, code: "unreachable", isSilence: true });
    const response = await heard;
    await new Promise((resolve) => setTimeout(resolve, 100));
    end(response);
    await silent;
  }
});

function watching() {
  const timers = new FakeTimers();
  const parts = { timers, fails: null, hidden: false, idle: false, asked: 0, takes: 0, answers: [], changes: 0, returns: 0 };
  parts.watch = new ReplicaWatch({
    backend: {
      replicas: async () => {
        parts.asked += 1;
        timers.advance(parts.takes);
        if (parts.fails !== null) throw parts.fails;
        return { replicas: [{ id: "be1.1" }], self: "be1.1" };
      },
    },
    timers,
    random: () => 1,
    isHidden: () => parts.hidden,
    isIdle: () => parts.idle,
    onAnswer: (answer) => parts.answers.push(answer),
    onChange: () => (parts.changes += 1),
    onReturn: () => (parts.returns += 1),
  });
  return parts;
}

async function nextAsk(parts, wait) {
  const { changes } = parts;
  parts.timers.advance(wait);
  for (let turn = 0; parts.changes === changes; turn += 1) {
    assert.ok(turn < 100, `no request after ${wait} ms`);
    await Promise.resolve();
  }
}

async function asksAfter(parts, wait) {
  const { asked } = parts;
  parts.timers.advance(wait - 1);
  assert.equal(parts.asked, asked);
  await nextAsk(parts, 1);
  assert.equal(parts.asked, asked + 1);
}

test("the list of replicas is polled every second, or less often without a run or on a hidden page", async () => {
  const parts = watching();
  await parts.watch.ask();
  await asksAfter(parts, WATCH_MS);
  parts.idle = true;
  await asksAfter(parts, WATCH_MS);
  await asksAfter(parts, IDLE_WATCH_MS);
  parts.hidden = true;
  await asksAfter(parts, IDLE_WATCH_MS);
  await asksAfter(parts, HIDDEN_WATCH_MS);
});

test("a rate-limited watch polls less often until a poll succeeds, and never sooner than the hint allows", async () => {
  const parts = watching();
  await parts.watch.ask();
  parts.fails = new BackendError({ status: 429, code: "rate_limited", message: "", retryAfter: 7_000 });
  await nextAsk(parts, WATCH_MS);
  assert.equal(parts.watch.unreachableSince, null);
  assert.equal(parts.watch.silentSince, null);
  assert.equal(parts.watch.quietUntil - parts.timers.now(), 7_000);
  await parts.watch.ask();
  assert.equal(parts.asked, 2);
  await asksAfter(parts, 7_000);
  parts.fails = new BackendError({ status: 429, code: "rate_limited", message: "", retryAfter: 1_000 });
  await asksAfter(parts, 7_000);
  await asksAfter(parts, 4 * TOO_OFTEN_WATCH_MS);
  await asksAfter(parts, 8 * TOO_OFTEN_WATCH_MS);
  await asksAfter(parts, TOO_OFTEN_CAP_MS);
  parts.fails = null;
  await asksAfter(parts, TOO_OFTEN_CAP_MS);
  assert.equal(parts.watch.quietUntil, null);
  await asksAfter(parts, WATCH_MS);
});

test("a timer that fires a little early does not end the polling", async () => {
  const parts = watching();
  const after = parts.timers.after.bind(parts.timers);
  parts.timers.after = (wait, run) => after(wait - 1, run);
  parts.fails = new BackendError({ status: 429, code: "rate_limited", message: "", retryAfter: 7_000 });
  await parts.watch.ask();
  parts.fails = null;
  await nextAsk(parts, 6_999);
  assert.equal(parts.watch.quietUntil, null);
  await nextAsk(parts, WATCH_MS);
});

test("a poll that timed out is repeated after a short pause: the next one may reach another replica", async () => {
  const parts = watching();
  parts.fails = new BackendError({ status: 0, code: "unreachable", message: "" });
  parts.takes = REQUEST_LIMIT_MS;
  await parts.watch.ask();
  parts.takes = 0;
  parts.fails = null;
  await asksAfter(parts, TIMED_OUT_WATCH_MS);
  assert.equal(parts.watch.unreachableSince, null);
});

test("two simultaneous polls send one request and leave one timer", async () => {
  const parts = watching();
  await Promise.all([parts.watch.ask(), parts.watch.ask()]);
  assert.equal(parts.asked, 1);
  assert.equal(parts.timers.pending, 1);
});

test("an outage counts from its first failure until an answer, and the last list is kept", async () => {
  const parts = watching();
  assert.equal(parts.watch.answeredAt, null);
  await parts.watch.ask();
  assert.deepEqual([parts.watch.answeredAt, parts.returns], [0, 0]);
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

test("onReturn is called at the first list after an outage, even if a poll in between is rate-limited", async () => {
  const parts = watching();
  await parts.watch.ask();
  const tooOften = new BackendError({ status: 429, code: "rate_limited", message: "" });
  const outage = [new BackendError({ status: 0, code: "unreachable", message: "" }), tooOften, null];
  for (const [errors, returns] of [[outage, 1], [[tooOften, null], 1], [outage, 2]]) {
    for (parts.fails of errors) await nextAsk(parts, TOO_OFTEN_WATCH_MS);
    assert.equal(parts.returns, returns);
  }
});

test("a refusal shows that the backend is up; silence or a proxy's gateway error does not", async () => {
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
  assert.equal(await silentSince(failure(500, "http_500")), null);
  assert.equal(await silentSince(failure(504, "http_504")), 6 * WATCH_MS);
  assert.equal(parts.watch.unreachableSince, WATCH_MS);
  assert.equal(await silentSince(null), null);
});
