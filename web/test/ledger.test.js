import assert from "node:assert/strict";
import test from "node:test";
import { Ledger, verdictOf } from "../js/ledger.js";
import { Fit, Stream } from "../js/client/stream.js";
import { translator } from "../js/i18n.js";
import { ENGLISH } from "../js/words-en.js";
import { welcome } from "./support.js";

function pair() {
  const ledger = new Ledger();
  ledger.welcomed("anna", welcome({ offset: 100 }));
  ledger.welcomed("bruno", welcome({ offset: 100 }));
  return ledger;
}

const ack = (id, offset, duplicate = false) => ({ type: "ack", id, offset, duplicate });
const smile = (id, offset, from = "anna", to = "bruno") => ({ type: "smile", id, offset, from, to, smile: "😀" });
const send = (ledger, id) => ledger.sent({ sender: "anna", id, to: "bruno" });

function counts(ledger) {
  return Object.fromEntries(Object.entries(ledger.totals).filter(([, count]) => count > 0));
}

test("a smile is sent, acked and delivered", () => {
  const ledger = pair();
  send(ledger, "c1");
  assert.deepEqual(counts(ledger), { sent: 1, inFlight: 1 });
  assert.equal(ledger.acked("anna", ack("c1", 101)), true);
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, inFlight: 1 });
  assert.equal(ledger.received("bruno", smile("c1", 101)), true);
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, delivered: 1 });
});

test("the delivery may come before the ack", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.received("bruno", smile("c1", 101));
  assert.deepEqual(counts(ledger), { sent: 1, delivered: 1, inFlight: 1 });
  ledger.acked("anna", ack("c1", 101));
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, delivered: 1 });
});

test("a duplicate's ack settles a smile once and does not move the offset", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.received("bruno", smile("c1", 101));
  ledger.received("anna", smile("c1", 101));
  assert.equal(ledger.acked("anna", ack("c1", 101, true)), true);
  assert.equal(ledger.acked("anna", ack("c1", 101, true)), false);
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, delivered: 1 });
  assert.equal(ledger.offsetOf("anna"), 101);
});

test("an acked smile that the receiver's stream has passed is lost", () => {
  const ledger = pair();
  send(ledger, "c1");
  send(ledger, "c2");
  ledger.acked("anna", ack("c1", 101));
  ledger.acked("anna", ack("c2", 102));
  assert.equal(ledger.totals.lost, 0);
  ledger.received("bruno", smile("c2", 102));
  assert.deepEqual(counts(ledger), { sent: 2, acked: 2, delivered: 1, lost: 1 });
});

test("a loss is found even if the ack comes after the receiver has passed the offset", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("bruno", ack("b1", 102));
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.totals.lost, 1);
});

test("a smile that is delivered late counts as reordered, and no longer as lost", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  ledger.received("bruno", smile("x", 102, "carla"));
  assert.equal(ledger.totals.lost, 1);
  ledger.received("bruno", smile("c1", 101));
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, delivered: 1, reordered: 1 });
});

test("a smile received repeatedly counts as duplicated, and as delivered once", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  ledger.received("bruno", smile("c1", 101));
  assert.equal(ledger.received("bruno", smile("c1", 101)), false);
  ledger.received("bruno", smile("c1", 105));
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, delivered: 1, duplicated: 2 });
});

test("one id with two offsets counts as duplicated", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  ledger.acked("anna", ack("c1", 107, true));
  assert.equal(ledger.totals.duplicated, 1);
});

test("a repeated ack before the delivery changes no count", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.acked("anna", ack("c1", 101, true)), false);
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, inFlight: 1 });
});

test("the highest owed offset belongs to the user's epoch", () => {
  const ledger = pair();
  assert.equal(ledger.highestOwed("bruno"), null);
  for (const [id, offset] of [["c1", 101], ["c2", 102], ["c3", 103]]) {
    send(ledger, id);
    ledger.acked("anna", ack(id, offset));
  }
  ledger.received("bruno", smile("c1", 101));
  assert.equal(ledger.highestOwed("bruno"), 103);
  ledger.welcomed("bruno", welcome({ offset: 5, epoch: "e2" }));
  assert.equal(ledger.highestOwed("bruno"), null);
});

test("acks out of order count as reordered", () => {
  const ledger = pair();
  send(ledger, "c1");
  send(ledger, "c2");
  ledger.acked("anna", ack("c2", 102));
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.totals.reordered, 1);
});

test("smiles from other pages advance the stream, but are not counted", () => {
  const ledger = pair();
  assert.equal(ledger.received("bruno", smile("z", 150, "zoe")), false);
  assert.equal(ledger.offsetOf("bruno"), 150);
  assert.deepEqual(counts(ledger), {});
});

test("a successful resume loses nothing and duplicates nothing", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.highestOwed("bruno"), 101);
  assert.equal(ledger.welcomed("bruno", welcome({ offset: 100, recovered: true, replica: "be2.1" })), true);
  assert.equal(ledger.totals.lost, 0);
  ledger.received("bruno", smile("c1", 101));
  assert.equal(ledger.highestOwed("bruno"), null);
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, delivered: 1 });
});

test("smiles in the gap of a session that could not resume are unverified, and a later missing one is lost", () => {
  const ledger = pair();
  send(ledger, "c1");
  send(ledger, "c2");
  send(ledger, "c3");
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.welcomed("bruno", welcome({ offset: 102 })), false);
  ledger.acked("anna", ack("c2", 102));
  assert.deepEqual(counts(ledger), { sent: 3, acked: 2, unverified: 2, inFlight: 1 });
  ledger.acked("anna", ack("c3", 103));
  ledger.received("bruno", smile("x", 104, "zoe"));
  assert.equal(ledger.totals.lost, 1);
});

test("smiles owed in an old epoch are unverified, and a smile in the new epoch counts as delivered", () => {
  const ledger = pair();
  send(ledger, "c1");
  send(ledger, "c2");
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.welcomed("bruno", welcome({ offset: 0, epoch: "e2" })), false);
  assert.equal(ledger.totals.unverified, 1);
  ledger.welcomed("anna", welcome({ offset: 0, epoch: "e2" }));
  ledger.acked("anna", ack("c2", 1));
  ledger.received("bruno", smile("c2", 1));
  assert.deepEqual(counts(ledger), { sent: 2, acked: 2, delivered: 1, unverified: 1 });
});

test("a smile acked in a new epoch is in flight while its receiver is in the old epoch", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.welcomed("anna", welcome({ offset: 0, epoch: "e2" }));
  ledger.acked("anna", ack("c1", 1));
  assert.deepEqual(counts(ledger), { sent: 1, acked: 1, inFlight: 1 });
  ledger.welcomed("bruno", welcome({ offset: 5, epoch: "e2" }));
  assert.equal(ledger.totals.unverified, 1);
});

test("a welcome with recovered: true and an offset past the resume point leaves a gap", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  assert.equal(ledger.welcomed("bruno", welcome({ offset: 110, recovered: true })), false);
  assert.equal(ledger.totals.unverified, 1);
});

test("a refused smile is no longer in flight", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.refused("anna", "c1");
  ledger.refused("anna", "c1");
  assert.deepEqual(counts(ledger), { sent: 1, refused: 1 });
});

test("stopping a conversation keeps the numbers and counts the smiles in flight as cut off", () => {
  const ledger = pair();
  for (const id of ["c1", "c2", "c3"]) send(ledger, id);
  ledger.acked("anna", ack("c1", 101));
  ledger.acked("anna", ack("c2", 102));
  ledger.received("bruno", smile("c2", 102));
  ledger.forget(["anna", "bruno"]);
  assert.deepEqual(counts(ledger), { sent: 3, acked: 2, delivered: 1, lost: 1, cutOff: 1 });
  ledger.welcomed("anna", welcome({ offset: 50 }));
  assert.equal(ledger.offsetOf("anna"), 50);
});

test("an acked smile that was in flight when its conversation stopped counts as cut off", () => {
  const ledger = pair();
  send(ledger, "c1");
  ledger.acked("anna", ack("c1", 101));
  ledger.forget(["anna", "bruno"]);
  assert.equal(ledger.totals.cutOffAcked, 1);
  assert.equal(verdictOf(ledger.totals, { isRunning: false })[0], "ledger.verdict.cut_off");
});

test("the verdict names the worst finding", () => {
  const none = new Ledger().totals;
  const keyOf = (totals, isRunning = false) => verdictOf({ ...none, ...totals }, { isRunning })[0];
  assert.equal(keyOf({}), "ledger.verdict.idle");
  assert.equal(keyOf({ sent: 2, acked: 2, delivered: 2 }), "ledger.verdict.good");
  assert.equal(keyOf({}, true), "ledger.verdict.idle");
  assert.equal(keyOf({ sent: 2, unverified: 1 }), "ledger.verdict.unverified");
  assert.equal(keyOf({ sent: 2, unverified: 1, reordered: 1 }), "ledger.verdict.bad");
});

test("while a run goes, a clean verdict is the same sentence whatever is in flight", () => {
  const translate = translator(ENGLISH);
  const said = (inFlight, cutOffAcked = 0) => {
    const totals = { ...new Ledger().totals, sent: 20, inFlight, cutOffAcked };
    const [key, values, mood] = verdictOf(totals, { isRunning: true });
    return [translate(key, values), mood];
  };
  for (const verdict of [said(0), said(3), said(0, 2)]) assert.deepEqual(verdict, said(1));
  assert.equal(said(1)[1], "good");
});

test("a gap begins after the last seen offset and ends at the offset of the new session", () => {
  const stream = new Stream();
  stream.open({ epoch: "e1", offset: 100, recovered: false });
  stream.take(106, "a");
  assert.equal(stream.open({ epoch: "e1", offset: 110, recovered: false }), false);
  assert.deepEqual([106, 107, 110, 111].map((offset) => stream.isUnproven("e1", offset)), [false, true, true, false]);
});

test("a stream tells recent duplicates from reordered smiles, in bounded memory", () => {
  const stream = new Stream();
  stream.open(welcome({ offset: 0 }));
  for (let offset = 1; offset <= 5_000; offset += 1) assert.equal(stream.take(offset, `k${offset}`), Fit.NEXT);
  assert.equal(stream.take(5_000, "k5000"), Fit.DUPLICATED);
  assert.equal(stream.take(1, "k1"), Fit.REORDERED);
  assert.equal(stream.take(5_000, "another"), Fit.REORDERED);
});
