import assert from "node:assert/strict";
import test from "node:test";
import { Chaos, Ended, PATIENCE } from "../js/chaos.js";
import { Outcome } from "../js/crash-requests.js";
import { FakeTimers } from "./support.js";

function chaotic({ heals = true } = {}) {
  const timers = new FakeTimers();
  const parts = { timers, outcome: Outcome.CRASHED, victims: [], left: false, broken: false };
  parts.chaos = new Chaos({
    timers,
    crash: async () => {
      parts.victims.push(parts.outcome === Outcome.CRASHED ? "be.1" : null);
      return { outcome: parts.outcome, request: parts.victims.length - 1 };
    },
    hasVictim: (request) => parts.victims[request] !== null,
    canCrash: () => parts.left,
    isBroken: () => parts.broken,
    heals: () => heals,
    onChange: () => {},
  });
  parts.passes = async (ms) => {
    timers.advance(ms);
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };
  return parts;
}

test("chaos crashes a replica at each interval until it is switched off", async () => {
  const { chaos, timers, passes } = chaotic();
  chaos.start(10_000);
  await passes(9_999);
  assert.deepEqual([chaos.done, chaos.nextAt - timers.now()], [0, 1]);
  await passes(1);
  await passes(10_000);
  assert.equal(chaos.done, 2);
  chaos.start(60_000);
  await passes(59_999);
  assert.deepEqual([chaos.isOn, chaos.done], [true, 2]);
  chaos.stop();
  await passes(600_000);
  assert.deepEqual([chaos.isOn, chaos.done, chaos.ended, timers.pending], [false, 2, Ended.BY_HAND, 0]);
  chaos.start(10_000);
  assert.equal(chaos.done, 0);
});

test("a crash is counted even if its request is answered after chaos was switched off", async () => {
  const { chaos, timers, passes } = chaotic();
  chaos.start(10_000);
  timers.advance(10_000);
  chaos.stop();
  await passes(0);
  assert.deepEqual([chaos.isOn, chaos.done, chaos.ended], [false, 1, Ended.BY_HAND]);
});

test("a crash requested before a restart of chaos does not count after the restart", async () => {
  const { chaos, timers, passes } = chaotic();
  chaos.start(10_000);
  timers.advance(10_000);
  chaos.stop();
  chaos.start(10_000);
  await passes(0);
  assert.deepEqual([chaos.isOn, chaos.done], [true, 0]);
});

test("once a promise is broken, chaos ends without another crash", async () => {
  const parts = chaotic();
  parts.chaos.start(10_000);
  parts.broken = true;
  await parts.passes(10_000);
  assert.deepEqual([parts.victims.length, parts.chaos.isOn, parts.chaos.ended], [0, false, Ended.LOST]);
});

test("chaos ends when no replica is left, after PATIENCE misses if the platform restarts replicas", async () => {
  for (const outcome of [Outcome.NOBODY, Outcome.UNANSWERED]) {
    const gone = chaotic({ heals: false });
    gone.outcome = outcome;
    gone.chaos.start(10_000);
    await gone.passes(10_000);
    assert.equal(gone.chaos.ended, Ended.NOBODY);
    const healing = chaotic();
    healing.outcome = outcome;
    healing.chaos.start(10_000);
    for (let tick = 1; tick < PATIENCE; tick += 1) await healing.passes(10_000);
    assert.equal(healing.chaos.isOn, true);
    healing.outcome = Outcome.CRASHED;
    await healing.passes(10_000);
    healing.outcome = outcome;
    for (let tick = 1; tick <= PATIENCE; tick += 1) await healing.passes(10_000);
    assert.deepEqual([healing.chaos.ended, healing.chaos.done], [Ended.NOBODY, 1]);
  }
});

test("chaos continues without answers while a replica is left, and counts a crash once it is seen", async () => {
  const parts = chaotic({ heals: false });
  parts.outcome = Outcome.UNANSWERED;
  parts.left = true;
  parts.chaos.start(10_000);
  for (let tick = 0; tick <= PATIENCE; tick += 1) await parts.passes(10_000);
  assert.deepEqual([parts.chaos.isOn, parts.chaos.done], [true, 0]);
  parts.victims[1] = "be.2";
  assert.equal(parts.chaos.done, 1);
  parts.left = false;
  await parts.passes(10_000);
  assert.deepEqual([parts.chaos.ended, parts.chaos.done], [Ended.NOBODY, 1]);
});

test("chaos ends when a request is refused", async () => {
  const parts = chaotic();
  parts.outcome = Outcome.REFUSED;
  parts.chaos.start(10_000);
  await parts.passes(10_000);
  assert.deepEqual([parts.victims.length, parts.chaos.ended], [1, Ended.REFUSED]);
});
