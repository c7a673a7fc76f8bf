import assert from "node:assert/strict";
import test from "node:test";
import { KEPT } from "../js/thread.js";
import { ThreadView } from "../js/thread-view.js";

const ROW = 20;
const HEIGHT = 200;

/** An element whose children are all `ROW` pixels high. It has only what the dialog uses. */
class FakeElement {
  children = [];
  parent = null;
  dataset = {};
  style = { getPropertyValue: () => "", setProperty: () => {} };
  clientHeight = HEIGHT;
  #scrollTop = 0;

  addEventListener() {}
  setAttribute() {}
  showModal() {}

  append(...nodes) {
    for (const node of nodes) this.insertBefore(node, null);
  }

  replaceChildren(...nodes) {
    for (const child of [...this.children]) child.remove?.();
    this.append(...nodes);
  }

  insertBefore(node, next) {
    this.children.splice(next === null ? this.children.length : this.children.indexOf(next), 0, node);
    if (node instanceof FakeElement) node.parent = this;
    return node;
  }

  remove() {
    this.parent.children.splice(this.parent.children.indexOf(this), 1);
    this.parent = null;
  }

  get lastElementChild() {
    return this.children.at(-1) ?? null;
  }

  get offsetTop() {
    return this.parent === null ? 0 : ROW * this.parent.children.indexOf(this);
  }

  get scrollHeight() {
    return Math.max(HEIGHT, ROW * this.children.length);
  }

  get scrollTop() {
    return this.#scrollTop;
  }

  set scrollTop(wanted) {
    this.#scrollTop = Math.min(Math.max(0, wanted), this.scrollHeight - HEIGHT);
  }
}

const smiles = (first, last) =>
  Array.from({ length: last - first + 1 }, (_, index) => ({ offset: first + index, from: "anna", smile: "😀", at: "" }));

/** The open dialog of a conversation with 30 smiles; `tell(event)` delivers an event of the thread, and paints. */
function opened() {
  const nodes = new Map();
  globalThis.document = {
    getElementById: (id) => nodes.get(id) ?? nodes.set(id, new FakeElement()).get(id),
    createElement: () => new FakeElement(),
    documentElement: { lang: "en" },
  };
  const session = { state: "live", changes: 1, replica: "be1.1", closeReason: null, retryAt: null };
  const users = ["anna", "bruno"].map((name) => ({ name, face: "🙂", session, isConnected: true }));
  const format = { span: String };
  const view = new ThreadView({ onChange: () => {}, translate: (key) => key, format, hueOf: () => 0 });
  let watcher;
  view.open({ users, watch: (given) => (watcher = given), askHistory: () => {} });
  const tell = (event) => {
    watcher(event);
    view.paint(0);
  };
  tell({ kind: "history", smiles: smiles(1_001, 1_030), more: true });
  const list = nodes.get("thread-smiles");
  return { tell, list, topRow: () => list.children[list.scrollTop / ROW] };
}

test("a list that is scrolled to its end follows new smiles", () => {
  const { tell, list } = opened();
  assert.equal(list.scrollTop, list.scrollHeight - HEIGHT);
  for (let offset = 1_031; offset < 1_041; offset += 1) tell({ kind: "live", smiles: smiles(offset, offset) });
  assert.deepEqual([list.children.length, list.scrollTop], [40, list.scrollHeight - HEIGHT]);
});

test("a list that is scrolled up stays in place when smiles arrive, older ones load, and the oldest is dropped", () => {
  const { tell, list, topRow } = opened();
  list.scrollTop = 5 * ROW;
  const top = topRow();
  for (let offset = 1_031; offset < 1_041; offset += 1) tell({ kind: "live", smiles: smiles(offset, offset) });
  assert.deepEqual([list.children.length, list.scrollTop], [40, 5 * ROW]);
  tell({ kind: "history", smiles: smiles(1_040 - KEPT + 1, 1_000), more: true });
  assert.equal(list.children.length, KEPT);
  assert.equal(topRow(), top, "older smiles moved the rows in view");
  tell({ kind: "live", smiles: smiles(1_041, 1_041) });
  assert.equal(list.children.length, KEPT);
  assert.equal(topRow(), top, "a dropped smile moved the rows in view");
});
