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

/** The nodes of the list after one replica was painted in each of these states. */
function painted(...states) {
  const nodes = new Map();
  const byId = (id) => nodes.get(id) ?? nodes.set(id, new Node()).get(id);
  globalThis.document = { getElementById: byId, createElement: () => new Node() };
  const words = { translate: translator(ENGLISH), format: new Format("en"), hueOf: () => 0 };
  const view = new ReplicasView({ ...words, onCrash: () => {} });
  for (const { isStale = false, age = 0, here = 0, ...replica } of states) {
    const ready = { id: "be.1", state: "ready", sessions: 4, smiles_per_second: 40, ...replica };
    view.paint({ replicas: [ready], isStale, sessionsOn: new Map([["be.1", here]]), age });
  }
  return byId("replicas").all;
}

/** The load and the capacity that each meter shows to screen readers, after the cards of one replica were painted. */
function metersOf(...replicas) {
  const meters = painted(...replicas).filter(({ attributes, hidden }) => attributes.role === "meter" && !hidden);
  return meters.map(({ attributes }) => [attributes["aria-valuenow"], attributes["aria-valuemax"]]);
}

test("only a replica with a limit has a meter", () => {
  assert.deepEqual(metersOf({ capacity: 100 }), [["40", "100"]]);
  assert.deepEqual(metersOf({ capacity: 0 }), []);
  assert.deepEqual(metersOf({ capacity: 100 }, { capacity: 0 }), []);
  assert.deepEqual(metersOf({ capacity: 0 }, { capacity: 100 }), [["40", "100"]]);
});

test("the uptime grows until the list is outdated, then the age of the heartbeat grows", () => {
  const textsOf = (...states) => painted(...states).map(({ textContent = "" }) => textContent);
  const agesOf = (...states) => textsOf(...states).find((text) => text.includes("heartbeat"));
  const alive = { uptime_ms: 120_000, heartbeat_age_ms: 400 };
  assert.equal(agesOf({ ...alive, age: 3_000 }), "up 2 min 3 s · heartbeat 400 ms ago");
  const outdated = [18_000, 19_000].map((age) => ({ ...alive, age, isStale: true }));
  assert.equal(agesOf({ ...alive, age: 3_000 }, outdated[0]), "up 2 min 3 s · heartbeat 18.4 s ago");
  assert.equal(agesOf({ ...alive, age: 3_000 }, ...outdated), "up 2 min 3 s · heartbeat 19.4 s ago");
  assert.equal(agesOf({ ...alive, age: 3_000 }, ...outdated, alive), "up 2 min 0 s · heartbeat 400 ms ago");
  assert.equal(agesOf({ ...alive, state: "lost", heartbeat_age_ms: 459_200 }), "heartbeat 7 min 39 s ago");
});

test("a replica has at least the sessions that this page has on it", () => {
  const textsOf = (state) => painted({ capacity: 0, ...state }).map(({ textContent = "" }) => textContent);
  const loadOf = (state) => textsOf(state).find((text) => text.includes("session"));
  assert.equal(loadOf({ sessions: 0, here: 16 }), "40 smiles/s, no limit · 16 sessions");
  assert.equal(loadOf({ sessions: 20, here: 16 }), "40 smiles/s, no limit · 20 sessions · 16 from this page");
});
