import assert from "node:assert/strict";
import test from "node:test";
import { Incident, Step } from "../js/incident.js";

function crashed() {
  const incident = new Incident({ at: 1_000, by: "person", mode: "exit" });
  incident.confirmed({ at: 1_010, replica: "be1.1", mode: "exit" });
  return incident;
}

const kinds = (incident) => incident.steps.map((step) => step.kind);

test("all events are listed in order, with times since the request", () => {
  const incident = crashed();
  incident.sessionLost({ at: 1_030, user: "anna", replica: "be1.1" });
  incident.sessionLost({ at: 1_050, user: "bruno", replica: "be1.1" });
  incident.sessionLive({ at: 1_200, user: "anna" });
  assert.equal(incident.sessionsResumed, 1);
  incident.replicasSeen({ at: 1_900, replicas: [{ id: "be1.1", state: "lost" }] });
  incident.sessionLive({ at: 2_000, user: "bruno" });
  assert.equal(incident.isOver, false);
  incident.replaced({ at: 4_000, replica: "be1.2" });
  assert.equal(incident.isOver, true);
  assert.deepEqual(incident.steps, [
    { kind: Step.ASKED, after: 0, mode: "exit" },
    { kind: Step.CONFIRMED, after: 10, replica: "be1.1", mode: "exit" },
    { kind: Step.SESSIONS_LOST, after: 50, count: 2 },
    { kind: Step.REPLICA_LOST, after: 900, replica: "be1.1" },
    { kind: Step.SESSIONS_RESUMED, after: 1_000, count: 2 },
    { kind: Step.REPLICA_BACK, after: 3_000, replica: "be1.2" },
  ]);
});

test("losses of sessions on other replicas do not count", () => {
  const incident = crashed();
  incident.sessionLost({ at: 1_030, user: "carla", replica: "be2.1" });
  assert.equal(incident.sessionsLost, 0);
  assert.deepEqual(kinds(incident), [Step.ASKED, Step.CONFIRMED]);
});

test("losses that come before the answer are counted once the victim is known", () => {
  const incident = new Incident({ at: 0, by: "person", mode: "exit" });
  incident.sessionLost({ at: 5, user: "anna", replica: "be1.1" });
  incident.sessionLost({ at: 6, user: "carla", replica: "be2.1" });
  assert.equal(incident.sessionsLost, 2);
  incident.confirmed({ at: 9, replica: "be1.1", mode: "exit" });
  assert.equal(incident.sessionsLost, 1);
});

test("a session lost twice counts from its first loss to its first return", () => {
  const incident = crashed();
  incident.sessionLost({ at: 1_030, user: "anna", replica: "be1.1" });
  incident.sessionLost({ at: 1_500, user: "anna", replica: "be1.1" });
  incident.sessionLive({ at: 2_000, user: "anna" });
  incident.sessionLive({ at: 3_000, user: "anna" });
  assert.deepEqual(incident.steps.slice(2).map((step) => step.after), [30, 1_000]);
});

test("a session that is stopped is no longer waited for", () => {
  const incident = crashed();
  incident.sessionLost({ at: 1_030, user: "anna", replica: "be1.1" });
  incident.sessionStopped("anna");
  incident.sessionStopped("nobody");
  assert.equal(incident.sessionsLost, 0);
});
