import assert from "node:assert/strict";
import test from "node:test";
import * as Crashes from "../js/crashes.js";
import { Format } from "../js/format.js";
import { translator } from "../js/i18n.js";
import { Ledger } from "../js/ledger.js";
import { RecoveryView } from "../js/recovery-view.js";
import { ENGLISH } from "../js/words-en.js";

const PROVEN = { ...new Ledger().totals, sent: 9, acked: 9, delivered: 9 };

/** The function that paints the line at a time and returns its text, or null while the line is hidden. */
function staged() {
  let line = null;
  const node = () => ({ textContent: "", setAttribute(name, value) { this[name] = value; }, append() {} });
  const plot = { append: (child) => (line = child) };
  globalThis.document = { createElement: node, getElementById: () => ({ parentElement: plot }) };
  const view = new RecoveryView({ translate: translator(ENGLISH), format: new Format("en") });
  assert.equal(line["aria-hidden"], "true", "screen readers would hear of the recovery twice");
  return (crashes, now, totals = {}) => {
    view.paint({ crashes, simulation: { ledger: { totals: { ...PROVEN, ...totals } }, isRunning: true }, now });
    return line.hidden ? null : line.textContent;
  };
}

const lost = (crashes, at, user, replica) => Crashes.sessionLost(crashes, { at, user, replica, isOrderly: false });
const live = (crashes, at, user) => Crashes.sessionLive(crashes, { at, user });
const asked = (crashes, at, id, replica) =>
  Crashes.confirmed(Crashes.asked(crashes, { id, at, by: "person", mode: "exit" }), { id, at, replica, mode: "exit" });

const crashed = asked(Crashes.NO_CRASHES, 1_000, 1, "be.1");
const both = ["anna", "bruno"].reduce((crashes, user) => lost(crashes, 1_100, user, "be.1"), crashed);
const half = live(both, 2_000, "anna");
const whole = live(half, 3_200, "bruno");

test("for five seconds, a line says how soon all lost sessions of the last crash were live again", () => {
  const said = staged();
  for (const crashes of [Crashes.NO_CRASHES, crashed, both, half]) assert.equal(said(crashes, 5_000), null);
  const line = "2 sessions back in 2.2 s, 0 smiles lost";
  assert.deepEqual([4_199, 4_200, 9_199, 9_200].map((now) => said(whole, now)), [null, line, line, null]);
  const single = live(lost(crashed, 1_100, "anna", "be.1"), 1_700, "anna");
  assert.equal(said(single, 3_000), "1 session back in 700 ms, 0 smiles lost");
  assert.equal(said(asked(whole, 5_000, 2, "be.2"), 5_100), null, "the line outlasted the next crash");
});

test("no line says that no smile was lost unless the proof has found nothing wrong", () => {
  const said = staged();
  for (const wrong of ["lost", "duplicated", "reordered", "unverified"]) {
    assert.equal(said(whole, 5_000, { [wrong]: 1 }), null);
  }
  assert.notEqual(said(whole, 5_000), null);
});

test("no line says that the sessions are back while a crash that was not noticed yet keeps them away", () => {
  const said = staged();
  const again = ["anna", "bruno"].reduce((crashes, user) => lost(crashes, 5_000, user, "be.2"), whole);
  assert.equal(said(again, 5_100), null);
  assert.equal(said(live(again, 5_500, "anna"), 5_600), null);
  assert.notEqual(said(live(live(again, 5_500, "anna"), 5_600, "bruno"), 5_700), null);
});
