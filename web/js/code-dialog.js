// The dialog that shows the QR code and the address of join.html to a whole room.

import { byId, element, setText } from "./dom.js";
import { SHORTCUTS } from "./keyboard.js";

const WISH = "code";

let dialog = null;

export function showCode(translate) {
  dialog ??= newDialog(translate);
  const { host, pathname } = new URL(byId("join-address").href);
  showImage();
  // A phone's browser adds the scheme to a typed address.
  setText(dialog.querySelector("strong"), `${host}${pathname}`);
  dialog.querySelector("p").hidden = byId("join-local").hidden;
  dialog.showModal();
}

function showImage() {
  const [code, shown] = [byId("join-code"), dialog.querySelector("img")];
  // The image is in the browser's cache, so the dialog can show it while no backend answers.
  shown.src = code.src;
  shown.hidden = code.hidden;
}

function newDialog(translate) {
  const title = element("h2", "", translate("join.title"));
  title.id = "code-title";
  const image = element("img");
  image.alt = "";
  const close = element("button", "quiet", translate("dialog.close"));
  const local = element("p", "small", translate("join.local"));
  const node = element("dialog", "large", title, image, element("strong"), local, close);
  node.setAttribute("aria-labelledby", title.id);
  close.addEventListener("click", () => node.close());
  // A click on the image moves the focus out of the dialog.
  document.addEventListener("keydown", ({ key, repeat }) => {
    if (node.open && !repeat && SHORTCUTS[key.toLowerCase()] === WISH) node.close();
  });
  byId("join-code").addEventListener("load", showImage);
  document.body.append(node);
  return node;
}
