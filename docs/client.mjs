// A client that survives crashes, built on the page's client module. Usage: node docs/client.mjs [PAGE [USER [FRIEND]]]
import { setTimeout as pause } from "node:timers/promises";
import { Client, whyRefused } from "../web/js/client/index.js";

const [page = "http://127.0.0.1:8080", user = "anna", friend = "bruno"] = process.argv.slice(2);

const client = new Client({
  page,
  user,
  onSmile: ({ offset, from, smile }) => console.log(`${offset}: ${from} smiles ${smile}`),
  onState: async ({ state, replica, closeReason }) => {
    console.log(state, replica ?? "", closeReason?.name ?? "");
    if (state !== "waiting" || !closeReason.isRefusal) return;
    const { code, message } = await whyRefused({ page, user });
    console.log(code, message);
  },
});
client.start();

for (;;) {
  const { offset } = await client.smile(friend, "😀");
  console.log(`${offset}: stored`);
  await pause(500);
}
