// Owns the keyboard shortcuts: which key does what, and when a key is meant for something else. Knows nothing of what is
// done.

export const SHORTCUTS = Object.freeze({ s: "start", x: "stop", c: "crash", k: "chaos", r: "reset", l: "link", j: "json", p: "picture" });
export const HELP_KEY = "?";

const TYPING = "input:not([type=range], [type=checkbox]), select, textarea, dialog";

/** What a key asks for: one of the shortcuts, "help", or null. `isOff` leaves the help only. */
export function wishOf(event, { isOff }) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return null;
  if (event.target?.closest?.(TYPING)) return null;
  if (event.key === HELP_KEY) return "help";
  const key = event.key.toLowerCase();
  return !isOff && Object.hasOwn(SHORTCUTS, key) ? SHORTCUTS[key] : null;
}
