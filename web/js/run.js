// The state of a run other than its smiles: its timeline and its crashes. The functions are pure: each takes a run and
// an event, and returns the next run. The time of an event is `at`.

import * as Crashes from "./crashes.js";
import { Mark, NO_TIMELINE, changesBetween, marked, sampled as sampledTimeline } from "./timeline.js";

export const NO_RUN = Object.freeze({ startedAt: 0, timeline: NO_TIMELINE, crashes: Crashes.NO_CRASHES });

const withMark = (run, mark) => ({ ...run, timeline: marked(run.timeline, mark) });
const crashesAfter = (change) => (run, event) => ({ ...run, crashes: change(run.crashes, event) });
const withReplicas = crashesAfter(Crashes.replicasSeen);
const withLoss = crashesAfter(Crashes.sessionLost);
const withAnswer = crashesAfter(Crashes.confirmed);

/** A run without events that knows the replicas of the last run. */
export function forgotten({ crashes }, { at }) {
  return withReplicas(NO_RUN, { at, replicas: crashes.replicas });
}

export function started(run, { at }) {
  return withMark({ ...run, startedAt: at }, { at, kind: Mark.START });
}

export function stopped(run, { at }) {
  return withMark(run, { at, kind: Mark.STOP });
}

/** Samples the totals and the sessions for the timeline. */
export function sampled(run, sample) {
  return { ...run, timeline: sampledTimeline(run.timeline, sample) };
}

/** Records a broken session. `isOrderly` says that its end was announced. */
export function sessionLost(run, { at, user, replica, isOrderly }) {
  const next = withLoss(run, { at, user, replica, isOrderly });
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

/** Records the answer of the server: {replica, mode}. */
export function crashConfirmed(run, answer) {
  return withVictim(withAnswer(run, answer), answer);
}

/** Records that a request got no answer. Its crash may have happened, so it is still tracked. */
export function crashUnanswered(run, request) {
  return withVictim(run, request);
}

export const crashRefused = crashesAfter(Crashes.withdrawn);

/** The replica that a requested crash has hit, or null while the replica is unknown. */
export function victimOf({ crashes }, id) {
  return crashes.incidents.find((incident) => incident.id === id)?.victim ?? null;
}

function withVictim(run, { at, id }) {
  const replica = victimOf(run, id);
  return replica === null ? run : withMark(run, { at, kind: Mark.ASKED, replica });
}
