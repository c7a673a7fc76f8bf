// Downloads of a run, as JSON and as an image. Their code is loaded on demand.

import { byId, element } from "./dom.js";

export class Recorder {
  #translate;
  #format;
  #timelineView;
  #crashesView;

  constructor({ translate, format, timelineView, crashesView }) {
    this.#translate = translate;
    this.#format = format;
    this.#timelineView = timelineView;
    this.#crashesView = crashesView;
  }

  async json(run) {
    const { recordOf } = await import("./record.js");
    const recordedAt = new Date();
    const text = `${JSON.stringify(recordOf({ ...run, recordedAt }), null, 2)}\n`;
    download(new Blob([text], { type: "application/json" }), `${nameOf(recordedAt)}.json`);
  }

  async picture({ settings, timeline, crashes, ledger, overloads }) {
    const { drawPicture } = await import("./picture.js");
    const recordedAt = new Date();
    const canvas = document.createElement("canvas");
    const count = (number) => this.#format.count(number);
    const turnedAway = overloads.reduce((sum, [, n]) => sum + n, 0);
    drawPicture(canvas, {
      title: this.#translate("page.title"),
      notes: [this.#settingsText(settings), recordedAt.toLocaleString(document.documentElement.lang)],
      badges: [
        { label: this.#translate("badge.successes"), number: count(ledger.acked), colour: "good", soft: "goodSoft" },
        { label: this.#translate("badge.overloads"), number: count(turnedAway), colour: "bad", soft: "badSoft" },
      ],
      facts: [
        byId("ledger-verdict").textContent,
        this.#numbers(ledger, ["sent", "acked", "delivered"]),
        this.#numbers(ledger, ["lost", "duplicated", "reordered", "unverified"]),
        byId("overload-causes").textContent,
      ],
      timeline,
      crashes: this.#crashesView.tableOf(crashes),
      look: this.#timelineView.look(),
    });
    canvas.toBlob((blob) => download(blob, `${nameOf(recordedAt)}.png`), "image/png");
  }

  #settingsText({ conversations, rate }) {
    const count = this.#translate("controls.count");
    return `${count}: ${conversations} · ${this.#translate("controls.rate.shown", { n: rate })}`;
  }

  #numbers(ledger, names) {
    return names.map((name) => `${this.#translate(`ledger.${name}`)} ${this.#format.count(ledger[name])}`).join(" · ");
  }
}

function nameOf(date) {
  return `smilingchat-${date.toISOString().slice(0, 19).replaceAll(":", "-")}`;
}

function download(blob, name) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The started download keeps its own reference to the bytes.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
