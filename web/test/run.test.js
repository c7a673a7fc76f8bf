import assert from "node:assert/strict";
import test from "node:test";
import { By, canCrash, lastOf } from "../js/crashes.js";
import * as Run from "../js/run.js";
import { Mark } from "../js/timeline.js";

const TWO = ["be1.1", "be2.1"].map((id) => ({ id, state: "ready" }));
const ONE_LOST = [{ id: "be1.1", state: "lost" }, TWO[1]];

/** The run after these steps: [name of a function, event]. */
const after = (run, ...steps) => steps.reduce((before, [name, event]) => Run[name](before, event), run);

const marks = ({ timeline }) => timeline.marks.map(({ at, kind, replica }) => [at, kind, replica]);

const begun = after(Run.NO_RUN, ["replicasSeen", { at: 0, replicas: TWO }], ["started", { at: 1_000 }]);

test("a run has marks for its start, its crash requests, its lost and new replicas, and its stop", () => {
  const run = after(
    begun,
    ["crashAsked", { at: 2_000, id: 1, by: By.PERSON, mode: "exit" }],
    ["crashConfirmed", { at: 2_010, id: 1, replica: "be1.1", mode: "exit" }],
    ["replicasSeen", { at: 7_000, replicas: ONE_LOST }],
    ["replicasSeen", { at: 9_000, replicas: [...ONE_LOST, { id: "be1.2", state: "ready" }] }],
    ["stopped", { at: 12_000 }],
  );
  assert.deepEqual(marks(run), [
    [1_000, Mark.START, null],
    [2_000, Mark.ASKED, "be1.1"],
    [7_000, Mark.LOST, "be1.1"],
    [9_000, Mark.BACK, "be1.2"],
    [12_000, Mark.STOP, null],
  ]);
  assert.deepEqual([run.startedAt, Run.victimOf(run, 1), lastOf(run.crashes).replacement.id], [1_000, "be1.1", "be1.2"]);
});

test("a crash request is marked at its time once its victim is known, even unanswered; a refused one is not", () => {
  const asked = after(begun, ["crashAsked", { at: 2_000, id: 1, by: By.PERSON, mode: "hang" }]);
  assert.deepEqual([marks(asked).length, Run.victimOf(asked, 1)], [1, null]);
  const found = after(asked, ["replicasSeen", { at: 4_000, replicas: ONE_LOST }]);
  const both = [[4_000, Mark.LOST, "be1.1"], [2_000, Mark.ASKED, "be1.1"]];
  assert.deepEqual(marks(found).slice(1), both);
  const answer = ["crashConfirmed", { at: 5_000, id: 1, replica: "be1.1", mode: "hang" }];
  assert.deepEqual(marks(after(found, answer, ["replicasSeen", { at: 6_000, replicas: ONE_LOST }])).slice(1), both);
  const refused = after(asked, ["crashRefused", { at: 5_000, id: 1 }]);
  assert.deepEqual([marks(refused).length, refused.crashes.incidents.length], [1, 0]);
});

test("if the answer names another replica than the lost one, the mark of the request moves to that replica", () => {
  const request = ["crashAsked", { at: 2_000, id: 1, by: By.PERSON, mode: "exit" }];
  const found = after(begun, request, ["replicasSeen", { at: 4_000, replicas: ONE_LOST }]);
  const named = after(found, ["crashConfirmed", { at: 5_000, id: 1, replica: "be2.1", mode: "exit" }]);
  assert.deepEqual(marks(named).slice(1), [[4_000, Mark.LOST, "be1.1"], [2_000, Mark.ASKED, "be2.1"]]);
  const refused = after(found, ["crashRefused", { at: 5_000, id: 1 }]);
  assert.deepEqual(marks(refused).slice(1), [[4_000, Mark.LOST, "be1.1"]]);
});

test("an announced end of a session is a handover; any other end counts for the crash unless the session stops", () => {
  const loss = (at, user, isOrderly) => ["sessionLost", { at, user, replica: "be1.1", isOrderly }];
  const handed = after(begun, loss(2_000, "anna", true));
  assert.deepEqual(marks(handed).slice(1), [[2_000, Mark.HANDED_OVER, "be1.1"]]);
  const crashed = after(
    begun,
    ["crashAsked", { at: 2_000, id: 1, by: By.CHAOS, mode: "exit" }],
    loss(2_100, "anna", false),
    loss(2_200, "bruno", false),
    ["sessionLive", { at: 2_500, user: "anna" }],
    ["sessionStopped", { at: 2_600, user: "bruno" }],
  );
  assert.deepEqual(marks(crashed).length, 1);
  assert.deepEqual(lastOf(crashed.crashes).losses.map(({ user, resumedAt }) => [user, resumedAt]), [["anna", 2_500]]);
});

test("the work for an event grows with the number of crashes, not with its square", () => {
  const count = 2_000;
  let reads = 0;
  const counted = (_, number) => ({
    get id() {
      reads += 1;
      return number;
    },
    by: By.CHAOS, mode: "exit", victim: `be2.${number}`, askedAt: 0, confirmedAt: 0, losses: [], lostAt: 0,
    replacement: { id: "be2.0" },
  });
  const many = { ...begun, crashes: { ...begun.crashes, incidents: Array.from({ length: count }, counted) } };
  const asked = after(many, ["crashAsked", { at: 1_500, id: count, by: By.CHAOS, mode: "exit" }]);
  const events = [
    ["crashConfirmed", { at: 1_510, id: count, replica: "be1.1", mode: "exit" }],
    ["sessionLost", { at: 1_600, user: "anna", replica: "be1.1", isOrderly: false }],
    ["sessionLive", { at: 1_700, user: "anna" }],
    ["replicasSeen", { at: 2_000, replicas: TWO }],
    ["replicasSeen", { at: 7_000, replicas: ONE_LOST }],
  ];
  events.reduce((run, [name, event]) => {
    reads = 0;
    const next = after(run, [name, event]);
    assert.ok(reads <= 10 * count, `${name} read ${reads} ids of ${count} crashes`);
    return next;
  }, asked);
});

test("a forgotten run keeps only the replicas and the age of their list, so none of them counts as new", () => {
  const sample = { at: 3_000, successes: 5, overloads: 0, replicas: [] };
  const run = after(begun, ["sampled", sample], ["crashAsked", { at: 4_000, id: 1, by: By.PERSON, mode: "exit" }]);
  const next = after(run, ["forgotten", { at: 5_000 }], ["replicasSeen", { at: 6_000, replicas: TWO }]);
  assert.deepEqual([marks(next), next.timeline.samples, next.crashes.incidents, next.startedAt], [[], [], [], 0]);
  const waiting = after(run, ["forgotten", { at: 5_000 }]);
  assert.deepEqual([canCrash(waiting.crashes, 14_999), canCrash(waiting.crashes, 15_000)], [true, false]);
  const lost = after(run, ["forgotten", { at: 5_000 }], ["replicasSeen", { at: 6_000, replicas: ONE_LOST }]);
  assert.deepEqual([marks(lost), lastOf(lost.crashes).victim], [[[6_000, Mark.LOST, "be1.1"]], "be1.1"]);
  assert.notEqual(lastOf(lost.crashes).by, By.SOMEBODY);
});

test("a crash whose run was forgotten before it was noticed keeps its requester, its mode and its time", () => {
  const forgotten = (at) => ["forgotten", { at }];
  const asked = (id, mode) => ["crashAsked", { at: 4_000, id, by: By.PERSON, mode }];
  const answered = (at, id, replica, mode) => ["crashConfirmed", { at, id, replica, mode }];
  const seen = (at) => ["replicasSeen", { at, replicas: ONE_LOST }];
  const told = ({ crashes: { incidents } }) =>
    incidents.map(({ by, mode, victim, askedAt, lostAt }) => [by, mode, victim, askedAt, lostAt]);
  const own = [By.PERSON, "hang", "be1.1", 4_000, 9_000];
  const twice = [forgotten(5_000), forgotten(5_100)];
  const lost = ["sessionLost", { at: 8_000, user: "anna", replica: "be1.1", isOrderly: false }];
  const both = after(begun, asked(1, "exit"), asked(2, "hang"));
  const run = after(both, answered(4_010, 2, "be1.1", "hang"), ...twice, lost, seen(9_000));
  assert.deepEqual(told(run), [own]);
  assert.deepEqual(lastOf(run.crashes).losses.map(({ user }) => user), ["anna"]);
  const late = after(both, ...twice, answered(5_200, 2, "be1.1", "hang"), seen(9_000));
  assert.deepEqual(told(late), [own], "an answer after the start of the next run did not count");
  const somebodys = [By.SOMEBODY, null, "be1.1", 9_000, 9_000];
  const refused = after(begun, asked(2, "hang"), ...twice, ["crashRefused", { at: 5_200, id: 2 }], seen(9_000));
  assert.deepEqual(told(refused), [somebodys]);
  const other = after(begun, asked(2, "hang"), ...twice, answered(5_200, 2, "be2.1", "hang"), seen(9_000));
  assert.deepEqual(told(other), [somebodys]);
  const old = after(begun, asked(2, "hang"), answered(4_010, 2, "be1.1", "hang"), ...twice, seen(70_000));
  assert.deepEqual(told(old), [[By.SOMEBODY, null, "be1.1", 70_000, 70_000]]);
});

test("a replica made unready just before a reset is a crash of the new run", () => {
  const asked = ["crashAsked", { at: 4_000, id: 1, by: By.PERSON, mode: "unready" }];
  const answered = ["crashConfirmed", { at: 4_010, id: 1, replica: "be1.1", mode: "unready" }];
  const draining = ONE_LOST.map((replica) => (replica.id === "be1.1" ? { ...replica, state: "draining" } : replica));
  const run = after(begun, asked, answered, ["forgotten", { at: 4_100 }], ["replicasSeen", { at: 4_200, replicas: draining }]);
  assert.deepEqual(run.crashes.incidents.map(({ by, mode, victim }) => [by, mode, victim]), [[By.PERSON, "unready", "be1.1"]]);
});
