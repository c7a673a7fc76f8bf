// The code for which the page does not wait. It is loaded once the users are known.

export { CrashesView } from "./crashes-view.js";
export { saveJson, savePicture } from "./downloads.js";
export { SayControl } from "./say-control.js";
export { ThreadView } from "./thread-view.js";
