import assert from "node:assert/strict";
import test from "node:test";
import { Backoff, POLICY_WAIT_MS, RETRY_CAP_MS, ceiling, retryWait } from "../js/client/backoff.js";
import { DialQueue } from "../js/client/dial-queue.js";
import { BEAT_MS, Pacer, phase } from "../js/pacer.js";
import { Rate } from "../js/counters.js";
import { FRAME_GAP_MS, GAP_PER_COST, NO_FRAME_MS, RenderLoop, shareAfter } from "../js/render-loop.js";
import { FakeTimers } from "./support.js";

test("the maximum wait of the back-off doubles up to its cap, and the wait has full jitter", () => {
  const highest = new Backoff({ random: () => 1 });
  assert.deepEqual(Array.from({ length: 8 }, () => highest.next()), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  assert.equal(highest.attempt, 8);
  highest.reset();
  assert.equal(highest.next(), 100);
  assert.equal(new Backoff({ random: () => 0 }).next(), 0);
});

test("after a close for a policy violation the wait is at least POLICY_WAIT_MS", () => {
  assert.equal(new Backoff({ random: () => 0 }).nextAfterPolicy(), POLICY_WAIT_MS);
});

test("a retry waits at least as long as the server's hint, plus jitter whose range grows up to a cap", () => {
  assert.equal(retryWait({ retryAfter: 40, attempt: 0, random: () => 0 }), 40);
  assert.equal(retryWait({ retryAfter: 40, attempt: 1, random: () => 1 }), 40 + 800);
  assert.equal(retryWait({ retryAfter: 0, attempt: 50, random: () => 1 }), RETRY_CAP_MS);
  assert.equal(ceiling(2_000, 100, 5_000), 5_000);
});

test("the gaps between the phases of up to thirty conversations are below three equal shares of the beat", () => {
  for (const count of [2, 10, 18, 20, 30]) {
    const phases = Array.from({ length: count }, (_, index) => phase(index)).sort((a, b) => a - b);
    const gaps = phases.map((value, at) => (phases[at + 1] ?? phases[0] + BEAT_MS) - value);
    assert.ok(Math.max(...gaps) < (3 * BEAT_MS) / count, `the phases of ${count} conversations had too wide a gap`);
  }
});

test("beats that are taken a few milliseconds late do not drift", () => {
  const pacer = new Pacer();
  pacer.add(0, 1_000);
  let beats = 0;
  for (let now = 1_000; now < 61_000; now += 7) beats += pacer.take(now).length;
  assert.ok(Math.abs(beats - 300) <= 1, `${beats} beats in a minute instead of 300`);
  assert.equal(pacer.missed, 0);
});

test("beats missed during sleep are skipped and counted", () => {
  const pacer = new Pacer();
  pacer.add(0, 0);
  assert.equal(pacer.next(), 200);
  assert.deepEqual(pacer.take(1_250), [0]);
  assert.equal(pacer.missed, 5);
  assert.deepEqual(pacer.take(1_250), []);
  assert.equal(pacer.next(), 1_400);
});

test("a removed conversation has no beat, and a conversation that is added late beats in its own phase", () => {
  const pacer = new Pacer();
  pacer.add(0, 0);
  pacer.remove(0);
  assert.equal(pacer.next(), null);
  pacer.add(1, 510);
  assert.ok(Math.abs(pacer.next() - (400 + phase(1))) < 1e-6);
});

test("at most `limit` sessions connect at the same time, in the order of their requests", () => {
  const queue = new DialQueue({ limit: 2 });
  const began = [];
  const leave = ["a", "b", "c", "d", "e"].map((name) => queue.enter(() => began.push(name)));
  assert.deepEqual(began, ["a", "b"]);
  leave[2]();
  leave[0]();
  leave[0]();
  assert.deepEqual(began, ["a", "b", "d"]);
  leave[1]();
  assert.deepEqual(began, ["a", "b", "d", "e"]);
});

test("a connection attempt that ends releases its slot", () => {
  const queue = new DialQueue({ limit: 1 });
  const began = [];
  const leaveFirst = queue.enter(() => began.push("a"));
  queue.enter(() => began.push("b"));
  leaveFirst();
  assert.deepEqual(began, ["a", "b"]);
});

test("a rate is the mean growth per second over its window", () => {
  const rate = new Rate();
  assert.equal(rate.update(0, 0), 0);
  assert.equal(rate.update(1_000, 50), 50);
  for (let second = 2; second <= 20; second += 1) rate.update(second * 1_000, 50 * second);
  assert.equal(rate.update(21_000, 1_000), 37.5);
});

/** A frame takes `cost` milliseconds. */
function renderLoop({ cost = 0 } = {}) {
  const timers = new FakeTimers();
  const frames = [];
  const made = { timers, frames, paints: 0, left: 0, costs: [] };
  made.loop = new RenderLoop({
    timers,
    requestFrame: (run) => {
      frames.push(run);
      return () => frames.includes(run) && frames.splice(frames.indexOf(run), 1);
    },
    afterFrame: (run) => run(),
    paint: () => {
      made.paints += 1;
      timers.advance(cost);
      return made.left > 0;
    },
    paintMore: (before) => {
      made.costs.push(before);
      timers.advance(cost);
      return (made.left -= 1) > 0;
    },
  });
  return made;
}

test("several requests share one paint in a frame, and the next paint waits for the gap", () => {
  const made = renderLoop();
  const { timers, frames, loop } = made;
  loop.request();
  loop.request();
  timers.advance(0);
  assert.equal(frames.length, 1);
  frames.pop()();
  assert.equal(made.paints, 1);
  loop.request();
  timers.advance(FRAME_GAP_MS - 1);
  assert.equal(frames.length, 0);
  timers.advance(1);
  frames.pop()();
  assert.equal(made.paints, 2);
});

test("the remainder of two paints is painted in one series of frames", () => {
  const made = renderLoop();
  const { frames, loop } = made;
  made.left = 2;
  loop.flush();
  loop.flush();
  assert.equal(frames.length, 1);
  frames.pop()();
  frames.pop()();
  assert.deepEqual([made.left, frames.length], [0, 0]);
});

test("without frames a timer paints, and the requested frame is cancelled", () => {
  const made = renderLoop();
  const { timers, frames, loop } = made;
  for (let paints = 1; paints <= 10; paints += 1) {
    loop.request();
    timers.advance(NO_FRAME_MS + FRAME_GAP_MS);
    assert.deepEqual([made.paints, frames.length], [paints, 0]);
  }
  made.paints = 1;
  loop.request();
  loop.flush();
  assert.equal(made.paints, 2);
  timers.advance(NO_FRAME_MS * 2);
  assert.equal(made.paints, 2);
});

test("the gap after a frame grows with the frame's cost", () => {
  const cost = FRAME_GAP_MS;
  const { timers, frames, loop } = renderLoop({ cost });
  loop.request();
  timers.advance(0);
  frames.pop()();
  loop.request();
  timers.advance(GAP_PER_COST * cost - 1);
  assert.equal(frames.length, 0);
  timers.advance(1);
  assert.equal(frames.length, 1);
});

test("each frame receives the cost of the previous one, and the share shrinks after a slow frame", () => {
  const made = renderLoop({ cost: 30 });
  made.left = 2;
  made.loop.flush();
  made.frames.pop()();
  made.frames.pop()();
  assert.deepEqual(made.costs, [30, 30]);
  const shares = (costs) => costs.reduce((shares, cost) => [...shares, shareAfter(shares.at(-1), cost, 6)], [6]);
  assert.deepEqual(shares([1, 30, 30, 12, 1, 1, 1]), [6, 6, 5, 4, 4, 5, 6, 6]);
  assert.equal(shares(Array(20).fill(100)).at(-1), 1);
});
