import assert from "node:assert/strict";
import test from "node:test";
import { CountersView } from "../js/counters-view.js";
import { Format } from "../js/format.js";
import { Ledger } from "../js/ledger.js";

test("the badges group the digits of large numbers, as the proof does", () => {
  const nodes = new Map();
  const node = () => ({ dataset: {}, append: () => {} });
  const byId = (id) => nodes.get(id) ?? nodes.set(id, node()).get(id);
  globalThis.document = { getElementById: byId, createElement: node };
  const view = new CountersView({ translate: (key, { n } = {}) => [key, n].join(" "), format: new Format("en") });
  const counters = { overloadErrors: 1_234, overloadCauses: [["overloaded", 1_234]], refusalCauses: [] };
  view.paint({ simulation: { counters, ledger: { totals: { ...new Ledger().totals, acked: 2_363 } } }, now: 0 });
  assert.deepEqual(["successes", "overload-errors"].map((id) => byId(id).textContent), ["2,363", "1,234"]);
  assert.equal(byId("overload-causes").textContent, "cause.overloaded 1,234");
});
