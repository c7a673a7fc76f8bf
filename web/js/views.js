// The views that paint the state of the model, and the announcements of its events.

import { ConversationsView } from "./conversations-view.js";
import { CountersView } from "./counters-view.js";
import { newsOf } from "./crash-news.js";
import { lastOf } from "./crashes.js";
import { byId, setData, setText } from "./dom.js";
import { Hues } from "./hues.js";
import { PlatformView } from "./platform-view.js";
import { ReplicasView } from "./replicas-view.js";
import { statusOf } from "./status.js";
import { TimelineView } from "./timeline-view.js";

/**
 * Returns the functions that paint the page. `mark(conversation)` marks a conversation for the next paint, and `list()`
 * adds and removes cards. `paint(now)` and `paintMore(now, cost)` paint a part, and return whether anything is left for
 * the next frame. `look()` is for the picture of the run. `complete(later)` adds the views of `later.js`, and
 * `onCrash()` requests this after each change of the crashes. `onChange()` requests a repaint, and `withLater(use)`
 * calls `use` with the code of `later.js`.
 */
export function viewsOf({ model, translate, format, announcer, withLater, onCrash, onChange }) {
  const hues = new Hues();
  const words = { translate, format, hueOf: (replica) => hues.of(replica) };
  const countersView = new CountersView(words);
  const platformView = new PlatformView(words);
  const timelineView = new TimelineView(words);
  const replicasView = new ReplicasView({ ...words, onCrash: (replica) => model.crash({ replica }) });
  const conversationsView = new ConversationsView({ ...words, onOpen: openThread });
  let crashControlsView = null;
  let crashesView = null;
  let recoveryView = null;
  let roomView = null;
  let incidents = null;
  let threadView = null;

  function openThread(conversation) {
    withLater(({ ThreadView }) => {
      threadView ??= new ThreadView({ ...words, onChange });
      threadView.open(conversation);
    });
  }

  function paintStatus(now) {
    const { key, values, mood } = statusOf(model.facts(now));
    const text = translate(key, { ...values, age: format.duration(values.ms ?? 0) });
    setText(byId("status"), text);
    setData(byId("status"), "mood", mood);
    announcer.tell("status", key, text);
  }

  function paintPlatform(now) {
    const { name, links } = model.platform;
    const revival = model.revival(now);
    platformView.paint({ platform: name, links, revival });
    const isGone = revival !== null && revival.mood !== "calm";
    announcer.tell("revival", isGone ? revival.key : "", isGone ? byId("revival").textContent.trim() : "");
  }

  function paintCrashes(crashes, now) {
    recoveryView?.paint({ crashes, simulation: model.simulation, now });
    if (crashesView !== null) crashesView.paint(crashes);
    else if (crashes.incidents.length > 0 && crashes.incidents !== incidents) onCrash();
    ({ incidents } = crashes);
  }

  // Counters are shown, but not announced.
  function announce() {
    const { chaos, run } = model;
    announcer.tell("crash", ...newsOf(translate, lastOf(run.crashes)));
    const chaosText = chaos.isOn ? translate("chaos.started") : byId("chaos-said").textContent;
    announcer.tell("chaos", `${chaos.isOn} ${chaos.ended}`, chaosText);
  }

  // Each frame calls at most one of these functions: if one frame called them all, the page would stutter on a slow
  // machine. A hidden page gets no frames, so a timer calls the functions in `told`.
  const told = [
    (now) => countersView.paint({ simulation: model.simulation, now }),
    (now) => {
      const { chaos, crashRequests, run } = model;
      paintStatus(now);
      paintPlatform(now);
      crashControlsView?.paint({ chaos, crashRequests, now });
      paintCrashes(run.crashes, now);
      announce();
    },
  ];
  const drawn = [
    (now) => {
      threadView?.paint(now);
      roomView?.paint(model.simulation.room);
      timelineView.paint(model.run.timeline);
      replicasView.paint(model.fleet(now));
      conversationsView.collect();
    },
  ];
  let waiting = [];

  function paintMore(now, cost) {
    const turn = waiting.shift();
    if (turn === undefined) return conversationsView.paintMore(now, cost);
    turn(now);
    return true;
  }

  return {
    mark: (conversation) => conversationsView.mark(conversation),
    list: () => conversationsView.list(model.simulation.conversations),
    paint(now) {
      waiting = document.hidden ? [] : [...told, ...drawn];
      if (!document.hidden) return paintMore(now);
      for (const turn of told) turn(now);
      return false;
    },
    paintMore,
    complete({ CrashControlsView, CrashesView, RecoveryView, RoomView, TimelineTable }) {
      crashControlsView = new CrashControlsView({ ...words, onToken: (token) => model.giveToken(token) });
      crashesView = new CrashesView(words);
      recoveryView = new RecoveryView(words);
      roomView = new RoomView(words);
      timelineView.showTable(new TimelineTable());
      onChange();
    },
    look: () => timelineView.look(),
  };
}
