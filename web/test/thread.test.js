import assert from "node:assert/strict";
import test from "node:test";
import { HUES, Hues } from "../js/hues.js";
import { CLOCK } from "../js/thread-view.js";
import { KEPT, NO_THREAD, PAGE, nextPage, threadAfter } from "../js/thread.js";

const smiles = (...offsets) => offsets.map((offset) => ({ offset, from: "anna", smile: "😀" }));
const offsets = (thread) => thread.smiles.map((smile) => smile.offset);
const after = (events) => events.reduce(threadAfter, NO_THREAD);

test("history and live smiles are merged, each smile once, in the order of the log", () => {
  const thread = after([
    { kind: "asked" },
    { kind: "live", smiles: smiles(9) },
    { kind: "history", smiles: smiles(5, 7, 9), more: true },
    { kind: "live", smiles: smiles(12) },
    { kind: "live", smiles: smiles(12) },
  ]);
  assert.deepEqual(offsets(thread), [5, 7, 9, 12]);
  assert.deepEqual([thread.more, thread.asking], [true, false]);
});

test("the next request asks for the smiles before the oldest known one, until there are no more", () => {
  assert.deepEqual(nextPage(NO_THREAD), { limit: PAGE });
  const thread = after([{ kind: "history", smiles: smiles(5, 7), more: true }]);
  assert.deepEqual(nextPage(thread), { before: 5, limit: PAGE });
  const whole = threadAfter(thread, { kind: "history", smiles: smiles(1, 3), more: false });
  assert.deepEqual([offsets(whole), whole.more], [[1, 3, 5, 7], false]);
  assert.equal(threadAfter(whole, { kind: "live", smiles: smiles(8) }).more, false);
});

test("a failed request can be repeated", () => {
  assert.equal(after([{ kind: "asked" }]).asking, true);
  assert.equal(after([{ kind: "asked" }, { kind: "failed" }]).asking, false);
});

test("a thread drops its oldest smiles, which can be requested again", () => {
  const first = { kind: "history", smiles: smiles(1, 2), more: false };
  const many = Array.from({ length: KEPT }, (_, index) => ({ kind: "live", smiles: smiles(10 + index) }));
  const thread = after([first, ...many]);
  assert.deepEqual([thread.smiles.length, thread.more, thread.smiles[0].offset], [KEPT, true, 10]);
  // Older smiles that were requested stay in the thread, even beyond KEPT.
  const read = threadAfter(thread, { kind: "history", smiles: smiles(1, 2), more: false });
  assert.equal(read.smiles.length, KEPT + 2);
  assert.equal(threadAfter(read, { kind: "live", smiles: smiles(9_999) }).smiles.length, KEPT + 2);
});

test("a live smile that arrives before older smiles leaves no hole", () => {
  const many = smiles(...Array.from({ length: KEPT }, (_, index) => 1_000 + index));
  const full = after([{ kind: "history", smiles: many, more: true }]);
  const asking = [{ kind: "asked" }, { kind: "live", smiles: smiles(9_998) }].reduce(threadAfter, full);
  const older = threadAfter(asking, { kind: "history", smiles: smiles(998, 999), more: true });
  assert.deepEqual(offsets(older).slice(0, 4), [998, 999, 1_000, 1_001]);
  assert.equal(threadAfter(older, { kind: "live", smiles: smiles(9_999) }).smiles[0].offset, 999);
});

test("the hour after midnight is 00", () => {
  const atMidnight = new Date(2026, 0, 1, 0, 5, 6, 7);
  for (const language of ["en", "it"]) assert.match(new Intl.DateTimeFormat(language, CLOCK).format(atMidnight), /^00:05:06[.,]007$/);
});

test("each replica keeps its own colour until there are more replicas than colours", () => {
  const hues = new Hues();
  const all = Array.from({ length: HUES }, (_, index) => hues.of(`be.${index}`));
  assert.equal(new Set(all).size, HUES);
  assert.equal(hues.of("be.3"), 3);
  assert.equal(hues.of("be.9"), 0);
  assert.equal(hues.of(null), "");
});

test("a replica that restarts repeatedly never takes the colour of a replica that is still there", () => {
  const hues = new Hues();
  for (let crash = 0; crash < 3 * HUES; crash += 1) {
    const shown = ["be1.1", "be2.1", `be3.${crash}`].map((replica) => hues.of(replica));
    assert.equal(new Set(shown).size, 3, `replicas shared a colour after crash ${crash}: the colours were ${shown}`);
  }
});
