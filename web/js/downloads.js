// Saves a run as a download, either JSON or an image.

import { element } from "./dom.js";
import { drawPicture } from "./picture.js";
import { posterOf } from "./poster.js";
import { recordOf } from "./record.js";

/** The time after which the URL of the file is revoked. By then, the download has started and no longer needs it. */
const KEPT_MS = 10_000;

export function saveJson(run) {
  const recordedAt = new Date();
  const text = `${JSON.stringify(recordOf({ ...run, recordedAt }), null, 2)}\n`;
  download(new Blob([text], { type: "application/json" }), `${nameOf(recordedAt)}.json`);
}

/** `look` has the colours and fonts of the page. `words` is for the poster. */
export function savePicture(run, { look, ...words }) {
  const recordedAt = new Date();
  const canvas = document.createElement("canvas");
  drawPicture(canvas, { ...posterOf({ ...run, recordedAt }, words), look });
  canvas.toBlob((blob) => download(blob, `${nameOf(recordedAt)}.png`), "image/png");
}

function nameOf(date) {
  return `smilingchat-${date.toISOString().slice(0, 19).replaceAll(":", "-")}`;
}

function download(blob, name) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}
