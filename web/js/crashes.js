// All crashes of a run: those that the presenter or chaos requested, and those that the page noticed. The functions are
// pure: a function that records an event takes the state of the crashes and returns the next state.

import * as Incidents from "./incident.js";
import { withReplacements } from "./replacements.js";
import { Mark, changesBetween } from "./timeline.js";

const READY = "ready";

export const By = Object.freeze({ PERSON: "person", CHAOS: "chaos", SOMEBODY: "somebody" });

/**
 * For this long, the loss of a session that has resumed, or a request without a known victim, can be attributed to a
 * crash that is noticed later.
 */
const REMEMBERED_MS = 60_000;
/** A crash without a replacement keeps the timeline running and the polls frequent for this long. */
const OPEN_MS = 120_000;
/** A list of replicas older than this is out of date. A hidden page requests the list about every 10 s. */
const STALE_MS = 15_000;

/**
 * The state of a run without crashes. `incidents` has the crashes in the order in which they were recorded; one that
 * the page only noticed may have happened before its predecessor. `replicas` is the list last seen, at `seenAt`.
 * `roster` has every replica seen so far, `arrivals` those that became ready, `orderly` those that drained or handed
 * sessions over, and `losses` the lost sessions, without those that have resumed and were lost more than
 * `REMEMBERED_MS` ago. `earlier` has the requests of forgotten runs whose victims were not yet seen as lost.
 */
export const NO_CRASHES = Object.freeze({
  incidents: Object.freeze([]),
  replicas: Object.freeze([]),
  seenAt: -Infinity,
  roster: new Map(),
  arrivals: Object.freeze([]),
  orderly: new Set(),
  losses: Object.freeze([]),
  earlier: Object.freeze([]),
});

/** No crashes, but the list of replicas last seen, and the requests whose crashes may still be noticed. */
export function forgotten({ earlier, incidents, seenAt, replicas }, { at }) {
  const open = [...earlier, ...incidents].filter((incident) => incident.lostAt === null && isRecent(incident, at));
  return replicasSeen({ ...NO_CRASHES, earlier: open }, { at: seenAt, replicas });
}

/** The last crash. A request with neither a known victim nor a lost session counts only if there is no other crash. */
export function lastOf({ incidents }) {
  return incidents.findLast(({ victim, losses }) => victim !== null || losses.length > 0) ?? incidents.at(-1) ?? null;
}

export function isOpen({ incidents }, now) {
  return incidents.some(({ replacement, askedAt }) => replacement === null && now - askedAt < OPEN_MS);
}

export function canCrash(crashes, now) {
  return now - crashes.seenAt < STALE_MS && crashes.replicas.some(({ id, state }) => state === READY && !crashOf(crashes, id));
}

// A frozen replica that is ready again is its own replacement.
const isAway = ({ victim, replacement }, id) => victim === id && replacement?.id !== id;

// The last crash from which the replica has not come back.
function crashOf({ incidents }, id) {
  return incidents.findLast((incident) => isAway(incident, id));
}

export function asked(crashes, { id, at, by, mode }) {
  return { ...crashes, incidents: [...crashes.incidents, Incidents.incidentOf({ id, at, by, mode })] };
}

/**
 * Records the server's answer. Two requests that crash one replica in the same mode are one crash: a double click sends
 * two requests.
 */
export function confirmed(crashes, { id, ...answer }) {
  const { replica, mode } = answer;
  const request = requestOf(crashes, id);
  if (request === undefined) return crashes;
  const { victim, askedAt } = request;
  const isTwin = (incident) => incident !== request && incident.mode === mode && isAway(incident, replica);
  const twin = crashes.incidents.find(isTwin);
  if (twin !== undefined) {
    const losses = lossesOn(crashes, replica, askedAt);
    const whole = askedAt < twin.askedAt ? { ...twin, askedAt, losses } : twin;
    return withdrawn(changed(crashes, twin, whole), { id });
  }
  if (victim === null || victim === replica) return changed(crashes, request, Incidents.confirmed(request, answer));
  const cleared = { ...request, losses: lossesOn(crashes, replica, askedAt), lostAt: null, replacement: null };
  return lost(changed(crashes, request, Incidents.confirmed(cleared, answer)), { at: request.lostAt, replica: victim });
}

/**
 * Drops a crash whose request was refused. If a loss was attributed to the request, the request did not cause the loss.
 */
export function withdrawn(crashes, { id }) {
  const { victim = null, lostAt: at } = requestOf(crashes, id) ?? {};
  const others = (incidents) => incidents.filter((incident) => incident.id !== id);
  const next = { ...crashes, earlier: others(crashes.earlier), incidents: others(crashes.incidents) };
  return victim === null ? next : lost(next, { at, replica: victim });
}

function requestOf({ earlier, incidents }, id) {
  return [...earlier, ...incidents].find((incident) => incident.id === id);
}

/**
 * An announced end of a session is orderly, not a loss. A lost session counts towards the last crash of its replica. If
 * the replica has not crashed, or has come back, the session counts towards each recent request whose victim is not
 * known.
 */
export function sessionLost(crashes, event) {
  const { at, replica, isOrderly } = event;
  // A session without a replica was never welcomed.
  if (replica === null) return crashes;
  if (isOrderly) return { ...crashes, orderly: new Set([...crashes.orderly, replica]) };
  const losses = crashes.losses.filter(({ lostAt, resumedAt }) => resumedAt === null || at - lostAt < REMEMBERED_MS);
  const crash = crashOf(crashes, replica);
  const counts = (incident) => incident === crash || (!crash && isUnknown(incident, at));
  const change = (incident) => (counts(incident) ? Incidents.sessionLost(incident, event) : incident);
  return each(Incidents.sessionLost({ ...crashes, losses }, event), change);
}

export function sessionLive(crashes, event) {
  return each(Incidents.sessionLive(crashes, event), (incident) => Incidents.sessionLive(incident, event));
}

export function sessionStopped(crashes, event) {
  return each(Incidents.sessionStopped(crashes, event), (incident) => Incidents.sessionStopped(incident, event));
}

/** Drops the requests whose victims have stayed unknown: they reached no replica. */
export function replicasSeen(crashes, { at, replicas }) {
  const draining = replicas.filter(({ state }) => state === "draining").map(({ id }) => id);
  let next = { ...crashes, replicas, seenAt: at, orderly: new Set([...crashes.orderly, ...draining]) };
  for (const { kind, replica } of changesBetween(crashes.replicas, replicas)) {
    if (kind === Mark.LOST && !next.orderly.has(replica)) next = lost(next, { at, replica });
  }
  const isKept = (incident) => incident.victim !== null || isRecent(incident, at);
  const incidents = next.incidents.every(isKept) ? next.incidents : next.incidents.filter(isKept);
  next = { ...next, incidents, earlier: next.earlier.filter(isKept) };
  next = each(noticed(next), (incident) => Incidents.replicasSeen(incident, { at, replicas }));
  return arrived(next, crashes.replicas);
}

// A replica that a crash request has made unready is listed as draining.
function noticed(crashes) {
  const { earlier, incidents, orderly } = crashes;
  const isUnready = ({ victim, mode }) => mode === "unready" && orderly.has(victim);
  const found = earlier.filter(isUnready);
  if (found.length === 0) return crashes;
  const open = earlier.filter((incident) => !isUnready(incident));
  return { ...crashes, earlier: open, incidents: [...incidents, ...found] };
}

// If the crash of the replica is not known, and every recent request has a victim, this page did not request the crash.
// A crash without a request in this run is noticed late, so the replacement of the replica may be ready already. `at`
// is before the last list if the loss was attributed to another request until now. The first list in more than a minute
// finds requests that are not recent; their lost sessions show whether they crashed the replica.
function lost(crashes, { at, replica }) {
  const { incidents, earlier, replicas, seenAt } = crashes;
  if (crashOf(crashes, replica)) return crashes;
  const hasLost = ({ victim, losses }) => victim === null && losses.some((loss) => loss.replica === replica);
  const isUnanswered = (incident) => (isUnknown(incident, at) || hasLost(incident)) && incident.askedAt <= at;
  const request =
    earlier.find((incident) => incident.victim === replica && isRecent(incident, at)) ??
    [...earlier, ...incidents].find(isUnanswered);
  const age = replicas.find(({ id }) => id === replica)?.heartbeat_age_ms ?? 0;
  const diedAt = lossesOn(crashes, replica)[0]?.lostAt ?? Math.min(at, seenAt - age);
  const crash = request ?? Incidents.incidentOf({ id: replica, at: diedAt, by: By.SOMEBODY, mode: null });
  const told = { ...crash, victim: replica, lostAt: at, losses: lossesOn(crashes, replica, crash.askedAt) };
  const known = incidents.includes(crash) ? incidents : [...incidents, crash];
  const all = known.map((incident) => (incident === crash ? told : incident));
  return {
    ...crashes,
    earlier: earlier.filter((incident) => incident !== crash),
    incidents: withReplacements(all, crashes.arrivals, crashes.roster),
  };
}

function lossesOn({ losses }, replica, from = -Infinity) {
  return losses.filter((loss) => loss.replica === replica && loss.lostAt >= from);
}

const isRecent = ({ askedAt }, now) => now - askedAt < REMEMBERED_MS;

function isUnknown(incident, now) {
  return incident.victim === null && isRecent(incident, now);
}

// Pairs the replicas that have become ready with the crashed ones. A new replica that is already lost was ready between
// the two lists. The first list has no arrivals.
function arrived(crashes, before) {
  const { roster, incidents, replicas, seenAt: at } = crashes;
  const wereLost = new Set(before.filter(({ state }) => state === "lost").map(({ id }) => id));
  const ready = new Set(replicas.filter(({ state }) => state === READY).map(({ id }) => id));
  const gone = new Set([...roster.values()].filter(({ id }) => !ready.has(id)).map(wordOf));
  const fresh = replicas.filter(({ id, state }) => (roster.has(id) ? ready.has(id) && wereLost.has(id) : state !== "draining"));
  const found = fresh.map(({ id, name, host }) => {
    const isBack = roster.has(id);
    return { at, id, name, host, isBack, isStranger: !isBack && !gone.has(wordOf({ id, name })) };
  });
  const arrivals = roster.size === 0 ? [] : [...crashes.arrivals, ...found];
  const seen = new Map([...roster, ...replicas.map(({ id, name, host }) => [id, { id, name, host }])]);
  const next = { ...crashes, roster: seen, arrivals };
  return found.length === 0 ? next : { ...next, incidents: withReplacements(incidents, arrivals, seen) };
}

function wordOf({ id, name }) {
  return name ?? id;
}

// Keeps the same list of incidents if none has changed, so that the view can skip a repaint.
function each(crashes, change) {
  const incidents = crashes.incidents.map(change);
  const isSame = incidents.every((incident, index) => incident === crashes.incidents[index]);
  return isSame ? crashes : { ...crashes, incidents };
}

function changed(crashes, before, after) {
  const change = (incidents) => incidents.map((incident) => (incident === before ? after : incident));
  return { ...crashes, earlier: change(crashes.earlier), incidents: change(crashes.incidents) };
}

/** The best, median and worst of the known times, or null if none is known. An unknown time is null. */
export function spread(times) {
  const known = times.filter((time) => time !== null).sort((left, right) => left - right);
  if (known.length === 0) return null;
  const middle = (known[Math.floor((known.length - 1) / 2)] + known[Math.ceil((known.length - 1) / 2)]) / 2;
  return { best: known[0], median: middle, worst: known.at(-1) };
}
