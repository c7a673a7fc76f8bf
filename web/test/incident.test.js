import assert from "node:assert/strict";
import test from "node:test";
import { Step, confirmed, figuresOf, incidentOf, replicasSeen, sessionLive, sessionLost, sessionStopped, stepsOf } from "../js/incident.js";

const requested = (at) => incidentOf({ id: 1, at, by: "person", mode: "exit" });

/** An incident after these steps: [function, event]. */
const after = (incident, ...steps) => steps.reduce((before, [change, event]) => change(before, event), incident);

const crashed = (...steps) => after(requested(1_000), [confirmed, { at: 1_010, replica: "be1.1", mode: "exit" }], ...steps);

const loss = (at, user, replica = "be1.1") => [sessionLost, { at, user, replica }];

test("all events are listed in order, with times since the request", () => {
  const early = crashed(loss(1_030, "anna"), loss(1_050, "bruno"), [sessionLive, { at: 1_200, user: "anna" }]);
  assert.equal(figuresOf(early).sessionsResumed, 1);
  const gone = [replicasSeen, { at: 1_900, replicas: [{ id: "be1.1", state: "lost" }] }];
  const later = after(early, gone, [sessionLive, { at: 2_000, user: "bruno" }]);
  assert.deepEqual(stepsOf({ ...later, replacement: { at: 4_000, id: "be1.2" } }), [
    { kind: Step.ASKED, after: 0, mode: "exit" },
    { kind: Step.CONFIRMED, after: 10, replica: "be1.1", mode: "exit" },
    { kind: Step.SESSIONS_LOST, after: 50, count: 2 },
    { kind: Step.REPLICA_LOST, after: 900, replica: "be1.1" },
    { kind: Step.SESSIONS_RESUMED, after: 1_000, count: 2 },
    { kind: Step.REPLICA_BACK, after: 3_000, replica: "be1.2" },
  ]);
});

test("losses of sessions on other replicas do not count", () => {
  const incident = crashed(loss(1_030, "carla", "be2.1"));
  assert.equal(figuresOf(incident).sessionsLost, 0);
  assert.deepEqual(stepsOf(incident).map(({ kind }) => kind), [Step.ASKED, Step.CONFIRMED]);
});

test("all lost sessions count until the victim is known, and then only those of the victim", () => {
  const unknown = after(requested(0), loss(5, "anna"), loss(6, "carla", "be2.1"));
  assert.equal(figuresOf(unknown).sessionsLost, 2);
  assert.equal(figuresOf(confirmed(unknown, { at: 9, replica: "be1.1", mode: "exit" })).sessionsLost, 1);
});

test("a session lost twice counts from its first loss to its first return", () => {
  const returns = [2_000, 3_000].map((at) => [sessionLive, { at, user: "anna" }]);
  const incident = crashed(loss(1_030, "anna"), loss(1_500, "anna"), ...returns);
  assert.deepEqual(stepsOf(incident).slice(2).map((step) => step.after), [30, 1_000]);
});

test("a stopped session no longer counts as lost", () => {
  const incident = crashed(loss(1_030, "anna"), [sessionStopped, { user: "anna" }], [sessionStopped, { user: "nobody" }]);
  assert.equal(figuresOf(incident).sessionsLost, 0);
});

test("after an event that changes nothing, the incident is still the same object", () => {
  const incident = crashed();
  const idle = [loss(1_030, "carla", "be2.1"), [sessionLive, { at: 1_100, user: "anna" }], [sessionStopped, { user: "anna" }]];
  assert.equal(after(incident, ...idle, [replicasSeen, { at: 2_000, replicas: [{ id: "be1.1", state: "ready" }] }]), incident);
});
