// A run as one object for export: settings, ledger, overload errors, timeline and crashes. Each `at` is in milliseconds
// since the start of the run, and each `…_after` in milliseconds since the crash was requested. A crash that the page
// did not request counts from the first lost session or, if no session was lost, from the replica's last heartbeat.

import { spread } from "./crashes.js";
import { figuresOf } from "./incident.js";

const FORMAT = 1;

/** `startedAt` is the start of the run by the page's clock, and `recordedAt` is a `Date`. */
export function recordOf({ settings, startedAt, recordedAt, ledger, overloads, timeline, crashes }) {
  const since = (at) => Math.round(at - startedAt);
  const round = (value) => Math.round(value * 10) / 10;
  const whole = (value) => (value === null ? null : Math.round(value));
  const stories = crashes.incidents.map((incident) => {
    const figures = figuresOf(incident);
    return {
      at: since(incident.askedAt),
      replica: incident.victim,
      mode: incident.mode,
      asked_by: incident.by,
      seen_after: whole(figures.seenAfter),
      sessions_lost: figures.sessionsLost,
      sessions_resumed: figures.sessionsResumed,
      resumed_after: whole(figures.resumedAfter),
      replaced_after: whole(figures.replacedAfter),
    };
  });
  return {
    format: FORMAT,
    recorded_at: recordedAt.toISOString(),
    settings,
    ledger,
    overload_errors: Object.fromEntries(overloads),
    timeline: {
      samples: timeline.samples.map(({ at, successes, overloads: turned, replicas }) => ({
        at: since(at),
        successes_per_second: round(successes),
        overload_errors_per_second: round(turned),
        replicas: Object.fromEntries(replicas),
      })),
      marks: timeline.marks.map((mark) => ({ ...mark, at: since(mark.at) })),
    },
    crashes: {
      all: stories,
      seen_after: spread(stories.map((story) => story.seen_after)),
      resumed_after: spread(stories.map((story) => story.resumed_after)),
      replaced_after: spread(stories.map((story) => story.replaced_after)),
    },
  };
}
