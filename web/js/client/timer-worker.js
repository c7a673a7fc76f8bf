// Timers outside the page's thread: posts the id back `ms` after a message {id, ms}; {id, ms: null} cancels.

const running = new Map();

self.addEventListener("message", ({ data: { id, ms } }) => {
  clearTimeout(running.get(id));
  running.delete(id);
  if (ms === null) return;
  const expire = () => {
    running.delete(id);
    self.postMessage(id);
  };
  running.set(id, setTimeout(expire, ms));
});
