import assert from "node:assert/strict";
import test from "node:test";
import { CrashControlsView } from "../js/crash-controls-view.js";
import { By } from "../js/crashes.js";

/** A view, its nodes by their ids, and the ids of the fields that it has focused. */
function staged() {
  const focused = [];
  const node = (id) => ({ hidden: true, textContent: "", addEventListener: () => {}, focus: () => focused.push(id) });
  const nodes = new Map();
  globalThis.document = { getElementById: (id) => nodes.get(id) ?? nodes.set(id, node(id)).get(id) };
  const view = new CrashControlsView({ translate: (key) => key, format: { duration: String }, onToken: () => {} });
  return { view, nodes, focused };
}

/** Paints the controls twice with a request that waits for a token. Returns how many times a field was focused. */
function focusedFor(by) {
  const { view, nodes, focused } = staged();
  const state = { chaos: { isOn: false, ended: null }, crashRequests: { waiting: { by }, failure: null }, now: 0 };
  view.paint(state);
  view.paint(state);
  assert.equal(nodes.get("crash-token-row").hidden, false);
  return focused.length;
}

test("a person's request focuses the field for the token, and a request by chaos does not", () => {
  assert.equal(focusedFor(By.PERSON), 1);
  assert.equal(focusedFor(By.CHAOS), 0);
});

test("the sentence about chaos is emptied by a reset, so that it is not announced", () => {
  const { view, nodes } = staged();
  const said = (chaos) => {
    view.paint({ chaos: { done: 3, ...chaos }, crashRequests: { waiting: null, failure: null }, now: 0 });
    const { hidden, textContent } = nodes.get("chaos-said");
    return [hidden, textContent];
  };
  assert.deepEqual(said({ isOn: true, ended: null, nextAt: 12_000 }), [false, "chaos.on"]);
  assert.deepEqual(said({ isOn: false, ended: null }), [true, ""]);
  assert.deepEqual(said({ isOn: false, ended: "by_hand" }), [false, "chaos.ended.by_hand"]);
});
