import assert from "node:assert/strict";
import test from "node:test";
import { Chaos, Ended, PATIENCE } from "../js/chaos.js";
import { Outcome } from "../js/crash-control.js";
import { By, Crashes, spread } from "../js/crashes.js";
import { recordOf } from "../js/record.js";
import { Mark, NO_TIMELINE, marked, sampled } from "../js/timeline.js";
import { FakeTimers } from "./support.js";

const list = (...states) => states.map((state, index) => ({ id: `be.${index + 1}`, state }));

function twoReplicas() {
  const crashes = new Crashes();
  crashes.replicasSeen({ at: 0, replicas: list("ready", "ready") });
  return crashes;
}

/** A crash of be.1 with these users on it, seen after 900 ms and over after 4 s. */
function crashedAndBack(crashes, { at = 1_000, users = ["anna", "bruno"] } = {}) {
  const incident = crashes.asked({ at, by: By.PERSON, mode: "exit" });
  incident.confirmed({ at: at + 10, replica: "be.1", mode: "exit" });
  for (const user of users) crashes.sessionLost({ at: at + 50, user, replica: "be.1", isOrderly: false });
  users.forEach((user, index) => crashes.sessionLive({ at: at + 700 - 100 * index, user }));
  crashes.replicasSeen({ at: at + 900, replicas: list("lost", "ready") });
  crashes.replicasSeen({ at: at + 4_000, replicas: list("lost", "ready", "ready") });
  return incident;
}

test("a crash has figures: seen, sessions moved, all live, replaced", () => {
  const crashes = twoReplicas();
  const incident = crashedAndBack(crashes);
  assert.equal(crashes.all.length, 1);
  const { by, victim, sessionsLost, sessionsResumed, seenAfter, resumedAfter, replacedAfter } = incident;
  assert.deepEqual([by, victim, sessionsLost, sessionsResumed], [By.PERSON, "be.1", 2, 2]);
  assert.deepEqual([seenAfter, resumedAfter, replacedAfter], [900, 700, 4_000]);
  assert.equal(crashes.isOpen(6_000), false);
});

test("unknown times have no figure, and the crash stays open for a while", () => {
  const crashes = twoReplicas();
  const incident = crashes.asked({ at: 1_000, by: By.CHAOS, mode: "hang" });
  crashes.sessionLost({ at: 1_100, user: "anna", replica: "be.1", isOrderly: false });
  assert.deepEqual([incident.seenAfter, incident.resumedAfter, incident.replacedAfter], [null, null, null]);
  assert.equal(crashes.isOpen(2_000), true);
  assert.equal(crashes.isOpen(1_000_000), false);
  crashes.withdrawn(incident);
  assert.deepEqual([crashes.all, crashes.last], [[], null]);
});

test("a crash that another client requested is noticed, with the lost sessions", () => {
  const crashes = twoReplicas();
  crashes.sessionLost({ at: 5_000, user: "anna", replica: "be.2", isOrderly: false });
  crashes.sessionLost({ at: 5_100, user: "bruno", replica: "be.1", isOrderly: false });
  crashes.replicasSeen({ at: 6_000, replicas: list("ready", "lost") });
  const { by, mode, victim, askedAt, sessionsLost, seenAfter } = crashes.last;
  assert.deepEqual([by, mode, victim, askedAt, sessionsLost, seenAfter], [By.SOMEBODY, null, "be.2", 5_000, 1, 1_000]);
  crashes.replicasSeen({ at: 7_000, replicas: list("ready", "lost") });
  assert.equal(crashes.all.length, 1);
});

test("a replica that drains, or hands its sessions over, did not crash", () => {
  const crashes = twoReplicas();
  crashes.replicasSeen({ at: 1_000, replicas: list("draining", "ready") });
  crashes.replicasSeen({ at: 2_000, replicas: [{ id: "be.2", state: "ready" }] });
  crashes.sessionLost({ at: 3_000, user: "anna", replica: "be.2", isOrderly: true });
  crashes.replicasSeen({ at: 4_000, replicas: [{ id: "be.3", state: "ready" }] });
  assert.equal(crashes.all.length, 0);
});

test("a request without an answer is the crash that follows it", () => {
  const crashes = twoReplicas();
  const incident = crashes.asked({ at: 1_000, by: By.PERSON, mode: "exit" });
  crashes.replicasSeen({ at: 2_000, replicas: list("ready", "lost") });
  assert.deepEqual([crashes.all.length, incident.victim, incident.seenAfter], [1, "be.2", 1_000]);
});

test("a request without an answer is not the crash of minutes later", () => {
  const crashes = twoReplicas();
  const incident = crashes.asked({ at: 1_000, by: By.CHAOS, mode: "hang" });
  crashes.replicasSeen({ at: 200_000, replicas: list("ready", "lost") });
  assert.deepEqual([incident.victim, crashes.last.victim, crashes.last.by], [null, "be.2", By.SOMEBODY]);
});

test("a replica can crash while it is ready and was not crashed, and for as long as the list is recent", () => {
  const crashes = new Crashes();
  assert.equal(crashes.canCrash(0), false);
  crashes.replicasSeen({ at: 0, replicas: list("ready", "ready", "draining", "lost") });
  const ask = (at, replica) => crashes.asked({ at, by: By.CHAOS, mode: "hang" }).confirmed({ at, replica, mode: "hang" });
  ask(1_000, "be.1");
  assert.equal(crashes.canCrash(2_000), true);
  assert.equal(crashes.canCrash(60_000), false);
  ask(3_000, "be.2");
  assert.equal(crashes.canCrash(4_000), false);
});

test("each new replica replaces one crashed replica, the one that crashed first", () => {
  const crashes = twoReplicas();
  const asked = (at, replica) => {
    const incident = crashes.asked({ at, by: By.CHAOS, mode: "hang" });
    if (replica !== null) incident.confirmed({ at, replica, mode: "hang" });
    return incident;
  };
  const unanswered = asked(0, null);
  const incidents = [asked(0, "be.1"), asked(10_000, "be.2")];
  const replaced = () => incidents.map(({ replacedAfter }) => replacedAfter);
  crashes.replicasSeen({ at: 20_000, replicas: list("lost", "lost", "draining") });
  assert.deepEqual(replaced(), [null, null], "a replica that was known or is not ready replaces none");
  crashes.replicasSeen({ at: 34_000, replicas: list("lost", "lost", "draining", "ready") });
  assert.deepEqual(replaced(), [34_000, null]);
  crashes.replicasSeen({ at: 40_000, replicas: list("lost", "lost", "draining", "ready") });
  crashes.replicasSeen({ at: 44_000, replicas: list("lost", "lost", "draining", "ready", "ready") });
  assert.deepEqual(replaced(), [34_000, 34_000]);
  assert.equal(unanswered.isOver, false);
  crashes.replicasSeen({ at: 50_000, replicas: list("lost", "lost", "draining", "ready", "ready", "ready") });
  assert.equal(unanswered.replacedAfter, 50_000, "a crash whose victim is unknown comes last");
});

test("best, median and worst leave out unknown times", () => {
  assert.equal(spread([null, null]), null);
  assert.deepEqual(spread([700]), { best: 700, median: 700, worst: 700 });
  assert.deepEqual(spread([900, null, 100, 500]), { best: 100, median: 500, worst: 900 });
  assert.deepEqual(spread([100, 200, 400, 1_000]), { best: 100, median: 300, worst: 1_000 });
});

function chaotic({ heals = true } = {}) {
  const timers = new FakeTimers();
  const parts = { timers, outcome: Outcome.CRASHED, incidents: [], left: false, broken: false };
  parts.chaos = new Chaos({
    timers,
    crash: async () => {
      const incident = { victim: parts.outcome === Outcome.CRASHED ? "be.1" : null };
      parts.incidents.push(incident);
      return { outcome: parts.outcome, incident };
    },
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

test("chaos crashes one replica after the other, in its time, until it is switched off", async () => {
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

test("chaos ends when a promise was broken, before it crashes anything more", async () => {
  const parts = chaotic();
  parts.chaos.start(10_000);
  parts.broken = true;
  await parts.passes(10_000);
  assert.deepEqual([parts.incidents.length, parts.chaos.isOn, parts.chaos.ended], [0, false, Ended.LOST]);
});

test("chaos ends when nothing is left to crash; where crashed replicas come back, it waits for them", async () => {
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

test("chaos goes on without an answer while a replica is left, and counts a crash once it is seen", async () => {
  const parts = chaotic({ heals: false });
  parts.outcome = Outcome.UNANSWERED;
  parts.left = true;
  parts.chaos.start(10_000);
  for (let tick = 0; tick <= PATIENCE; tick += 1) await parts.passes(10_000);
  assert.deepEqual([parts.chaos.isOn, parts.chaos.done], [true, 0]);
  parts.incidents[1].victim = "be.2";
  assert.equal(parts.chaos.done, 1);
  parts.left = false;
  await parts.passes(10_000);
  assert.deepEqual([parts.chaos.ended, parts.chaos.done], [Ended.NOBODY, 1]);
});

test("chaos ends when it is refused", async () => {
  const parts = chaotic();
  parts.outcome = Outcome.REFUSED;
  parts.chaos.start(10_000);
  await parts.passes(10_000);
  assert.deepEqual([parts.incidents.length, parts.chaos.ended], [1, Ended.REFUSED]);
});

test("a record holds the run, in times since its start", () => {
  const crashes = twoReplicas();
  crashedAndBack(crashes, { at: 11_000 });
  let timeline = marked(NO_TIMELINE, { at: 10_000, kind: Mark.START });
  const replicas = [{ id: "be.1", state: "ready", sessions: 4 }];
  for (const at of [10_000, 11_000]) timeline = sampled(timeline, { at, successes: at / 100, overloads: 0, replicas });
  const record = recordOf({
    settings: { conversations: 2, rate: 5 },
    startedAt: 10_000,
    recordedAt: new Date("2026-01-02T03:04:05Z"),
    ledger: { acked: 110, lost: 0 },
    overloads: [["overloaded", 7]],
    timeline,
    crashes: crashes.all,
  });
  assert.deepEqual(JSON.parse(JSON.stringify(record)), record);
  assert.equal(record.recorded_at, "2026-01-02T03:04:05.000Z");
  assert.deepEqual(record.overload_errors, { overloaded: 7 });
  const second = { at: 1_000, successes_per_second: 10, overload_errors_per_second: 0, replicas: { "be.1": { state: "ready", sessions: 4 } } };
  assert.deepEqual(record.timeline.samples[1], second);
  assert.deepEqual(record.timeline.marks, [{ at: 0, kind: "start", replica: null, count: 1 }]);
  assert.deepEqual(record.crashes.all[0], {
    at: 1_000, replica: "be.1", mode: "exit", asked_by: "person", seen_after: 900, sessions_lost: 2, sessions_resumed: 2,
    resumed_after: 700, replaced_after: 4_000,
  });
  assert.deepEqual(record.crashes.resumed_after, { best: 700, median: 700, worst: 700 });
});
