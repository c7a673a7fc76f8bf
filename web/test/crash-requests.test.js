import assert from "node:assert/strict";
import test from "node:test";
import { BackendError } from "../js/backend.js";
import { CrashRequests, Outcome } from "../js/crash-requests.js";
import { ENGLISH } from "../js/words-en.js";
import { TabStorage } from "../js/storage.js";

const WISH = { replica: "be1.1", by: "person", mode: "exit" };

/** Crash requests to a backend that gives these answers in turn. An answer is an object, or the status of a failure. */
function requests(...answers) {
  const asked = [];
  const backend = {
    crash: async (wish) => {
      asked.push(wish);
      const answer = answers.shift();
      if (typeof answer === "object") return answer;
      throw new BackendError({ status: answer, code: answer === 0 ? "unreachable" : `http_${answer}`, message: "no" });
    },
  };
  return { asked, crashes: new CrashRequests({ backend, storage: new TabStorage(() => null) }) };
}

test("the outcome of an answered request names the replica, and the default mode is not sent", async () => {
  const { asked, crashes } = requests({ replica: "be1.1", mode: "exit" }, { replica: "be2.1", mode: "hang" });
  assert.deepEqual(await crashes.ask(WISH), { outcome: Outcome.CRASHED, replica: "be1.1", mode: "exit" });
  assert.deepEqual(await crashes.ask({ ...WISH, replica: null, mode: "hang" }), { outcome: Outcome.CRASHED, replica: "be2.1", mode: "hang" });
  assert.deepEqual(asked, [{ replica: "be1.1", mode: null, token: null }, { replica: null, mode: "hang", token: null }]);
  assert.equal(crashes.failure, null);
});

test("each failure has an outcome and a message, which the next request clears", async () => {
  const failures = [[0, Outcome.UNANSWERED], [502, Outcome.UNANSWERED], [404, Outcome.NOBODY], [409, Outcome.REFUSED], [500, Outcome.REFUSED]];
  for (const [status, outcome] of failures) {
    const { crashes } = requests(status, { replica: "be1.1", mode: "exit" });
    assert.equal((await crashes.ask(WISH)).outcome, outcome, `the outcome for status ${status} was wrong`);
    assert.ok(crashes.failure.key in ENGLISH, `${crashes.failure.key} had no words`);
    await crashes.ask(WISH);
    assert.equal(crashes.failure, null);
  }
});

test("a request that needs a token is sent again with it, and a wrong token is reported", async () => {
  const { asked, crashes } = requests(401, 401, { replica: "be1.1", mode: "exit" });
  await crashes.ask(WISH);
  assert.deepEqual([crashes.waiting, crashes.failure], [WISH, null]);
  crashes.token = "wrong";
  await crashes.ask(crashes.waiting);
  assert.deepEqual([crashes.waiting, crashes.failure.key], [WISH, "crash.error.401"]);
  crashes.token = "right";
  await crashes.ask(crashes.waiting);
  assert.deepEqual([crashes.waiting, crashes.failure], [null, null]);
  assert.deepEqual(asked.map(({ token }) => token), [null, "wrong", "right"]);
});

test("a request with a token waits for no other token, unless the answer is 401", async () => {
  for (const status of [404, 0]) {
    const { crashes } = requests(401, status);
    await crashes.ask(WISH);
    crashes.token = "right";
    await crashes.ask(crashes.waiting);
    assert.equal(crashes.waiting, null, `the page still asked for a token after the status ${status}`);
    assert.notEqual(crashes.failure, null);
  }
});

test("a request without a token that gets no answer leaves the form for the token", async () => {
  const { crashes } = requests(401, 0);
  await crashes.ask(WISH);
  await crashes.ask({ ...WISH, replica: "be2.1" });
  assert.equal(crashes.waiting, WISH);
});

test("a 401 to a request that was sent before the token was given does not remove the token", async () => {
  const { asked, crashes } = requests(401, 401, { replica: "be1.1", mode: "exit" }, { replica: "be1.1", mode: "exit" });
  await crashes.ask(WISH);
  const early = crashes.ask({ ...WISH, by: "chaos" });
  crashes.token = "right";
  const late = crashes.ask(crashes.waiting);
  await Promise.all([early, late]);
  assert.deepEqual([crashes.waiting, crashes.failure], [null, null]);
  await crashes.ask(WISH);
  assert.deepEqual(asked.map(({ token }) => token), [null, null, "right", "right"]);
});
