// Builds the model with the browser's clock, random numbers and network, and connects it to the views and the controls.

import { Announcer } from "./announcer.js";
import { DialQueue } from "./client/dial-queue.js";
import { socketUrl } from "./client/protocol.js";
import { PageTimers } from "./client/timers.js";
import { Controls } from "./controls.js";
import { byId, setText } from "./dom.js";
import { Format } from "./format.js";
import { chooseLanguage, loadDictionary, translator } from "./i18n.js";
import { JoinView } from "./join-view.js";
import { Model } from "./model.js";
import { RenderLoop } from "./render-loop.js";
import { TabStorage } from "./storage.js";
import { viewsOf } from "./views.js";

const ID_RADIX = 36;

const language = chooseLanguage(navigator.languages);
const translate = translator(await loadDictionary(language));
const format = new Format(language);
const timers = new PageTimers();
const dialQueue = new DialQueue();
const storage = new TabStorage(() => sessionStorage);
const pageUrl = document.baseURI;

// The id of a smile is a random word, drawn on each page load, followed by a count, so ids stay unique per sender
// across reloads.
const pageWord = Array.from(crypto.getRandomValues(new Uint32Array(2)), (word) => word.toString(ID_RADIX)).join("");
let lastId = 0;
function nextId() {
  lastId += 1;
  return `${pageWord}-${lastId.toString(ID_RADIX)}`;
}

const model = new Model({
  environment: {
    timers,
    nextId,
    random: Math.random,
    dialQueue,
    urlFor: (user, resume) => socketUrl(pageUrl, user, resume),
    openSocket: (url) => new WebSocket(url),
  },
  pageUrl,
  fetch: (url, options) => fetch(url, options),
  storage,
  browser: { isOnline: () => navigator.onLine, isHidden: () => document.hidden, origin: location.origin },
  onChange: () => renderLoop.request(),
  onConversation: (conversation) => {
    views.mark(conversation);
    renderLoop.request();
  },
  onList: () => {
    views.list();
    renderLoop.request();
  },
});

document.documentElement.lang = language;
for (const node of document.querySelectorAll("[data-i18n]")) setText(node, translate(node.dataset.i18n));

const announcer = new Announcer({ timers, say: (text) => setText(byId("announcer"), text) });
function said(text) {
  setText(byId("link-said"), text);
  announcer.tell("link", text, text);
}

let hasLater = false;
/** Calls `use` with the code of `later.js`, or tells the presenter that it did not load. */
function withLater(use) {
  return import("./later.js").then(
    (later) => {
      if (!hasLater) {
        views.complete(later);
        new later.SayControl({ translate, page: pageUrl, timers, dialQueue });
      }
      hasLater = true;
      use(later);
    },
    () => said(translate("load.failed")),
  );
}

const onChange = () => renderLoop.request();
const views = viewsOf({ model, translate, format, announcer, withLater, onCrash: loadLater, onChange });
new JoinView({ pageUrl, timers });

const renderLoop = new RenderLoop({
  timers,
  requestFrame: (paintSoon) => {
    const frame = requestAnimationFrame(paintSoon);
    return () => cancelAnimationFrame(frame);
  },
  afterFrame: (run) => setTimeout(run),
  paint: () => views.paint(timers.now()),
  paintMore: (cost) => views.paintMore(timers.now(), cost),
});

/** Wraps an action of the presenter so that its effect is painted immediately. */
const shown = (act) => (argument) => {
  act(argument);
  renderLoop.flush();
};

const controls = new Controls({
  translate,
  storage,
  actions: {
    start: shown(() => model.start()),
    stop: shown(() => model.stop()),
    reset: shown(() => model.reset()),
    crash: () => model.crash({}),
    chaos: (isOn) => model.switchChaos(isOn),
    json: () => withLater(({ saveJson }) => saveJson(model.record)),
    picture: () => withLater(({ savePicture }) => {
      savePicture(model.record, { translate, format, language, look: views.look() });
    }),
    code: () => withLater(({ showCode }) => showCode(translate)),
    changed: shown((settings) => model.change(settings)),
    said,
  },
});

addEventListener("online", () => model.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const conversation of model.simulation.conversations) views.mark(conversation);
  renderLoop.flush();
  model.replicaWatch.ask();
});

model.settings = controls.settings;
if (controls.starts) model.start();

let isLoading = false;
// The first visit does without this code. The first interaction loads it, before it takes effect, because a single
// backend cannot serve the code once it has crashed. If the code does not load, the next interaction tries again.
async function loadLater() {
  if (isLoading || hasLater) return;
  isLoading = true;
  await withLater(() => {});
  isLoading = false;
}

for (const interaction of ["pointerdown", "keydown", "focusin", "click"]) {
  document.addEventListener(interaction, loadLater, { capture: true });
}
if (controls.starts) loadLater();
const people = await model.open();
byId("say-as").replaceChildren(...people.map(({ name, face }) => new Option(`${face} ${name}`, name)));
