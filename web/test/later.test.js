import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

test("the views wait for their styles, and also work if the styles do not load", async () => {
  for (const outcome of ["onload", "onerror"]) {
    const link = {};
    globalThis.document = { createElement: () => link, head: { append: () => queueMicrotask(() => link[outcome]()) } };
    const later = await import(`../js/later.js?${outcome}`);
    assert.ok("CrashesView" in later);
    assert.equal(link.rel, "stylesheet");
    assert.ok(readFileSync(new URL(link.href), "utf8").includes(".thread"));
  }
});
