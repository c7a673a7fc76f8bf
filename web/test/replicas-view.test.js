import assert from "node:assert/strict";
import test from "node:test";
import { Format } from "../js/format.js";
import { translator } from "../js/i18n.js";
import { ReplicasView } from "../js/replicas-view.js";
import { ENGLISH } from "../js/words-en.js";

class Node {
  attributes = {};
  children = [];
  dataset = {};
  hidden = false;
  style = { getPropertyValue: () => "", setProperty: () => {} };
  addEventListener() {}
  append(...children) {
    this.children.push(...children);
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  get all() {
    return [this, ...this.children.flatMap((child) => child.all ?? [])];
  }
}

/** The load and the capacity that each meter shows to screen readers, after the cards of one replica were painted. */
function metersOf(...replicas) {
  const nodes = new Map();
  const byId = (id) => nodes.get(id) ?? nodes.set(id, new Node()).get(id);
  globalThis.document = { getElementById: byId, createElement: () => new Node() };
  const words = { translate: translator(ENGLISH), format: new Format("en"), hueOf: () => 0 };
  const view = new ReplicasView({ ...words, onCrash: () => {} });
  for (const replica of replicas) {
    const ready = { id: "be.1", state: "ready", sessions: 4, smiles_per_second: 40, ...replica };
    view.paint({ replicas: [ready], isStale: false, sessionsOn: new Map(), age: 0 });
  }
  const meters = byId("replicas").all.filter(({ attributes, hidden }) => attributes.role === "meter" && !hidden);
  return meters.map(({ attributes }) => [attributes["aria-valuenow"], attributes["aria-valuemax"]]);
}

test("only a replica with a limit has a meter", () => {
  assert.deepEqual(metersOf({ capacity: 100 }), [["40", "100"]]);
  assert.deepEqual(metersOf({ capacity: 0 }), []);
  assert.deepEqual(metersOf({ capacity: 100 }, { capacity: 0 }), []);
  assert.deepEqual(metersOf({ capacity: 0 }, { capacity: 100 }), [["40", "100"]]);
});
