// The timeline of a run: one sample a second, with the rates and the sessions on each replica, and marks for events.
// The functions are pure: those that add to a timeline return a new timeline.

/** The maximum length of a timeline. The record of a longer run contains only the last hour of the run. */
export const KEPT_MS = 3_600_000;
/** The longest visible span. */
export const SHOWN_MS = 180_000;
export const MOST_LANES = 6;
/** The minimum time over which a rate is computed: a shorter time, as at a stop, could produce a false peak. */
const SHORT_MS = 500;
/** The shortest visible span. */
export const SHORTEST_MS = 60_000;

export const Mark = Object.freeze({
  START: "start",
  STOP: "stop",
  ASKED: "asked",
  LOST: "lost",
  BACK: "back",
  DRAINED: "drained",
  HANDED_OVER: "handed_over",
});

export const NO_TIMELINE = Object.freeze({ samples: Object.freeze([]), marks: Object.freeze([]), last: null });

/**
 * `successes` and `overloads` are totals since the start, and `replicas` is [{id, state, sessions}]. The rates of the
 * first sample are 0.
 */
export function sampled(timeline, { at, successes, overloads, replicas }) {
  const { last } = timeline;
  const rate = (name, total) => (last === null ? 0 : Math.max(0, (1_000 * (total - last[name])) / Math.max(SHORT_MS, at - last.at)));
  const sample = {
    at,
    successes: rate("successes", successes),
    overloads: rate("overloads", overloads),
    replicas: new Map(replicas.map(({ id, state, sessions }) => [id, { state, sessions }])),
  };
  const samples = [...timeline.samples, sample];
  return { ...since({ samples, marks: timeline.marks }, at - KEPT_MS), last: { at, successes, overloads } };
}

export function shownOf({ samples, marks }) {
  return since({ samples, marks }, (samples.at(-1)?.at ?? 0) - SHOWN_MS);
}

function since({ samples, marks }, from) {
  const isRecent = ({ at }) => at >= from;
  return { samples: samples.filter(isRecent), marks: marks.filter(isRecent) };
}

/** Marks of one kind on one replica within a second are merged, and their counts added. */
export function marked(timeline, { at, kind, replica = null, count = 1 }) {
  const isSame = (mark) => mark.kind === kind && mark.replica === replica && at - mark.at < 1_000;
  const same = timeline.marks.find(isSame);
  const others = timeline.marks.filter((mark) => mark !== same);
  const mark = { at: same?.at ?? at, kind, replica, count: count + (same?.count ?? 0) };
  return { ...timeline, marks: [...others, mark] };
}

/** The changes between two lists of replicas: [{kind, replica}]. */
export function changesBetween(before, after) {
  if (before.length === 0) return [];
  const stateBefore = new Map(before.map(({ id, state }) => [id, state]));
  const stateAfter = new Map(after.map(({ id, state }) => [id, state]));
  const changes = [];
  for (const [replica, state] of stateAfter) {
    const was = stateBefore.get(replica) ?? null;
    if (state === "ready" && (was === null || was === "lost")) changes.push({ kind: Mark.BACK, replica });
    if (state === "draining" && was === "ready") changes.push({ kind: Mark.DRAINED, replica });
    if (state === "lost" && was !== null && was !== "lost") changes.push({ kind: Mark.LOST, replica });
  }
  // If several replicas were listed, the store is MySQL, and a lost replica stays listed for minutes. So a ready one
  // that is no longer listed has drained. A single replica, as on SQLite, that is no longer listed counts as lost.
  for (const [replica, was] of stateBefore) {
    if (was === "ready" && !stateAfter.has(replica)) changes.push({ kind: before.length > 1 ? Mark.DRAINED : Mark.LOST, replica });
  }
  return changes;
}

/** The visible span, [from, to]: at least a minute, growing with the run up to `most`. */
export function spanOf({ samples }, most = SHOWN_MS) {
  const to = samples.at(-1)?.at ?? 0;
  return [to - Math.min(most, Math.max(SHORTEST_MS, to - (samples[0]?.at ?? to))), to];
}

/**
 * The replicas that were alive within the span, in the order in which they first appear. Past `MOST_LANES`, those that
 * disappeared first are dropped; present replicas are not.
 */
export function lanesOf({ samples }, [from, to]) {
  const aliveAt = new Map();
  for (const { at, replicas } of samples) {
    if (at < from || at > to) continue;
    for (const [replica, { state }] of replicas) {
      if (state !== "lost") aliveAt.set(replica, at);
    }
  }
  const lanes = [...aliveAt.keys()];
  const oldest = lanes.filter((replica) => aliveAt.get(replica) < to).sort((left, right) => aliveAt.get(left) - aliveAt.get(right));
  const surplus = new Set(oldest.slice(0, Math.max(0, lanes.length - MOST_LANES)));
  return lanes.filter((replica) => !surplus.has(replica));
}

/** The sample nearest to a time, with its index and the marks since the sample before it, or null without samples. */
export function readingAt({ samples, marks }, at) {
  if (samples.length === 0) return null;
  const index = samples.reduce((best, sample, here) => (Math.abs(sample.at - at) < Math.abs(samples[best].at - at) ? here : best), 0);
  const sample = samples[index];
  const since = samples[index - 1]?.at ?? -Infinity;
  return { index, sample, marks: marks.filter((mark) => mark.at > since && mark.at <= sample.at) };
}
