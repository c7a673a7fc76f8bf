// The proof that every acked smile reached its receiver exactly once and in order. The ledger checks every welcome, ack
// and smile of the simulated users.
//
// Offsets, not a timeout, decide whether a smile is lost. A session that has seen offset n has seen its user's whole
// stream up to n, so an acked smile at or below n that the receiver never saw is lost. A smile in the gap of a session
// that did not resume, or of an epoch that the receiver has left, is "unverified" instead.

import { Fit, Stream } from "./client/stream.js";

const Verdict = Object.freeze({ LOST: "lost", UNVERIFIED: "unverified" });

function emptyTotals() {
  return {
    sent: 0,
    acked: 0,
    delivered: 0,
    refused: 0,
    cutOff: 0,
    cutOffAcked: 0,
    lost: 0,
    duplicated: 0,
    reordered: 0,
    unverified: 0,
  };
}

const keyOf = (sender, id) => `${sender}/${id}`;

/**
 * The verdict on the totals: [dictionary key, values, mood]. During a run, `isRunning` keeps the sentence open, since it
 * would otherwise change several times a second.
 */
export function verdictOf(totals, { isRunning }) {
  const { sent, lost, duplicated, reordered, unverified, cutOffAcked } = totals;
  if (lost + duplicated + reordered > 0) return ["ledger.verdict.bad", { lost, duplicated, reordered }, "bad"];
  if (unverified > 0) return ["ledger.verdict.unverified", { n: unverified }, "doubt"];
  if (sent === 0) return ["ledger.verdict.idle", {}, "calm"];
  if (isRunning) return ["ledger.verdict.open", {}, "good"];
  if (cutOffAcked > 0) return ["ledger.verdict.cut_off", { n: cutOffAcked }, "good"];
  return ["ledger.verdict.good", {}, "good"];
}

export class Ledger {
  #totals = emptyTotals();
  #streams = new Map();
  #smiles = new Map();
  #owed = new Map();
  #judged = 0;

  /**
   * The counts so far; `inFlight` smiles still lack their ack or their delivery, and are neither lost nor unverified.
   */
  get totals() {
    return { ...this.#totals, inFlight: this.#smiles.size - this.#judged };
  }

  sent({ sender, id, to }) {
    this.#totals.sent += 1;
    const key = keyOf(sender, id);
    this.#smiles.set(key, {
      key, sender, to, epoch: null, offset: null, acked: false, delivered: false, verdict: null,
    });
  }

  /** Records a permanent refusal; the smile counts as not stored. */
  refused(sender, id) {
    if (this.#smiles.delete(keyOf(sender, id))) this.#totals.refused += 1;
  }

  /** Returns false if the new session may leave a gap in the user's stream. */
  welcomed(user, frame) {
    const vouched = this.#streamOf(user).open(frame);
    this.#judge(user);
    return vouched;
  }

  /** Returns true for the first ack of a smile of this page. */
  acked(sender, frame) {
    const stream = this.#streamOf(sender);
    const key = keyOf(sender, frame.id);
    if (!frame.duplicate) this.#note(stream.take(frame.offset, key));
    this.#judge(sender);
    const smile = this.#smiles.get(key);
    if (smile === undefined) return false;
    if (smile.acked) {
      if (smile.epoch === stream.epoch && smile.offset !== frame.offset) this.#totals.duplicated += 1;
      return false;
    }
    smile.acked = true;
    smile.epoch = stream.epoch;
    smile.offset = frame.offset;
    this.#totals.acked += 1;
    if (smile.delivered) {
      this.#smiles.delete(key);
    } else {
      this.#owedTo(smile.to).add(smile);
      this.#judge(smile.to);
    }
    return true;
  }

  /** Returns true for the first delivery of a smile of this page. */
  received(user, frame) {
    const key = keyOf(frame.from, frame.id);
    const fit = this.#streamOf(user).take(frame.offset, key);
    this.#note(fit);
    const smile = this.#smiles.get(key);
    const delivers = smile !== undefined && smile.to === user && !smile.delivered;
    if (delivers) this.#deliver(smile);
    if (fit === Fit.NEXT) this.#judge(user);
    return delivers;
  }

  /**
   * The highest offset of the acked smiles that the user has not received, or null. A session that has seen this
   * offset has caught up.
   */
  highestOwed(user) {
    const { epoch } = this.#streamOf(user);
    const offsets = [...this.#owedTo(user)].filter((smile) => smile.epoch === epoch).map((smile) => smile.offset);
    return offsets.length === 0 ? null : Math.max(...offsets);
  }

  /** The offset up to which the user's stream has been seen; -1 before the first welcome. */
  offsetOf(user) {
    return this.#streamOf(user).offset;
  }

  /** Drops the smiles of a stopped conversation. Those that were in flight count as cut off. */
  forget(users) {
    for (const smile of [...this.#smiles.values()]) {
      if (!users.includes(smile.sender)) continue;
      this.#smiles.delete(smile.key);
      if (smile.verdict !== null) {
        this.#judged -= 1;
        continue;
      }
      this.#totals.cutOff += 1;
      if (smile.acked) this.#totals.cutOffAcked += 1;
    }
    for (const user of users) {
      this.#streams.delete(user);
      this.#owed.delete(user);
    }
  }

  #deliver(smile) {
    smile.delivered = true;
    this.#totals.delivered += 1;
    this.#owedTo(smile.to).delete(smile);
    if (smile.verdict !== null) {
      this.#totals[smile.verdict] -= 1;
      this.#judged -= 1;
      smile.verdict = null;
    }
    if (smile.acked) this.#smiles.delete(smile.key);
  }

  #judge(user) {
    const stream = this.#streamOf(user);
    for (const smile of this.#owedTo(user)) {
      if (!stream.hasPassed(smile.epoch, smile.offset)) continue;
      const unproven = stream.isUnproven(smile.epoch, smile.offset);
      smile.verdict = unproven ? Verdict.UNVERIFIED : Verdict.LOST;
      this.#totals[smile.verdict] += 1;
      this.#judged += 1;
      this.#owedTo(user).delete(smile);
    }
  }

  #note(fit) {
    if (fit === Fit.DUPLICATED) this.#totals.duplicated += 1;
    if (fit === Fit.REORDERED) this.#totals.reordered += 1;
  }

  #streamOf(user) {
    if (!this.#streams.has(user)) this.#streams.set(user, new Stream());
    return this.#streams.get(user);
  }

  #owedTo(user) {
    if (!this.#owed.has(user)) this.#owed.set(user, new Set());
    return this.#owed.get(user);
  }
}
