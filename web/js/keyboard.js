// The keyboard shortcuts, and the key presses that trigger no action.

export const SHORTCUTS = Object.freeze({ s: "start", x: "stop", c: "crash", k: "chaos", r: "reset", l: "link", j: "json", p: "picture", q: "code" });
export const HELP_KEY = "?";

const TYPING = "input:not([type=range], [type=checkbox]), select, textarea, dialog";

/** The action of a key press: that of a shortcut, "help", or null. `isOff` disables all but "help". */
export function wishOf(event, { isOff }) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return null;
  if (event.target?.closest?.(TYPING)) return null;
  if (event.key === HELP_KEY) return "help";
  const key = event.key.toLowerCase();
  return !isOff && Object.hasOwn(SHORTCUTS, key) ? SHORTCUTS[key] : null;
}
