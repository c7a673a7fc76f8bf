import assert from "node:assert/strict";
import test from "node:test";
import { Beat, Outbox, UNSETTLED_LIMIT } from "../js/client/outbox.js";
import { FakeTimers } from "./support.js";

function setUp() {
  const timers = new FakeTimers();
  const sent = [];
  let count = 0;
  const outbox = new Outbox({ timers, random: () => 0, send: (smile) => sent.push(smile.id) });
  const beat = () => outbox.beat(() => ({ id: `c${(count += 1)}` }));
  return { timers, sent, outbox, beat };
}

test("nothing is sent before the session is open", () => {
  const { sent, outbox, beat } = setUp();
  assert.equal(beat(), Beat.SKIPPED);
  outbox.opened();
  assert.equal(beat(), Beat.NEW);
  assert.deepEqual(sent, ["c1"]);
});

test("the number of unsettled smiles is limited, and settling one makes room for another", () => {
  const { outbox, beat } = setUp();
  outbox.opened();
  for (let index = 0; index < UNSETTLED_LIMIT; index += 1) assert.equal(beat(), Beat.NEW);
  assert.equal(beat(), Beat.SKIPPED);
  assert.equal(outbox.settle("c1"), true);
  assert.equal(outbox.settle("c1"), false);
  assert.equal(beat(), Beat.NEW);
});

test("a shed smile is sent again with its id, no sooner than the server's hint allows", () => {
  const { timers, sent, outbox, beat } = setUp();
  outbox.opened();
  beat();
  outbox.retry("c1", 40);
  outbox.retry("c1", 40);
  outbox.retry("never sent", 40);
  timers.advance(39);
  assert.deepEqual(sent, ["c1"]);
  timers.advance(1);
  assert.deepEqual(sent, ["c1", "c1"]);
  timers.advance(10_000);
  assert.deepEqual(sent, ["c1", "c1"]);
});

test("new smiles are sent while shed ones wait for their retry", () => {
  const { outbox, beat, sent } = setUp();
  outbox.opened();
  beat();
  outbox.retry("c1", 5_000);
  assert.equal(beat(), Beat.NEW);
  assert.deepEqual(sent, ["c1", "c2"]);
});

test("interrupted smiles are sent again with the same ids, one per beat, before new ones", () => {
  const { timers, sent, outbox, beat } = setUp();
  outbox.opened();
  beat();
  beat();
  outbox.retry("c2", 40);
  outbox.broken();
  timers.advance(1_000);
  assert.equal(beat(), Beat.SKIPPED);
  outbox.opened();
  assert.deepEqual([beat(), beat(), beat()], [Beat.AGAIN, Beat.AGAIN, Beat.NEW]);
  assert.deepEqual(sent, ["c1", "c2", "c1", "c2", "c3"]);
});

test("a cleared outbox leaves no timer and no smile behind", () => {
  const { timers, outbox, beat } = setUp();
  outbox.opened();
  beat();
  outbox.retry("c1", 40);
  outbox.clear();
  assert.equal(timers.pending, 0);
  outbox.opened();
  assert.equal(beat(), Beat.NEW);
});
