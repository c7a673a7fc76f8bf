import assert from "node:assert/strict";
import test from "node:test";
import { Format } from "../js/format.js";
import { translator } from "../js/i18n.js";
import { confirmed, incidentOf, sessionLive, sessionLost } from "../js/incident.js";
import { RecoveryView } from "../js/recovery-view.js";
import { ENGLISH } from "../js/words-en.js";

/** The function that paints the line at a time and returns its text, or null while the line is hidden. */
function staged() {
  let line = null;
  const node = () => ({ textContent: "", setAttribute(name, value) { this[name] = value; }, append() {} });
  const plot = { append: (child) => (line = child) };
  globalThis.document = { createElement: node, getElementById: () => ({ parentElement: plot }) };
  const view = new RecoveryView({ translate: translator(ENGLISH), format: new Format("en") });
  assert.equal(line["aria-hidden"], "true", "screen readers would hear of the recovery twice");
  return (incident, now, isClean = true) => {
    view.paint({ incident, isClean, now });
    return line.hidden ? null : line.textContent;
  };
}

const users = ["anna", "bruno"];
const asked = confirmed(incidentOf({ id: 1, at: 1_000, by: "person", mode: "exit" }), { at: 1_010, replica: "be.1", mode: "exit" });
const lost = users.reduce((incident, user) => sessionLost(incident, { at: 1_100, user, replica: "be.1" }), asked);
const half = sessionLive(lost, { at: 2_000, user: "anna" });
const whole = sessionLive(half, { at: 3_200, user: "bruno" });

test("for five seconds, a line says how soon all lost sessions of the last crash were live again", () => {
  const said = staged();
  for (const incident of [null, asked, lost, half]) assert.equal(said(incident, 5_000), null);
  const line = "2 sessions back in 2.2 s, 0 smiles lost";
  assert.deepEqual([4_199, 4_200, 9_199, 9_200].map((now) => said(whole, now)), [null, line, line, null]);
  const single = sessionLive(sessionLost(asked, { at: 1_100, user: "anna", replica: "be.1" }), { at: 1_700, user: "anna" });
  assert.equal(said(single, 3_000), "1 session back in 700 ms, 0 smiles lost");
  assert.equal(said(asked, 3_000), null, "the line outlasted the next crash");
});

test("no line says that no smile was lost unless the proof has found nothing wrong", () => {
  const said = staged();
  assert.equal(said(whole, 5_000, false), null);
  assert.notEqual(said(whole, 5_000), null);
});
