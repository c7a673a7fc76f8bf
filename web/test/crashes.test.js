import assert from "node:assert/strict";
import test from "node:test";
import * as Crashes from "../js/crashes.js";
import { By, NO_CRASHES, canCrash, isOpen, lastOf, spread } from "../js/crashes.js";
import { figuresOf } from "../js/incident.js";
import { recordOf } from "../js/record.js";
import { Mark, NO_TIMELINE, marked, sampled } from "../js/timeline.js";

const list = (...states) => states.map((state, index) => ({ id: `be.${index + 1}`, state }));

/** The crashes after these steps: [name of a function, event]. */
const after = (crashes, ...steps) => steps.reduce((before, [name, event]) => Crashes[name](before, event), crashes);

const seen = (at, replicas) => ["replicasSeen", { at, replicas }];
const lost = (at, user, replica, isOrderly = false) => ["sessionLost", { at, user, replica, isOrderly }];
const asked = (at, id, { by = By.PERSON, mode = "exit" } = {}) => ["asked", { id, at, by, mode }];
const confirmed = (at, id, replica, mode = "exit") => ["confirmed", { id, at, replica, mode }];

const TWO = after(NO_CRASHES, seen(0, list("ready", "ready")));

function crashedAndBack(at = 1_000) {
  return after(
    TWO,
    asked(at, 1),
    confirmed(at + 10, 1, "be.1"),
    lost(at + 50, "anna", "be.1"),
    lost(at + 50, "bruno", "be.1"),
    ["sessionLive", { at: at + 700, user: "anna" }],
    ["sessionLive", { at: at + 600, user: "bruno" }],
    seen(at + 900, list("lost", "ready")),
    seen(at + 4_000, list("lost", "ready", "ready")),
  );
}

test("a crash has counts of lost and resumed sessions, and times of detection, resumption and replacement", () => {
  const crashes = crashedAndBack();
  assert.equal(crashes.incidents.length, 1);
  const { by, victim } = lastOf(crashes);
  const { sessionsLost, sessionsResumed, seenAfter, resumedAfter, replacedAfter } = figuresOf(lastOf(crashes));
  assert.deepEqual([by, victim, sessionsLost, sessionsResumed], [By.PERSON, "be.1", 2, 2]);
  assert.deepEqual([seenAfter, resumedAfter, replacedAfter], [900, 700, 4_000]);
  assert.equal(isOpen(crashes, 6_000), false);
});

test("unknown times are null, a crash stays open for a while, and a withdrawn crash is dropped", () => {
  const crashes = after(TWO, asked(1_000, 1, { by: By.CHAOS, mode: "hang" }), lost(1_100, "anna", "be.1"));
  const { seenAfter, resumedAfter, replacedAfter } = figuresOf(lastOf(crashes));
  assert.deepEqual([seenAfter, resumedAfter, replacedAfter], [null, null, null]);
  assert.deepEqual([isOpen(crashes, 2_000), isOpen(crashes, 1_000_000)], [true, false]);
  const none = after(crashes, ["withdrawn", { id: 1 }]);
  assert.deepEqual([none.incidents, lastOf(none)], [[], null]);
});

test("a crash that another client requested is noticed, with the lost sessions", () => {
  const gone = list("ready", "lost");
  const crashes = after(TWO, lost(5_000, "anna", "be.2"), lost(5_100, "bruno", "be.1"), seen(6_000, gone));
  const { by, mode, victim, askedAt } = lastOf(crashes);
  const { sessionsLost, seenAfter } = figuresOf(lastOf(crashes));
  assert.deepEqual([by, mode, victim, askedAt, sessionsLost, seenAfter], [By.SOMEBODY, null, "be.2", 5_000, 1, 1_000]);
  assert.equal(after(crashes, seen(7_000, gone)).incidents.length, 1);
});

test("without lost sessions, a crash counts from the last heartbeat, and a later arrival is the replacement", () => {
  const [one, other] = [ready("be1", 1), ready("be2", 2)];
  const [next, last] = [ready("be1", 3), ready("be1", 4)];
  const dead = { ...one, state: "lost", heartbeat_age_ms: 5_200 };
  const noticed = after(NO_CRASHES, seen(0, [one, other]), seen(3_000, [one, other, next]), seen(6_000, [dead, other, next]));
  const { seenAfter, replacedAfter } = figuresOf(lastOf(noticed));
  assert.deepEqual([replacements(noticed), seenAfter, replacedAfter], [[next.id], 5_200, 2_200]);
  const again = after(noticed, asked(20_000, 1), confirmed(20_010, 1, next.id), seen(22_000, [dead, other, last]));
  assert.deepEqual(replacements(again), [next.id, last.id]);
});

test("a replica that arrived and crashed between two lists still counts as a replacement", () => {
  const [first, second, third] = [ready("be1", 1), ready("be1", 2), ready("be1", 3)];
  const dead = [first, second].map((replica) => ({ ...replica, state: "lost" }));
  const crashes = after(
    NO_CRASHES,
    seen(0, [first]),
    asked(1_000, 1),
    confirmed(1_010, 1, first.id),
    asked(11_000, 2),
    confirmed(11_010, 2, second.id),
    seen(20_000, [...dead, third]),
  );
  assert.deepEqual(replacements(crashes), [second.id, third.id]);
});

test("sessions that were live again before their crash was noticed count as resumed", () => {
  const crashes = after(
    TWO,
    lost(5_000, "anna", "be.2"),
    lost(5_000, "bruno", "be.2"),
    lost(5_000, "carla", "be.2"),
    ["sessionLive", { at: 5_300, user: "anna" }],
    ["sessionLive", { at: 5_400, user: "bruno" }],
    ["sessionStopped", { user: "carla" }],
    seen(10_000, list("ready", "lost")),
  );
  const { sessionsLost, sessionsResumed, resumedAfter } = figuresOf(lastOf(crashes));
  assert.deepEqual([sessionsLost, sessionsResumed, resumedAfter], [2, 2, 400]);
});

test("a session lost in another crash, or minutes later, does not count for an unanswered request", () => {
  const both = after(TWO, asked(1_000, 1), asked(11_000, 2), confirmed(11_010, 2, "be.2"), lost(11_100, "anna", "be.2"));
  assert.deepEqual(both.incidents.map((incident) => figuresOf(incident).sessionsLost), [0, 1]);
  const late = after(both, lost(90_000, "bruno", "be.1"));
  assert.equal(figuresOf(late.incidents[0]).sessionsLost, 0);
});

test("a session counts only for the last crash of its replica", () => {
  const unready = after(TWO, asked(1_000, 1, { mode: "unready" }), confirmed(1_010, 1, "be.1", "unready"));
  const crashes = after(unready, asked(61_000, 2), confirmed(61_010, 2, "be.1"), lost(61_100, "anna", "be.1"));
  assert.deepEqual(crashes.incidents.map((incident) => figuresOf(incident).sessionsLost), [0, 1]);
});

test("two requests that crash one replica in the same mode are one crash, whichever is answered first", () => {
  for (const [first, second] of [[1, 2], [2, 1]]) {
    const crashes = after(
      TWO,
      asked(1_000, 1),
      lost(1_050, "anna", "be.1"),
      asked(1_100, 2),
      confirmed(1_200, first, "be.1"),
      lost(1_250, "bruno", "be.1"),
      confirmed(1_300, second, "be.1"),
      lost(1_350, "carla", "be.1"),
      seen(6_000, list("lost", "ready", "ready")),
    );
    const told = crashes.incidents.map((incident) => [incident.askedAt, figuresOf(incident).sessionsLost]);
    assert.deepEqual([told, isOpen(crashes, 7_000)], [[[1_000, 3]], false], `with the answer to request ${first} first`);
  }
});

test("a second request for an unready replica, minutes later, keeps the lost sessions of the first", () => {
  const crashes = after(
    TWO,
    asked(1_000, 1, { mode: "unready" }),
    confirmed(1_010, 1, "be.1", "unready"),
    lost(1_050, "anna", "be.1"),
    ["sessionLive", { at: 1_200, user: "anna" }],
    lost(100_000, "bruno", "be.1"),
    asked(100_100, 2, { mode: "unready" }),
    confirmed(100_110, 2, "be.1", "unready"),
  );
  assert.deepEqual(crashes.incidents.map((incident) => figuresOf(incident).sessionsLost), [2]);
});

test("a session that was never welcomed is not lost", () => {
  assert.equal(figuresOf(lastOf(after(TWO, asked(1_000, 1), lost(1_100, "anna", null)))).sessionsLost, 0);
});

test("a session that two crashes hit in turn counts for both, even before the first is confirmed", () => {
  const crashes = after(
    TWO,
    asked(1_000, 1),
    asked(1_000, 2),
    lost(1_050, "anna", "be.1"),
    ["sessionLive", { at: 1_060, user: "anna" }],
    lost(1_070, "anna", "be.2"),
    ["sessionLive", { at: 1_200, user: "anna" }],
    confirmed(1_300, 1, "be.1"),
    confirmed(1_300, 2, "be.2"),
  );
  assert.deepEqual(crashes.incidents.map((incident) => figuresOf(incident).resumedAfter), [60, 200]);
});

test("a replica that drains, or hands over its sessions, does not count as crashed", () => {
  const crashes = after(
    TWO,
    seen(1_000, list("draining", "ready")),
    seen(2_000, [{ id: "be.2", state: "ready" }]),
    lost(3_000, "anna", "be.2", true),
    seen(4_000, [{ id: "be.3", state: "ready" }]),
  );
  assert.equal(crashes.incidents.length, 0);
});

test("a replica that left between two lists did not crash, but a sole replica that was replaced did", () => {
  const crashes = after(TWO, seen(4_000, [{ id: "be.2", state: "ready" }, { id: "be.3", state: "ready" }]));
  assert.equal(crashes.incidents.length, 0);
  const single = after(NO_CRASHES, seen(0, list("ready")), seen(4_000, [{ id: "be.2", state: "ready" }]));
  assert.deepEqual(single.incidents.map(({ victim }) => victim), ["be.1"]);
});

test("a session that stays lost for minutes counts as lost at the time of the crash", () => {
  const gone = list("ready", "lost");
  const away = after(TWO, lost(5_000, "anna", "be.2"), lost(90_000, "anna", "be.2"), seen(95_000, gone));
  assert.deepEqual([lastOf(away).askedAt, figuresOf(lastOf(away)).sessionsLost], [5_000, 1]);
});

test("an unanswered request is linked to the crash that follows it", () => {
  const crashes = after(TWO, asked(1_000, 1), seen(2_000, list("ready", "lost")));
  assert.deepEqual([crashes.incidents.length, lastOf(crashes).victim, figuresOf(lastOf(crashes)).seenAfter], [1, "be.2", 1_000]);
});

test("a crash that was linked to a request remains if the answer names another replica, or refuses the request", () => {
  const [one, two, third] = [ready("be1", 1), ready("be2", 2), ready("be1", 3)];
  const dead = { ...one, state: "lost", heartbeat_age_ms: 1_500 };
  const linked = after(
    NO_CRASHES,
    seen(0, [one, two]),
    asked(1_000, 1),
    lost(1_100, "anna", two.id),
    seen(2_000, [dead, two]),
    lost(2_100, "bruno", two.id),
    seen(2_200, [{ ...dead, heartbeat_age_ms: 1_700 }, two, third]),
  );
  assert.equal(lastOf(linked).victim, one.id);
  const told = (crashes) =>
    crashes.incidents.map(({ by, mode, victim, askedAt, lostAt }) => [by, mode, victim, askedAt, lostAt]);
  const noticed = [By.SOMEBODY, null, one.id, 500, 2_000];
  const named = after(linked, confirmed(2_500, 1, two.id));
  assert.deepEqual(told(named), [[By.PERSON, "exit", two.id, 1_000, null], noticed]);
  assert.deepEqual(named.incidents.map((incident) => figuresOf(incident).sessionsLost), [2, 0]);
  assert.deepEqual(replacements(named), [null, third.id]);
  const refused = after(linked, ["withdrawn", { id: 1 }]);
  assert.deepEqual([told(refused), replacements(refused)], [[noticed], [third.id]]);
});

test("a crash whose request was answered with another replica is linked to the next request of that time", () => {
  const pending = after(TWO, asked(1_000, 1), asked(1_100, 2), seen(2_000, list("lost", "ready")), asked(2_100, 3));
  const named = after(pending, confirmed(2_500, 1, "be.2"));
  assert.deepEqual(named.incidents.map(({ victim, lostAt }) => [victim, lostAt]), [["be.2", null], ["be.1", 2_000], [null, null]]);
  const refused = after(named, ["withdrawn", { id: 2 }]);
  const rest = [["be.2", By.PERSON], [null, By.PERSON], ["be.1", By.SOMEBODY]];
  assert.deepEqual(refused.incidents.map(({ victim, by }) => [victim, by]), rest, "a crash was linked to a later request");
});

test("a request that reached no replica does not hide the crash before it, and is dropped after a minute", () => {
  const ready = list("ready", "ready");
  const both = after(crashedAndBack(), asked(6_000, 2));
  assert.equal(lastOf(both).id, 1);
  assert.equal(lastOf(after(both, lost(6_100, "anna", "be.2"))).id, 2, "a request with a loss was not the last");
  const soon = after(both, seen(60_000, ready));
  assert.equal(soon.incidents.length, 2, "a request whose victim may still be found was dropped");
  assert.deepEqual(after(soon, seen(67_000, ready)).incidents.map(({ id }) => id), [1]);
  const none = after(TWO, asked(6_000, 1), seen(67_000, ready));
  assert.deepEqual([none.incidents, isOpen(none, 67_000)], [[], false]);
});

test("an unanswered request is linked to its crash even if the next list arrives more than a minute later", () => {
  const steps = [asked(1_000, 1), lost(1_100, "anna", "be.1"), lost(1_100, "bruno", "be.1")];
  const single = after(NO_CRASHES, seen(0, list("ready")), ...steps);
  const tell = ({ by, victim, askedAt, losses }) => [by, victim, askedAt, losses.length];
  const told = ({ incidents }) => incidents.map(tell);
  const crash = [By.PERSON, "be.1", 1_000, 2];
  const back = seen(76_000, [{ id: "be.2", state: "ready" }]);
  assert.deepEqual(told(after(single, back)), [crash]);
  const again = told(after(single, asked(70_000, 2), back));
  assert.deepEqual(again, [crash, [By.PERSON, null, 70_000, 0]], "the crash was linked to the later request");
  const pair = after(TWO, asked(1_000, 1), lost(1_100, "anna", "be.1"));
  const other = after(pair, seen(76_000, list("ready", "lost")));
  assert.deepEqual(told(other), [[By.SOMEBODY, "be.2", 76_000, 0]], "the crash of be.2 was linked to the request");
});

test("a request of a forgotten run is not linked to a crash minutes later, even if its sessions were lost", () => {
  const away = after(TWO, asked(1_000, 1), lost(1_100, "anna", "be.1"));
  const resumed = after(away, ["sessionLive", { at: 1_500, user: "anna" }]);
  const forgotten = after(resumed, ["forgotten", { at: 2_000 }], seen(70_000, list("ready", "ready")));
  const next = after(forgotten, seen(90_000, list("lost", "ready")));
  assert.deepEqual(next.incidents.map(({ by }) => by), [By.SOMEBODY]);
});

test("a request is dropped by the first list after a minute that shows no crash, even if sessions were lost", () => {
  const offline = after(TWO, asked(1_000, 1), lost(1_100, "anna", "be.1"));
  for (const crashes of [offline, after(TWO, asked(1_000, 1))]) {
    assert.deepEqual(after(crashes, seen(76_000, list("ready", "ready"))).incidents, []);
  }
  const refused = after(offline, ["withdrawn", { id: 1 }], seen(76_000, list("lost", "ready")));
  assert.deepEqual(refused.incidents.map(({ by, victim }) => [by, victim]), [[By.SOMEBODY, "be.1"]]);
});

test("an unanswered request is not linked to a crash minutes later", () => {
  const crashes = after(TWO, asked(1_000, 1, { by: By.CHAOS, mode: "hang" }), seen(200_000, list("ready", "lost")));
  assert.deepEqual(crashes.incidents.map(({ victim, by }) => [victim, by]), [["be.2", By.SOMEBODY]]);
});

test("a replica can crash if it is ready, has not crashed, and is on a recent list", () => {
  assert.equal(canCrash(NO_CRASHES, 0), false);
  const listed = after(NO_CRASHES, seen(0, list("ready", "ready", "draining", "lost")));
  const one = after(listed, asked(1_000, 1), confirmed(1_000, 1, "be.1"));
  assert.deepEqual([canCrash(one, 2_000), canCrash(one, 60_000)], [true, false]);
  assert.equal(canCrash(after(one, asked(3_000, 2), confirmed(3_000, 2, "be.2")), 4_000), false);
});

const replacements = ({ incidents }) => incidents.map(({ replacement }) => replacement?.id ?? null);

test("without a name or a host, a new replica replaces the replica that crashed first", () => {
  const early = after(TWO, asked(0, 1), asked(0, 2), confirmed(0, 2, "be.1"), asked(10_000, 3), confirmed(10_000, 3, "be.2"));
  const gone = after(early, seen(20_000, list("lost", "lost", "draining")));
  assert.deepEqual(replacements(gone), [null, null, null], "a replica that was not ready replaced a crashed one");
  const one = after(gone, seen(34_000, list("lost", "lost", "draining", "ready")), seen(40_000, list("lost", "lost", "draining", "ready")));
  assert.deepEqual(replacements(one), [null, "be.4", null]);
  const two = after(one, seen(44_000, list("lost", "lost", "draining", "ready", "ready")));
  assert.deepEqual(replacements(two), [null, "be.4", "be.5"]);
  const three = after(two, seen(50_000, list("lost", "lost", "draining", "ready", "ready", "ready")));
  assert.deepEqual(replacements(three), ["be.6", "be.4", "be.5"], "a crash whose victim is unknown did not come last");
});

/** Three replicas with these names. The first two have crashed, in this order. */
function twoCrashed(names) {
  const replicas = names.map((name, index) => ({ id: `${name}.${index + 1}`, name, host: name, state: "ready" }));
  const [first, second, third] = replicas;
  const dead = [first, second].map((replica) => ({ ...replica, state: "lost" }));
  const crashes = after(
    NO_CRASHES,
    seen(0, replicas),
    asked(1_000, 1),
    confirmed(1_000, 1, first.id),
    asked(2_000, 2),
    confirmed(2_000, 2, second.id),
    seen(7_000, [...dead, third]),
  );
  return { crashes, listed: [...dead, third] };
}

const ready = (name, number, host = name) => ({ id: `${name}.${number}`, name, host, state: "ready" });

test("a replica that returns under its name replaces its predecessor, whatever the order of returns", () => {
  const platforms = {
    compose: ["3f2a81c07b1e", "9c04d2e6aa57", "e1770b35f4d8"],
    swarm: ["smilingchat_backend.1", "smilingchat_backend.2", "smilingchat_backend.3"],
    kubernetes: ["backend-6d5f7c9b8-x2x7k", "backend-6d5f7c9b8-lq9wz", "backend-6d5f7c9b8-p4hd2"],
  };
  for (const [platform, names] of Object.entries(platforms)) {
    const { crashes, listed } = twoCrashed(names);
    const [first, second] = [ready(names[0], 5), ready(names[1], 4)];
    const one = after(crashes, seen(9_000, [...listed, second]));
    assert.deepEqual(replacements(one), [null, second.id], `a name on ${platform} did not identify the replacement`);
    assert.deepEqual(
      replacements(after(one, seen(10_000, [...listed, second, first]))),
      [first.id, second.id],
      `a later return on ${platform} changed the replacements or found none`,
    );
  }
});

test("the later return of a replica under its own name corrects the guess about a new pod", () => {
  const { crashes, listed } = twoCrashed(["pod-a", "pod-b", "pod-c"]);
  const [fresh, again] = [ready("pod-d", 4), ready("pod-a", 5)];
  const guessed = after(crashes, seen(9_000, [...listed, fresh]));
  assert.deepEqual(replacements(guessed), [fresh.id, null]);
  const corrected = after(guessed, seen(30_000, [...listed, fresh, again]));
  assert.deepEqual(replacements(corrected), [again.id, fresh.id]);
  assert.deepEqual(corrected.incidents.map((incident) => figuresOf(incident).replacedAfter), [29_000, 7_000]);
});

test("a replica that replaces a drained one replaces no crashed one", () => {
  const { crashes, listed } = twoCrashed(["slot.1", "slot.2", "slot.3"]);
  const drained = listed.map((replica) => (replica.name === "slot.3" ? { ...replica, state: "draining" } : replica));
  const updated = after(crashes, seen(8_000, drained), seen(9_000, [...drained, ready("slot.3", 4)]));
  assert.deepEqual(replacements(updated), [null, null]);
});

test("if all replicas share a name, the host identifies the replacement, and on one host the order does", () => {
  const named = (number, host, state = "ready") => ({ id: `chat.${number}`, name: "chat", host, state });
  const crashed = (...hosts) => {
    const before = after(NO_CRASHES, seen(0, hosts.map((host, index) => named(index + 1, host))));
    const both = after(before, asked(1_000, 1), confirmed(1_000, 1, "chat.1"), asked(2_000, 2), confirmed(2_000, 2, "chat.2"));
    const dead = hosts.map((host, index) => named(index + 1, host, "lost"));
    return after(both, seen(7_000, dead), seen(9_000, [...dead, named(3, hosts[1])]));
  };
  assert.deepEqual(replacements(crashed("one", "two")), [null, "chat.3"]);
  assert.deepEqual(replacements(crashed("one", "one")), ["chat.3", null]);
});

test("a frozen replica that is ready again replaces itself, and one that crashes again is replaced again", () => {
  const [one, two] = [ready("be1", 1), ready("be2", 2)];
  const frozen = after(NO_CRASHES, seen(0, [one, two]), seen(5_000, [{ ...one, state: "lost" }, two]), seen(9_000, [one, two]));
  assert.deepEqual(replacements(frozen), ["be1.1"]);
  const unnamed = after(TWO, seen(5_000, list("lost", "ready")), seen(9_000, list("ready", "ready")));
  assert.deepEqual(replacements(unnamed), ["be.1"]);
  assert.equal(
    canCrash(after(unnamed, asked(9_500, 1), confirmed(9_500, 1, "be.2")), 9_600),
    true,
    "be.1 could not crash again",
  );
  const next = ready("be1", 3);
  const again = after(frozen, asked(20_000, 1), confirmed(20_000, 1, "be1.1"), seen(26_000, [{ ...one, state: "lost" }, two, next]));
  const last = after(again, asked(30_000, 2), confirmed(30_000, 2, "be1.3"), seen(36_000, [{ ...next, state: "lost" }, two, ready("be1", 4)]));
  assert.deepEqual(replacements(last), ["be1.1", "be1.3", "be1.4"]);
});

test("best, median and worst leave out unknown times", () => {
  assert.equal(spread([null, null]), null);
  assert.deepEqual(spread([700]), { best: 700, median: 700, worst: 700 });
  assert.deepEqual(spread([900, null, 100, 500]), { best: 100, median: 500, worst: 900 });
  assert.deepEqual(spread([100, 200, 400, 1_000]), { best: 100, median: 300, worst: 1_000 });
});

test("the times in a record count from the start of the run", () => {
  const crashes = crashedAndBack(11_000);
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
    crashes,
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
