// What happens in a crash, as sentences: for the page, its announcements and the picture of a run.

import { Step, stepsOf } from "./incident.js";

export function stepText(translate, { kind, mode, replica, count }) {
  if (kind === Step.ASKED && mode === null) return translate("incident.noticed");
  return translate(`incident.${kind}`, { replica, n: count, mode: kind === Step.ASKED ? mode : "" });
}

/**
 * The announcement of the latest step of a crash, as [key, text]. The key contains the text, so that the announcer
 * corrects a count that has grown. Without a crash, `incident` is null and the text is empty.
 */
export function newsOf(translate, incident) {
  const text = incident === null ? "" : stepText(translate, stepsOf(incident).at(-1));
  return [`${incident?.askedAt} ${text}`, text];
}
