// Owns the wiring: builds the parts, hands them the browser's clock, chance and network, and connects the
// controls. Every decision belongs to one of the parts.

import { Backend } from "./backend.js";
import { ConversationsView } from "./conversations-view.js";
import { CountersView } from "./counters-view.js";
import { CrashControl } from "./crash-control.js";
import { DialQueue } from "./client/dial-queue.js";
import { byId, setData, setText } from "./dom.js";
import { Format } from "./format.js";
import { chooseLanguage, translator } from "./i18n.js";
import { socketUrl } from "./client/protocol.js";
import { Platform } from "./platform.js";
import { PlatformView } from "./platform-view.js";
import { RenderLoop } from "./render-loop.js";
import { ReplicaWatch } from "./replica-watch.js";
import { ReplicasView } from "./replicas-view.js";
import { Simulation } from "./simulation.js";
import { PageTimers } from "./client/timers.js";
import { JoinView } from "./join-view.js";
import { SayControl } from "./say-control.js";

const USERS_RETRY_MS = 1_000;
const HEARTBEAT_MS = 1_000;
const ID_RADIX = 36;
const DEFAULT_MODE = "exit";

const language = chooseLanguage(navigator.languages);
const translate = translator(language);
const format = new Format(language);
const timers = new PageTimers();
const pageUrl = document.baseURI;

const range = byId("conversations");
const startButton = byId("start");

// Smile ids are unique per sender across reloads: a random word per page, then a count.
const pageWord = Array.from(crypto.getRandomValues(new Uint32Array(2)), (word) => word.toString(ID_RADIX)).join("");
let lastId = 0;
function nextId() {
  lastId += 1;
  return `${pageWord}-${lastId.toString(ID_RADIX)}`;
}

const environment = {
  timers,
  nextId,
  random: Math.random,
  dialQueue: new DialQueue(),
  urlFor: (user, resume) => socketUrl(pageUrl, user, resume),
  openSocket: (url) => new WebSocket(url),
};

const backend = new Backend({ pageUrl, timers, fetch: (url, options) => fetch(url, options) });

const simulation = new Simulation({
  environment,
  onChange: (conversation) => {
    conversationsView.mark(conversation);
    renderLoop.request();
  },
  onList: () => {
    conversationsView.list(simulation.conversations);
    renderLoop.request();
  },
  onSession: (user) =>
    crashControl.sessionChanged({ user: user.name, state: user.session.state, replica: user.session.replica }),
});

const platform = new Platform({ storage: sessionStorage });

const replicaWatch = new ReplicaWatch({
  backend,
  timers,
  isHidden: () => document.hidden,
  onAnswer: (answer) => platform.seen(answer),
  onChange: () => {
    if (replicaWatch.unreachableSince === null) crashControl.replicasSeen(replicaWatch.replicas);
    renderLoop.request();
  },
  onReturn: () => simulation.hurry(),
});

const crashControl = new CrashControl({
  translate,
  format,
  backend,
  timers,
  storage: sessionStorage,
  replicasNow: () => replicaWatch.replicas,
  onChange: () => renderLoop.request(),
});

const platformView = new PlatformView({ translate });
const countersView = new CountersView({ translate, format });
const conversationsView = new ConversationsView({ translate, format });
const sayControl = new SayControl({ translate, page: pageUrl, timers, dialQueue: environment.dialQueue });
new JoinView({ pageUrl, timers });
const replicasView = new ReplicasView({ translate, format, onCrash: (id) => crashControl.crash(id) });
const renderLoop = new RenderLoop({ timers, requestFrame: (run) => requestAnimationFrame(run), paint });

let usersKnown = false;
let startsWhenReady = new URLSearchParams(location.search).has("start");

function paint() {
  const now = timers.now();
  countersView.paint({ simulation, now });
  paintStatus(now);
  crashControl.paint();
  paintPlatform(now);
  if (document.hidden) return;
  conversationsView.paint(now);
  replicasView.paint({
    replicas: replicaWatch.replicas,
    staleFor: replicaWatch.unreachableSince === null ? null : now - replicaWatch.unreachableSince,
    sessionsHere: (id) => simulation.users.filter((user) => user.isConnected && user.session.replica === id).length,
    wallClock: Date.now(),
  });
}

function paintPlatform(now) {
  const silentFor = replicaWatch.silentSince === null ? null : now - replicaWatch.silentSince;
  const mode = silentFor === null ? crashControl.chosenMode : (crashControl.openMode ?? DEFAULT_MODE);
  const revival = platform.revival({ mode, silentFor });
  platformView.paint({ platform: platform.name, links: platform.links, revival });
}

function paintStatus(now) {
  const [key, values, mood] = statusOf(now);
  setText(byId("status"), translate(key, values));
  setData(byId("status"), "mood", mood);
}

function statusOf(now) {
  if (replicaWatch.unreachableSince !== null) {
    return ["status.unreachable", { age: format.duration(now - replicaWatch.unreachableSince) }, "bad"];
  }
  if (!usersKnown || !replicaWatch.hasAnswered) return ["status.loading", {}, "calm"];
  const { users } = simulation;
  if (users.length > 0) {
    const live = users.filter((user) => user.isLive).length;
    if (live === users.length) return ["status.live", { n: live }, "good"];
    return ["status.partly", { live, n: users.length }, "doubt"];
  }
  if (simulation.limit < Number(range.max)) return ["status.too_few_users", { n: simulation.limit }, "doubt"];
  return ["status.idle", { replica: replicaWatch.self ?? "?" }, "good"];
}

function showCount() {
  const n = Number(range.value);
  setText(byId("conversations-shown"), n);
  setText(startButton, translate("controls.start", { n }));
}

function start() {
  if (!usersKnown) {
    startsWhenReady = true;
    return;
  }
  if (!simulation.isRunning) countersView.reset();
  simulation.run(Number(range.value));
  renderLoop.flush();
}

function stop() {
  startsWhenReady = false;
  simulation.stop();
  renderLoop.flush();
}

/** The users are asked for until they are known, since nothing can start without them. */
async function learnUsers() {
  try {
    const people = await backend.users();
    simulation.people = people;
    sayControl.people = people;
    usersKnown = true;
    renderLoop.request();
    if (startsWhenReady) start();
  } catch {
    timers.after(USERS_RETRY_MS, learnUsers);
  }
}

function applyAddress() {
  const wanted = Number(new URLSearchParams(location.search).get("conversations") ?? Number.NaN);
  if (Number.isInteger(wanted)) range.value = String(wanted);
}

function applyLanguage() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-i18n]")) setText(node, translate(node.dataset.i18n));
}

// Ages, countdowns and rates change without any event.
function keepTime() {
  renderLoop.request();
  timers.after(HEARTBEAT_MS, keepTime);
}

function connectControls() {
  range.addEventListener("input", showCount);
  range.addEventListener("change", () => {
    showCount();
    if (simulation.isRunning) start();
  });
  startButton.addEventListener("click", start);
  byId("stop").addEventListener("click", stop);
  addEventListener("online", () => simulation.hurry());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    for (const conversation of simulation.conversations) conversationsView.mark(conversation);
    renderLoop.request();
    replicaWatch.ask();
  });
}

applyLanguage();
applyAddress();
showCount();
connectControls();
learnUsers();
replicaWatch.ask();
keepTime();
