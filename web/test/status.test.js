import assert from "node:assert/strict";
import test from "node:test";
import { BackendError } from "../js/backend.js";
import { DIAGNOSIS_GAP_MS, Diagnosis, SUSPICIOUS_ATTEMPTS } from "../js/diagnosis.js";
import { ENGLISH } from "../js/words-en.js";
import { WORTH_A_WORD_MS, statusOf } from "../js/status.js";
import { TabStorage } from "../js/storage.js";
import { FakeTimers } from "./support.js";

const FACTS = {
  refusal: null, origin: "http://h:81", isOnline: true, unreachableFor: null, quietFor: null, isReady: true,
  sessions: 0, live: 0, connected: 0, limit: 30, most: 30, self: "be1.1",
};

const UNREACHABLE = new BackendError({ status: 0, code: "unreachable", message: "" });

const says = (facts) => {
  const { key, mood } = statusOf({ ...FACTS, ...facts });
  assert.ok(key in ENGLISH, `${key} has no words`);
  return [key.replace("status.", ""), mood];
};

test("each state without a failure has a sentence", () => {
  assert.deepEqual(says({ isReady: false }), ["loading", "calm"]);
  assert.deepEqual(says({}), ["idle", "good"]);
  assert.deepEqual(says({ limit: 12 }), ["too_few_users", "doubt"]);
  assert.deepEqual(says({ sessions: 60, live: 60, connected: 60 }), ["live", "good"]);
  assert.deepEqual(says({ sessions: 60, live: 59, connected: 60 }), ["partly", "doubt"]);
});

test("a failure shorter than a second is not shown", () => {
  assert.deepEqual(says({ unreachableFor: WORTH_A_WORD_MS - 1 }), ["idle", "good"]);
  assert.deepEqual(says({ unreachableFor: WORTH_A_WORD_MS }), ["unreachable", "bad"]);
  assert.deepEqual(says({ unreachableFor: 9_000, isReady: false }), ["unreachable", "bad"]);
});

test("the page says that the browser is offline, unless the backend answers", () => {
  assert.deepEqual(says({ unreachableFor: 5_000, isOnline: false }), ["offline", "bad"]);
  assert.deepEqual(says({ isOnline: false }), ["idle", "good"]);
});

test("the backend does not count as unreachable while sessions are connected", () => {
  const hung = { unreachableFor: 5_000, sessions: 60, live: 39, connected: 40 };
  assert.deepEqual(says(hung), ["list_unanswered", "doubt"]);
  assert.deepEqual(says({ ...hung, live: 0, connected: 0 }), ["unreachable", "bad"]);
});

test("a rate-limited address is shown as such, not as an unreachable backend", () => {
  assert.deepEqual(says({ quietFor: 4_000 }), ["too_often", "doubt"]);
  assert.deepEqual(says({ quietFor: 4_000, sessions: 60, live: 60, connected: 60 }), ["too_often.running", "doubt"]);
});

test("a refused origin is shown first, and other refusals only while some sessions are not live", () => {
  const refused = { refusal: "forbidden_origin", sessions: 20 };
  assert.deepEqual(says({ ...refused, unreachableFor: 3_000 }), ["forbidden_origin", "bad"]);
  assert.match(ENGLISH["status.forbidden_origin"], /Host.*--allowed-origins \{origin\}/);
  assert.deepEqual(says({ refusal: "overloaded", sessions: 20, live: 18 }), ["refused", "doubt"]);
  assert.deepEqual(says({ refusal: "overloaded", sessions: 20, live: 20 }), ["live", "good"]);
  assert.deepEqual(says({ refusal: "no_upgrade", sessions: 20 }), ["no_upgrade", "bad"]);
});

test("if storage is blocked or full, values are kept until the page is reloaded", () => {
  const blocked = new TabStorage(() => {
    throw new Error("SecurityError");
  });
  const full = new TabStorage(() => ({
    getItem: () => null,
    setItem: () => {
      throw new Error("QuotaExceededError");
    },
    removeItem: () => {},
  }));
  for (const storage of [blocked, full]) {
    assert.equal(storage.getItem("key"), null);
    storage.setItem("key", "value");
    assert.equal(storage.getItem("key"), "value");
    storage.removeItem("key");
    assert.equal(storage.getItem("key"), null);
  }
});

test("a reloaded page has the values that the tab stored", () => {
  const values = new Map([["key", "kept"]]);
  const storage = new TabStorage(() => ({
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, value),
    removeItem: (key) => values.delete(key),
  }));
  assert.equal(storage.getItem("key"), "kept");
  storage.setItem("key", "other");
  assert.equal(values.get("key"), "other");
  storage.removeItem("key");
  assert.deepEqual([storage.getItem("key"), values.size], [null, 0]);
});

function diagnosed(refused) {
  const timers = new FakeTimers();
  const asked = [];
  const parts = { timers, asked, found: [], counted: [], answer: refused };
  const backend = {
    refusal: async (url) => {
      asked.push(url);
      return parts.answer;
    },
  };
  const onFound = (cause) => parts.found.push(cause.code);
  const onRefused = (cause) => parts.counted.push(cause.overloadCause);
  parts.diagnosis = new Diagnosis({ backend, timers, onFound, onRefused });
  parts.fails = (attempt, { isRefusal = true } = {}) => parts.diagnosis.failed({ attempt, url: "ws://h/ws?user=anna", isRefusal });
  return parts;
}

test("the cause of a refusal is requested once after two failures, not by each session", async () => {
  const refused = new BackendError({ status: 403, code: "forbidden_origin", message: "" });
  const parts = diagnosed(refused);
  const { timers, asked, found, diagnosis, fails } = parts;
  await fails(SUSPICIOUS_ATTEMPTS - 1);
  assert.equal(asked.length, 0);
  await Promise.all([fails(SUSPICIOUS_ATTEMPTS), fails(SUSPICIOUS_ATTEMPTS)]);
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.deepEqual([asked.length, found], [1, ["forbidden_origin"]]);
  timers.advance(DIAGNOSIS_GAP_MS);
  parts.answer = UNREACHABLE;
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.deepEqual([asked.length, diagnosis.cause], [2, null]);
  timers.advance(DIAGNOSIS_GAP_MS);
  parts.answer = refused;
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(diagnosis.cause, refused);
  diagnosis.welcomed();
  assert.equal(diagnosis.cause, null);
});

test("each refused socket and the request of the diagnosis are counted under the diagnosed cause", async () => {
  const full = new BackendError({ status: 503, code: "overloaded", message: "" });
  const parts = diagnosed(full);
  const { timers, asked, counted, diagnosis, fails } = parts;
  await fails(SUSPICIOUS_ATTEMPTS - 1);
  assert.equal(counted.length, 0);
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.deepEqual(counted, Array(3).fill("overloaded"), "a refusal was not counted exactly once as overloaded");
  await fails(SUSPICIOUS_ATTEMPTS);
  await fails(SUSPICIOUS_ATTEMPTS, { isRefusal: false });
  assert.deepEqual([counted.length, asked.length], [4, 1]);

  diagnosis.welcomed();
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 5, "a refusal after the welcome of another session was not counted");
  timers.advance(DIAGNOSIS_GAP_MS);
  await fails(SUSPICIOUS_ATTEMPTS - 1);
  assert.equal(counted.length, 5, "a refusal was counted under an outdated diagnosis");
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 8);

  timers.advance(DIAGNOSIS_GAP_MS);
  await fails(SUSPICIOUS_ATTEMPTS - 1);
  timers.advance(10 * DIAGNOSIS_GAP_MS);
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 10, "an old refusal was counted");

  timers.advance(DIAGNOSIS_GAP_MS);
  parts.answer = UNREACHABLE;
  await fails(SUSPICIOUS_ATTEMPTS);
  await fails(SUSPICIOUS_ATTEMPTS);
  parts.answer = full;
  timers.advance(DIAGNOSIS_GAP_MS);
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 13, "the socket before the unanswered diagnosis was counted, or a later socket was not");
});

test("refused sockets without a cause point to a proxy, unless a session has been welcomed before", async () => {
  const causeAfter = async (...steps) => {
    const { timers, diagnosis, fails } = diagnosed(null);
    for (const step of steps) {
      if (step === "welcomed") diagnosis.welcomed();
      else await fails(SUSPICIOUS_ATTEMPTS, { isRefusal: step === "refused" });
      timers.advance(DIAGNOSIS_GAP_MS);
    }
    return diagnosis.cause?.code ?? null;
  };
  assert.equal(await causeAfter("refused"), null);
  assert.equal(await causeAfter("refused", "refused"), "no_upgrade");
  assert.equal(await causeAfter("refused", "refused", "refused"), "no_upgrade");
  assert.equal(await causeAfter("late", "late"), null, "a slow handshake counted as a refusal");
  assert.equal(await causeAfter("welcomed", "refused", "refused"), null);
  assert.equal(await causeAfter("refused", "refused", "welcomed"), null);
});

test("refusals are counted even if one request in between passes the rate limit", async () => {
  const limited = new BackendError({ status: 429, code: "rate_limited", message: "" });
  const parts = diagnosed(limited);
  const { timers, counted, diagnosis, fails } = parts;
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 2, "the socket or the request was not counted");
  timers.advance(DIAGNOSIS_GAP_MS);
  parts.answer = null;
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.deepEqual([counted.length, diagnosis.cause], [2, null]);
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 3, "a refusal after one request that passed was not counted");
  timers.advance(DIAGNOSIS_GAP_MS);
  parts.answer = limited;
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 6, "the socket before either request, or the refused request, was not counted");

  parts.answer = null;
  for (let passed = 0; passed < 2; passed += 1) {
    timers.advance(DIAGNOSIS_GAP_MS);
    await fails(SUSPICIOUS_ATTEMPTS);
  }
  await fails(SUSPICIOUS_ATTEMPTS);
  assert.equal(counted.length, 6, "a refusal after a second request that passed was counted");
});

test("failures due to overload, a rate limit, an unavailable store or a missing replica are overload errors", () => {
  const causeOf = (status, code) => new BackendError({ status, code, message: "" }).overloadCause;
  assert.equal(causeOf(429, "rate_limited"), "address");
  assert.equal(causeOf(503, "overloaded"), "overloaded");
  assert.equal(causeOf(503, "store_unavailable"), "store_unavailable");
  for (const [status, code] of [[0, "unreachable"], [502, "no_replica"], [504, "http_504"]]) {
    assert.equal(causeOf(status, code), "no_replica");
  }
  for (const [status, code] of [[503, "draining"], [403, "forbidden_origin"], [404, "unknown_user"]]) assert.equal(causeOf(status, code), null);
  for (const cause of ["address", "overloaded", "store_unavailable", "no_replica"]) assert.ok(`cause.${cause}` in ENGLISH);
});
