// The state of a run other than its smiles: its timeline and its crashes. The functions are pure: those that record an
// event take a run and return the run after the event. The time of an event is `at`.

import * as Crashes from "./crashes.js";
import { Mark, NO_TIMELINE, changesBetween, marked, sampled as sampledTimeline } from "./timeline.js";

export const NO_RUN = Object.freeze({ startedAt: 0, timeline: NO_TIMELINE, crashes: Crashes.NO_CRASHES });

const withMark = (run, mark) => ({ ...run, timeline: marked(run.timeline, mark) });
const withoutRequest = (run, { at, replica }) => {
  const isIts = (mark) => mark.kind === Mark.ASKED && mark.replica === replica && mark.at === at;
  return { ...run, timeline: { ...run.timeline, marks: run.timeline.marks.filter((mark) => !isIts(mark)) } };
};
// Records a change to the list of crashes, and marks each crash request whose victim the change reveals. If the victim
// was a wrong guess, its mark is removed.
const crashesAfter = (change) => (run, event) => {
  const next = { ...run, crashes: change(run.crashes, event) };
  if (next.crashes.incidents === run.crashes.incidents) return next;
  const victims = new Map(next.crashes.incidents.map(({ id, victim }) => [id, victim]));
  return run.crashes.incidents.reduce((before, { id, victim, askedAt: at }) => {
    const replica = victims.get(id) ?? null;
    if (replica === victim) return before;
    const rest = victim === null ? before : withoutRequest(before, { at, replica: victim });
    return replica === null ? rest : withMark(rest, { at, kind: Mark.ASKED, replica });
  }, next);
};
const withReplicas = crashesAfter(Crashes.replicasSeen);
const withLoss = crashesAfter(Crashes.sessionLost);

/** A run without events, which keeps the last list of replicas, the list's time, and the open crash requests. */
export function forgotten({ crashes }, event) {
  return { ...NO_RUN, crashes: Crashes.forgotten(crashes, event) };
}

export function started(run, { at }) {
  return withMark({ ...run, startedAt: at }, { at, kind: Mark.START });
}

export function stopped(run, { at }) {
  return withMark(run, { at, kind: Mark.STOP });
}

export function sampled(run, sample) {
  return { ...run, timeline: sampledTimeline(run.timeline, sample) };
}

/** `isOrderly` says whether the end of the session was announced. */
export function sessionLost(run, event) {
  const { at, replica, isOrderly } = event;
  const next = withLoss(run, event);
  return isOrderly ? withMark(next, { at, kind: Mark.HANDED_OVER, replica }) : next;
}

export const sessionLive = crashesAfter(Crashes.sessionLive);
export const sessionStopped = crashesAfter(Crashes.sessionStopped);

export function replicasSeen(run, { at, replicas }) {
  const changes = changesBetween(run.crashes.replicas, replicas);
  return withReplicas(changes.reduce((before, change) => withMark(before, { at, ...change }), run), { at, replicas });
}

/** Records a requested crash: {id, by, mode}. */
export const crashAsked = crashesAfter(Crashes.asked);

/** Records the server's answer to a crash request: {id, replica, mode}. */
export const crashConfirmed = crashesAfter(Crashes.confirmed);

export const crashRefused = crashesAfter(Crashes.withdrawn);

export function victimOf({ crashes }, id) {
  return crashes.incidents.find((incident) => incident.id === id)?.victim ?? null;
}
