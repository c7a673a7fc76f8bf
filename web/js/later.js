// The code that a page needs only once its visitor acts, or once a backend crashes.

export { CrashesView } from "./crashes-view.js";
export { showCode } from "./code-dialog.js";
export { saveJson, savePicture } from "./downloads.js";
export { RecoveryView } from "./recovery-view.js";
export { RoomView } from "./room-view.js";
export { SayControl } from "./say-control.js";
export { ThreadView } from "./thread-view.js";
