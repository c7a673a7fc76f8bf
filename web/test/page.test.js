import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { answerTo } from "../js/faces.js";
import { Format } from "../js/format.js";
import { chooseLanguage, translator } from "../js/i18n.js";
import { ENGLISH } from "../js/words-en.js";
import { ITALIAN } from "../js/words-it.js";
import { Counters } from "../js/counters.js";
import { seededRandom } from "./support.js";

const WEB = new URL("../", import.meta.url);
const LONGEST_FILE = 400;
const read = (path) => readFileSync(new URL(path, WEB), "utf8");
const names = readdirSync(new URL("js/", WEB), { recursive: true }).filter((name) => name.endsWith(".js"));
const scripts = names.map((name) => [name, read(`js/${name}`)]);
const page = read("index.html");
const pages = [page, read("join.html")];

test("both languages have the same keys except for singulars, no empty text, and the same placeholders", () => {
  const holes = (text) => [...text.matchAll(/\{\w+\}/g)].map(([hole]) => hole).sort();
  const [en, it] = [ENGLISH, ITALIAN];
  // A language needs a `.one` form only where the singular differs.
  const plurals = (words) => Object.keys(words).filter((key) => !key.endsWith(".one"));
  assert.deepEqual(plurals(it), plurals(en));
  for (const key of plurals(en)) assert.deepEqual(holes(it[key]), holes(en[key]), `the placeholders of ${key} differ`);
  for (const [key, text] of [en, it].flatMap(Object.entries)) {
    assert.ok(text !== "", `${key} is empty`);
    const plural = holes(en[key.replace(/\.one$/, "")]);
    assert.ok(holes(text).every((hole) => plural.includes(hole)), `${key} has a placeholder that its plural lacks`);
  }
});

test("the translated elements of index.html are empty, except for the title and the status of a loading page", () => {
  const texts = [...page.matchAll(/data-i18n="([^"]+)"[^>]*>([^<]*)</g)];
  assert.ok(texts.length > 15);
  const own = texts.filter(([, , text]) => text !== "");
  assert.deepEqual(new Set(own.map(([, key]) => key)), new Set(["page.title", "status.loading"]));
  for (const [, key, text] of own) assert.equal(text, ENGLISH[key], `index.html and the words of ${key} differ`);
  for (const [, key] of texts) assert.ok(key in ENGLISH, `no words for ${key}`);
});

test("every key that a script passes to translate as a string is in the dictionary, and every entry is used", () => {
  const all = page + scripts.filter(([name]) => !name.startsWith("words-")).map(([, text]) => text).join("\n");
  const families = [...all.matchAll(/`([a-z]+(?:\.[a-z]+)*\.)\$\{/g)].map(([, prefix]) => prefix);
  for (const [, key] of all.matchAll(/translate\("([^"]+)"/g)) assert.ok(key in ENGLISH, `no words for ${key}`);
  for (const key of Object.keys(ENGLISH)) {
    const named = all.includes(`"${key.replace(/\.one$/, "")}"`);
    assert.ok(named || families.some((prefix) => key.startsWith(prefix)), `${key} is not used`);
  }
});

test("the first supported language is chosen, or English", () => {
  assert.equal(chooseLanguage(["it-IT", "en"]), "it");
  assert.equal(chooseLanguage(["de", "IT"]), "it");
  assert.equal(chooseLanguage(["fr", "constructor"]), "en");
  assert.equal(chooseLanguage(undefined), "en");
});

test("values are substituted, and a count of one selects the singular", () => {
  const english = translator(ENGLISH);
  assert.equal(english("controls.start.count", { n: 12 }), "Start 12 conversations");
  assert.equal(english("controls.start.count", { n: 1 }), "Start 1 conversation");
  assert.equal(english("controls.start.count", { n: 0 }), "Start 0 conversations");
  assert.equal(translator(ITALIAN)("controls.start.count", { n: 30 }), "Avvia 30 conversazioni");
  assert.equal(english("no.such.key"), "no.such.key");
});

test("times and numbers are formatted for the language of the page", () => {
  const format = new Format("en");
  assert.deepEqual([format.count(1_234), format.rate(99.96)], ["1,234", "100.0"]);
  assert.deepEqual([-5, 250, 999.4, 999.6, 2_540].map((span) => format.span(span)), ["0 ms", "250 ms", "999 ms", "1.0 s", "2.5 s"]);
  const spans = [-1, 59_999, 125_000, 7_260_000, 270_000_000];
  assert.deepEqual(spans.map((span) => format.duration(span)), ["0 s", "59 s", "2 min 5 s", "2 h 1 min", "3 d 3 h"]);
  assert.equal(new Format("it").span(2_540), "2,5 s");
});

test("the ids of the main elements occur exactly once in index.html", () => {
  const ids = ["conversations", "start", "stop", "crash", "successes", "overload-errors", "replicas", "conversation-list"];
  for (const id of ids) assert.equal(page.split(`id="${id}"`).length, 2, `the id ${id} does not occur exactly once`);
  assert.match(page, /<input id="conversations" type="range" min="0" max="30"/);
});

test("every element that a script looks for by a literal id is on a page or created by a script", () => {
  const made = scripts.flatMap(([, text]) => [...text.matchAll(/\.id = "([^"]+)"/g)]);
  const ids = new Set([...made, ...pages.join().matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
  for (const [, text] of scripts) {
    for (const [, id] of text.matchAll(/byId\("([^"]+)"\)/g)) assert.ok(ids.has(id), `no element has the id ${id}`);
  }
});

test("the pages comply with the content security policy, and no script sets HTML or evaluates text", () => {
  for (const page of pages) assert.doesNotMatch(page, /<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?:/);
  for (const [name, text] of scripts) {
    assert.doesNotMatch(
      text,
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/,
      `${name} sets HTML or evaluates text`,
    );
  }
});

/** The modules that a module imports statically, directly or indirectly, as paths relative to `web/`. */
function imports(module, found = new Set()) {
  for (const [, path] of read(module).matchAll(/from "(\.[^"]+)"/g)) {
    const imported = new URL(path, new URL(module, WEB)).href.slice(WEB.href.length);
    if (!found.has(imported)) imports(imported, found.add(imported));
  }
  return found;
}

test("each page preloads every module that it imports statically", () => {
  for (const page of pages) {
    const preloaded = [...page.matchAll(/<link rel="modulepreload" href="([^"]+)">/g)].map(([, path]) => path);
    const [, entry] = page.match(/<script type="module" src="([^"]+)">/);
    assert.deepEqual(preloaded, [...imports(entry)].sort());
  }
});

test("the page loads no code on demand but its words and later.js", () => {
  const modules = ["js/app.js", ...imports("js/app.js")].filter((module) => module !== "js/i18n.js");
  const onDemand = modules.flatMap((module) => [...read(module).matchAll(/import\((.*?)\)/g)].map(([, path]) => path));
  assert.deepEqual(onDemand, ['"./later.js"']);
});

test("every script has a header comment and a bounded length", () => {
  for (const [name, text] of scripts) {
    assert.match(text, /^\/\/ \S/, `${name} has no header comment`);
    assert.ok(text.split("\n").length <= LONGEST_FILE, `${name} is too long`);
  }
});

// The server and the build of the proxy's image strip indentation, and would change a string that spans lines.
test("no template string spans lines", () => {
  for (const [name, text] of scripts) {
    for (const line of text.split("\n")) {
      assert.equal(line.split("`").length % 2, 1, `a string in ${name} spans lines: ${line}`);
    }
  }
});

test("every answer is one face, whatever the random numbers", () => {
  for (let seed = 0; seed < 20; seed += 1) {
    const random = seededRandom(seed);
    let face = null;
    for (let turn = 0; turn < 50; turn += 1) {
      face = answerTo(face, random);
      assert.match(face, /^\p{Emoji_Presentation}$|^\p{Emoji}\uFE0F$/u);
    }
  }
});

test("overload errors are counted in total and by cause", () => {
  const counters = new Counters();
  for (const code of ["rate_limited", "overloaded", "overloaded"]) counters.overloaded(code);
  counters.refused("not_a_smile");
  assert.equal(counters.overloadErrors, 3);
  assert.deepEqual(counters.overloadCauses, [["overloaded", 2], ["rate_limited", 1]]);
  assert.deepEqual(counters.refusalCauses, [["not_a_smile", 1]]);
});
