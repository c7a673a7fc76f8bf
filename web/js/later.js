// The code that a page needs only once its visitor acts, or once a backend crashes.

export { CrashControlsView } from "./crash-controls-view.js";
export { CrashesView } from "./crashes-view.js";
export { showCode } from "./code-dialog.js";
export { saveJson, savePicture } from "./downloads.js";
export { RecoveryView } from "./recovery-view.js";
export { RoomView } from "./room-view.js";
export { SayControl } from "./say-control.js";
export { ThreadView } from "./thread-view.js";
export { TimelineTable } from "./timeline-table.js";

const RETRY_MS = 5_000;
const LIMIT_MS = 2_000;

// Without these styles, as when the backend has just crashed or hangs, the views still work.
const styles = document.createElement("link");
styles.rel = "stylesheet";
styles.href = new URL("../later.css", import.meta.url).href;
const settled = new Promise((resolve) => {
  styles.onload = resolve;
  styles.onerror = () => {
    resolve();
    // A link that is appended again is requested again.
    setTimeout(() => document.head.append(styles), RETRY_MS);
  };
  setTimeout(resolve, LIMIT_MS);
});
document.head.append(styles);
await settled;
