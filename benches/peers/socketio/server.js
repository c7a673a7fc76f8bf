// A Socket.IO chat server built in the usual way, to compare TheSmilingChat with. It stores each message in a row of its
// own. Once that row is committed, the sender receives an ack, and the other sessions of both users receive the message.
//
//     node server.js sqlite PATH
//     node server.js mysql URL
//
// The first line of the output is the server's URL.

import { createServer } from "node:http";
import { Server } from "socket.io";

// `openSqlite` and `openMysql` resolve to a function that appends a message. The promise that this function returns
// resolves to the message's offset once the message is durable.

async function openSqlite(path) {
  const { default: Database } = await import("better-sqlite3");
  const database = new Database(path);
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.exec(
    "CREATE TABLE smiles (offset INTEGER PRIMARY KEY, sender TEXT, receiver TEXT, id TEXT, smile TEXT, at INTEGER)",
  );
  const insert = database.prepare("INSERT INTO smiles (sender, receiver, id, smile, at) VALUES (?, ?, ?, ?, ?)");
  return async (...row) => Number(insert.run(...row).lastInsertRowid);
}

async function openMysql(url) {
  const { default: mysql } = await import("mysql2/promise");
  // The default size of a mysql2 pool.
  const pool = mysql.createPool({ uri: url, connectionLimit: 10 });
  await pool.query(
    `CREATE TABLE smiles (offset BIGINT AUTO_INCREMENT PRIMARY KEY, sender VARCHAR(32), receiver VARCHAR(32),
     id VARCHAR(64), smile VARCHAR(64) CHARACTER SET utf8mb4, at BIGINT)`,
  );
  const insert = "INSERT INTO smiles (sender, receiver, id, smile, at) VALUES (?, ?, ?, ?, ?)";
  return async (...row) => (await pool.execute(insert, row))[0].insertId;
}

const [store, place] = process.argv.slice(2);
const append = await (store === "mysql" ? openMysql(place) : openSqlite(place));
const http = createServer();
const io = new Server(http, { transports: ["websocket"] });

io.on("connection", (socket) => {
  const user = socket.handshake.query.user;
  socket.join(user);
  socket.on("smile", async ({ id, to, smile }, ack) => {
    const at = Date.now();
    const offset = await append(user, to, id, smile, at);
    ack({ id, offset });
    socket.to([user, to]).emit("smile", { offset, id, from: user, to, smile, at });
  });
});

http.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}`));
