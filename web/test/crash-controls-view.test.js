import assert from "node:assert/strict";
import test from "node:test";
import { CrashControlsView } from "../js/crash-controls-view.js";
import { By } from "../js/crashes.js";

/** Paints the controls twice with a request that waits for a token. Returns how many times a field was focused. */
function focusedFor(by) {
  let focused = 0;
  const node = () => ({ hidden: true, textContent: "", addEventListener: () => {}, focus: () => (focused += 1) });
  const nodes = new Map();
  globalThis.document = { getElementById: (id) => nodes.get(id) ?? nodes.set(id, node()).get(id) };
  const view = new CrashControlsView({ translate: (key) => key, format: {}, onToken: () => {} });
  const state = { chaos: { isOn: false, ended: null }, crashRequests: { waiting: { by }, failure: null }, now: 0 };
  view.paint(state);
  view.paint(state);
  assert.equal(nodes.get("crash-token-row").hidden, false);
  return focused;
}

test("a person's request focuses the field for the token, and a request by chaos does not", () => {
  assert.equal(focusedFor(By.PERSON), 1);
  assert.equal(focusedFor(By.CHAOS), 0);
});
