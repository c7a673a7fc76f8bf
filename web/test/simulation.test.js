import assert from "node:assert/strict";
import test from "node:test";
import { Client } from "../js/client/client.js";
import { DialQueue } from "../js/client/dial-queue.js";
import { socketUrl } from "../js/client/protocol.js";
import { LINES_KEPT } from "../js/conversation.js";
import { UNSETTLED_LIMIT } from "../js/client/outbox.js";
import { seatId } from "../js/join/seat.js";
import { Simulation } from "../js/simulation.js";
import { FakeBackend, FakeTimers, seededRandom } from "./support.js";

const PEOPLE = Array.from({ length: 60 }, (_, index) => ({ name: `user${index}`, face: "🙂" }));

function setUp({ seed = 1, replicas = 1, capacity = 100 } = {}) {
  const timers = new FakeTimers();
  const random = seededRandom(seed);
  const backend = new FakeBackend({ timers, random, replicas, capacity });
  let lastId = 0;
  const environment = {
    timers,
    random,
    dialQueue: new DialQueue(),
    nextId: () => `page-${(lastId += 1)}`,
    urlFor: (user, resume) => socketUrl("http://h/", user, resume),
    openSocket: (url) => backend.openSocket(url),
  };
  const simulation = new Simulation({ environment, onChange: () => {}, onList: () => {}, onSession: () => {} });
  simulation.people = PEOPLE;
  const allLive = () => simulation.users.every((user) => user.isLive);
  return { timers, backend, simulation, allLive };
}

function assertProven({ lost, duplicated, reordered, unverified, sent, acked, delivered, inFlight }) {
  assert.deepEqual({ lost, duplicated, reordered, unverified }, { lost: 0, duplicated: 0, reordered: 0, unverified: 0 });
  assert.ok(sent - Math.min(acked, delivered) <= inFlight, "a smile was neither in flight nor acked and delivered");
}

/** The sockets that the backend opens from now on, in order. */
function socketsOf(backend) {
  const sockets = [];
  const openSocket = backend.openSocket.bind(backend);
  backend.openSocket = (url) => sockets[sockets.push(openSocket(url)) - 1];
  return sockets;
}

test("the users of a conversation alternate at five smiles a second", () => {
  const { simulation, timers, allLive } = setUp();
  simulation.run(1);
  timers.advanceUntil(allLive);
  const before = simulation.ledger.totals.acked;
  timers.advance(10_000);
  assert.ok(Math.abs(simulation.ledger.totals.acked - before - 50) <= 1);
  const { lines } = simulation.conversations[0];
  assert.equal(lines.length, LINES_KEPT);
  lines.slice(1).forEach((line, at) => assert.notEqual(line.from, lines[at].from));
  assertProven(simulation.ledger.totals);
});

test("a refused history request does not count as an overload error", () => {
  const { simulation, timers, backend, allLive } = setUp();
  const sockets = socketsOf(backend);
  simulation.run(1);
  timers.advanceUntil(allLive);
  sockets[0].tell({ type: "error", code: "rate_limited", message: "", temporary: true, retry_after_ms: 50 });
  assert.equal(simulation.counters.overloadErrors, 0);
});

test("eighteen conversations run on one replica without any overload error", () => {
  const { simulation, timers } = setUp();
  simulation.run(18);
  timers.advance(30_000);
  assert.equal(simulation.counters.overloadErrors, 0);
  assert.ok(simulation.ledger.totals.acked > 18 * 5 * 29);
  assertProven(simulation.ledger.totals);
});

test("twenty-one conversations overload one replica, which still admits smiles at nearly its capacity", () => {
  const { simulation, timers } = setUp();
  simulation.run(21);
  timers.advance(20_000);
  assert.ok(simulation.counters.overloadErrors > 20);
  assert.ok(simulation.ledger.totals.acked > 100 * 18);
  assertProven(simulation.ledger.totals);
});

test("thirty conversations on one replica cause overload errors, and the retries stay bounded", () => {
  const { simulation, timers } = setUp();
  simulation.run(30);
  timers.advance(10_000);
  const before = simulation.counters.overloadErrors;
  timers.advance(10_000);
  const perSecond = (simulation.counters.overloadErrors - before) / 10;
  assert.ok(perSecond > 20 && perSecond < 250, `${perSecond} overload errors per second`);
  assert.ok(simulation.ledger.totals.inFlight <= 60 * UNSETTLED_LIMIT + 10);
  assertProven(simulation.ledger.totals);
});

test("thirty conversations on four replicas cause no overload errors", () => {
  const { simulation, timers } = setUp({ replicas: 4 });
  simulation.run(30);
  timers.advance(20_000);
  assert.equal(simulation.counters.overloadErrors, 0);
  assertProven(simulation.ledger.totals);
});

test("every acked smile is delivered once and in order through several crashes", () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const { simulation, timers, backend, allLive } = setUp({ seed, replicas: 3 });
    simulation.run(12);
    timers.advanceUntil(allLive);
    for (let crash = 0; crash < 6; crash += 1) {
      timers.advance(700 + crash * 311);
      backend.crash();
    }
    timers.advanceUntil(allLive);
    const acked = simulation.ledger.totals.acked;
    timers.advanceUntil(() => simulation.ledger.totals.acked > acked + 60);
    assert.ok(simulation.users.some((user) => user.session.reconnects > 0));
    assertProven(simulation.ledger.totals);
    assert.ok(backend.stored >= simulation.ledger.totals.acked);
  }
});

test("eighteen conversations resume without overload errors after the only replica crashes", () => {
  const { simulation, timers, backend, allLive } = setUp();
  simulation.run(18);
  timers.advance(10_000);
  backend.crash(2_000);
  timers.advance(100);
  assert.ok(simulation.users.every((user) => !user.isLive));
  timers.advance(2_000);
  simulation.hurry();
  timers.advanceUntil(allLive, 3_000);
  timers.advance(5_000);
  assert.equal(simulation.counters.overloadErrors, 0);
  assertProven(simulation.ledger.totals);
});

test("the smiles that a backend loses are counted as lost", () => {
  const { simulation, timers, backend } = setUp();
  let lost = 0;
  backend.loses = (smile) => smile.offset % 50 === 0 && (lost += 1) > 0;
  simulation.run(5);
  timers.advance(20_000);
  assert.ok(lost >= 5);
  assert.ok(simulation.ledger.totals.lost >= lost - 1 && simulation.ledger.totals.lost <= lost);
});

test("smiles of a replaced log do not count as lost, duplicated or reordered", () => {
  const { simulation, timers, backend, allLive } = setUp({ capacity: 1_000 });
  simulation.run(10);
  timers.advance(5_003);
  backend.replaceLog();
  timers.advanceUntil(() => simulation.counters.unvouched === 20);
  timers.advanceUntil(allLive);
  timers.advance(3_000);
  const { lost, duplicated, reordered } = simulation.ledger.totals;
  assert.deepEqual({ lost, duplicated, reordered }, { lost: 0, duplicated: 0, reordered: 0 });
});

test("stop closes every session, keeps the numbers and leaves no timer pending", () => {
  const { simulation, timers, backend, allLive } = setUp();
  simulation.run(30);
  timers.advanceUntil(allLive);
  timers.advance(3_000);
  simulation.stop();
  const { acked } = simulation.ledger.totals;
  const errors = simulation.counters.overloadErrors;
  timers.advance(1_000);
  assert.equal(backend.openSockets, 0);
  assert.equal(simulation.isRunning, false);
  assert.equal(timers.pending, 0);
  assert.ok(acked > 0);
  assert.equal(simulation.ledger.totals.acked, acked);
  assert.equal(simulation.counters.overloadErrors, errors);
  assert.equal(simulation.ledger.totals.inFlight, 0);
});

test("a new run resets the totals; changing the number of conversations during a run does not", () => {
  const { simulation, timers, backend } = setUp();
  simulation.run(4);
  timers.advance(3_000);
  const { acked } = simulation.ledger.totals;
  simulation.run(6);
  assert.equal(simulation.conversations.length, 6);
  assert.equal(simulation.ledger.totals.acked, acked);
  timers.advance(1_000);
  simulation.run(2);
  assert.equal(simulation.conversations.length, 2);
  timers.advance(100);
  assert.equal(backend.openSockets, 4);
  simulation.run(0);
  assert.equal(simulation.isRunning, false);
  assert.ok(simulation.ledger.totals.acked > acked);
  simulation.run(3);
  assert.equal(simulation.ledger.totals.acked, 0);
  timers.advance(2_000);
  assertProven(simulation.ledger.totals);
});

test("there are never more conversations than pairs of users", () => {
  const { simulation } = setUp();
  simulation.people = PEOPLE.slice(0, 7);
  simulation.run(30);
  assert.equal(simulation.conversations.length, 3);
  assert.deepEqual(simulation.conversations[1].users.map((user) => user.name), ["user2", "user3"]);
});

test("a simulated user answers each smile from a guest once, and the ledger does not count the answers", async () => {
  const { simulation, timers, backend, allLive } = setUp();
  const heard = [];
  const openSocket = (url) => backend.openSocket(url);
  const onSmile = ({ from }) => heard.push(from);
  const guest = new Client({ page: "http://h/", user: "guest", timers, random: Math.random, openSocket, onSmile });
  guest.start();
  simulation.run(2);
  timers.advanceUntil(allLive);
  for (let smile = 0; smile < 3; smile += 1) guest.smile("user0", "😀");
  guest.smile("user3", "😀");
  timers.advanceUntil(() => heard.length === 4);
  backend.crash();
  guest.smile("user1", "😀");
  timers.advanceUntil(() => heard.length === 5);
  timers.advance(10_000);
  assert.deepEqual([...heard].sort(), ["user0", "user0", "user0", "user1", "user3"]);
  assert.deepEqual(simulation.room.map(({ from, to }) => [from, to]), [
    ["guest", "user1"], ["guest", "user3"], ["guest", "user0"], ["guest", "user0"], ["guest", "user0"],
  ]);
  assertProven(simulation.ledger.totals);
});

test("the last smiles of people are kept until the next run, including those that get no answer", () => {
  const { simulation, timers, backend, allLive } = setUp();
  const guest = new Client({
    page: "http://h/", user: "guest", timers, random: Math.random, openSocket: (url) => backend.openSocket(url),
  });
  guest.start();
  simulation.run(1);
  timers.advanceUntil(allLive);
  for (let smile = 0; smile < 20; smile += 1) guest.smile("user0", smile === 19 ? "😎" : "😀");
  timers.advanceUntil(() => simulation.room[0]?.smile === "😎");
  assert.equal(simulation.room.length, 12);
  simulation.stop();
  assert.equal(simulation.room.length, 12);
  simulation.run(1);
  assert.deepEqual(simulation.room, []);
});

test("the smile with which a phone claims its user is answered, but is not a smile from the room", async () => {
  const { simulation, timers, backend, allLive } = setUp();
  const heard = [];
  const phone = new Client({
    page: "http://h/", user: "guest", timers, random: Math.random, openSocket: (url) => backend.openSocket(url),
    onSmile: ({ from }) => heard.push(from),
  });
  phone.start();
  simulation.run(1);
  timers.advanceUntil(allLive);
  phone.smile("user0", "🙈🙉🙊", seatId(new Date("2026-11-25T12:00:00Z")));
  phone.smile("user1", "😎");
  timers.advanceUntil(() => heard.length === 2);
  assert.deepEqual(heard.sort(), ["user0", "user1"]);
  assert.deepEqual(simulation.room.map(({ smile }) => smile), ["😎"]);
});

test("two simulated users do not answer each other forever after a person's smile", () => {
  const { simulation, timers, backend, allLive } = setUp();
  const presenter = new Client({
    page: "http://h/", user: "user0", timers, random: Math.random, openSocket: (url) => backend.openSocket(url),
  });
  presenter.start();
  simulation.run(2);
  timers.advanceUntil(allLive);
  presenter.smile("user2", "😀");
  timers.advance(5_000);
  simulation.stop();
  timers.advance(1_000);
  const strange = backend.smiles.filter(({ from, to }) => [from, to].sort().join() === "user0,user2");
  assert.deepEqual(strange.map(({ from }) => from), ["user0", "user2"]);
});

test("the pace can be chosen, and changed during a run without a burst", () => {
  const { simulation, timers, allLive } = setUp();
  simulation.run(2, { rate: 10 });
  timers.advanceUntil(allLive);
  const sentIn = (ms) => {
    const before = simulation.ledger.totals.sent;
    timers.advance(ms);
    return simulation.ledger.totals.sent - before;
  };
  assert.ok(Math.abs(sentIn(10_000) - 200) <= 2);
  simulation.run(2, { rate: 1 });
  assert.ok(Math.abs(sentIn(10_000) - 20) <= 2);
  simulation.run(2, { rate: 20 });
  assert.ok(Math.abs(sentIn(10_000) - 400) <= 2);
  assertProven(simulation.ledger.totals);
});

test("the same seed produces the same first smiles, whatever the other random numbers are", () => {
  const opening = (seed) => {
    const { simulation, timers } = setUp({ seed });
    simulation.run(3, { seed: 42 });
    timers.advanceUntil(() => simulation.conversations.every(({ lines }) => lines.length > 0));
    return simulation.conversations.map(({ lines }) => lines[0].smile);
  };
  assert.deepEqual(opening(1), opening(2));
});

test("a watched conversation reports its history requests, live smiles and failures", () => {
  const { simulation, timers, allLive, backend } = setUp();
  simulation.run(1);
  timers.advanceUntil(allLive);
  const events = [];
  const [conversation] = simulation.conversations;
  conversation.watch(({ kind }) => events.push(kind));
  conversation.askHistory({ limit: 30 });
  assert.deepEqual(events, ["asked"]);
  timers.advance(400);
  assert.ok(events.includes("live"));
  conversation.askHistory({ limit: 30 });
  conversation.users[0].heard({ type: "error", code: "store_unavailable", message: "", temporary: true });
  assert.deepEqual(events.slice(-1), ["failed"], "an error without an id did not fail the history request");
  backend.crash();
  conversation.askHistory({ limit: 30 });
  assert.deepEqual(events.slice(-1), ["failed"]);
  conversation.watch(null);
  const { length } = events;
  timers.advance(5_000);
  assert.equal(events.length, length);
});

test("the answer to a watcher that has been removed does not reach the next watcher", () => {
  const { simulation, timers, backend } = setUp();
  simulation.run(1);
  timers.advanceUntil(() => backend.stored > 20);
  const [conversation] = simulation.conversations;
  const answersTo = (page) => {
    const answers = [];
    conversation.watch(({ kind, smiles }) => kind === "history" && answers.push(smiles.map(({ offset }) => offset)));
    conversation.askHistory(page);
    return answers;
  };
  const first = answersTo({ before: 5, limit: 2 });
  const second = answersTo({ before: 20, limit: 2 });
  timers.advance(100);
  assert.deepEqual([first, second], [[], [[18, 19]]]);
});

test("a history request fails only with the session that sent it", () => {
  const { simulation, timers, allLive, backend } = setUp();
  const sockets = socketsOf(backend);
  simulation.run(1);
  timers.advanceUntil(allLive);
  const events = [];
  const [conversation] = simulation.conversations;
  conversation.watch(({ kind }) => events.push(kind));
  conversation.askHistory({ limit: 30 });
  sockets[1].end(1006);
  assert.deepEqual(events, ["asked"]);
  sockets[0].end(1006);
  assert.deepEqual(events, ["asked", "failed"]);
});
