import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { PageTimers, SLOT_MS } from "../js/client/timers.js";

/** `ring(slot)` wakes the page. */
class FakeWorker {
  static last;
  asked = [];
  #listeners = {};

  constructor() {
    FakeWorker.last = this;
  }

  addEventListener(kind, listener) {
    this.#listeners[kind] = listener;
  }

  postMessage(message) {
    this.asked.push(message);
  }

  ring(slot) {
    this.#listeners.message({ data: slot });
  }

  fail() {
    this.#listeners.error();
  }
}

function withWorker(t) {
  globalThis.Worker = FakeWorker;
  t.after(() => delete globalThis.Worker);
  return { timers: new PageTimers(), worker: FakeWorker.last };
}

test("timers of one slot share a wake-up, which never comes early", async (t) => {
  const { timers, worker } = withWorker(t);
  t.mock.method(timers, "now", () => 1_003);
  const ran = [];
  for (const ms of [101, 104, 107]) timers.after(ms, () => ran.push(ms));
  timers.after(108, () => ran.push(108));
  assert.deepEqual(worker.asked.map(({ ms }) => ms), [107, 117]);
  worker.ring(worker.asked[0].slot);
  await pause();
  assert.deepEqual(ran, [101, 104, 107]);
  worker.ring(worker.asked[0].slot);
  worker.ring(worker.asked[1].slot);
  await pause();
  assert.deepEqual(ran, [101, 104, 107, 108]);
});

test("a cancelled timer does not run, even if its slot is already running", async (t) => {
  const { timers, worker } = withWorker(t);
  t.mock.method(timers, "now", () => 0);
  const ran = [];
  const cancels = [() => {}, () => {}];
  timers.after(5, () => {
    ran.push("first");
    for (const cancel of cancels) cancel();
  });
  for (const index of [0, 1]) cancels[index] = timers.after(5, () => ran.push(index));
  timers.after(5, () => ran.push("last"));
  worker.ring(worker.asked[0].slot);
  await pause();
  assert.deepEqual(ran, ["first", "last"]);
});

test("a slot whose timers are all cancelled does not keep the process running", (t) => {
  const timers = new PageTimers();
  t.mock.method(timers, "now", () => 0);
  const timeouts = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  const before = timeouts();
  const cancels = [60_000, 60_000].map((ms) => timers.after(ms, () => {}));
  cancels[0]();
  assert.equal(timeouts(), before + 1);
  cancels[1]();
  assert.equal(timeouts(), before);
});

test("a timer runs even if the cancelled timers of its slot are cancelled again", async (t) => {
  const timers = new PageTimers();
  t.mock.method(timers, "now", () => 0);
  const cancel = timers.after(5, () => {});
  cancel();
  const ran = new Promise((resolve) => timers.after(5, resolve));
  cancel();
  await ran;
});

test("when the worker fails, the page's own timers replace it", async (t) => {
  const { timers, worker } = withWorker(t);
  const ran = [];
  timers.after(1, () => ran.push("before"));
  worker.fail();
  timers.after(1, () => ran.push("after"));
  await pause(4 * SLOT_MS);
  assert.deepEqual(ran.sort(), ["after", "before"]);
  assert.equal(worker.asked.length, 1);
});

test("without workers, the page's own timers are used", async () => {
  const timers = new PageTimers();
  const asked = timers.now();
  const ran = await new Promise((resolve) => timers.after(20, () => resolve(timers.now())));
  // The timers of Node.js can fire up to a millisecond early.
  assert.ok(ran - asked >= 19, `a timer of 20 ms ran after ${ran - asked} ms`);
});
